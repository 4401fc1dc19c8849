package apk_test

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tarn-build/tarn/pkg/apk"
	"github.com/tarn-build/tarn/pkg/apk/apktest"
)

// installed is a package as it stands in a root after it was installed.
func installed(t testing.TB, data []byte) *apk.Installed {
	t.Helper()
	p := apktest.Read(t, data)
	in := &apk.Installed{Entry: *apk.EntryOf(p, int64(len(data))), Scripts: p.Scripts}
	err := p.Files(func(f *apk.File, content io.Reader) error {
		if _, err := io.Copy(io.Discard, content); err != nil {
			return err
		}
		in.Files = append(in.Files, *f)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return in
}

// The lines are those that apk-tools 3.0.6 writes when it installs this package,
// without the empty fields.
func TestWriteInstalled(t *testing.T) {
	u := unsigned()
	u.Files = u.Files[:len(u.Files)-3] // names that fill pages
	full := installed(t, apktest.WriteAll(t, u))
	root := installed(t, apktest.Package(t, "base", "1-r0", "rootfile", "x"))
	packages := []*apk.Installed{root, full}
	var b bytes.Buffer
	if err := apk.WriteInstalled(&b, packages); err != nil {
		t.Fatal(err)
	}
	mmm := full.Files[4].SHA1
	for _, f := range full.Files {
		if f.Path == "usr/bin/aaa" {
			mmm = f.SHA1
		}
	}
	want := fmt.Sprintf(`C:%s
P:base
V:1-r0
A:x86_64
S:%d
I:1
T:
U:
L:
F:
R:rootfile
Z:Q1EfatjsUqKYSrqv18O1FlA3hcIHI=

C:%s
P:full
V:1.2.3-r4
A:x86_64
S:%d
I:2097176
T:a test; with # signs
U:https://example.org/#f
L:(MIT OR ISC) AND 0BSD
o:origin
m:A <a@example.org>
t:1700000000
c:0a1b
k:-1
D:so:libc.musl-x86_64.so.1 !busybox zlib>=1.3
p:cmd:ping=1.2.3-r4
i:docs full=1.2.3-r4
r:old
q:7
F:tmp
M:0:0:1777
F:usr
R:lib64
a:0:0:777
Z:Q1nQYrr/8XuouaEhXExRSFE01QnZE=
F:usr/bin
R:aaa
a:0:0:755
Z:%[5]s
R:mmm
a:0:0:755
Z:%[5]s
R:ping
a:0:0:755:%[6]s
Z:Q1VymCu8Tynukq4tZantwkU9LJFww=
R:su
a:0:0:4755
Z:Q1Nj6yJPb/jTxRY6iAUiKsv5OaZbM=
R:sym
a:0:0:777
Z:%[7]s
R:zzz
a:0:0:755
Z:%[5]s
F:usr/lib
R:empty
a:0:0:600
Z:Q12jmj7l5rSw0yVb/vlWAYkK/YBwk=
F:var
F:var/lib
F:var/lib/nginx
R:x
a:101:102:640
Z:Q1+/Y8atulf/KhjYPVXe/z216JsEM=

`, root.Checksum, root.FileSize, full.Checksum, full.FileSize, mmm, xattrs(t, b.String()), link(t, full, "usr/bin/sym"))
	if diff := cmp.Diff(want, b.String()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	read, err := apk.ReadInstalled(bytes.NewReader(b.Bytes()), apk.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	if len(read) != 2 || len(read[1].Files) != 16 {
		t.Fatalf("read %d packages", len(read))
	}
	for i, want := range []apk.File{
		{Path: "tmp", Type: apk.TypeDir, Mode: 0o777 | fs.ModeSticky},
		{Path: "usr", Type: apk.TypeDir, Mode: 0o755},
		{Path: "usr/lib64", Type: apk.TypeSymlink, Mode: 0o777, SHA1: read[1].Files[2].SHA1},
	} {
		if diff := cmp.Diff(want, read[1].Files[i]); diff != "" {
			t.Errorf("file %d (-want +got):\n%s", i, diff)
		}
	}
	last := read[1].Files[15]
	if last.Path != "var/lib/nginx/x" || last.UID != 101 || last.GID != 102 || last.Mode != 0o640 {
		t.Errorf("last file: %+v", last)
	}
	if read[1].ReplacesPriority != 7 || len(read[1].Replaces) != 1 || read[1].InstallIf[1].Version != "1.2.3-r4" {
		t.Errorf("record: %+v", read[1].Entry)
	}
}

func xattrs(t *testing.T, text string) string {
	t.Helper()
	_, rest, found := strings.Cut(text, "R:ping\na:0:0:755:")
	sum, _, _ := strings.Cut(rest, "\n")
	if _, err := apk.ParseChecksum(sum); !found || err != nil {
		t.Fatalf("no digest of extended attributes: %v", err)
	}
	return sum
}

func link(t *testing.T, p *apk.Installed, path string) string {
	t.Helper()
	for _, f := range p.Files {
		if f.Path == path {
			return f.SHA1.String()
		}
	}
	t.Fatalf("no %s", path)
	return ""
}

// The digest that apk-tools 3.0.6 computed for this one attribute of this value.
func TestXattrDigestIsApks(t *testing.T) {
	p := installed(t, apktest.Package(t, "x", "1-r0", "ping", "x"))
	p.Files[0].Xattrs = map[string]string{"security.capability": "\x01\x00\x00\x02\x00\x04\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"}
	var b bytes.Buffer
	if err := apk.WriteInstalled(&b, []*apk.Installed{p}); err != nil {
		t.Fatal(err)
	}
	if want := "a:0:0:644:Q13mhAdHkP2T+trQ+T8Fm+BiKO6xQ=\n"; !strings.Contains(b.String(), want) {
		t.Errorf("got:\n%s\nwant %s", b.String(), want)
	}
}

func TestWriteScriptsAndTriggers(t *testing.T) {
	info := apk.Info{Name: "b", Version: "1-r0", Arch: apk.ArchX86_64, BuildDate: 1700000000, Triggers: []string{"/usr/bin", "/lib/*"}}
	b := installed(t, apktest.WriteAll(t, apk.Unsigned{Info: info, Scripts: map[string][]byte{".trigger": []byte("#!/bin/sh\n"), ".post-install": []byte("#!/bin/sh\ntrue\n")}}))
	info.Name, info.Triggers = "a", nil
	a := installed(t, apktest.WriteAll(t, apk.Unsigned{Info: info, Scripts: map[string][]byte{".pre-install": []byte("#!/bin/sh\nfalse\n")}}))
	var scripts, triggers bytes.Buffer
	if err := errors.Join(apk.WriteScripts(&scripts, []*apk.Installed{b, a}), apk.WriteTriggers(&triggers, []*apk.Installed{b, a})); err != nil {
		t.Fatal(err)
	}
	if got, want := triggers.String(), b.Checksum.String()+" /usr/bin /lib/*\n"; got != want {
		t.Errorf("triggers: got %q, want %q", got, want)
	}
	var got []string
	for r := tar.NewReader(&scripts); ; {
		h, err := r.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		data, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, fmt.Sprintf("%s %o %d %q", h.Name, h.Mode, h.ModTime.Unix(), data))
	}
	want := []string{
		fmt.Sprintf("a-1-r0.X1%x.pre-install 755 1700000000 %q", a.Checksum[:], "#!/bin/sh\nfalse\n"),
		fmt.Sprintf("b-1-r0.X1%x.post-install 755 1700000000 %q", b.Checksum[:], "#!/bin/sh\ntrue\n"),
		fmt.Sprintf("b-1-r0.X1%x.trigger 755 1700000000 %q", b.Checksum[:], "#!/bin/sh\n"),
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("scripts (-want +got):\n%s", diff)
	}
}

func TestWriteInstalledRefuses(t *testing.T) {
	plain := func() *apk.Installed { return installed(t, apktest.Package(t, "x", "1-r0", "a/b", "c")) }
	for name, test := range map[string]struct {
		change func(p *apk.Installed)
		want   string
	}{
		"a line break in a path": {func(p *apk.Installed) { p.Files[1].Path = "a/b\nR:evil" }, "line break"},
		"a line break in a text": {func(p *apk.Installed) { p.Description = "x\nF:evil" }, "line break"},
		"a path that leads out":  {func(p *apk.Installed) { p.Files[1].Path = "../b" }, "not clean"},
		"a path twice":           {func(p *apk.Installed) { p.Files[1].Path = "a" }, "twice"},
		"a link to nothing":      {func(p *apk.Installed) { p.Files[1].Type, p.Files[1].Link = apk.TypeHardlink, "x" }, "no file of the package"},
		"no checksum":            {func(p *apk.Installed) { p.Checksum = apk.Checksum{} }, "no checksum"},
	} {
		p := plain()
		test.change(p)
		if err := apk.WriteInstalled(io.Discard, []*apk.Installed{p}); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: got %v, want %q", name, err, test.want)
		}
	}
	if err := apk.WriteInstalled(io.Discard, []*apk.Installed{plain(), plain()}); err == nil || !strings.Contains(err.Error(), "installed twice") {
		t.Errorf("got %v, want that it is installed twice", err)
	}
}

func TestMalformedInstalled(t *testing.T) {
	for text, want := range map[string]string{
		someIs + "R:x\n":               "a file without a folder",
		someIs + "M:0:0:755\n":         "it is about no path",
		someIs + "F:a\na:0:0:755\n":    "it is about a folder",
		someIs + "F:a\nR:b\nM:0:0:7\n": "it is about a file",
		someIs + "F:a\nZ:Q1xx\n":       "it is about no file",
		someIs + "F:a\nR:b\nZ:Q1xx\n":  "malformed checksum",
		someIs + "F:../a\n":            "not clean",
		someIs + "F:/a\n":              "absolute",
		someIs + "F:a\nR:../b\n":       "is a path, expected a name",
		someIs + "F:a\nR:..\n":         "not clean",
		someIs + "F:a\nM:0:0\n":        "expected uid:gid:mode",
		someIs + "F:a\nM:0:0:999\n":    "expected uid:gid:mode",
		someIs + "F:a\nM:-1:0:755\n":   "expected uid:gid:mode",
	} {
		if _, err := apk.ReadInstalled(strings.NewReader(text), apk.Limits{}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: got %v, want %q", text, err, want)
		}
	}
	// As a real apk leaves it: a folder of the root's own mode, empty fields.
	read, err := apk.ReadInstalled(strings.NewReader(someIs+"U:\nL:\ng:tag\nF:\nM:0:0:755\nR:x\nF:a\n\n"), apk.Limits{})
	if err != nil || len(read) != 1 || len(read[0].Files) != 2 {
		t.Errorf("got %v, %v", read, err)
	}
}

// apkRoot is where a real apk finds what this package wrote. It checks that apk reads
// the database and lists the files; it needs the program.
func TestRealApkReadsTheDatabase(t *testing.T) {
	program := realApk(t)
	root := t.TempDir()
	for _, dir := range []string{"usr/lib/apk/db", "etc/apk", "lib"} {
		if err := os.MkdirAll(root+"/"+dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("../usr/lib/apk", root+"/lib/apk"); err != nil {
		t.Fatal(err)
	}
	u := unsigned()
	u.Info.Depends, u.Info.InstallIf, u.Info.ProviderPriority = nil, nil, 3
	packages := []*apk.Installed{installed(t, apktest.WriteAll(t, u))}
	for name, write := range map[string]func(io.Writer, []*apk.Installed) error{"installed": apk.WriteInstalled, "scripts.tar": apk.WriteScripts, "triggers": apk.WriteTriggers} {
		var b bytes.Buffer
		if err := write(&b, packages); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(root+"/usr/lib/apk/db/"+name, b.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for name, text := range map[string]string{"world": "full\n", "arch": "x86_64\n"} {
		if err := os.WriteFile(root+"/etc/apk/"+name, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	out := run(t, program, "--root", root, "info", "-L", "full")
	for _, f := range packages[0].Files {
		if f.Type != apk.TypeDir && !strings.Contains(out, "\n"+f.Path+"\n") {
			t.Errorf("apk does not list %s:\n%s", f.Path, out)
		}
	}
	if out := run(t, program, "--root", root, "info", "-t", "full"); !strings.Contains(out, "/usr/share/*") {
		t.Errorf("apk does not list the trigger:\n%s", out)
	}
}

func TestRealApkTakesPackages(t *testing.T) {
	program := realApk(t)
	dir := t.TempDir()
	keys := dir + "/keys"
	if err := os.Mkdir(keys, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := newKeys()[0].WriteFiles(keys); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(keys + "/one.rsa"); err != nil {
		t.Fatal(err)
	}
	for name, data := range map[string][]byte{
		"full.apk":  apktest.WriteAll(t, unsigned()),
		"meta.apk":  apktest.Package(t, "meta", "1-r0"),
		"links.apk": apktest.Package(t, "links", "1-r0", "opt/l", "-> x"),
	} {
		file := dir + "/" + name
		if err := os.WriteFile(file, signed(t, data), 0o644); err != nil {
			t.Fatal(err)
		}
		if out := run(t, program, "--keys-dir", keys, "verify", file); !strings.Contains(out, "OK") {
			t.Errorf("apk verify %s: %s", name, out)
		}
	}
	for i := 1; i < len(versionPairs); i++ {
		a, b := versionPairs[i-1], versionPairs[i]
		if out := strings.TrimSpace(run(t, program, "version", "-t", a, b)); out != "<" || apk.Version(a).Compare(apk.Version(b)) >= 0 {
			t.Errorf("%s and %s: apk says %q, Compare %d", a, b, out, apk.Version(a).Compare(apk.Version(b)))
		}
	}
}

// versionPairs are each before the next.
var versionPairs = []string{"0.1.0_alpha_pre2", "0.1.0_alpha", "0.1.0", "0.1.0~0a", "1.0_p1_pre2", "1.0_p1", "4.09-r1", "4.5.14", "8.2.0015", "8.2.002", "9.2.0993", "9.2.992"}

// Whatever a database says: what is read is written, unless it is what no database has,
// and reads again as the same.
func FuzzReadInstalled(f *testing.F) {
	var b bytes.Buffer
	if err := apk.WriteInstalled(&b, []*apk.Installed{installed(f, apktest.WriteAll(f, unsigned()))}); err != nil {
		f.Fatal(err)
	}
	f.Add(b.String())
	f.Add(someIs + "F:\nR:a\na:0:0:777\nZ:Q1EfatjsUqKYSrqv18O1FlA3hcIHI=\nF:usr/lib\nM:0:0:1777\nR:x\n\n")
	f.Add("P:a\nV:1\nF:..\nR:../x\n")
	f.Fuzz(func(t *testing.T, text string) {
		all, err := apk.ReadInstalled(strings.NewReader(text), apk.Limits{Index: 1 << 20})
		if err != nil {
			return
		}
		for _, p := range all {
			for _, file := range p.Files {
				if !filepath.IsLocal(file.Path) {
					t.Errorf("%q was given", file.Path)
				}
			}
		}
		var one, two bytes.Buffer
		if apk.WriteInstalled(&one, all) != nil {
			return
		}
		again, err := apk.ReadInstalled(&one, apk.Limits{})
		if err != nil || len(again) != len(all) {
			t.Fatalf("%d packages, written and read again %d: %v", len(all), len(again), err)
		}
		if err := apk.WriteInstalled(&two, again); err != nil {
			t.Error(err)
		}
	})
}
