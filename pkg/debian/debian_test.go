package debian_test

import (
	"archive/tar"
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp/armor"
	openpgp "github.com/ProtonMail/go-crypto/openpgp/v2"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/tarn-build/tarn/pkg/debian"
	"github.com/tarn-build/tarn/pkg/debian/debiantest"
)

func TestControl(t *testing.T) {
	text := "# a comment\n\nPackage: a\nDepends: b,\n c (>= 1),\n\td\nEmpty:\n \n\n\npackage: two\nDescription: x\n # not a comment\n .\n end"
	want := []debian.Paragraph{
		{{"Package", "a"}, {"Depends", "b,\n c (>= 1),\n\td"}, {"Empty", ""}},
		{{"package", "two"}, {"Description", "x\n # not a comment\n .\n end"}},
	}
	var got []debian.Paragraph
	c := debian.NewControlReader(strings.NewReader(text))
	for {
		p, err := c.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, p)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("paragraphs (-want +got):\n%s", diff)
	}
	if v := got[1].Get("PACKAGE"); v != "two" {
		t.Errorf("Get ignores case: got %q, want two", v)
	}
	for _, bad := range []string{"no colon\n", ": x\n", "a b: c\n", " begins folded\n", "A: " + strings.Repeat("x", 9<<20)} {
		if p, err := debian.NewControlReader(strings.NewReader(bad)).Next(); err == nil {
			t.Errorf("%.20q is read as %v", bad, p)
		}
	}
}

const hexA = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"

func release(files string) string {
	return "Origin: Debian\nLabel: Debian\nSuite: stable\nCodename: trixie\nDate: Sat, 12 Sep 2026 07:55:41 UTC\nAcquire-By-Hash: yes\nArchitectures: all amd64\nComponents: main contrib\nSHA256:\n" + files
}

func TestRelease(t *testing.T) {
	got, err := debian.ParseRelease([]byte(release(" " + hexA + "     12 main/source/Sources.gz\n")))
	if err != nil {
		t.Fatal(err)
	}
	want := &debian.Release{
		Origin: "Debian", Label: "Debian", Suite: "stable", Codename: "trixie", AcquireByHash: true,
		Date:          time.Date(2026, 9, 12, 7, 55, 41, 0, time.UTC),
		Architectures: []string{"all", "amd64"}, Components: []string{"main", "contrib"},
		Files: map[string]debian.File{"main/source/Sources.gz": {Path: "main/source/Sources.gz", Size: 12, SHA256: hexA}},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("release (-want +got):\n%s", diff)
	}
	for name, bad := range map[string]string{
		"path out of the archive": release(" " + hexA + " 1 ../../etc/passwd\n"),
		"absolute path":           release(" " + hexA + " 1 /etc/passwd\n"),
		"upper-case digest":       release(" " + strings.ToUpper(hexA) + " 1 a\n"),
		"short digest":            release(" abcd 1 a\n"),
		"negative size":           release(" " + hexA + " -1 a\n"),
		"two fields":              release(" " + hexA + " 1\n"),
		"no digests":              "Origin: Debian\nDate: Sat, 12 Sep 2026 07:55:41 UTC\n",
		"no date":                 strings.Replace(release(""), "Date:", "Datum:", 1),
		"local time zone":         strings.Replace(release(""), "UTC", "CEST", 1),
		"two paragraphs":          release("") + "\nOrigin: other\n",
		"empty":                   "",
	} {
		if _, err := debian.ParseRelease([]byte(bad)); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func keyring(t testing.TB, armored bool, keys ...*openpgp.Entity) *debian.Keyring {
	t.Helper()
	var file bytes.Buffer
	for _, k := range keys {
		var w io.Writer = &file
		var closer io.Closer
		if armored {
			a, err := armor.Encode(&file, "PGP PUBLIC KEY BLOCK", nil)
			if err != nil {
				t.Fatal(err)
			}
			w, closer = a, a
		}
		if err := k.Serialize(w); err != nil {
			t.Fatal(err)
		}
		if closer != nil {
			closer.Close()
			file.WriteString("\n")
		}
	}
	k, err := debian.ReadKeyring(&file)
	if err != nil {
		t.Fatal(err)
	}
	if k.Len() != len(keys) {
		t.Fatalf("keyring has %d keys, want %d", k.Len(), len(keys))
	}
	return k
}

func TestInRelease(t *testing.T) {
	made := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	now := made.AddDate(0, 6, 0)
	right := debiantest.NewKey(t, "right", made, 365*24*time.Hour)
	other := debiantest.NewKey(t, "other", made, 0)
	text := release(" " + hexA + " 1 a\n")
	signed := debiantest.Sign(t, text, now, right)

	for name, c := range map[string]struct {
		data []byte
		keys []*openpgp.Entity
		at   time.Time
		ok   bool
	}{
		"right key":                     {signed, []*openpgp.Entity{right}, now, true},
		"right key among others":        {signed, []*openpgp.Entity{other, right}, now, true},
		"two signatures, one known":     {debiantest.Sign(t, text, now, other, right), []*openpgp.Entity{right}, now, true},
		"two signatures, other order":   {debiantest.Sign(t, text, now, right, other), []*openpgp.Entity{right}, now, true},
		"one key expired, one good":     {debiantest.Sign(t, text, now, right, other), []*openpgp.Entity{right, other}, now.AddDate(1, 0, 0), true},
		"wrong key":                     {signed, []*openpgp.Entity{other}, now, false},
		"no keys":                       {signed, nil, now, false},
		"expired key":                   {signed, []*openpgp.Entity{right}, now.AddDate(1, 0, 0), false},
		"a byte of the text flipped":    {bytes.Replace(signed, []byte("trixie"), []byte("trixif"), 1), []*openpgp.Entity{right}, now, false},
		"a digest changed":              {bytes.Replace(signed, []byte(hexA), []byte("b"+hexA[1:]), 1), []*openpgp.Entity{right}, now, false},
		"a paragraph before":            {append([]byte("Origin: evil\n\n"), signed...), []*openpgp.Entity{right}, now, false},
		"a paragraph after":             {append(bytes.Clone(signed), "Origin: evil\n"...), []*openpgp.Entity{right}, now, false},
		"unsigned":                      {[]byte(text), []*openpgp.Entity{right}, now, false},
		"cut off":                       {signed[:len(signed)/2], []*openpgp.Entity{right}, now, false},
		"signature of another text":     {append(bytes.Clone(signed[:bytes.Index(signed, []byte("-----BEGIN PGP SIGNATURE"))]), debiantest.Sign(t, text+"x", now, right)[bytes.Index(debiantest.Sign(t, text+"x", now, right), []byte("-----BEGIN PGP SIGNATURE")):]...), []*openpgp.Entity{right}, now, false},
		"an unsigned header in the top": {bytes.Replace(signed, []byte("Hash: "), []byte("Origin: evil\nHash: "), 1), []*openpgp.Entity{right}, now, false},
	} {
		t.Run(name, func(t *testing.T) {
			for _, armored := range []bool{false, true} {
				r, err := keyring(t, armored, c.keys...).OpenInRelease(c.data, c.at)
				if c.ok {
					if err != nil {
						t.Fatalf("armoured %v: %v", armored, err)
					}
					if r.Codename != "trixie" || r.Files["a"].SHA256 != hexA {
						t.Errorf("another text was read: %+v", r)
					}
					continue
				}
				if _, is := errors.AsType[*debian.SignatureError](err); !is {
					t.Errorf("armoured %v: got error %v, want a SignatureError", armored, err)
				}
			}
		})
	}
}

func TestIndexes(t *testing.T) {
	var packages []debian.Package
	err := debian.ReadPackages(strings.NewReader("Package: libz\nVersion: 1:1.2-3\nArchitecture: amd64\nSource: zlib (1.2-3)\nPre-Depends: libc6\nDepends: a, b\nFilename: pool/z/libz_1.2-3_amd64.deb\nSize: 9\nSHA256: "+hexA+"\n\nPackage: x\nVersion: 1\nFilename: ./x.deb\nSize: 0\nSHA256: "+hexA+"\n"),
		func(p debian.Package) error { packages = append(packages, p); return nil })
	if err != nil {
		t.Fatal(err)
	}
	want := []debian.Package{
		{Name: "libz", Version: "1:1.2-3", Arch: "amd64", Source: "zlib", Depends: "libc6, a, b", File: debian.File{Path: "pool/z/libz_1.2-3_amd64.deb", Size: 9, SHA256: hexA}},
		{Name: "x", Version: "1", Source: "x", File: debian.File{Path: "x.deb", SHA256: hexA}},
	}
	if diff := cmp.Diff(want, packages); diff != "" {
		t.Errorf("packages (-want +got):\n%s", diff)
	}
	var sources []debian.Source
	err = debian.ReadSources(strings.NewReader("Package: musl\nVersion: 1.2.5-3\nDirectory: pool/main/m/musl\nChecksums-Sha256:\n "+hexA+" 7 musl_1.2.5.orig.tar.gz\n"),
		func(s debian.Source) error { sources = append(sources, s); return nil })
	if err != nil {
		t.Fatal(err)
	}
	wantSources := []debian.Source{{Name: "musl", Version: "1.2.5-3", Directory: "pool/main/m/musl", Files: []debian.File{{Path: "musl_1.2.5.orig.tar.gz", Size: 7, SHA256: hexA}}}}
	if diff := cmp.Diff(wantSources, sources); diff != "" {
		t.Errorf("sources (-want +got):\n%s", diff)
	}
	for _, bad := range []string{
		"Package: a\nVersion: 1\nFilename: ../a.deb\nSize: 1\nSHA256: " + hexA + "\n",
		"Package: a\nVersion: 1\nFilename: a.deb\nSize: x\nSHA256: " + hexA + "\n",
		"Package: a\nVersion: 1\nFilename: a.deb\nSize: 1\nSHA256: zz\n",
		"Package: a\nFilename: a.deb\nSize: 1\nSHA256: " + hexA + "\n",
	} {
		if err := debian.ReadPackages(strings.NewReader(bad), func(debian.Package) error { return nil }); err == nil {
			t.Errorf("accepted: %q", bad)
		}
	}
}

func TestCompareVersions(t *testing.T) {
	// Each is later than the one before; those in one row are equal.
	order := [][]string{
		{"0~~"}, {"0~~a"}, {"0~"}, {"0", "", "0:0", "0-0", "00"}, {"0a"}, {"0.1~rc1-1"}, {"0.1-1~bpo1"}, {"0.1-1", "0.01-1", "0:0.1-01"},
		{"0.1-1+b1"}, {"0.1-1+b13"}, {"0.1-1.1"}, {"0.1-2"}, {"0.1+dfsg-1"}, {"0.1.1-1"}, {"0.2-1"}, {"1.2.13.dfsg-1"}, {"1.3.dfsg+really1.3.1-1"},
		{"2.36-9+deb12u4"}, {"2.36-9+deb12u14"}, {"99999999999999999999999-1"}, {"1:0.1-1"}, {"1:1.3-1"}, {"10:0"},
	}
	for i, row := range order {
		for j, other := range order {
			for _, a := range row {
				for _, b := range other {
					if got, want := sgn(debian.CompareVersions(a, b)), sgn(i-j); got != want {
						t.Errorf("compare %q and %q: got %d, want %d", a, b, got, want)
					}
				}
			}
		}
	}
}

func sgn(n int) int {
	switch {
	case n < 0:
		return -1
	case n > 0:
		return 1
	}
	return 0
}

func FuzzCompareVersions(f *testing.F) {
	for _, v := range []string{"1:2.3-4", "1~rc1", "1.2+dfsg", "-", ":", "1-", "a", "~"} {
		f.Add(v, "1.0-1", v+"~")
	}
	f.Fuzz(func(t *testing.T, a, b, c string) {
		if debian.CompareVersions(a, a) != 0 {
			t.Errorf("%q is not equal to itself", a)
		}
		ab, ba := sgn(debian.CompareVersions(a, b)), sgn(debian.CompareVersions(b, a))
		if ab != -ba {
			t.Errorf("compare %q and %q: %d one way, %d the other", a, b, ab, ba)
		}
		if bc := sgn(debian.CompareVersions(b, c)); ab <= 0 && bc <= 0 && debian.CompareVersions(a, c) > 0 {
			t.Errorf("%q <= %q <= %q, but not the first and the last", a, b, c)
		}
	})
}

func FuzzControl(f *testing.F) {
	f.Add([]byte("A: b\n c\n\nD: e"))
	f.Add([]byte(release(" " + hexA + " 1 a\n")))
	f.Fuzz(func(t *testing.T, data []byte) {
		c := debian.NewControlReader(bytes.NewReader(data))
		for n := 0; ; n++ {
			if n > len(data) {
				t.Fatal("more paragraphs than bytes")
			}
			if _, err := c.Next(); err != nil {
				break
			}
		}
		if r, err := debian.ParseRelease(data); err == nil {
			for p := range r.Files {
				if !debian.ValidPath(p) {
					t.Errorf("path %q", p)
				}
			}
		}
		_, _ = debian.ParseSourcesList("x.list", bytes.NewReader(data))
		_, _ = debian.ParseSourcesStanzas("x.sources", bytes.NewReader(data))
	})
}

func TestAptSources(t *testing.T) {
	got, err := debian.ReadAptSources(fstest.MapFS{
		"sources.list": {Data: []byte("# none\ndeb [arch=amd64 signed-by=/k/a.gpg] http://one.example/debian/ bookworm main contrib # why\ndeb-src\thttps://one.example/debian\tbookworm\tmain\n")},
		"sources.list.d/b.sources": {Data: []byte("Types: deb deb-src\nURIs: http://two.example/debian\nSuites: trixie sid\nComponents: main\nSigned-By: /k/b.gpg\n /k/c.asc\n\n" +
			"Enabled: no\nTypes: deb\nURIs: http://off.example\nSuites: x\nComponents: main\n\n" +
			"Types: deb\nURIs: http://three.example\nSuites: ./\nSigned-By:\n -----BEGIN PGP PUBLIC KEY BLOCK-----\n .\n abc\n -----END PGP PUBLIC KEY BLOCK-----\n")},
		"sources.list.d/c.list.save": {Data: []byte("deb http://backup.example x y\n")},
	})
	if err != nil {
		t.Fatal(err)
	}
	signedB := map[string]string{"signed-by": "/k/b.gpg\n /k/c.asc"}
	want := []debian.AptSource{
		{Type: "deb", URI: "http://one.example/debian", Suite: "bookworm", Components: []string{"main", "contrib"}, Options: map[string]string{"architectures": "amd64", "signed-by": "/k/a.gpg"}, File: "sources.list", Line: 2},
		{Type: "deb-src", URI: "https://one.example/debian", Suite: "bookworm", Components: []string{"main"}, File: "sources.list", Line: 3},
		{Type: "deb", URI: "http://two.example/debian", Suite: "trixie", Components: []string{"main"}, Options: signedB, File: "sources.list.d/b.sources"},
		{Type: "deb", URI: "http://two.example/debian", Suite: "sid", Components: []string{"main"}, Options: signedB, File: "sources.list.d/b.sources"},
		{Type: "deb-src", URI: "http://two.example/debian", Suite: "trixie", Components: []string{"main"}, Options: signedB, File: "sources.list.d/b.sources"},
		{Type: "deb-src", URI: "http://two.example/debian", Suite: "sid", Components: []string{"main"}, Options: signedB, File: "sources.list.d/b.sources"},
		{Type: "deb", URI: "http://three.example", Suite: "./", Options: map[string]string{"signed-by": "-----BEGIN PGP PUBLIC KEY BLOCK-----\n .\n abc\n -----END PGP PUBLIC KEY BLOCK-----"}, File: "sources.list.d/b.sources"},
	}
	if diff := cmp.Diff(want, got, cmpopts.EquateEmpty()); diff != "" {
		t.Errorf("sources (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"/k/b.gpg", "/k/c.asc"}, got[2].Keyrings()); diff != "" {
		t.Errorf("keyrings (-want +got):\n%s", diff)
	}
	if key, want := got[6].Key(), "-----BEGIN PGP PUBLIC KEY BLOCK-----\n\nabc\n-----END PGP PUBLIC KEY BLOCK-----\n"; key != want || got[6].Keyrings() != nil {
		t.Errorf("key: got %q, want %q; keyrings %v", key, want, got[6].Keyrings())
	}
	for _, bad := range []string{"rpm http://x y z\n", "deb [a=b http://x y z\n", "deb http://x\n", "deb [a] http://x y z\n"} {
		if _, err := debian.ParseSourcesList("bad.list", strings.NewReader(bad)); err == nil || !strings.HasPrefix(err.Error(), "bad.list:1: ") {
			t.Errorf("%q: got error %v, want one at bad.list:1", bad, err)
		}
	}
}

func tarball(t testing.TB, suffix string, files ...string) []byte {
	t.Helper()
	var entries []debiantest.Entry
	for i := 0; i < len(files); i += 2 {
		entries = append(entries, debiantest.Entry{Name: files[i], Content: files[i+1]})
	}
	return debiantest.Tar(t, suffix, entries...)
}

func readDeb(data []byte, limits debian.Limits) (name string, files map[string]string, err error) {
	d, err := debian.OpenDeb(bytes.NewReader(data), limits)
	if err != nil {
		return "", nil, err
	}
	files = map[string]string{}
	err = d.Each(func(h *tar.Header, r io.Reader) error {
		content, err := io.ReadAll(r)
		files[h.Name] = string(content)
		return err
	})
	return d.Control.Get("Package"), files, err
}

func TestDeb(t *testing.T) {
	big := strings.Repeat("0123456789", 50_000)
	want := map[string]string{"./usr/bin/hello": "hello\n", "./usr/share/big": big}
	for suffix := range debiantest.Compressions {
		t.Run("data.tar"+suffix, func(t *testing.T) {
			control := tarball(t, suffix, "./md5sums", "x", "./control", "Package: hello\nVersion: 1\n")
			data := tarball(t, suffix, "./usr/bin/hello", "hello\n", "./usr/share/big", big)
			whole := debiantest.Deb(t, suffix, "2.0\n", control, data)
			name, files, err := readDeb(whole, debian.Limits{})
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(want, files); diff != "" || name != "hello" {
				t.Errorf("package %q, files (-want +got):\n%s", name, diff)
			}
			for _, limits := range []debian.Limits{{Data: 1000}, {Entries: 1}, {Path: 5}, {Control: 100}} {
				if _, _, err := readDeb(whole, limits); err == nil {
					t.Errorf("limits %+v do not hold", limits)
				}
			}
			// Wherever the file is cut, the end is noticed.
			for _, n := range []int{0, 4, 30, 100, len(whole) / 2, len(whole) - len(data)/2, len(whole) - 8} {
				if _, _, err := readDeb(whole[:n], debian.Limits{}); err == nil {
					t.Errorf("cut off after %d of %d bytes: no error", n, len(whole))
				}
			}
			if suffix == ".xz" || suffix == ".gz" {
				for n := len(whole) - len(data) + 20; n < len(whole)-16; n += max(1, len(data)/50) {
					flipped := bytes.Clone(whole)
					flipped[n] ^= 0x10
					if _, got, err := readDeb(flipped, debian.Limits{}); err == nil && !cmp.Equal(want, got) {
						t.Errorf("byte %d flipped: other files and no error", n)
					}
				}
			}
		})
	}
	if _, _, err := readDeb(debiantest.Deb(t, "", "3.0\n", nil, nil), debian.Limits{}); err == nil {
		t.Error("format version 3 is accepted")
	}
}

func FuzzDeb(f *testing.F) {
	for suffix := range debiantest.Compressions {
		f.Add(debiantest.Deb(f, suffix, "2.0\n", tarball(f, suffix, "control", "Package: a\n"), tarball(f, suffix, "./a", "b")))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		_, files, err := readDeb(data, debian.Limits{Control: 1 << 20, Data: 1 << 20, Entries: 1000})
		if total := len(strings.Join(mapValues(files), "")); err == nil && total > 1<<20 {
			t.Errorf("%d bytes came out", total)
		}
	})
}

func mapValues(m map[string]string) (values []string) {
	for _, v := range m {
		values = append(values, v)
	}
	return values
}

func FuzzInRelease(f *testing.F) {
	made := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	key := debiantest.NewKey(f, "fuzz", made, 0)
	ring := keyring(f, false, key)
	text := release(" " + hexA + " 1 a\n")
	f.Add(debiantest.Sign(f, text, made, key))
	f.Fuzz(func(t *testing.T, data []byte) {
		got, _, err := ring.VerifyClearSigned(data, made)
		// Blanks at the end of lines and line ends are not part of what is signed.
		if err == nil && normal(string(got)) != normal(text) {
			t.Errorf("another text is accepted: %q", got)
		}
	})
}

func normal(s string) string {
	var b strings.Builder
	for line := range strings.Lines(s) {
		b.WriteString(strings.TrimRight(line, " \t\r\n") + "\n")
	}
	return strings.TrimRight(b.String(), "\n")
}
