package source

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestTable finds every row of tables of any size, and nothing else.
func TestTable(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	digest := func() string {
		return fmt.Sprintf("%016x%016x%016x%016x", rng.Uint64(), rng.Uint64(), rng.Uint64(), rng.Uint64())
	}
	for _, n := range []int{0, 1, 2, 3, 100, 1000} {
		var text strings.Builder
		want := map[string]tableRow{}
		for i := range n {
			d, name := digest(), fmt.Sprintf("n%d", i%7)
			version := fmt.Sprintf("%d.%d-1", i/7, i%3)
			fmt.Fprintf(&text, "Package: %s\nVersion: %s\nDirectory: pool/%s\nChecksums-Sha256:\n %s 1 f%d.tar.gz\n %s 1 f%d.dsc\n\n", name, version, name, d, i, digest(), i)
			want[d] = tableRow{fmt.Sprintf("pool/%s/f%d.tar.gz", name, i), name, version}
		}
		table, err := makeTable(strings.NewReader(text.String()))
		if err != nil {
			t.Fatal(err)
		}
		if !table.whole() {
			t.Errorf("table of %d rows is not whole", n)
		}
		for d, row := range want {
			if got, found := table.find(d); !found || got != row {
				t.Fatalf("of %d rows: got %v, %v, want %v", n, got, found, row)
			}
		}
		for _, d := range []string{strings.Repeat("0", 64), strings.Repeat("f", 64), digest(), digest()} {
			if got, found := table.find(d); found {
				t.Errorf("of %d rows: found %v", n, got)
			}
		}
		if n == 100 {
			if diff := cmp.Diff([]string{"0.0-1", "1.1-1", "2.2-1", "3.0-1", "4.1-1", "5.2-1", "6.0-1", "7.1-1", "8.2-1", "9.0-1", "10.1-1", "11.2-1", "12.0-1", "13.1-1", "14.2-1"}, table.versions("n0")); diff != "" {
				t.Errorf("versions (-want +got):\n%s", diff)
			}
		}
		if got := table.versions("n"); got != nil {
			t.Errorf("versions of a source that is not there: %v", got)
		}
	}
	for file, want := range map[string]string{"musl-1.2.5.tar.gz": "musl", "xz-utils_5.8.1.orig.tar.xz": "xz-utils", "zlib/zlib_1.orig.tar.gz": "zlib", "Foo-v1.tar": "foo", "x": "", "": "", "lua5.4_5.4.7.orig.tar.gz": "lua5.4"} {
		if got := sourceOf(file); got != want {
			t.Errorf("source of %q: got %q, want %q", file, got, want)
		}
	}
}

func FuzzTable(f *testing.F) {
	f.Add("Package: a\nVersion: 1\nDirectory: pool/a\nChecksums-Sha256:\n "+strings.Repeat("a", 64)+" 1 f.tar.gz\n", strings.Repeat("a", 64))
	f.Fuzz(func(t *testing.T, index, digest string) {
		table, err := makeTable(strings.NewReader(index))
		if err != nil || !isHex(digest, 64) {
			return
		}
		if row, found := table.find(digest); found && !strings.Contains(index, digest) {
			t.Errorf("found %v, which the index does not have", row)
		}
	})
}
