package apk_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tarn-build/tarn/pkg/apk"
	"github.com/tarn-build/tarn/pkg/apk/apktest"
)

// vectors is the folder of packages and indexes that other people made.
func vectors(t testing.TB) string {
	t.Helper()
	dir := os.Getenv("TARN_SHARED")
	if dir == "" {
		dir = filepath.Join("..", "..", "..", "shared")
	}
	dir = filepath.Join(dir, "vectors")
	if _, err := os.Stat(dir); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatalf("no vectors: %v", err)
		}
		t.Skipf("no vectors: %v (TARN_SHARED names the folder above them)", err)
	}
	return dir
}

// entry is one line of a listing: all that is told of a file.
type entry struct {
	Type        apk.FileType
	Mode        fs.FileMode
	UID, GID    int
	User, Group string
	Link        string
	Content     string // its SHA-256 where it is long
	Xattrs      map[string]string
	Time        int64
	SHA1        string
}

func list(p *apk.Package) (map[string]entry, error) {
	all := map[string]entry{}
	return all, p.Files(func(f *apk.File, content io.Reader) error {
		data, err := io.ReadAll(content)
		if err != nil {
			return err
		}
		text := string(data)
		if len(text) > 100 {
			text = fmt.Sprintf("%x", sha256.Sum256(data))
		}
		all[f.Path] = entry{f.Type, f.Mode, f.UID, f.GID, f.User, f.Group, f.Link, text, f.Xattrs, f.ModTime.Unix(), f.SHA1.String()}
		return nil
	})
}

func TestReadOthersPackages(t *testing.T) {
	dir := vectors(t)
	for _, test := range []struct {
		file, fullName string
		files          int
		signature      string
		scripts        []string
		depends        int
	}{
		{"hello-0.1.0-r0.apk", "hello-0.1.0-r0", 1, "", nil, 1},
		{"hello-wolfi-2.12.1-r0.apk", "hello-wolfi-2.12.1-r0", 144, "RSA melange.rsa.pub", nil, 2},
		{"hello-wolfi-2.12.1-r1.apk", "hello-wolfi-2.12.1-r1", 144, "RSA local-melange.rsa.pub", nil, 2},
		{"libcap-2.69-r0.apk", "libcap-2.69-r0", 11, "RSA wolfi-signing.rsa.pub", nil, 4},
		{"perl-json-4.11-r0.apk", "perl-json-4.11-r0", 24, "", nil, 0},
		{"ruby3.2-base64-0.2.0-r2.apk", "ruby3.2-base64-0.2.0-r2", 22, "RSA wolfi-signing.rsa.pub", nil, 1},
		{"replaces/replaces-0.0.1-r0.apk", "replaces-0.0.1-r0", 6, "", nil, 0},
		{"alpine-316/alpine-baselayout-3.2.0-r23.apk", "alpine-baselayout-3.2.0-r23", 83,
			"RSA alpine-devel@lists.alpinelinux.org-616ae350.rsa.pub", []string{".post-install", ".post-upgrade", ".pre-install", ".pre-upgrade"}, 3},
		{"alpine-317/alpine-baselayout-3.2.0-r23.apk", "alpine-baselayout-3.2.0-r23", 83,
			"RSA alpine-devel@lists.alpinelinux.org-616ae350.rsa.pub", []string{".post-install", ".post-upgrade", ".pre-install", ".pre-upgrade"}, 3},
		{"alpine-317/alpine-baselayout-3.4.0-r0.apk", "alpine-baselayout-3.2.0-r23", 83, // whatever it is called
			"RSA alpine-devel@lists.alpinelinux.org-616ae350.rsa.pub", []string{".post-install", ".post-upgrade", ".pre-install", ".pre-upgrade"}, 3},
	} {
		t.Run(test.file, func(t *testing.T) {
			data, err := os.ReadFile(filepath.Join(dir, test.file))
			if err != nil {
				t.Fatal(err)
			}
			p := apktest.Read(t, data)
			files, err := list(p)
			if err != nil {
				t.Fatal(err)
			}
			signature := ""
			for _, s := range p.Signatures {
				signature += s.Algorithm + " " + s.KeyName
			}
			if p.Info.FullName() != test.fullName || len(files) != test.files || signature != test.signature || len(p.Info.Depends) != test.depends {
				t.Errorf("got %s, %d files, signature %q, %d dependencies", p.Info.FullName(), len(files), signature, len(p.Info.Depends))
			}
			if got := slices.Sorted(maps.Keys(p.Scripts)); !slices.Equal(got, test.scripts) {
				t.Errorf("scripts: got %q, want %q", got, test.scripts)
			}
			rewrite(t, p, files)
		})
	}
}

// rewrite writes what was read and reads it again: all must be the same.
func rewrite(t *testing.T, p *apk.Package, want map[string]entry) {
	t.Helper()
	u := apk.Unsigned{Info: p.Info, Scripts: p.Scripts, Control: p.Control}
	err := p.Files(func(f *apk.File, content io.Reader) error {
		data, err := io.ReadAll(content)
		c := apk.Content{File: *f, Open: func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(data)), nil }}
		u.Files = append(u.Files, c)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	again := apktest.Read(t, apktest.WriteAll(t, u))
	got, err := list(again)
	if err != nil {
		t.Fatal(err)
	}
	for path := range want {
		if e := got[path]; want[path].User == "" && e.User == "root" {
			e.User, e.Group = "", ""
			got[path] = e
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("files (-read +written and read):\n%s", diff)
	}
	wantInfo, gotInfo := p.Info, again.Info
	wantInfo.DataHash, gotInfo.DataHash, wantInfo.Size, gotInfo.Size = "", "", 0, 0
	if diff := cmp.Diff(wantInfo, gotInfo); diff != "" {
		t.Errorf("info (-read +written and read):\n%s", diff)
	}
	if diff := cmp.Diff([]any{p.Scripts, p.Control}, []any{again.Scripts, again.Control}); diff != "" {
		t.Errorf("control files (-read +written and read):\n%s", diff)
	}
}

// This package of Wolfi, as it was handed on, has other data than its datahash says.
func TestDataThatIsNotTheControlSections(t *testing.T) {
	data, err := os.ReadFile(filepath.Join(vectors(t), "aws-c-s3-0.4.9-r0.apk"))
	if err != nil {
		t.Fatal(err)
	}
	p := apktest.Read(t, data)
	visited := 0
	err = p.Files(func(*apk.File, io.Reader) error { visited++; return nil })
	if trust, ok := errors.AsType[*apk.TrustError](err); !ok || !strings.Contains(trust.Error(), "expected sha256") || visited != 0 {
		t.Errorf("got %v after %d files, want a TrustError before the first", err, visited)
	}
}

// unsigned is a package with one of everything.
func unsigned() apk.Unsigned {
	now := time.Unix(1700000000, 0)
	file := func(path string, mode fs.FileMode, content string) apk.Content {
		return apk.BytesContent(path, mode, []byte(content), now)
	}
	link := func(path string, kind apk.FileType, target string) apk.Content {
		return apk.Content{File: apk.File{Path: path, Type: kind, Link: target, ModTime: now}}
	}
	capable := file("usr/bin/ping", 0o755, "ping")
	capable.Xattrs = map[string]string{"security.capability": "\x01\x00\x00\x02\x00\x04\x00\x00\x00\x00\n=\x00", "security.selinux": "host"}
	owned := file("var/lib/nginx/x", 0o640, "own")
	owned.UID, owned.GID, owned.User, owned.Group = 101, 102, "nginx", "www"
	return apk.Unsigned{
		Info: apk.Info{
			Name: "full", Version: "1.2.3-r4", Arch: apk.ArchX86_64, Description: "a test; with # signs", URL: "https://example.org/#f",
			Commit: "0a1b", Maintainer: "A <a@example.org>", Packager: "B", Origin: "origin", Licenses: []string{"MIT OR ISC", "0BSD"}, BuildDate: 1700000000,
			Depends:   []apk.Dependency{{Name: "so:libc.musl-x86_64.so.1"}, {Name: "busybox", Conflict: true}, {Name: "zlib", Op: apk.GreaterEqual, Version: "1.3"}},
			Provides:  []apk.Dependency{{Name: "cmd:ping", Op: apk.Equal, Version: "1.2.3-r4"}},
			Replaces:  []apk.Dependency{{Name: "old"}},
			InstallIf: []apk.Dependency{{Name: "docs"}, {Name: "full", Op: apk.Equal, Version: "1.2.3-r4"}}, ProviderPriority: -1, ReplacesPriority: 7,
			Triggers: []string{"/usr/bin", "/usr/share/*"},
		},
		Scripts: map[string][]byte{".post-install": []byte("#!/bin/sh\n"), ".trigger": []byte("#!/bin/sh\ntrue\n")},
		Control: map[string][]byte{".melange.yaml": []byte("package: {}\n")},
		ModTime: now,
		Files: []apk.Content{
			file("usr/bin/su", 0o755|fs.ModeSetuid, "su"), capable, owned, file("usr/lib/empty", 0o600, ""),
			file("usr/bin/mmm", 0o755, strings.Repeat("0123456789abcdef", 1<<17)), // longer than what is buffered
			link("usr/bin/aaa", apk.TypeHardlink, "usr/bin/zzz"), link("usr/bin/zzz", apk.TypeHardlink, "usr/bin/mmm"),
			link("usr/bin/sym", apk.TypeSymlink, "../lib/empty"), link("usr/lib64", apk.TypeSymlink, "lib"),
			{File: apk.File{Path: "tmp/", Type: apk.TypeDir, Mode: 0o777 | fs.ModeSticky, ModTime: now}},
			file("usr/share/"+strings.Repeat("d", 200)+"/"+strings.Repeat("f", 255), 0o644, "long"), file("usr/share/ünï\xffcode", 0o644, "x"), file("rootfile", 0o444, "r"),
		},
	}
}

func TestWritePackage(t *testing.T) {
	u := unsigned()
	var b bytes.Buffer
	written, err := apk.WritePackage(&b, u)
	if err != nil {
		t.Fatal(err)
	}
	p := apktest.Read(t, b.Bytes())
	if diff := cmp.Diff(written.Info, p.Info); diff != "" {
		t.Errorf("info (-written +read):\n%s", diff)
	}
	want := u.Info
	want.Size, want.DataHash = written.Info.Size, written.DataHash
	if diff := cmp.Diff(want, p.Info); diff != "" {
		t.Errorf("info (-given +read):\n%s", diff)
	}
	if written.Checksum != p.Checksum || written.FileSize != int64(b.Len()) {
		t.Errorf("got %s of %d bytes, read %s of %d", written.Checksum, written.FileSize, p.Checksum, b.Len())
	}
	if want := int64(2 + 4 + 3 + 2<<20 + 12 + 3 + 4 + 1 + 1); p.Info.Size != want {
		t.Errorf("size: got %d, want %d", p.Info.Size, want)
	}
	var order []string
	if err := p.Files(func(f *apk.File, _ io.Reader) error { order = append(order, f.Path); return nil }); err != nil {
		t.Fatal(err)
	}
	long := "usr/share/" + strings.Repeat("d", 200)
	wantOrder := []string{"rootfile", "tmp", "usr", "usr/bin", "usr/bin/aaa", "usr/bin/mmm", "usr/bin/ping", "usr/bin/su", "usr/bin/sym", "usr/bin/zzz",
		"usr/lib", "usr/lib/empty", "usr/lib64", "usr/share", long, long + "/" + strings.Repeat("f", 255), "usr/share/ünï\xffcode", "var", "var/lib", "var/lib/nginx", "var/lib/nginx/x"}
	if diff := cmp.Diff(wantOrder, order); diff != "" {
		t.Errorf("order (-want +got):\n%s", diff)
	}
	files, err := list(p)
	if err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]entry{
		"usr/bin/aaa":     {Type: apk.TypeFile, Mode: 0o755, User: "root", Group: "root", Content: files["usr/bin/aaa"].Content, Time: 1700000000, SHA1: files["usr/bin/aaa"].SHA1},
		"usr/bin/mmm":     {Type: apk.TypeHardlink, User: "root", Group: "root", Link: "usr/bin/aaa", Time: 1700000000},
		"usr/bin/zzz":     {Type: apk.TypeHardlink, User: "root", Group: "root", Link: "usr/bin/aaa", Time: 1700000000},
		"usr/bin/su":      {Type: apk.TypeFile, Mode: 0o755 | fs.ModeSetuid, User: "root", Group: "root", Content: "su", Time: 1700000000, SHA1: "Q1Nj6yJPb/jTxRY6iAUiKsv5OaZbM="},
		"usr/bin/ping":    {Type: apk.TypeFile, Mode: 0o755, User: "root", Group: "root", Content: "ping", Time: 1700000000, Xattrs: map[string]string{"security.capability": "\x01\x00\x00\x02\x00\x04\x00\x00\x00\x00\n=\x00"}, SHA1: files["usr/bin/ping"].SHA1},
		"usr/lib":         {Type: apk.TypeDir, Mode: 0o755, User: "root", Group: "root", Time: 1700000000},
		"tmp":             {Type: apk.TypeDir, Mode: 0o777 | fs.ModeSticky, User: "root", Group: "root", Time: 1700000000},
		"usr/lib64":       {Type: apk.TypeSymlink, Mode: 0o777, User: "root", Group: "root", Link: "lib", Time: 1700000000, SHA1: files["usr/lib64"].SHA1},
		"var/lib/nginx/x": {Type: apk.TypeFile, Mode: 0o640, UID: 101, GID: 102, User: "nginx", Group: "www", Content: "own", Time: 1700000000, SHA1: files["var/lib/nginx/x"].SHA1},
	} {
		if diff := cmp.Diff(want, files[path]); diff != "" {
			t.Errorf("%s (-want +got):\n%s", path, diff)
		}
	}
}

// What apk-tools 3 insists on: it takes a package of size 0 for a virtual one.
func TestSizeIsNeverZeroWhereThereIsSomething(t *testing.T) {
	info := apk.Info{Name: "x", Version: "1-r0", Arch: apk.ArchX86_64}
	for name, test := range map[string]struct {
		u    apk.Unsigned
		want int64
	}{
		"nothing":        {apk.Unsigned{}, 0},
		"a folder":       {apk.Unsigned{Files: apktest.Files(t, "srv/", "")}, 1},
		"an empty file":  {apk.Unsigned{Files: apktest.Files(t, "srv/x", "")}, 1},
		"a symlink":      {apk.Unsigned{Files: apktest.Files(t, "srv/x", "-> four")}, 4},
		"a script":       {apk.Unsigned{Scripts: map[string][]byte{".post-install": []byte("#!/bin/sh\n")}}, 1},
		"a hardlink too": {apk.Unsigned{Files: apktest.Files(t, "srv/x", "12345", "srv/y", "=> srv/x")}, 5},
	} {
		test.u.Info = info
		if got := apktest.Read(t, apktest.WriteAll(t, test.u)).Info.Size; got != test.want {
			t.Errorf("%s: got %d, want %d", name, got, test.want)
		}
	}
}

func TestWriteIsDeterministic(t *testing.T) {
	write := func(procs int, u apk.Unsigned) []byte {
		defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(procs))
		return apktest.WriteAll(t, u)
	}
	want := write(1, unsigned())
	for procs := 1; procs <= 4; procs++ {
		u := unsigned()
		slices.Reverse(u.Files)
		if got := write(procs, u); !bytes.Equal(got, want) {
			t.Errorf("other bytes with %d processors and files the other way round", procs)
		}
	}
}

func TestWriteRefuses(t *testing.T) {
	for name, test := range map[string]struct {
		change func(u *apk.Unsigned)
		want   string
	}{
		"no version":                              {func(u *apk.Unsigned) { u.Info.Version = "v1" }, `version "v1" does not begin with a digit`},
		"no name":                                 {func(u *apk.Unsigned) { u.Info.Name = "" }, "the name is empty"},
		"a name with a slash":                     {func(u *apk.Unsigned) { u.Info.Name = "../x" }, `name "../x": unexpected "/"`},
		"no architecture":                         {func(u *apk.Unsigned) { u.Info.Arch = "" }, "no architecture"},
		"a line break":                            {func(u *apk.Unsigned) { u.Info.Description = "x\ndepend = evil" }, "line break"},
		"a line break in a licence":               {func(u *apk.Unsigned) { u.Info.Licenses = []string{"MIT\n"} }, "line break"},
		"a hostile dependency":                    {func(u *apk.Unsigned) { u.Info.Depends = []apk.Dependency{{Name: "a b"}} }, `unexpected " "`},
		"a dependency that reads back as another": {func(u *apk.Unsigned) { u.Info.Depends = []apk.Dependency{{Name: "a=1"}} }, "reads back as another"},
		"a range is provided":                     {func(u *apk.Unsigned) { u.Info.Provides = []apk.Dependency{{Name: "a", Op: apk.Less, Version: "1"}} }, "can be provided"},
		"a relative trigger":                      {func(u *apk.Unsigned) { u.Info.Triggers = []string{"usr"} }, "no absolute path"},
		"a script nobody runs":                    {func(u *apk.Unsigned) { u.Scripts = map[string][]byte{".postinstall": nil} }, "hint: there are .post-deinstall"},
		"a script that is too long":               {func(u *apk.Unsigned) { u.Scripts = map[string][]byte{".trigger": make([]byte, 300<<10)} }, "more than the 262144 that apk runs"},
		"a control file that is data":             {func(u *apk.Unsigned) { u.Control = map[string][]byte{"usr": nil} }, "no name of a control file"},
		"a signature as control file":             {func(u *apk.Unsigned) { u.Control = map[string][]byte{".SIGN.RSA256.x.rsa.pub": nil} }, "no name of a control file"},
		"a second .PKGINFO":                       {func(u *apk.Unsigned) { u.Control = map[string][]byte{".PKGINFO": nil} }, "no name of a control file"},
		"an absolute path":                        {func(u *apk.Unsigned) { u.Files = apktest.Files(t, "/etc/x", "") }, "it is absolute"},
		"dots":                                    {func(u *apk.Unsigned) { u.Files = apktest.Files(t, "etc/../x", "") }, "it is not clean"},
		"a hidden root file":                      {func(u *apk.Unsigned) { u.Files = apktest.Files(t, ".hidden", "") }, "apk skips what begins with a dot"},
		"a file twice":                            {func(u *apk.Unsigned) { u.Files = apktest.Files(t, "x", "", "x", "") }, "stands there twice"},
		"a file below a file":                     {func(u *apk.Unsigned) { u.Files = apktest.Files(t, "x", "", "x/y", "") }, "stands below /x, which is a file"},
		"a file below a symlink":                  {func(u *apk.Unsigned) { u.Files = apktest.Files(t, "lib", "-> usr/lib", "lib/x", "") }, "stands below /lib, which is a symbolic link"},
		"a hardlink to nothing":                   {func(u *apk.Unsigned) { u.Files = apktest.Files(t, "x", "=> y") }, "no file of the package"},
		"a hardlink to itself":                    {func(u *apk.Unsigned) { u.Files = apktest.Files(t, "x", "=> x") }, "no file of the package"},
		"a hardlink to a folder":                  {func(u *apk.Unsigned) { u.Files = apktest.Files(t, "d/", "", "x", "=> d") }, "which is a folder"},
		"a device":                                {func(u *apk.Unsigned) { u.Files = apktest.Files(t, "x", ""); u.Files[0].Mode |= fs.ModeDevice }, "mode D"},
		"content that is short":                   {func(u *apk.Unsigned) { u.Files = apktest.Files(t, "x", "abc"); u.Files[0].Size = 4 }, "expected 4 bytes, found 3"},
		"content that is long":                    {func(u *apk.Unsigned) { u.Files = apktest.Files(t, "x", "abc"); u.Files[0].Size = 2 }, "expected 2 bytes, found more"},
		"content that is other":                   {func(u *apk.Unsigned) { u.Files = apktest.Files(t, "x", "abc"); u.Files[0].SHA1[0] = 1 }, "expected sha1 01"},
		"an owner out of range":                   {func(u *apk.Unsigned) { u.Files = apktest.Files(t, "x", "abc"); u.Files[0].UID = 1 << 22 }, "out of range"},
		"nine gigabytes":                          {func(u *apk.Unsigned) { u.Files = apktest.Files(t, "x", "abc"); u.Files[0].Size = 9 << 30 }, "more than the format holds"},
		"content that changes": {func(u *apk.Unsigned) {
			u.Files = apktest.Files(t, "x", "")
			opened := 0
			u.Files[0].Size = 2 << 20
			u.Files[0].Open = func() (io.ReadCloser, error) {
				opened++
				return io.NopCloser(bytes.NewReader(bytes.Repeat([]byte{byte(opened)}, 2<<20))), nil
			}
		}, "it changed while it was written"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			u := apk.Unsigned{Info: apk.Info{Name: "x", Version: "1-r0", Arch: apk.ArchX86_64}, TempDir: dir}
			test.change(&u)
			var b bytes.Buffer
			_, err := apk.WritePackage(&b, u)
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v, want %q", err, test.want)
			}
			if b.Len() != 0 {
				t.Errorf("%d bytes were written", b.Len())
			}
			if left, _ := os.ReadDir(dir); len(left) != 0 {
				t.Errorf("left behind: %v", left)
			}
		})
	}
}

// forged is a package of which each section can be made wrong.
type forged struct {
	info string // lines of .PKGINFO before the datahash
	// control and data make the sections' archives; they end them where wanted.
	control func(t *tar.Writer)
	data    func(t *tar.Writer)
	raw     []byte // the compressed data section, in place of data
	hash    string // in place of the data's
	behind  []byte // bytes behind the data
}

const plainInfo = "pkgname = x\npkgver = 1-r0\narch = x86_64\nsize = 1\n"

func (f forged) bytes(t testing.TB) []byte {
	data := f.raw
	if data == nil {
		data = archive(t, true, f.data)
	}
	if f.info == "" {
		f.info = plainInfo
	}
	if f.hash == "" {
		f.hash = fmt.Sprintf("%x", sha256.Sum256(slices.Concat(data, f.behind)))
	}
	info := f.info + "datahash = " + f.hash + "\n"
	control := archive(t, false, func(w *tar.Writer) {
		put(w, tar.Header{Name: ".PKGINFO"}, info)
		if f.control != nil {
			f.control(w)
		}
	})
	return slices.Concat(control, data, f.behind)
}

func archive(t testing.TB, end bool, fill func(w *tar.Writer)) []byte {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	if fill != nil {
		fill(w)
	}
	if end {
		w.Close()
	} else {
		w.Flush()
	}
	return compress(b.Bytes())
}

func compress(data []byte) []byte {
	var b bytes.Buffer
	z, _ := gzip.NewWriterLevel(&b, gzip.BestSpeed)
	z.Write(data)
	z.Close()
	return b.Bytes()
}

func put(w *tar.Writer, h tar.Header, content string) {
	if h.Mode == 0 {
		h.Mode = 0o644
	}
	if h.Typeflag == 0 {
		h.Typeflag = tar.TypeReg
	}
	h.Size = int64(len(content))
	if err := w.WriteHeader(&h); err != nil {
		panic(err)
	}
	io.WriteString(w, content)
}

func entries(headers ...tar.Header) func(w *tar.Writer) {
	return func(w *tar.Writer) {
		for _, h := range headers {
			put(w, h, "")
		}
	}
}

// rawHeader is an archive's header that the library would not write.
func rawHeader(name string, flag byte, size int64, change func(b []byte)) []byte {
	b := make([]byte, 512)
	copy(b, name)
	copy(b[100:], "0000644\x000000000\x000000000\x00")
	copy(b[124:], fmt.Sprintf("%011o\x00%011o\x00        ", size, 0))
	b[156] = flag
	copy(b[257:], "ustar\x0000")
	if change != nil {
		change(b)
	}
	sum := 0
	for _, c := range b {
		sum += int(c)
	}
	copy(b[148:], fmt.Sprintf("%06o\x00 ", sum))
	return b
}

func padded(s string) []byte {
	return append([]byte(s), make([]byte, (512-len(s)%512)%512)...)
}

// record is one record of an extended header.
func record(key, value string) string {
	n := len(key) + len(value) + 3
	for {
		text := fmt.Sprintf("%d %s=%s\n", n, key, value)
		if len(text) == n {
			return text
		}
		n = len(text)
	}
}

func extended(records string, of ...[]byte) []byte {
	return slices.Concat(rawHeader("PaxHeaders/x", 'x', int64(len(records)), nil), padded(records), slices.Concat(of...), make([]byte, 1024))
}

// Each of these is refused, and no entry that is hostile is given to anybody.
func TestHostileData(t *testing.T) {
	const dir, sym, hard = tar.TypeDir, tar.TypeSymlink, tar.TypeLink
	file := func(name string) tar.Header { return tar.Header{Name: name, Typeflag: tar.TypeReg} }
	of := func(name string, kind byte, link string) tar.Header {
		return tar.Header{Name: name, Typeflag: kind, Linkname: link}
	}
	bomb := func() []byte { // 64 MiB of zeros in one file
		var b bytes.Buffer
		z := gzip.NewWriter(&b)
		z.Write(rawHeader("zeros", '0', 64<<20, nil))
		z.Write(make([]byte, 64<<20+1024))
		z.Close()
		return b.Bytes()
	}
	small := apk.Limits{Data: 1 << 20, Entries: 4, Path: 40, Header: 2000}
	for name, test := range map[string]struct {
		forged
		limits apk.Limits
		want   string
	}{
		"parent":                         {forged{data: entries(file("ok"), file("../evil"))}, apk.Limits{}, "not clean"},
		"only dots":                      {forged{data: entries(of("..", dir, ""))}, apk.Limits{}, "not clean"},
		"parent inside":                  {forged{data: entries(file("usr/../../evil"))}, apk.Limits{}, "not clean"},
		"parent at the end":              {forged{data: entries(of("usr/..", dir, ""))}, apk.Limits{}, "not clean"},
		"dot inside":                     {forged{data: entries(file("usr/./evil"))}, apk.Limits{}, "not clean"},
		"dot before":                     {forged{data: entries(file("./evil"))}, apk.Limits{}, "not clean"},
		"two slashes":                    {forged{data: entries(file("usr//evil"))}, apk.Limits{}, "not clean"},
		"absolute":                       {forged{data: entries(file("/evil"))}, apk.Limits{}, "absolute"},
		"root itself":                    {forged{data: entries(of("/", dir, ""))}, apk.Limits{}, "empty"},
		"file with a slash behind":       {forged{raw: compress(slices.Concat(rawHeader("evil/", '0', 0, nil), make([]byte, 1024)))}, apk.Limits{}, "not clean"},
		"line break":                     {forged{data: entries(file("usr\nF:evil"))}, apk.Limits{}, "line break"},
		"zero byte in an extended path":  {forged{raw: compress(extended(record("path", "a\x00evil"), rawHeader("a", '0', 0, nil)))}, apk.Limits{}, "header"},
		"path too long":                  {forged{data: entries(file(strings.Repeat("d/", 2100) + "evil"))}, apk.Limits{}, "longer than 4085 bytes"},
		"element too long":               {forged{data: entries(file(strings.Repeat("e", 256)))}, apk.Limits{}, "longer than 255 bytes"},
		"path over the limit asked":      {forged{data: entries(file(strings.Repeat("d/", 20) + "evil"))}, small, "longer than 40 bytes"},
		"file twice":                     {forged{data: entries(file("ok"), file("ok"))}, apk.Limits{}, "twice"},
		"folder twice":                   {forged{data: entries(of("ok", dir, ""), of("ok", dir, ""))}, apk.Limits{}, "twice"},
		"symlink, then file":             {forged{data: entries(of("ok", sym, "/etc/passwd"), file("ok"))}, apk.Limits{}, "twice"},
		"file below a symlink":           {forged{data: entries(of("ok", sym, "/etc"), file("ok/evil"))}, apk.Limits{}, "which is a symbolic link"},
		"deep below a symlink":           {forged{data: entries(of("ok", sym, "/etc"), file("ok/a/b/evil"))}, apk.Limits{}, "which is a symbolic link"},
		"file below a file":              {forged{data: entries(file("ok"), file("ok/evil"))}, apk.Limits{}, "which is a file"},
		"file below a hardlink":          {forged{data: entries(file("ok"), of("ok2", hard, "ok"), file("ok2/evil"))}, apk.Limits{}, "which is a hard link"},
		"symlink over what has files":    {forged{data: entries(file("ok/ok"), of("ok", sym, "/etc"))}, apk.Limits{}, "something stands below it"},
		"empty symlink":                  {forged{raw: compress(slices.Concat(rawHeader("evil", '2', 0, nil), make([]byte, 1024)))}, apk.Limits{}, `target "" of a symbolic link`},
		"symlink over two lines":         {forged{data: entries(of("evil", sym, "a\nb"))}, apk.Limits{}, "of a symbolic link"},
		"hardlink outside":               {forged{data: entries(of("evil", hard, "../etc/passwd"))}, apk.Limits{}, "no earlier file"},
		"hardlink absolute":              {forged{data: entries(of("evil", hard, "/etc/passwd"))}, apk.Limits{}, "no earlier file"},
		"hardlink to nothing":            {forged{data: entries(of("evil", hard, "ok"))}, apk.Limits{}, "no earlier file"},
		"hardlink to a later file":       {forged{data: entries(of("evil", hard, "ok"), file("ok"))}, apk.Limits{}, "no earlier file"},
		"hardlink to itself":             {forged{data: entries(of("evil", hard, "evil"))}, apk.Limits{}, "no earlier file"},
		"hardlink to a symlink":          {forged{data: entries(of("ok", sym, "/etc/passwd"), of("evil", hard, "ok"))}, apk.Limits{}, "which is a symbolic link"},
		"hardlink to a folder":           {forged{data: entries(of("ok", dir, ""), of("evil", hard, "ok"))}, apk.Limits{}, "which is a folder"},
		"hardlink to a hidden file":      {forged{data: entries(file(".ok"), of("evil", hard, ".ok"))}, apk.Limits{}, "no earlier file"},
		"character device":               {forged{data: entries(of("evil", tar.TypeChar, ""))}, apk.Limits{}, "is a character device"},
		"block device":                   {forged{data: entries(of("evil", tar.TypeBlock, ""))}, apk.Limits{}, "is a block device"},
		"pipe":                           {forged{data: entries(of("evil", tar.TypeFifo, ""))}, apk.Limits{}, "is a named pipe"},
		"unknown type":                   {forged{raw: compress(slices.Concat(rawHeader("evil", 'Z', 0, nil), make([]byte, 1024)))}, apk.Limits{}, "entry of type 'Z'"},
		"old sparse file":                {forged{raw: compress(slices.Concat(rawHeader("evil", 'S', 0, func(b []byte) { copy(b[257:], "ustar  \x00"); copy(b[483:], "00000001000\x00") }), make([]byte, 1024)))}, apk.Limits{}, "sparse file"},
		"sparse file":                    {forged{raw: compress(extended(record("GNU.sparse.major", "0")+record("GNU.sparse.minor", "1")+record("GNU.sparse.numblocks", "0")+record("GNU.sparse.size", "99999999999")+record("GNU.sparse.map", ""), rawHeader("evil", '0', 0, nil)))}, apk.Limits{}, "sparse"},
		"size in an extended header":     {forged{raw: compress(extended(record("size", "512"), rawHeader("evil", '0', 0, nil), padded("hidden")))}, apk.Limits{}, "a size in an extended header"},
		"two names":                      {forged{raw: compress(slices.Concat(rawHeader("x", 'x', int64(len(record("path", "ok"))), nil), padded(record("path", "ok")), rawHeader("L", 'L', 5, nil), padded("evil\x00"), rawHeader("ok", '0', 0, nil), make([]byte, 1024)))}, apk.Limits{}, "its other name"},
		"two targets":                    {forged{raw: compress(slices.Concat(rawHeader("x", 'x', int64(len(record("linkpath", "ok"))), nil), padded(record("linkpath", "ok")), rawHeader("K", 'K', 5, nil), padded("evil\x00"), rawHeader("evil", '2', 0, nil), make([]byte, 1024)))}, apk.Limits{}, "its target is"},
		"global header":                  {forged{raw: compress(slices.Concat(rawHeader("g", 'g', int64(len(record("path", "evil"))), nil), padded(record("path", "evil")), rawHeader("ok", '0', 0, nil), make([]byte, 1024)))}, apk.Limits{}, "global extended header"},
		"huge extended header":           {forged{data: entries(tar.Header{Name: "evil", Typeflag: tar.TypeReg, PAXRecords: map[string]string{"SCHILY.xattr.user.x": strings.Repeat("x", 300<<10)}})}, apk.Limits{}, "more than 262144 bytes"},
		"extended header over the limit": {forged{data: entries(tar.Header{Name: "evil", Typeflag: tar.TypeReg, PAXRecords: map[string]string{"comment": strings.Repeat("x", 3000)}})}, small, "more than 2000 bytes"},
		"malformed extended header":      {forged{raw: compress(extended("999999 path=evil\n", rawHeader("ok", '0', 0, nil)))}, apk.Limits{}, "header"},
		"attribute without a name":       {forged{data: entries(tar.Header{Name: "evil", Typeflag: tar.TypeReg, PAXRecords: map[string]string{"SCHILY.xattr.": "x"}})}, apk.Limits{}, "is not possible"},
		"wrong checksum of a file":       {forged{data: entries(tar.Header{Name: "evil", Typeflag: tar.TypeReg, PAXRecords: map[string]string{"APK-TOOLS.checksum.SHA1": strings.Repeat("0a", 20)}})}, apk.Limits{}, "expected sha1 0a0a"},
		"wrong checksum of a symlink":    {forged{data: entries(tar.Header{Name: "evil", Typeflag: sym, Linkname: "x", PAXRecords: map[string]string{"APK-TOOLS.checksum.SHA1": strings.Repeat("0a", 20)}})}, apk.Limits{}, "expected sha1 0a0a"},
		"bigger than it tells":           {forged{raw: compress(slices.Concat(rawHeader("bomb", '0', 1<<30, nil), make([]byte, 1024)))}, apk.Limits{}, "its files have 1073741824 bytes or more, and it tells of 1"},
		"checksum that says nothing":     {forged{data: entries(tar.Header{Name: "evil", Typeflag: tar.TypeReg, PAXRecords: map[string]string{"APK-TOOLS.checksum.SHA1": strings.Repeat("00", 20)}})}, apk.Limits{}, "all zeros"},
		"malformed checksum":             {forged{data: entries(tar.Header{Name: "evil", Typeflag: tar.TypeReg, PAXRecords: map[string]string{"APK-TOOLS.checksum.SHA1": "x"}})}, apk.Limits{}, "malformed checksum"},
		"owner out of range":             {forged{data: entries(tar.Header{Name: "evil", Typeflag: tar.TypeReg, Uid: 1 << 30})}, apk.Limits{}, "out of range"},
		"owner with a colon":             {forged{data: entries(tar.Header{Name: "evil", Typeflag: tar.TypeReg, Uname: "a:b"})}, apk.Limits{}, "no name has"},
		"negative size":                  {forged{raw: compress(slices.Concat(rawHeader("evil", '0', 0, func(b []byte) { copy(b[124:136], bytes.Repeat([]byte{0xff}, 12)) }), make([]byte, 1024)))}, apk.Limits{}, "header"},
		"size beyond the archive":        {forged{raw: compress(slices.Concat(rawHeader("evil", '0', 4096, nil), make([]byte, 512)))}, apk.Limits{}, "unexpected end"},
		"size beyond all limits":         {forged{info: "pkgname = x\npkgver = 1-r0\n", raw: compress(slices.Concat(rawHeader("evil", '0', 1<<33-1, nil), make([]byte, 512)))}, apk.Limits{Data: 1 << 30}, "more than 1073741824 bytes"},
		"bomb":                           {forged{raw: bomb()}, small, "more than 1048576 bytes"},
		"bomb behind the archive":        {forged{raw: compress(make([]byte, 2<<20))}, small, "more than 1048576 bytes"},
		"too many entries":               {forged{data: entries(file("ok1"), file("ok2"), file("ok3"), file("ok4"), file("evil"))}, small, "more than 4 entries"},
		"bytes behind the archive":       {forged{raw: compress(slices.Concat(rawHeader("ok", '0', 0, nil), make([]byte, 1024), rawHeader("evil", '0', 0, nil)))}, apk.Limits{}, "behind the end"},
		"bytes behind the section":       {forged{data: entries(file("ok")), behind: []byte("evil")}, apk.Limits{}, "behind the end"},
		"another section":                {forged{data: entries(file("ok")), behind: archive(t, true, entries(file("evil")))}, apk.Limits{}, "behind the end"},
		"no gzip":                        {forged{raw: []byte("no gzip at all, evil")}, apk.Limits{}, "header"},
		"cut off":                        {forged{raw: archive(t, true, entries(file("ok")))[:60]}, apk.Limits{}, "unexpected end"},
		"no archive":                     {forged{raw: compress(bytes.Repeat([]byte("evil"), 500))}, apk.Limits{}, "header"},
		"other data than signed":         {forged{data: entries(file("evil")), hash: strings.Repeat("0", 64)}, apk.Limits{}, "expected sha256 0000"},
		"no hash":                        {forged{data: entries(file("evil")), hash: "abc"}, apk.Limits{}, `names no SHA-256 of it, but "abc"`},
	} {
		t.Run(name, func(t *testing.T) {
			data := test.bytes(t)
			p, err := apk.ReadPackage(bytes.NewReader(data), int64(len(data)), test.limits)
			if err != nil {
				t.Fatal(err)
			}
			var given []string
			err = p.Files(func(f *apk.File, content io.Reader) error {
				// Content that is wrong is known to be so at its end.
				if _, err := io.Copy(io.Discard, content); err != nil {
					return err
				}
				given = append(given, f.Path)
				return nil
			})
			if err == nil {
				t.Fatalf("it was taken: %q", given)
			}
			if !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v, want %q", err, test.want)
			}
			for _, path := range given {
				if strings.Contains(path, "evil") || strings.Contains(path, "..") {
					t.Errorf("%q was given before it was refused", path)
				}
			}
		})
	}
}

func TestHostileControl(t *testing.T) {
	file := func(name, content string) func(w *tar.Writer) {
		return func(w *tar.Writer) { put(w, tar.Header{Name: name}, content) }
	}
	good := forged{}.bytes(t)
	signature := archive(t, false, file(".SIGN.RSA256.x.rsa.pub", "x"))
	for name, test := range map[string]struct {
		data []byte
		want string
	}{
		"empty":                     {nil, "the file is empty"},
		"text":                      {[]byte("hello"), "it begins neither with a gzip member nor with ADB"},
		"one byte":                  {[]byte{0x1f}, "it begins neither with a gzip member nor with ADB"},
		"version 3, no deflate":     {[]byte("ADBd...."), "corrupt input"},
		"cut off in the header":     {good[:8], "unexpected end"},
		"cut off in the control":    {good[:100], "unexpected end"},
		"only a signature":          {signature, "control section: unexpected end"},
		"many signatures":           {slices.Concat(bytes.Repeat(signature, 17), good), "more than 16 signature sections"},
		"signature and text":        {slices.Concat(signature, []byte("hello")), "control section"},
		"signature without a key":   {slices.Concat(archive(t, false, file(".SIGN.RSA256", "x")), good), "expected .SIGN.RSA256.NAME.rsa.pub"},
		"signature elsewhere":       {slices.Concat(archive(t, false, file(".SIGN.RSA256.../x.rsa.pub", "x")), good), "expected .SIGN.RSA256.NAME.rsa.pub"},
		"file among signatures":     {slices.Concat(archive(t, false, func(w *tar.Writer) { file(".SIGN.RSA.x.rsa.pub", "x")(w); file(".PKGINFO", plainInfo)(w) }), good), `".PKGINFO" is no signature`},
		"huge signatures":           {slices.Concat(archive(t, false, file(".SIGN.RSA256.x.rsa.pub", strings.Repeat("x", 2<<20))), good), "more than 1048576 bytes"},
		"signature among control":   {forged{control: file(".SIGN.RSA256.x.rsa.pub", "x")}.bytes(t), "a signature within the section"},
		"data among control":        {forged{control: file("etc/passwd", "x")}.bytes(t), `"etc/passwd" is no name of a control file`},
		"hidden path among control": {forged{control: file(".x/../../y", "x")}.bytes(t), "no name of a control file"},
		"dots among control":        {forged{control: file("..", "x")}.bytes(t), "no name of a control file"},
		"symlink among control":     {forged{control: entries(tar.Header{Name: ".x", Typeflag: tar.TypeSymlink, Linkname: "/etc"})}.bytes(t), "is a symbolic link, expected a file"},
		"larger than told":          {slices.Concat(compress(slices.Concat(rawHeader(".PKGINFO", '0', 30, nil), padded(plainInfo))), archive(t, true, nil)), "expected \"key = value\", found \"arch\""},
		"smaller than told":         {slices.Concat(compress(slices.Concat(rawHeader(".PKGINFO", '0', 1<<20, nil), padded(plainInfo))), archive(t, true, nil)), "unexpected end"},
		"an end, then more":         {slices.Concat(compress(slices.Concat(rawHeader(".PKGINFO", '0', int64(len(plainInfo)), nil), padded(plainInfo), make([]byte, 1024), rawHeader(".post-install", '0', 0, nil))), archive(t, true, nil)), "something stands behind the end"},
		"a size in a header":        {slices.Concat(compress(slices.Concat(extended(record("size", "9"), rawHeader(".PKGINFO", '0', int64(len(plainInfo)), nil), padded(plainInfo)))), archive(t, true, nil)), "a size in an extended header"},
		"second .PKGINFO":           {forged{control: file(".PKGINFO", plainInfo)}.bytes(t), `".PKGINFO" stands there twice`},
		"no .PKGINFO":               {slices.Concat(archive(t, false, file(".x", "")), archive(t, true, nil)), "no .PKGINFO"},
		"nothing at all":            {compress(nil), "no .PKGINFO"},
		"expands to much":           {slices.Concat(archive(t, false, file(".x", strings.Repeat("x", 11<<20))), archive(t, true, nil)), "more than 10485760 bytes"},
		"name that is a path":       {forged{info: "pkgname = ../x\npkgver = 1-r0\n"}.bytes(t), `pkgname: name "../x": unexpected "/"`},
		"version that is a path":    {forged{info: "pkgname = x\npkgver = 1/../../x\n"}.bytes(t), "pkgver"},
		"name that is a folder":     {forged{info: "pkgname = ..\npkgver = 1-r0\n"}.bytes(t), `pkgname: name ".." is that of a folder`},
		"architecture that is path": {forged{info: "pkgname = x\npkgver = 1-r0\narch = ../../x\n"}.bytes(t), `arch: architecture "../../x": unexpected character`},
		"no name":                   {forged{info: "pkgver = 1-r0\n"}.bytes(t), "pkgname: the name is empty"},
		"version for a terminal":    {forged{info: "pkgname = x\npkgver = 1\u009b31m\n"}.bytes(t), "pkgver"},
		"no version":                {forged{info: "pkgname = x\n"}.bytes(t), "pkgver: the version is empty"},
		"two names":                 {forged{info: plainInfo + "pkgname = y\n"}.bytes(t), "line 5: pkgname stands there twice"},
		"two hashes":                {forged{info: plainInfo + "datahash = 00\n"}.bytes(t), "line 6: datahash stands there twice"},
		"zero byte":                 {forged{info: plainInfo + "pkgdesc = a\x00b\n"}.bytes(t), "a zero byte in pkgdesc"},
		"malformed line":            {forged{info: plainInfo + "hello\n"}.bytes(t), `line 5: expected "key = value", found "hello"`},
		"negative size":             {forged{info: "pkgname = x\npkgver = 1-r0\nsize = -1\n"}.bytes(t), `line 3: size: "-1" is negative`},
		"size that is no number":    {forged{info: "pkgname = x\npkgver = 1-r0\nsize = 1k\n"}.bytes(t), `line 3: size: "1k" is not a number`},
		"malformed dependency":      {forged{info: plainInfo + "depend = a><b\n"}.bytes(t), "unknown operator"},
		"no data":                   {good[:bytes.LastIndex(good, []byte{0x1f, 0x8b})], ""},
	} {
		t.Run(name, func(t *testing.T) {
			p, err := apk.ReadPackage(bytes.NewReader(test.data), int64(len(test.data)), apk.Limits{})
			if test.want == "" {
				// The control section is whole; that the data is not there shows later.
				if err != nil {
					t.Fatal(err)
				}
				if _, ok := errors.AsType[*apk.TrustError](p.VerifyData()); !ok {
					t.Error("data that is not there was taken")
				}
				return
			}
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v, want %q", err, test.want)
			}
		})
	}
}

// Every flipped bit of a package is found: by its form, its signature, or its data's hash.
func TestEveryFlippedByteIsFound(t *testing.T) {
	data := signed(t, apktest.Package(t, "zlib", "1.3.1-r0", "usr/lib/libz.so.1", "text", "usr/lib/libz.so", "-> libz.so.1"))
	if err := whole(data); err != nil {
		t.Fatal(err)
	}
	control := apktest.Read(t, data)
	for i := range data {
		for _, bit := range []byte{1, 0x80} {
			flipped := bytes.Clone(data)
			flipped[i] ^= bit
			err := whole(flipped)
			if int64(i) < control.SignatureSize {
				continue // the signature's own gzip header may change without harm
			}
			if err == nil {
				t.Fatalf("byte %d of %d changed and nobody noticed", i, len(data))
			}
		}
	}
}

func whole(data []byte) error {
	p, err := apk.ReadPackage(bytes.NewReader(data), int64(len(data)), apk.Limits{})
	if err != nil {
		return err
	}
	if _, err := p.VerifySignature(testKeys); err != nil {
		return err
	}
	return p.Files(func(_ *apk.File, content io.Reader) error {
		_, err := io.Copy(io.Discard, content)
		return err
	})
}

// A hidden entry at the root is skipped, as apk does; a file's folder may have no entry.
func TestTolerated(t *testing.T) {
	data := forged{data: func(w *tar.Writer) {
		put(w, tar.Header{Name: ".hidden"}, "x")
		put(w, tar.Header{Name: ".PKGINFO"}, "pkgname = evil\npkgver = 9-r0\n") // no control file any more
		put(w, tar.Header{Name: ".post-install"}, "#!/bin/evil\n")
		put(w, tar.Header{Name: "./", Typeflag: tar.TypeDir}, "")
		put(w, tar.Header{Name: "usr/bin/x"}, "x")
		put(w, tar.Header{Name: "usr", Typeflag: tar.TypeDir}, "")
		put(w, tar.Header{Name: "y", Typeflag: tar.TypeReg, PAXRecords: map[string]string{"APK-TOOLS.checksum.SHA1": "Q1EfatjsUqKYSrqv18O1FlA3hcIHI="}}, "x")
		put(w, tar.Header{Name: "z", Typeflag: tar.TypeLink, Linkname: "y"}, "")
		put(w, tar.Header{Name: "zz", Typeflag: tar.TypeLink, Linkname: "z"}, "")
	}}.bytes(t)
	p := apktest.Read(t, data)
	files, err := list(p)
	if err != nil {
		t.Fatal(err)
	}
	if p.Info.Name != "x" || len(p.Scripts) != 0 {
		t.Errorf("what stands among the data was taken for control: %+v, %q", p.Info, p.Scripts)
	}
	if got, want := slices.Sorted(maps.Keys(files)), []string{"usr", "usr/bin/x", "y", "z", "zz"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	if files["zz"].Link != "y" {
		t.Errorf("a link to a link is a link to %q", files["zz"].Link)
	}
}

func FuzzReadPackage(f *testing.F) {
	f.Add(forged{}.bytes(f))
	f.Add(apktest.Package(f, "x", "1-r0", "a/b", "c", "a/l", "-> b", "a/h", "=> a/b"))
	f.Add(extended(record("size", "512"), rawHeader("evil", '0', 0, nil)))
	f.Fuzz(func(t *testing.T, data []byte) {
		limits := apk.Limits{Control: 1 << 20, Data: 1 << 20, Entries: 1000}
		// As a package, and as the data of one that is whole otherwise.
		for _, file := range [][]byte{data, forged{raw: compress(data)}.bytes(t)} {
			p, err := apk.ReadPackage(bytes.NewReader(file), int64(len(file)), limits)
			if err != nil {
				continue
			}
			there := map[string]bool{}
			err = p.Files(func(f *apk.File, content io.Reader) error {
				if there[f.Path] || !filepath.IsLocal(f.Path) {
					t.Errorf("%q was given", f.Path)
				}
				there[f.Path] = true
				_, err := io.Copy(io.Discard, content)
				return err
			})
			if err == nil && p.VerifyData() != nil {
				t.Error("files of data that does not verify")
			}
		}
	})
}

func BenchmarkWritePackage(b *testing.B) {
	data := make([]byte, 8<<20)
	for i := range data {
		data[i] = byte(i * i >> 7)
	}
	u := apk.Unsigned{Info: apk.Info{Name: "x", Version: "1-r0", Arch: apk.ArchX86_64}, Files: []apk.Content{apk.BytesContent("x", 0o644, data, time.Time{})}, TempDir: b.TempDir()}
	b.SetBytes(int64(len(data)))
	for b.Loop() {
		if _, err := apk.WritePackage(io.Discard, u); err != nil {
			b.Fatal(err)
		}
	}
}
