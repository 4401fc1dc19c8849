package apk_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strings"
	"testing"

	"github.com/tarn-build/tarn/pkg/adb"
	"github.com/tarn-build/tarn/pkg/apk"
	"github.com/tarn-build/tarn/pkg/apk/apktest"
)

// forged3 makes packages of version 3 of which every value can be wrong.
type forged3 struct{ adb.Builder }

type fields map[int]adb.Value

func (b *forged3) object(f fields) adb.Value {
	all := make([]adb.Value, 32)
	for i, v := range f {
		all[i-1] = v
	}
	return b.Object(all)
}

func (b *forged3) info(name, version string) adb.Value {
	return b.object(fields{1: b.Blob(name), 2: b.Blob(version), 5: b.Blob("x86_64"), 12: b.Int(1)})
}

func (b *forged3) acl(mode uint64, xattrs ...string) adb.Value {
	var all []adb.Value
	for _, x := range xattrs {
		all = append(all, b.Blob(x))
	}
	return b.object(fields{1: b.Int(mode), 2: b.Blob("root"), 3: b.Blob("root"), 4: b.Array(all)})
}

// file is a file whose content has one byte for each of the size.
func (b *forged3) file(name string, size int) adb.Value {
	sum := sha256.Sum256(bytes.Repeat([]byte{'x'}, size))
	return b.object(fields{1: b.Blob(name), 2: b.acl(0o644), 3: b.Int(uint64(size)), 5: b.Blob(string(sum[:]))})
}

// special is a file with a target: a mode and where it leads.
func (b *forged3) special(name string, mode int, target string) adb.Value {
	return b.object(fields{1: b.Blob(name), 2: b.acl(0o644), 6: b.Blob(string([]byte{byte(mode), byte(mode >> 8)}) + target)})
}

func (b *forged3) dir(name string, files ...adb.Value) adb.Value {
	return b.object(fields{1: b.Blob(name), 2: b.acl(0o755), 3: b.Array(files)})
}

func (b *forged3) pkg(info adb.Value, dirs ...adb.Value) adb.Value {
	return b.object(fields{1: info, 2: b.Array(dirs)})
}

// data is the content of a data block.
func data(dir, file uint32, content string) string {
	return string(binary.LittleEndian.AppendUint32(binary.LittleEndian.AppendUint32(nil, dir), file)) + content
}

// file3 makes a file of a schema, a root, and data blocks.
func (b *forged3) bytes(t testing.TB, schema adb.Schema, root adb.Value, data ...string) []byte {
	t.Helper()
	block, err := b.Block(root)
	if err != nil {
		t.Fatal(err)
	}
	return blocks3(t, schema, block, data...)
}

func blocks3(t testing.TB, schema adb.Schema, block []byte, data ...string) []byte {
	t.Helper()
	var out bytes.Buffer
	w, err := adb.NewWriter(&out, schema)
	if err == nil {
		err = w.Block(adb.BlockADB, block)
	}
	for _, d := range data {
		err = errors.Join(err, w.Block(adb.BlockData, []byte(d)))
	}
	if err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

const (
	isFifo    = 0o010000
	isChar    = 0o020000
	isBlock   = 0o060000
	isRegular = 0o100000
	isLink    = 0o120000
)

// Each of these is refused before an entry of it is given to anybody.
func TestHostileMetadata3(t *testing.T) {
	for name, test := range map[string]struct {
		root func(b *forged3) adb.Value
		want string
	}{
		"nothing":                {func(b *forged3) adb.Value { return adb.Null }, "the name is empty"},
		"a number":               {func(b *forged3) adb.Value { return b.Int(5) }, "package: expected an object, found a number"},
		"an array":               {func(b *forged3) adb.Value { return b.Array([]adb.Value{b.Int(5)}) }, "package: expected an object, found an array"},
		"no info":                {func(b *forged3) adb.Value { return b.pkg(adb.Null, b.dir("usr")) }, "the name is empty"},
		"info that is text":      {func(b *forged3) adb.Value { return b.pkg(b.Blob("x")) }, "info: expected an object, found bytes"},
		"name that is a number":  {func(b *forged3) adb.Value { return b.pkg(b.object(fields{1: b.Int(5)})) }, "name: expected bytes, found a number"},
		"name that is a path":    {func(b *forged3) adb.Value { return b.pkg(b.info("../x", "1-r0")) }, `name "../x": unexpected "/"`},
		"name of two lines":      {func(b *forged3) adb.Value { return b.pkg(b.info("x\nP:y", "1-r0")) }, `unexpected "\n"`},
		"version that is a path": {func(b *forged3) adb.Value { return b.pkg(b.info("x", "1/../../x")) }, "unexpected character"},
		"no version":             {func(b *forged3) adb.Value { return b.pkg(b.info("x", "")) }, "the version is empty"},
		"licence of two lines": {func(b *forged3) adb.Value {
			return b.pkg(b.object(fields{1: b.Blob("x"), 2: b.Blob("1"), 6: b.Blob("a\nb")}))
		}, "line break"},
		"url with a zero": {func(b *forged3) adb.Value {
			return b.pkg(b.object(fields{1: b.Blob("x"), 2: b.Blob("1"), 9: b.Blob("a\x00b")}))
		}, "zero byte"},
		"size beyond numbers": {func(b *forged3) adb.Value {
			return b.pkg(b.object(fields{1: b.Blob("x"), 2: b.Blob("1"), 12: b.Int(1 << 63)}))
		}, "does not fit in 63 bits"},
		"size that is text": {func(b *forged3) adb.Value {
			return b.pkg(b.object(fields{1: b.Blob("x"), 2: b.Blob("1"), 12: b.Blob("5")}))
		}, "installed-size: expected a number"},
		"dependency that is text": {func(b *forged3) adb.Value {
			return b.pkg(b.object(fields{1: b.Blob("x"), 2: b.Blob("1"), 15: b.Array([]adb.Value{b.Blob("y")})}))
		}, "depends: expected an object, found bytes"},
		"tag of two words": {func(b *forged3) adb.Value {
			return b.pkg(b.object(fields{1: b.Blob("x"), 2: b.Blob("1"), 21: b.Array([]adb.Value{b.Blob("a b")})}))
		}, `tags: "a b" has a space`},
		"dependency without a name": {func(b *forged3) adb.Value {
			return b.pkg(b.object(fields{1: b.Blob("x"), 2: b.Blob("1"), 15: b.Array([]adb.Value{b.object(fields{2: b.Blob("1")})})}))
		}, "depends: dependency"},
		"dependency of two words": {func(b *forged3) adb.Value {
			return b.pkg(b.object(fields{1: b.Blob("x"), 2: b.Blob("1"), 15: b.Array([]adb.Value{b.object(fields{1: b.Blob("a b")})})}))
		}, `unexpected " "`},
		"dependency with two in one": {func(b *forged3) adb.Value {
			return b.pkg(b.object(fields{1: b.Blob("x"), 2: b.Blob("1"), 15: b.Array([]adb.Value{b.object(fields{1: b.Blob("a=1")})})}))
		}, "reads back as another"},
		"dependency on a checksum": {func(b *forged3) adb.Value {
			return b.pkg(b.object(fields{1: b.Blob("x"), 2: b.Blob("1"), 15: b.Array([]adb.Value{b.object(fields{1: b.Blob("a"), 2: b.Blob("Q1"), 3: b.Int(6)})})}))
		}, "unknown operator 6"},
		"dependencies of themselves": {func(b *forged3) adb.Value { b.Blob("pad"); return adb.Value(0xe0000008 + 4) }, ""},
		"script that is a number": {func(b *forged3) adb.Value {
			return b.object(fields{1: b.info("x", "1"), 3: b.object(fields{1: b.Int(1)})})
		}, "trigger: expected bytes"},
		"relative trigger": {func(b *forged3) adb.Value {
			return b.object(fields{1: b.info("x", "1"), 4: b.Array([]adb.Value{b.Blob("usr")})})
		}, "no absolute path"},
		"trigger of two lines": {func(b *forged3) adb.Value {
			return b.object(fields{1: b.info("x", "1"), 4: b.Array([]adb.Value{b.Blob("/a\n/b")})})
		}, "no absolute path without spaces"},
		"folders that are text": {func(b *forged3) adb.Value { return b.object(fields{1: b.info("x", "1"), 2: b.Blob("usr")}) }, "paths: expected an array, found bytes"},
		"folder that is text":   {func(b *forged3) adb.Value { return b.pkg(b.info("x", "1"), b.Blob("usr")) }, "folder: expected an object, found bytes"},
		"null among folders":    {func(b *forged3) adb.Value { return b.pkg(b.info("x", "1"), b.dir("usr"), adb.Null, b.dir("var")) }, "paths: value 2 of an array is null"},
		"null among files":      {func(b *forged3) adb.Value { return b.pkg(b.info("x", "1"), b.dir("usr", b.file("a", 1), adb.Null)) }, "files of /usr: value 2 of an array is null"},
		"null among triggers": {func(b *forged3) adb.Value {
			return b.object(fields{1: b.info("x", "1"), 4: b.Array([]adb.Value{adb.Null})})
		}, "triggers: value 1 of an array is null"},
		"null among dependencies": {func(b *forged3) adb.Value {
			return b.pkg(b.object(fields{1: b.Blob("x"), 2: b.Blob("1"), 15: b.Array([]adb.Value{adb.Null})}))
		}, "depends: value 1 of an array is null"},
		"folder above":               {func(b *forged3) adb.Value { return b.pkg(b.info("x", "1"), b.dir("..")) }, "not clean"},
		"folder above, inside":       {func(b *forged3) adb.Value { return b.pkg(b.info("x", "1"), b.dir("usr/../../etc")) }, "not clean"},
		"absolute folder":            {func(b *forged3) adb.Value { return b.pkg(b.info("x", "1"), b.dir("/etc")) }, "it is absolute"},
		"folder with a slash behind": {func(b *forged3) adb.Value { return b.pkg(b.info("x", "1"), b.dir("etc/")) }, "not clean"},
		"folder of two lines":        {func(b *forged3) adb.Value { return b.pkg(b.info("x", "1"), b.dir("usr\nF:evil")) }, "line break"},
		"folder too long":            {func(b *forged3) adb.Value { return b.pkg(b.info("x", "1"), b.dir(strings.Repeat("d/", 2100)+"d")) }, "longer than 4085 bytes"},
		"folder twice":               {func(b *forged3) adb.Value { return b.pkg(b.info("x", "1"), b.dir("usr"), b.dir("usr")) }, "stands there twice"},
		"file above":                 {func(b *forged3) adb.Value { return b.pkg(b.info("x", "1"), b.dir("usr", b.file("..", 1))) }, "not clean"},
		"file with a slash":          {func(b *forged3) adb.Value { return b.pkg(b.info("x", "1"), b.dir("usr", b.file("../../evil", 1))) }, "expected one element of a path"},
		"file without a name":        {func(b *forged3) adb.Value { return b.pkg(b.info("x", "1"), b.dir("usr", b.file("", 1))) }, "expected one element of a path"},
		"file twice": {func(b *forged3) adb.Value {
			return b.pkg(b.info("x", "1"), b.dir("usr", b.file("a", 1), b.file("a", 1)))
		}, "stands there twice"},
		"file and folder": {func(b *forged3) adb.Value { return b.pkg(b.info("x", "1"), b.dir("", b.file("usr", 1)), b.dir("usr")) }, "stands there twice"},
		"folder below a file": {func(b *forged3) adb.Value {
			return b.pkg(b.info("x", "1"), b.dir("", b.file("usr", 1)), b.dir("usr/bin"))
		}, "which is a file"},
		"folder below a link": {func(b *forged3) adb.Value {
			return b.pkg(b.info("x", "1"), b.dir("", b.special("usr", isLink, "/etc")), b.dir("usr/bin"))
		}, "which is a symbolic link"},
		"file below a link": {func(b *forged3) adb.Value {
			return b.pkg(b.info("x", "1"), b.dir("", b.special("usr", isLink, "/etc")), b.dir("usr", b.file("passwd", 1)))
		}, "twice"},
		"link over what has files": {func(b *forged3) adb.Value {
			return b.pkg(b.info("x", "1"), b.dir("usr/bin", b.file("a", 1)), b.dir("", b.special("usr", isLink, "/etc")))
		}, "something stands below it"},
		"empty link": {func(b *forged3) adb.Value { return b.pkg(b.info("x", "1"), b.dir("usr", b.special("a", isLink, ""))) }, `target "" of a symbolic link`},
		"link of two lines": {func(b *forged3) adb.Value {
			return b.pkg(b.info("x", "1"), b.dir("usr", b.special("a", isLink, "a\nb")))
		}, "of a symbolic link"},
		"hard link to the outside": {func(b *forged3) adb.Value {
			return b.pkg(b.info("x", "1"), b.dir("usr", b.special("a", isRegular, "../../etc/passwd")))
		}, "no earlier file of the package"},
		"absolute hard link": {func(b *forged3) adb.Value {
			return b.pkg(b.info("x", "1"), b.dir("usr", b.special("a", isRegular, "/etc/passwd")))
		}, "no earlier file of the package"},
		"hard link to a later file": {func(b *forged3) adb.Value {
			return b.pkg(b.info("x", "1"), b.dir("usr", b.special("a", isRegular, "usr/b"), b.file("b", 1)))
		}, "no earlier file of the package"},
		"hard link to itself": {func(b *forged3) adb.Value {
			return b.pkg(b.info("x", "1"), b.dir("usr", b.special("a", isRegular, "usr/a")))
		}, "no earlier file of the package"},
		"hard link to a link": {func(b *forged3) adb.Value {
			return b.pkg(b.info("x", "1"), b.dir("usr", b.special("a", isLink, "/etc/passwd"), b.special("b", isRegular, "usr/a")))
		}, "which is a symbolic link"},
		"hard link to a folder": {func(b *forged3) adb.Value {
			return b.pkg(b.info("x", "1"), b.dir("usr", b.special("b", isRegular, "usr")))
		}, "which is a folder"},
		"character device": {func(b *forged3) adb.Value {
			return b.pkg(b.info("x", "1"), b.dir("dev", b.special("null", isChar, "\x03\x01\x00\x00\x00\x00\x00\x00")))
		}, "is a character device"},
		"block device": {func(b *forged3) adb.Value {
			return b.pkg(b.info("x", "1"), b.dir("dev", b.special("sda", isBlock, "\x00\x08\x00\x00\x00\x00\x00\x00")))
		}, "is a block device"},
		"pipe": {func(b *forged3) adb.Value {
			return b.pkg(b.info("x", "1"), b.dir("dev", b.special("p", isFifo, "\x00\x00\x00\x00\x00\x00\x00\x00")))
		}, "is a named pipe"},
		"socket": {func(b *forged3) adb.Value {
			return b.pkg(b.info("x", "1"), b.dir("dev", b.special("s", 0o140000, "x")))
		}, "a target of the unknown mode 140000"},
		"long target": {func(b *forged3) adb.Value {
			return b.pkg(b.info("x", "1"), b.dir("usr", b.special("a", isLink, strings.Repeat("x", 4086))))
		}, "a target of more than 4085 bytes"},
		"many attributes": {func(b *forged3) adb.Value {
			var all []string
			for i := range 300 {
				all = append(all, fmt.Sprintf("user.%d\x00x", i))
			}
			return b.pkg(b.info("x", "1"), b.object(fields{1: b.Blob("usr"), 2: b.acl(0o755, all...)}))
		}, "more than 256 extended attributes"},
		"long commit": {func(b *forged3) adb.Value {
			return b.pkg(b.object(fields{1: b.Blob("x"), 2: b.Blob("1"), 10: b.Blob(strings.Repeat("x", 65))}))
		}, "repo-commit: 65 bytes"},
		"short target": {func(b *forged3) adb.Value {
			return b.pkg(b.info("x", "1"), b.dir("usr", b.object(fields{1: b.Blob("a"), 2: b.acl(0o644), 6: b.Blob("x")})))
		}, "a target that is too short"},
		"file without a digest": {func(b *forged3) adb.Value {
			return b.pkg(b.info("x", "1"), b.dir("usr", b.object(fields{1: b.Blob("a"), 2: b.acl(0o644), 3: b.Int(1)})))
		}, "a digest of 0 bytes, expected SHA-256"},
		"file with a digest of SHA-1": {func(b *forged3) adb.Value {
			return b.pkg(b.info("x", "1"), b.dir("usr", b.object(fields{1: b.Blob("a"), 2: b.acl(0o644), 5: b.Blob(strings.Repeat("x", 20))})))
		}, "a digest of 20 bytes"},
		"size of a file as text": {func(b *forged3) adb.Value {
			return b.pkg(b.info("x", "1"), b.dir("usr", b.object(fields{1: b.Blob("a"), 2: b.acl(0o644), 3: b.Blob("1")})))
		}, "/usr/a: expected a number"},
		"mode beyond modes": {func(b *forged3) adb.Value {
			return b.pkg(b.info("x", "1"), b.object(fields{1: b.Blob("usr"), 2: b.acl(0o40755)}))
		}, "/usr: mode 40755"},
		"owner of two lines": {func(b *forged3) adb.Value {
			return b.pkg(b.info("x", "1"), b.object(fields{1: b.Blob("usr"), 2: b.object(fields{2: b.Blob("a\nb")})}))
		}, "a character that no name has"},
		"attribute without a value": {func(b *forged3) adb.Value {
			return b.pkg(b.info("x", "1"), b.object(fields{1: b.Blob("usr"), 2: b.acl(0o755, "user.x")}))
		}, `extended attribute "user.x" is malformed`},
		"attribute without a name": {func(b *forged3) adb.Value {
			return b.pkg(b.info("x", "1"), b.object(fields{1: b.Blob("usr"), 2: b.acl(0o755, "\x00x")}))
		}, "is not possible"},
		"attribute twice": {func(b *forged3) adb.Value {
			return b.pkg(b.info("x", "1"), b.object(fields{1: b.Blob("usr"), 2: b.acl(0o755, "user.x\x00a", "user.x\x00b")}))
		}, "there twice"},
		"many entries": {func(b *forged3) adb.Value {
			return b.pkg(b.info("x", "1"), b.dir("a"), b.dir("b"), b.dir("c"), b.dir("d"), b.dir("e"))
		}, "more than 4 entries"},
	} {
		t.Run(name, func(t *testing.T) {
			b := &forged3{}
			file := b.bytes(t, adb.SchemaPackage, test.root(b))
			limits := apk.Limits{}
			if name == "many entries" {
				limits.Entries = 4
			}
			p, err := apk.ReadPackage(bytes.NewReader(file), int64(len(file)), limits)
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %+v, %v, want %q", p, err, test.want)
			}
		})
	}
}

// Contents that are not what the ADB block says.
func TestHostileContents3(t *testing.T) {
	for name, test := range map[string]struct {
		data []string
		want string
	}{
		"all is well":         {[]string{data(1, 2, "x"), data(2, 1, "xx")}, ""},
		"no data":             {nil, "/usr/b: no data block"},
		"one is missing":      {[]string{data(1, 2, "x")}, "/usr/lib/c: no data block"},
		"one too many":        {[]string{data(1, 2, "x"), data(2, 1, "xx"), data(2, 2, "evil")}, "a data block that belongs to no file"},
		"one twice":           {[]string{data(1, 2, "x"), data(1, 2, "x"), data(2, 1, "xx")}, "expected the data of file 1 of folder 2 with 2 bytes, found that of file 2 of folder 1 with 1"},
		"in another order":    {[]string{data(2, 1, "xx"), data(1, 2, "x")}, "expected the data of file 2 of folder 1"},
		"of an empty file":    {[]string{data(1, 1, ""), data(1, 2, "x"), data(2, 1, "xx")}, "expected the data of file 2 of folder 1"},
		"longer than told":    {[]string{data(1, 2, "xx"), data(2, 1, "xx")}, "with 1 bytes, found that of file 2 of folder 1 with 2"},
		"shorter than told":   {[]string{data(1, 2, "x"), data(2, 1, "x")}, "with 2 bytes, found that of file 1 of folder 2 with 1"},
		"another content":     {[]string{data(1, 2, "x"), data(2, 1, "xy")}, "/usr/lib/c: expected sha256"},
		"no number":           {[]string{"1234"}, "a data block that is too short"},
		"of a symbolic link":  {[]string{data(1, 2, "x"), data(2, 1, "xx"), data(2, 2, "a")}, "belongs to no file"},
		"beyond the contents": {[]string{data(1, 2, "x"), data(9, 9, "xx")}, "found that of file 9 of folder 9"},
	} {
		t.Run(name, func(t *testing.T) {
			b := &forged3{}
			root := b.pkg(b.info("x", "1-r0"), b.dir("usr", b.file("a", 0), b.file("b", 1)), b.dir("usr/lib", b.file("c", 2), b.special("l", isLink, "c")))
			p := apktest.Read(t, b.bytes(t, adb.SchemaPackage, root, test.data...))
			err := p.VerifyData()
			_, is := errors.AsType[*apk.TrustError](err)
			if test.want == "" && err != nil || test.want != "" && (!is || !strings.Contains(err.Error(), test.want)) {
				t.Errorf("verify: got %v, want %q", err, test.want)
			}
			_, err = list(p)
			if (err == nil) != (test.want == "") || err != nil && !strings.Contains(err.Error(), test.want) {
				t.Errorf("files: got %v, want %q", err, test.want)
			}
		})
	}
}

func TestHostileFile3(t *testing.T) {
	b := &forged3{}
	good := b.bytes(t, adb.SchemaPackage, b.pkg(b.info("x", "1-r0"), b.dir("usr", b.file("big", 5000))), data(1, 1, strings.Repeat("x", 5000)))
	if _, err := list(apktest.Read(t, good)); err != nil {
		t.Fatal(err)
	}
	signature := func(n, size int) []byte {
		var out bytes.Buffer
		w, _ := adb.NewWriter(&out, adb.SchemaPackage)
		block, _ := (&forged3{}).Block(adb.Null)
		err := w.Block(adb.BlockADB, block)
		for range n {
			err = errors.Join(err, w.Block(adb.BlockSignature, make([]byte, size)))
		}
		if err != nil {
			t.Fatal(err)
		}
		return out.Bytes()
	}
	for name, test := range map[string]struct {
		data   []byte
		limits apk.Limits
		want   string
	}{
		"an index":               {b.bytes(t, adb.SchemaIndex, adb.Null), apk.Limits{}, "the file is no package, but an ADB index"},
		"an installed database":  {b.bytes(t, adb.SchemaInstalled, adb.Null), apk.Limits{}, "but an ADB database of what is installed"},
		"an unknown schema":      {b.bytes(t, 0x1234, adb.Null), apk.Limits{}, "but an ADB file of an unknown schema"},
		"metadata over a limit":  {good, apk.Limits{Metadata: 100}, "more than 100"},
		"a version to come":      {blocks3(t, adb.SchemaPackage, []byte{1, 0, 0, 0, 0, 0, 0, 0}), apk.Limits{}, "only version 0 is known"},
		"a block without values": {blocks3(t, adb.SchemaPackage, []byte{0}), apk.Limits{}, "too short"},
		"many signatures":        {signature(17, 300), apk.Limits{}, "more than 16 signatures"},
		"a huge signature":       {signature(1, 4096), apk.Limits{}, "a signature of more than 2048 bytes"},
		"a short signature":      {signature(1, 5), apk.Limits{}, "too short"},
		"cut off":                {good[:40], apk.Limits{}, "unexpected end"},
	} {
		_, err := apk.ReadPackage(bytes.NewReader(test.data), int64(len(test.data)), test.limits)
		if err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: got %v, want %q", name, err, test.want)
		}
	}
	for name, test := range map[string]struct {
		data   []byte
		limits apk.Limits
		want   string
	}{
		"data over a limit":        {good, apk.Limits{Data: 4000}, "more than 4000 bytes"},
		"data that is cut off":     {good[:len(good)-100], apk.Limits{}, "unexpected end"},
		"something behind the end": {append(bytes.Clone(good), "evil"...), apk.Limits{}, ""},
	} {
		p, err := apk.ReadPackage(bytes.NewReader(test.data), int64(len(test.data)), test.limits)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := list(p); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: got %v, want %q", name, err, test.want)
		}
	}
}

func TestHostileIndex3(t *testing.T) {
	entry := func(b *forged3, name string, hashes adb.Value) adb.Value {
		return b.object(fields{1: b.Blob(name), 2: b.Blob("1-r0"), 3: hashes})
	}
	for name, test := range map[string]struct {
		root func(b *forged3) adb.Value
		want string
	}{
		"packages that are text": {func(b *forged3) adb.Value { return b.object(fields{2: b.Blob("x")}) }, "packages: expected an array"},
		"a package that is text": {func(b *forged3) adb.Value { return b.object(fields{2: b.Array([]adb.Value{b.Blob("x")})}) }, "info: expected an object"},
		"a package twice": {func(b *forged3) adb.Value {
			e := entry(b, "x", b.Blob(strings.Repeat("s", 32)))
			return b.object(fields{2: b.Array([]adb.Value{e, e})})
		}, `package 2 of the index, "x": it stands there twice`},
		"no checksum": {func(b *forged3) adb.Value { return b.object(fields{2: b.Array([]adb.Value{entry(b, "x", adb.Null)})}) }, `package 1 of the index, "x": it has no checksum`},
		"a checksum of no length": {func(b *forged3) adb.Value {
			return b.object(fields{2: b.Array([]adb.Value{entry(b, "x", b.Blob("12345"))})})
		}, "a checksum of 5 bytes"},
		"a name that is a path": {func(b *forged3) adb.Value {
			return b.object(fields{2: b.Array([]adb.Value{entry(b, "a/../../b", b.Blob(strings.Repeat("s", 32)))})})
		}, `unexpected "/"`},
		"files elsewhere":         {func(b *forged3) adb.Value { return b.object(fields{3: b.Blob("../../${name}")}) }, "not clean"},
		"files on another server": {func(b *forged3) adb.Value { return b.object(fields{3: b.Blob("https://evil.example/${name}")}) }, "not clean"},
		"files by an unknown key": {func(b *forged3) adb.Value { return b.object(fields{3: b.Blob("${secret}")}) }, "malformed"},
	} {
		b := &forged3{}
		x, err := apk.ReadIndex(bytes.NewReader(b.bytes(t, adb.SchemaIndex, test.root(b))), apk.Limits{})
		if err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: got %+v, %v, want %q", name, x, err, test.want)
		}
	}
	b := &forged3{}
	for name, test := range map[string]struct {
		data []byte
		want string
	}{
		"a package":         {b.bytes(t, adb.SchemaPackage, adb.Null), "the file is no index, but an ADB package"},
		"an index of data":  {b.bytes(t, adb.SchemaIndex, adb.Null, data(1, 1, "x")), "a data block in an index"},
		"over a limit":      {blocks3(t, adb.SchemaIndex, make([]byte, 2000)), "longer than 1000"},
		"something behind":  {append(b.bytes(t, adb.SchemaIndex, adb.Null), "evil"...), ""},
		"cut off":           {b.bytes(t, adb.SchemaIndex, adb.Null)[:20], "unexpected end"},
		"a beginning alone": {[]byte("ADBd"), "unexpected end"},
	} {
		if _, err := apk.ReadIndex(bytes.NewReader(test.data), apk.Limits{Index: 1000}); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: got %v, want %q", name, err, test.want)
		}
	}
}

// Every flipped bit of a signed package or index of version 3 is found.
func TestEveryFlippedByteIsFound3(t *testing.T) {
	u := apk.Unsigned{Format: apk.V3, Compression: adb.Uncompressed, Info: apk.Info{Name: "zlib", Version: "1.3.1-r0", Arch: apk.ArchX86_64},
		Files: apktest.Files(t, "usr/lib/libz.so.1", "text", "usr/lib/libz.so", "-> libz.so.1", "usr/lib/hard", "=> usr/lib/libz.so.1")}
	pkg := signed(t, apktest.WriteAll(t, u))
	var index bytes.Buffer
	if err := apk.WriteIndex(&index, &apk.Index{Format: apk.V3, Compression: adb.Uncompressed, Entries: []*apk.Entry{apktest.Entry(t, pkg)}}, newKeys()[0]); err != nil {
		t.Fatal(err)
	}
	verified := func(data []byte) error { _, err := apk.VerifyIndex(data, testKeys); return err }
	for name, test := range map[string]struct {
		data  []byte
		whole func([]byte) error
	}{"package": {pkg, whole}, "index": {index.Bytes(), verified}} {
		if err := test.whole(test.data); err != nil {
			t.Fatal(err)
		}
		for i := range test.data {
			for _, bit := range []byte{1, 0x80} {
				flipped := bytes.Clone(test.data)
				flipped[i] ^= bit
				if test.whole(flipped) == nil {
					t.Fatalf("byte %d of %d of the %s changed and nobody noticed", i, len(test.data), name)
				}
			}
			if test.whole(test.data[:i]) == nil {
				t.Fatalf("%s: cut off at %d and nobody noticed", name, i)
			}
		}
	}
}

// A few bytes must not become much work: shared lists are read once.
func TestSharedValues3(t *testing.T) {
	b := &forged3{}
	var tags, deps []adb.Value
	for i := range 30_000 {
		tags = append(tags, b.Blob(fmt.Sprint("tag", i)))
		deps = append(deps, b.object(fields{1: b.Blob(fmt.Sprint("dep", i))}))
	}
	tag, dep := b.Array(tags), b.Array(deps)
	var entries []adb.Value
	for i := range 30_000 {
		entries = append(entries, b.object(fields{1: b.Blob(fmt.Sprint("p", i)), 2: b.Blob("1"), 3: b.Blob(strings.Repeat("s", 20)), 15: dep, 16: dep, 21: tag}))
	}
	x, err := apk.ReadIndex(bytes.NewReader(b.bytes(t, adb.SchemaIndex, b.object(fields{2: b.Array(entries)}))), apk.Limits{})
	if err != nil || len(x.Entries) != 30_000 || len(x.Entries[29_999].Depends) != 30_000 || len(x.Entries[0].Tags) != 30_000 {
		t.Errorf("%v", err)
	}
}

// Nor may one long text that all entries name.
func TestRepeatedText3(t *testing.T) {
	b := &forged3{}
	long := b.Blob(strings.Repeat("x", 1<<20))
	var entries []adb.Value
	for i := range 100_000 {
		entries = append(entries, b.object(fields{1: b.Blob(fmt.Sprint("p", i)), 2: b.Blob("1"), 3: b.Blob(strings.Repeat("s", 20)), 4: long, 9: long}))
	}
	_, err := apk.ReadIndex(bytes.NewReader(b.bytes(t, adb.SchemaIndex, b.object(fields{2: b.Array(entries)}))), apk.Limits{})
	if err == nil || !strings.Contains(err.Error(), "long texts that stand there again and again") {
		t.Errorf("got %v", err)
	}
}

// Of any ADB block and any data blocks: what is given stays below the root, and what is
// given whole is what was promised.
func FuzzPackage3(f *testing.F) {
	u := unsigned()
	u.Files = u.Files[:4]
	u.Format, u.Compression = apk.V3, adb.Uncompressed
	f.Add(apktest.WriteAll(f, u)[12:], "x", uint32(0))
	b := &forged3{}
	block, _ := b.Block(b.pkg(b.info("x", "1"), b.dir("usr", b.file("a", 0), b.file("b", 1)), b.dir("usr/lib", b.file("c", 2), b.special("l", isLink, "c"), b.special("h", isRegular, "usr/b"))))
	f.Add(block, data(1, 2, "x"), uint32(0))
	f.Add(block, data(2, 1, "xx"), uint32(0xe0000008))
	f.Fuzz(func(t *testing.T, block []byte, data string, root uint32) {
		if root != 0 && len(block) >= 8 {
			block = bytes.Clone(block)
			binary.LittleEndian.PutUint32(block[4:], root)
		}
		file := blocks3(t, adb.SchemaPackage, block, data, data)
		p, err := apk.ReadPackage(bytes.NewReader(file), int64(len(file)), apk.Limits{Data: 1 << 20, Entries: 1000, Metadata: 1 << 20})
		if err != nil {
			return
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
		if (err == nil) != (p.VerifyData() == nil) {
			t.Error("files of data that does not verify")
		}
	})
}

// An index of any ADB block: what is read can be written, and reads again as the same.
func FuzzIndex3(f *testing.F) {
	for _, format := range []apk.Format{apk.V2, apk.V3} {
		u := unsigned()
		u.Format = format
		var b bytes.Buffer
		x := &apk.Index{Format: apk.V3, Compression: adb.Uncompressed, Description: "d", Names: "${name}", Entries: []*apk.Entry{apktest.Entry(f, apktest.WriteAll(f, u))}}
		if err := apk.WriteIndex(&b, x); err != nil {
			f.Fatal(err)
		}
		f.Add(b.Bytes()[12:])
	}
	f.Fuzz(func(t *testing.T, block []byte) {
		x, err := apk.ReadIndex(bytes.NewReader(blocks3(t, adb.SchemaIndex, block)), apk.Limits{})
		if err != nil {
			return
		}
		var one, two bytes.Buffer
		if apk.WriteIndex(&one, x) != nil {
			return // what this package would not write, as a version twice
		}
		again := readIndex(t, one.Bytes())
		if len(again.Entries) != len(x.Entries) {
			t.Fatalf("%d entries, written and read again %d", len(x.Entries), len(again.Entries))
		}
		if err := apk.WriteIndex(&two, again); err != nil || !bytes.Equal(one.Bytes(), two.Bytes()) {
			t.Errorf("written a second time it is another: %v", err)
		}
	})
}
