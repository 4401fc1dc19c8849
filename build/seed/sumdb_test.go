package seed

import (
	"crypto/rand"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"golang.org/x/mod/sumdb"
	"golang.org/x/mod/sumdb/note"

	"github.com/tarn-build/tarn/build/source"
)

// newDatabase serves a checksum database that vouches for a sum, at its own address and
// as a proxy does: its key and address.
func newDatabase(t *testing.T, sum string) (key, address string) {
	t.Helper()
	signer, key, err := note.GenerateKey(rand.Reader, "sums.test/db")
	if err != nil {
		t.Fatal(err)
	}
	database := sumdb.NewServer(sumdb.NewTestServer(signer, func(name, version string) ([]byte, error) {
		if sum == "" {
			return nil, errors.New("not found")
		}
		// As the real one: a version has two lines.
		return fmt.Appendf(nil, "%s %s %s\n%s %s/go.mod h1:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n", name, version, sum, name, version), nil
	}))
	served := http.NewServeMux()
	for _, p := range sumdb.ServerPaths {
		served.Handle(p, database)
		served.Handle("/sumdb/sums.test/db"+p, http.StripPrefix("/sumdb/sums.test/db", database))
	}
	served.HandleFunc("/sumdb/sums.test/db/supported", func(http.ResponseWriter, *http.Request) {})
	server := httptest.NewServer(served)
	t.Cleanup(server.Close)
	return key, server.URL
}

var lockedSum = regexp.MustCompile(`sum: (h1:\S+)`)

func TestGoIsVouchedFor(t *testing.T) {
	p := newProxy(t, nil)
	update := func(t *testing.T) (string, error) {
		g, _ := openGo(t, emptyGoLock)
		lock, err := g.Update(t.Context(), "1.99.1")
		return string(lock), err
	}
	for _, test := range []struct{ setting, value, why string }{
		{"GOSUMDB", "off", "GOSUMDB=off"},
		{"GONOSUMDB", "example.org,golang.org/tool*", "GONOSUMDB or GOPRIVATE names it"},
		{"GOPRIVATE", "golang.org", "GONOSUMDB or GOPRIVATE names it"},
	} {
		t.Run(test.setting, func(t *testing.T) {
			t.Setenv("GOSUMDB", "")
			t.Setenv(test.setting, test.value)
			if lock, err := update(t); err != nil || !strings.Contains(lock, "\n# No checksum database was asked: "+test.why+".\n") {
				t.Errorf("got %v, %s", err, lock)
			}
		})
	}
	lock, err := update(t)
	if err != nil {
		t.Fatal(err)
	}
	sum := lockedSum.FindStringSubmatch(lock)[1]
	key, address := newDatabase(t, sum)
	other, _ := newDatabase(t, sum)
	otherSum := "h1:" + strings.Repeat("B", 43) + "="
	wrongKey, wrong := newDatabase(t, otherSum)
	emptyKey, empty := newDatabase(t, "")
	for _, test := range []struct {
		name, proxies, database string
		is                      func(error) bool
		want                    string // in the message
	}{
		{"at its address", p.URL, key + " " + address, nil, ""},
		{"over a proxy", p.URL + "," + address + "," + p.URL, key, nil, ""},
		{"another sum", p.URL, wrongKey + " " + wrong, isA[*SumError], "golang.org/toolchain@v0.0.1-go1.99.1.linux-amd64: the checksum database sums.test/db does not vouch for it: digest does not match: expected h1 " + otherSum + ", found " + sum},
		{"another's key", p.URL, other + " " + address, isA[*SumError], "does not vouch for it: reading tree note: note has no verifiable signatures"},
		{"it does not know it", p.URL, emptyKey + " " + empty, isA[*source.Error], "hint: GOSUMDB=off"},
		{"no answer", p.URL, key + " http://127.0.0.1:1", isA[*source.Error], "the checksum database sums.test/db: "},
		{"no key", p.URL, "sums.test/db", func(err error) bool { return err != nil }, "GOSUMDB: "},
		{"no name", p.URL, "a b c", func(err error) bool { return err != nil }, "with its address or without"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Setenv("GOPROXY", test.proxies)
			t.Setenv("GOSUMDB", test.database)
			lock, err := update(t)
			switch {
			case test.is == nil && (err != nil || lockedSum.FindStringSubmatch(lock)[1] != sum || strings.Contains(lock, "No checksum database")):
				t.Errorf("got %v, %s", err, lock)
			case test.is != nil && (!test.is(err) || !strings.Contains(err.Error(), test.want)):
				t.Errorf("got %v, want %q", err, test.want)
			}
		})
	}
}

// A database that is called by its name alone has the key that this machine's Go knows.
func TestKnownDatabase(t *testing.T) {
	values, err := goSettings(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	known := map[string]string{}
	if name := values["GOSUMDB"]; name != "off" && !strings.ContainsAny(name, "+ ") {
		known[values["GOROOT"]] = name
	}
	other := t.TempDir()
	file := filepath.Join(other, "src/cmd/go/internal/modfetch/key.go")
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte("package modfetch\n\nvar known = map[string]string{\n\t\"sums.test\": `sums.test+1+A`,\n}\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	known[other] = "sums.test"
	for root, name := range known {
		if key, err := databaseKey(root, name); err != nil || !strings.HasPrefix(key, name+"+") {
			t.Errorf("the key of %s: got %q, %v", name, key, err)
		}
	}
	for _, root := range []string{"", t.TempDir()} {
		if key, err := databaseKey(root, "sums.test"); key != "" || err != nil {
			t.Errorf("without Go's source: got %q, %v", key, err)
		}
	}
	if _, _, err := openDatabase(t.Context(), nil, map[string]string{"GOSUMDB": "elsewhere.test", "GOROOT": other}, goModule); err == nil || !strings.Contains(err.Error(), "the key of \"elsewhere.test\" is not known\n  hint: set GOSUMDB to") {
		t.Errorf("a name that nobody knows: got %v", err)
	}
}
