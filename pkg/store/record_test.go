package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func openStore(t testing.TB) *Store {
	t.Helper()
	s, err := Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// numbers is a value with a form of its own, which names blobs.
type numbers struct {
	list  []int
	blobs []Digest
}

func (n numbers) AppendBinary(b []byte) ([]byte, error) {
	for _, i := range n.list {
		if i < 0 {
			return nil, errors.New("a negative number")
		}
		b = append(strconv.AppendInt(b, int64(i), 10), '\n')
	}
	return b, nil
}

func (n *numbers) UnmarshalBinary(data []byte) error {
	n.list = nil
	for line := range strings.Lines(string(data)) {
		i, err := strconv.Atoi(strings.TrimSuffix(line, "\n"))
		if err != nil {
			return err
		}
		n.list = append(n.list, i)
	}
	return nil
}

func (n numbers) Blobs() []Digest { return n.blobs }

// marshaler has the older of the two methods, and names no blobs.
type marshaler struct{ text string }

func (m marshaler) MarshalBinary() ([]byte, error) { return []byte(m.text), nil }
func (m *marshaler) UnmarshalBinary(b []byte) error {
	m.text = string(b)
	return nil
}

func TestValuesWithAFormOfTheirOwn(t *testing.T) {
	s := openStore(t)
	id := NewHash("numbers").Sum()
	blob, _, err := s.Put(strings.NewReader("blob"))
	if err != nil {
		t.Fatal(err)
	}
	absent := DigestOf([]byte("absent"))
	want := numbers{list: []int{3, 1, 4, 1, 5}, blobs: []Digest{blob, absent, blob}}
	if err := s.Remember(id, want); err != nil {
		t.Fatal(err)
	}
	path, _ := s.recordPath(id)
	data, err := os.ReadFile(path)
	if err != nil || !bytes.HasSuffix(data, []byte("\naction "+string(id)+"\nblobs "+blob.Hex()+"\nbinary\n3\n1\n4\n1\n5\n")) {
		t.Errorf("the record: %q, %v", data, err)
	}
	var got numbers
	if found, err := s.Recall(id, &got); !found || err != nil {
		t.Fatalf("Recall = %v, %v", found, err)
	}
	if diff := cmp.Diff(want.list, got.list); diff != "" {
		t.Error(diff)
	}
	// Another shape is not known, in either direction; one that does not like what
	// it is given does not know it either.
	if found, err := s.Recall(id, &[]int{}); found || err != nil {
		t.Errorf("Recall of JSON = %v, %v", found, err)
	}
	other := NewHash("other").Sum()
	if err := s.Remember(other, marshaler{"no numbers"}); err != nil {
		t.Fatal(err)
	}
	if found, err := s.Recall(other, &got); found || err != nil {
		t.Errorf("Recall of what it does not read = %v, %v", found, err)
	}
	var m marshaler
	if found, err := s.Recall(other, &m); !found || err != nil || m.text != "no numbers" {
		t.Errorf("Recall = %v, %v, %q", found, err, m.text)
	}
	if err := s.Remember(other, numbers{list: []int{-1}}); err == nil || !strings.HasSuffix(err.Error(), ": a negative number") {
		t.Errorf("Remember of what cannot be written: %v", err)
	}
	// It names its blobs: without one of them it is not known.
	blobPath, _ := s.blobPath(blob)
	if err := os.Remove(blobPath); err != nil {
		t.Fatal(err)
	}
	if found, err := s.Recall(id, &got); found || err != nil {
		t.Errorf("Recall without its blob = %v, %v", found, err)
	}
}

// TestRecordsOfAnOlderTarn: they are not known, not damaged, and go when all else goes.
func TestRecordsOfAnOlderTarn(t *testing.T) {
	s := openStore(t)
	ctx := context.Background()
	id := NewHash("old").Sum()
	body := fmt.Sprintf(`{"action":"%s","value":7}`, id)
	path, _ := s.recordPath(id)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, fmt.Appendf(nil, `{"sum":"%s","body":%s}`+"\n", DigestOf([]byte(body)), body), 0o444); err != nil {
		t.Fatal(err)
	}
	var got int
	if found, err := s.Recall(id, &got); found || err != nil {
		t.Errorf("Recall = %v, %v", found, err)
	}
	if err := s.Verify(ctx, nil); err != nil {
		t.Error(err)
	}
	if u, err := s.Usage(); err != nil || u.Records.Number != 1 || u.Corrupt.Number != 0 {
		t.Errorf("Usage = %+v, %v", u, err)
	}
	if freed, err := s.GC(ctx, 0, GCOptions{}); err != nil || freed.Records.Number != 1 {
		t.Errorf("GC = %+v, %v", freed, err)
	}
	if err := s.Remember(id, 8); err != nil {
		t.Fatal(err)
	}
	if found, err := s.Recall(id, &got); !found || err != nil || got != 8 {
		t.Errorf("Recall after Remember = %v, %v, %d", found, err, got)
	}
}

// TestRememberUnsynced is known to another process at once.
func TestRememberUnsynced(t *testing.T) {
	s := openStore(t)
	blob, _, err := s.Put(strings.NewReader("blob"))
	if err != nil {
		t.Fatal(err)
	}
	id := NewHash("unsynced").Sum()
	for _, want := range []Digest{blob, DigestOf([]byte("absent")), blob} {
		if err := s.RememberUnsynced(id, want); err != nil {
			t.Fatal(err)
		}
		other, err := Open(s.Dir())
		if err != nil {
			t.Fatal(err)
		}
		var got Digest
		if found, err := other.Recall(id, &got); !found || err != nil || got != want {
			t.Errorf("Recall = %v, %v, %s, want %s", found, err, got, want)
		}
		if err := other.Close(); err != nil {
			t.Error(err)
		}
	}
}

func TestDigestsInJSON(t *testing.T) {
	a, b := DigestOf([]byte("a")), DigestOf([]byte("b"))
	for text, want := range map[string][]Digest{
		``:                    nil,
		`"` + string(a) + `"`: {a},
		`{"x":"` + string(a) + `","y":["` + string(b) + `"]}`: {a, b},
		`"` + string(a):                  nil,
		`"` + string(a) + `x"`:           nil,
		`"x` + string(a) + `"`:           nil,
		`"sha256:","` + string(b) + `"`:  {b},
		`"` + strings.ToUpper(string(a)): nil,
	} {
		if diff := cmp.Diff(want, digestsIn([]byte(text))); diff != "" {
			t.Errorf("%s: %s", text, diff)
		}
	}
}

// FuzzDecodeRecord gives the decoder bytes with a right checksum: what it takes, it
// writes again as it was. It must not take what does not hold its checksum.
func FuzzDecodeRecord(f *testing.F) {
	id := NewHash("x").Sum()
	f.Add([]byte("action "+string(id)+"\nblobs\njson\n1"), byte(0))
	f.Add([]byte("action "+string(id)+"\nblobs "+DigestOf(nil).Hex()+" "+DigestOf([]byte("x")).Hex()+"\nbinary\n\x00\n"), byte(7))
	f.Add([]byte("action "+string(id)+"\nblobs \njson\n"), byte(20))
	f.Add([]byte("action\n"), byte(70))
	f.Fuzz(func(t *testing.T, body []byte, at byte) {
		data := append([]byte(recordHead+DigestOf(body).Hex()+"\n"), body...)
		if r, why := decodeRecord(id, data); why == "" {
			if again := finishRecord(append(r.start(), r.value...)); !bytes.Equal(again, data) {
				t.Errorf("%q is written again as %q", data, again)
			}
		}
		data[int(at)%len(data)] ^= 1
		if _, why := decodeRecord(id, data); why == "" {
			t.Errorf("%q was taken", data)
		}
	})
}
