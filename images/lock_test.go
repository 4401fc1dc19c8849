package images_test

import (
	"bytes"
	"context"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"

	"github.com/tarn-build/tarn/images"
	"github.com/tarn-build/tarn/pkg/apk"
	"github.com/tarn-build/tarn/pkg/diag"
	"github.com/tarn-build/tarn/pkg/store"
	"github.com/tarn-build/tarn/pkg/yamlread"
	"github.com/tarn-build/tarn/repo"
)

// signedWeb is a package as a key signed it: signatures are not part of what it is.
func signedWeb(key string) contents {
	return contents{name: "web", version: "2.0-r1", junk: key, files: []string{"0755 usr/bin/web program"}}
}

// shelf is a source of package files by name, as a repository that lists nothing.
type shelf map[string][]byte

func (s shelf) Name() string                                             { return "shelf" }
func (s shelf) Identity(e *apk.Entry) string                             { return e.Identity() }
func (s shelf) Packages(context.Context, apk.Arch) ([]*apk.Entry, error) { return nil, nil }
func (s shelf) Fetch(_ context.Context, st *store.Store, e *apk.Entry) (store.Digest, error) {
	data, found := s[e.FileName()]
	if !found {
		return "", fs.ErrNotExist
	}
	digest, _, err := st.Put(bytes.NewReader(data))
	return digest, err
}

// lockOf is the lock of packages, as it is read again from its file.
func lockOf(t *testing.T, st *store.Store, packages ...images.Package) *images.Lock {
	t.Helper()
	l := &images.Lock{Version: "v1", Config: &images.LockConfig{Name: "web.yaml", World: []string{"web"}}}
	for _, p := range packages {
		locked, err := images.LockPackage(st, p.Digest, apk.ArchX86_64, "r/x86_64/"+p.Entry.FileName())
		if err != nil {
			t.Fatal(err)
		}
		l.Contents.Packages = append(l.Contents.Packages, locked)
	}
	file := filepath.Join(t.TempDir(), "web.lock.json")
	if err := l.Write(file); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	read, err := images.ReadLock("web.lock.json", data)
	if err != nil {
		t.Fatalf("%v\n%s", err, data)
	}
	return read
}

// What a lock says of a package file is so: of each section its bytes and their digest.
func TestLockedSections(t *testing.T) {
	st := openStore(t)
	for _, c := range []contents{signedWeb("a"), signedWeb("")} {
		data, entry := c.build(t)
		p := lockOf(t, st, put(t, st, c)...).Contents.Packages[0]
		at := 0
		for _, s := range []struct {
			name  string
			of    images.LockedSection
			empty bool
			sum   func([]byte) string
		}{
			{"signature", p.Signature, c.junk == "", sha1Text},
			{"control", p.Control, false, sha1Text},
			{"data", p.Data, false, sha256Text},
		} {
			if s.empty {
				if s.of.Range != "" || s.of.Checksum != "" {
					t.Errorf("%s of an unsigned package: %+v", s.name, s.of)
				}
				continue
			}
			var first, last int
			if _, err := fmt.Sscanf(s.of.Range, "bytes=%d-%d", &first, &last); err != nil || first != at || last >= len(data) {
				t.Fatalf("%s: range %q begins at %d: %v", s.name, s.of.Range, at, err)
			}
			if got := s.sum(data[first : last+1]); got != s.of.Checksum {
				t.Errorf("%s: checksum %s, its bytes have %s", s.name, s.of.Checksum, got)
			}
			at = last + 1
		}
		if at != len(data) || p.Checksum != entry.Checksum.String() || p.SHA256 != fmt.Sprintf("%x", sha256.Sum256(data)) {
			t.Errorf("%d of %d bytes, checksum %s, SHA-256 %s", at, len(data), p.Checksum, p.SHA256)
		}
	}
}

func sha1Text(data []byte) string {
	sum := sha1.Sum(data)
	return "sha1-" + base64.StdEncoding.EncodeToString(sum[:])
}

func sha256Text(data []byte) string {
	sum := sha256.Sum256(data)
	return "sha256-" + base64.StdEncoding.EncodeToString(sum[:])
}

// apkoLock is a lock as apko writes it, of its release 1.2 and of one before 0.13, which
// knew no checksum: nothing in it is tarn's.
func apkoLock(t *testing.T, l *images.Lock, old bool) *images.Lock {
	t.Helper()
	data, err := json.Marshal(l)
	if err != nil {
		t.Fatal(err)
	}
	text := regexp.MustCompile(`,"(unsigned-)?sha256":"[0-9a-f]*"|,"world":\[[^]]*\]|"world":\[[^]]*\],?`).ReplaceAllString(string(data), "")
	if old {
		text = regexp.MustCompile(`,"checksum":"Q1[^"]*"`).ReplaceAllString(text, "")
	}
	read, err := images.ReadLock("apko.lock.json", []byte(text))
	if err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	return read
}

// The packages of a lock come from the store by their digests, else from whoever has the
// very file, or the same package as another key signed it. Nothing else is taken.
func TestLockedPackages(t *testing.T) {
	st := openStore(t)
	signed, _ := signedWeb("a").build(t)
	again, _ := signedWeb("another-key").build(t)
	unsigned, _ := signedWeb("").build(t)
	other, _ := contents{name: "web", version: "2.0-r1", files: []string{"0755 usr/bin/web evil"}}.build(t)
	renamed, _ := contents{name: "web", version: "2.0-r2", files: []string{"0755 usr/bin/web program"}}.build(t)
	ours := lockOf(t, st, put(t, st, signedWeb("a"))...)
	for _, test := range []struct {
		name  string
		lock  *images.Lock
		store []byte // what the store has
		shelf []byte // what is to be had under the package's name
		from  string
		trust string // the error, where it is one of trust
		lost  bool
	}{
		{"the store has it", ours, signed, nil, "r", "", false},
		{"the store has what was signed", ours, unsigned, nil, "r", "", false},
		{"the store has it, the repository another", ours, signed, other, "r", "", false},
		{"fetched", ours, nil, signed, "r", "", false},
		{"another key signed it", ours, nil, again, "r", "", false},
		{"nobody signed it", ours, nil, unsigned, "r", "", false},
		{"another content", ours, nil, other, "", "is not the package that the lock names: expected checksum Q1", false},
		{"another version", ours, nil, renamed, "", "expected package web-2.0-r1, found web-2.0-r2", false},
		{"nowhere", ours, nil, nil, "", "", true},
		{"apko: fetched", apkoLock(t, ours, false), nil, signed, "r", "", false},
		{"apko: another content", apkoLock(t, ours, false), nil, other, "", "expected checksum Q1", false},
		{"apko before 0.13: fetched", apkoLock(t, ours, true), nil, signed, "r", "", false},
		{"apko before 0.13: another content", apkoLock(t, ours, true), nil, other, "", "expected checksum Q1", false},
	} {
		t.Run(test.name, func(t *testing.T) {
			st := openStore(t)
			if test.store != nil {
				if _, _, err := st.Put(bytes.NewReader(test.store)); err != nil {
					t.Fatal(err)
				}
			}
			source := shelf{}
			if test.shelf != nil {
				source["web-2.0-r1.apk"] = test.shelf
			}
			packages, err := test.lock.Fetch(t.Context(), st, apk.ArchX86_64, []images.LockSource{{Source: source, Location: "r"}})
			var trust *repo.TrustError
			var lost *images.LostError
			switch {
			case test.trust != "":
				if !errors.As(err, &trust) || !strings.Contains(err.Error(), test.trust) {
					t.Errorf("got %v, want %s", err, test.trust)
				}
			case test.lost:
				if !errors.As(err, &lost) || len(lost.Packages) != 1 || !strings.Contains(err.Error(), "web-2.0-r1") || !strings.Contains(err.Error(), "r: not there") {
					t.Errorf("got %v", err)
				}
			case err != nil:
				t.Error(err)
			case len(packages) != 1 || packages[0].From != test.from || packages[0].Entry.FullName() != "web-2.0-r1":
				t.Errorf("got %+v, want it from %q", packages, test.from)
			}
		})
	}
}

// A package in the store whose bytes changed is not used.
func TestLockedPackageIsDamaged(t *testing.T) {
	st := openStore(t)
	packages := put(t, st, signedWeb("a"))
	lock := lockOf(t, st, packages...)
	fresh := openStore(t)
	put(t, fresh, signedWeb("a"))
	file := filepath.Join(fresh.Dir(), "blobs", "sha256", packages[0].Digest.Hex()[:2], packages[0].Digest.Hex())
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	data[len(data)/2] ^= 1
	if err := errors.Join(os.Chmod(file, 0o600), os.WriteFile(file, data, 0o600)); err != nil {
		t.Fatal(err)
	}
	_, err = lock.Fetch(t.Context(), fresh, apk.ArchX86_64, nil)
	if !isCorrupt(err) || !strings.Contains(err.Error(), "web-2.0-r1") || !strings.Contains(err.Error(), "hint: ") {
		t.Errorf("got %v, want the damaged package named, and a way out", err)
	}
}

// Each image of a lock is that of the packages that were solved: also when another key
// signed them, and they come from elsewhere.
func TestLockedImageIsTheSame(t *testing.T) {
	st := openStore(t)
	all := []contents{layoutPackage, muslPackage, signedWeb("a")}
	free := mustCompose(t, st, "contents: {packages: [web]}\n", all...)
	lock := lockOf(t, st, put(t, st, all...)...)
	elsewhere, source := openStore(t), shelf{}
	for _, c := range []contents{layoutPackage, muslPackage, signedWeb("another-key")} {
		data, entry := c.build(t)
		source[entry.FileName()] = data
	}
	packages, err := lock.Fetch(t.Context(), elsewhere, apk.ArchX86_64, []images.LockSource{{Source: source, Location: "r"}})
	if err != nil {
		t.Fatal(err)
	}
	image, err := compose(t, elsewhere, "contents: {packages: [web]}\n", packages)
	if err != nil {
		t.Fatal(err)
	}
	if image.About.Digest != free.About.Digest {
		t.Errorf("the locked image is %s, that of the packages %s", image.About.Digest, free.About.Digest)
	}
}

// The checksum of an image file is apko's: over the bytes of the file, then of what it includes.
func TestImageChecksum(t *testing.T) {
	s, err := images.Load(fstest.MapFS{"top.yaml": {Data: []byte("include: base.yaml\ncontents: {packages: [a]}\n")}, "base.yaml": {Data: []byte("cmd: x\n")}}, "top.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if want := sha256Text([]byte("include: base.yaml\ncontents: {packages: [a]}\ncmd: x\n")); s.Checksum != want {
		t.Errorf("got %s, want %s", s.Checksum, want)
	}
}

// TestLockMistakes holds that locks that somebody made are read strictly.
func TestLockMistakes(t *testing.T) {
	st := openStore(t)
	good, err := json.MarshalIndent(lockOf(t, st, put(t, st, signedWeb("a"))...), "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct{ name, old, new, want string }{
		{"a path as a name", `"name": "web",`, `"name": "../../web",`, `cannot be the name of a package`},
		{"a path as a version", `"version": "2.0-r1"`, `"version": "../2.0-r1"`, `is not a version`},
		{"an unknown architecture", `"architecture": "x86_64"`, `"architecture": "x86_64/../.."`, `unknown architecture`},
		{"another name of an architecture", `"architecture": "x86_64"`, `"architecture": "amd64"`, `unknown architecture "amd64"`},
		{"no package file", `web-2.0-r1.apk"`, `web-2.0-r1.tar"`, `is not where a package lies`},
		{"overlapping sections", `"range": "bytes=0-`, `"range": "bytes=1-`, `begins at byte 1, expected 0`},
		{"a range that is endless", `"range": "bytes=0-`, `"range": "bytes=0-9999999999999`, `is not like`},
		{"a short checksum", `"checksum": "sha256-`, `"checksum": "sha256-AAAA`, `and 32 bytes in base64`},
		{"another control section", `"checksum": "Q1`, `"checksum": "Q1AAAA`, `checksum of web`},
		{"a digest of nothing", `"sha256": "`, `"sha256": "z`, `sha256 of web is not 64 hexadecimal digits`},
		{"an unknown field", `"sha256": "`, `"sha512": "", "sha256": "`, `unknown field "sha512"`},
		{"a field twice", `"sha256": "`, `"name": "web", "sha256": "`, `"name"`},
		{"another version of the format", `"version": "v1"`, `"version": "v3"`, `version "v3"`},
		{"a wish that is none", `"web"` + "\n    ]", `"web>>1"` + "\n    ]", `package: `},
		{"YAML", `{`, "a: {", `invalid character`},
		{"an alias", `"v1"`, `*x`, `invalid character`},
	} {
		t.Run(test.name, func(t *testing.T) {
			text := strings.Replace(string(good), test.old, test.new, 1)
			if text == string(good) {
				t.Fatalf("%q is not in the lock:\n%s", test.old, good)
			}
			_, err := images.ReadLock("web.lock.json", []byte(text))
			problems, listed := diag.Of(err)
			if !listed || !strings.Contains(err.Error(), test.want) {
				t.Fatalf("got %v, want %s", err, test.want)
			}
			for _, p := range problems {
				if p.File != "web.lock.json" || p.Line == 0 || p.Column == 0 {
					t.Errorf("a mistake without a place: %+v", p)
				}
			}
		})
	}
	twice := strings.Replace(string(good), `"packages": [`, `"packages": [`+strings.TrimSuffix(strings.SplitN(strings.SplitN(string(good), `"packages": [`, 2)[1], "\n    ]", 2)[0], ",")+",", 1)
	if _, err := images.ReadLock("web.lock.json", []byte(twice)); err == nil || !strings.Contains(err.Error(), `package "web" is there twice for x86_64`) {
		t.Errorf("got %v", err)
	}
	huge := bytes.Repeat([]byte(" "), yamlread.MaxBytes+1)
	if _, err := images.ReadLock("web.lock.json", append(huge, good...)); err == nil || !strings.Contains(err.Error(), "more than 4194304 bytes") {
		t.Errorf("a lock of %d bytes: got %v", len(huge), err)
	}
	if _, err := images.ReadLock("web.lock.json", []byte(strings.ReplaceAll(string(good), "  ", "\t"))); err != nil {
		t.Errorf("tabs: %v", err)
	}
}

// TestStale holds in what a lock does not fit an image file any more.
func TestStale(t *testing.T) {
	st := openStore(t)
	lib := contents{name: "lib", version: "1.5-r0", lines: []string{"provides = so:lib.so.1=1.5"}, files: []string{"0755 usr/lib/lib.so.1 lib"}}
	web := contents{name: "web", version: "2.0-r1", lines: []string{"depend = so:lib.so.1", "depend = !evil"}, files: []string{"0755 usr/bin/web program"}}
	extra := contents{name: "extra", version: "1-r0", files: []string{"0644 usr/share/extra x"}}
	evil := contents{name: "evil", version: "1-r0", files: []string{"0644 usr/share/evil x"}}
	for _, test := range []struct {
		name  string
		file  string
		world []string // of the lock; none is a lock of apko's
		all   []contents
		want  []string
	}{
		{"it fits", "web", []string{"web"}, []contents{lib, web}, nil},
		{"any revision", "web=2.0", []string{"web=2.0"}, []contents{lib, web}, nil},
		{"added, changed, removed", "[web>=2, extra]", []string{"old", "web<3"}, []contents{lib, web},
			[]string{"changed: web>=2, it was web<3 (web.yaml:1:23)", "added: extra (web.yaml:1:31)", "removed: old",
				"web.yaml:1:31 asks for extra, which nothing in the lock is"}},
		{"what it asks for is older", "web>=3", []string{"web>=3"}, []contents{lib, web}, []string{"web.yaml:1:23 asks for web>=3, and the lock has web-2.0-r1"}},
		{"a need is open", "web", []string{"web"}, []contents{web}, []string{"web-2.0-r1 asks for so:lib.so.1, which nothing in the lock is"}},
		{"something is excluded", "[web, evil]", []string{"evil", "web"}, []contents{lib, web, evil}, []string{"web-2.0-r1 excludes evil-1-r0, which is in the lock"}},
		{"nobody asks for it", "web", []string{"web"}, []contents{lib, web, extra}, []string{"nothing asks for extra-1-r0"}},
		{"it came by install_if", "web", []string{"web"}, []contents{lib, web, {name: "extra", version: "1-r0", lines: []string{"install_if = web lib"}, files: []string{"0644 usr/share/extra x"}}}, nil},
		{"its install_if is not there", "web", []string{"web"}, []contents{lib, web, {name: "extra", version: "1-r0", lines: []string{"install_if = web doc"}, files: []string{"0644 usr/share/extra x"}}},
			[]string{"nothing asks for extra-1-r0"}},
		{"apko has its reasons", "web", nil, []contents{lib, web, extra}, nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := load(t, "contents: {packages: ["+strings.Trim(test.file, "[]")+"]}\n")
			packages := put(t, st, test.all...)
			lock := lockOf(t, st, packages...)
			lock.Config = &images.LockConfig{World: test.world, Checksum: s.Checksum}
			got := slices.Concat(lock.Check(images.Question{Spec: s, World: s.World, Arch: []apk.Arch{apk.ArchX86_64}}), lock.Satisfies(s.World, packages))
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}

// FuzzReadLock holds that what is read of a lock and written is read the same, and that
// nothing in it leads out of a folder.
func FuzzReadLock(f *testing.F) {
	f.Add([]byte(`{"version":"v1","contents":{"packages":[]}}`))
	f.Add([]byte(`{"version":"v1","config":{"name":"a.yaml","checksum":"sha256-eal7+HCFuOLz/8m3vNO5cYyNK0Zw7AphCcsc76TbTXg=","world":["a>1"]},"contents":{
 "keyring":[{"name":"k.rsa.pub","url":"https://x.example/k.rsa.pub","content":"x"}],
 "repositories":[{"name":"x.example/x86_64","url":"https://x.example/x86_64/APKINDEX.tar.gz","architecture":"x86_64"}],
 "packages":[{"name":"a","url":"https://x.example/x86_64/a-1.apk","version":"1","architecture":"x86_64",
  "control":{"range":"bytes=0-9","checksum":"sha1-m6wB0UFePGN8Drz82pC8y2uAiu8="},
  "data":{"range":"bytes=10-19","checksum":"sha256-ckBapsaMu5EOb/e4Ei1s2l/+dZMEamHhUmaoJ8yeZwg="},
  "checksum":"Q1m6wB0UFePGN8Drz82pC8y2uAiu8="}]}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		l, err := images.ReadLock("x.lock.json", data)
		if err != nil {
			if _, listed := diag.Of(err); !listed {
				t.Fatalf("an error without a place: %v", err)
			}
			return
		}
		for _, p := range l.Contents.Packages {
			if strings.ContainsAny(p.Name+p.Version+p.Architecture, "/\\\x00") || strings.HasPrefix(p.Name, ".") {
				t.Fatalf("package %q %q %q", p.Name, p.Version, p.Architecture)
			}
		}
		once, err := json.Marshal(l)
		if err != nil {
			t.Fatal(err)
		}
		again, err := images.ReadLock("x.lock.json", once)
		if err != nil {
			t.Fatalf("what was read can't be read again: %v\n%s", err, once)
		}
		twice, err := json.Marshal(again)
		if err != nil || !bytes.Equal(once, twice) {
			t.Fatalf("%s\n%s\n%v", once, twice, err)
		}
	})
}
