package apk_test

import (
	"bytes"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tarn-build/tarn/pkg/adb"
	"github.com/tarn-build/tarn/pkg/apk"
	"github.com/tarn-build/tarn/pkg/apk/apktest"
)

// chance makes packages of any kind that is allowed.
type chance struct{ *rand.Rand }

func (c chance) text(of string, most int) string {
	letters := []rune(of)
	var b strings.Builder
	for range c.IntN(most + 1) {
		b.WriteRune(letters[c.IntN(len(letters))])
	}
	return b.String()
}

func (c chance) name() string { return "p" + c.text("abc019+-._", 8) }

func (c chance) version() apk.Version {
	v := fmt.Sprint(c.IntN(20), ".", c.IntN(200))
	for _, suffix := range []string{"a", "_rc1", "_p2", "~0a1b", "-r0"} {
		if c.IntN(3) == 0 {
			v += suffix
		}
	}
	return apk.Version(v)
}

func (c chance) dependencies(provides bool) []apk.Dependency {
	var all []apk.Dependency
	for range c.IntN(6) {
		d := apk.Dependency{Name: []string{"", "so:", "cmd:", "pc:"}[c.IntN(4)] + c.name()}
		if c.IntN(2) == 0 {
			d.Op, d.Version = apk.Op(1+c.IntN(8)), c.version()
		}
		d.Conflict = !provides && c.IntN(5) == 0
		if provides && d.Op != apk.Any {
			d.Op = apk.Equal
		}
		all = append(all, d)
	}
	return all
}

func (c chance) info() apk.Info {
	text := func() string { return strings.TrimSpace(c.text("ab #;:=ü<>\"\\/@", 40)) }
	i := apk.Info{
		Name: c.name(), Version: c.version(), Arch: apk.ArchX86_64, Description: text(), URL: text(), Commit: strings.Repeat("0f", c.IntN(21)), Maintainer: text(),
		Packager: text(), Origin: c.name(), BuildDate: c.Int64N(1 << 33), Depends: c.dependencies(false), Provides: c.dependencies(true), Replaces: c.dependencies(false),
		InstallIf: c.dependencies(false), ProviderPriority: c.Int64N(100), ReplacesPriority: c.Int64N(100),
	}
	for range c.IntN(3) {
		i.Licenses = append(i.Licenses, "L"+text())
		i.Triggers = append(i.Triggers, "/"+c.name()+"/*")
	}
	for n, l := range i.Licenses {
		i.Licenses[n] = strings.TrimSpace(l)
	}
	return i
}

func (c chance) unsigned() apk.Unsigned {
	u := apk.Unsigned{Info: c.info(), Scripts: map[string][]byte{}, Control: map[string][]byte{}, ModTime: time.Unix(c.Int64N(1<<32), 0)}
	for _, name := range apk.ScriptNames {
		if c.IntN(4) == 0 {
			u.Scripts[name] = []byte("#!/bin/sh\n" + c.text("abc \n", 300))
		}
	}
	var files []string
	there := map[string]bool{}
	for range c.IntN(12) {
		path := strings.Repeat(c.name()+"/", c.IntN(3)) + "f" + c.name()
		if there[path] {
			continue
		}
		there[path] = true
		f := apk.File{Path: path, Mode: fs.FileMode(c.IntN(0o1000)), ModTime: time.Unix(c.Int64N(1<<32), 0)}
		if c.IntN(4) == 0 {
			f.Mode |= fs.ModeSetuid | fs.ModeSticky
			f.User, f.Group = "root", "wheel"
		}
		if c.IntN(4) == 0 {
			f.Xattrs = map[string]string{"user.x": c.text("a\x00=\n", 300), "user.y": "1"}
		}
		switch c.IntN(5) {
		case 0:
			f.Type, f.Link, f.Mode, f.Xattrs = apk.TypeSymlink, "../"+c.name(), fs.ModePerm, nil
		case 1:
			if len(files) > 0 {
				f = apk.File{Path: path, Type: apk.TypeHardlink, Link: files[c.IntN(len(files))], ModTime: f.ModTime}
			}
		case 2:
			f.Type = apk.TypeDir
		}
		if f.Type == apk.TypeFile {
			one := apk.BytesContent(path, 0, []byte(c.text("xyz", c.IntN(3)*700)), time.Time{})
			f.Size = one.Size
			u.Files = append(u.Files, apk.Content{File: f, Open: one.Open})
			files = append(files, path)
			continue
		}
		u.Files = append(u.Files, apk.Content{File: f})
	}
	return u
}

// Whatever is written reads back as it was meant, and what is read is written again with
// the same bytes; in both versions of the format, and packages as well as indexes.
func TestWrittenReadsBack(t *testing.T) {
	c := chance{rand.New(rand.NewPCG(5, 6))}
	entries := map[apk.Format][]*apk.Entry{}
	for n := range 80 {
		u := c.unsigned()
		for _, format := range []apk.Format{apk.V2, apk.V3} {
			u.Format, u.Compression = format, compressions[c.IntN(len(compressions))]
			one := apktest.WriteAll(t, u)
			p := apktest.Read(t, one)
			want, got := u.Info, p.Info
			got.Size, got.DataHash = 0, ""
			if format == apk.V3 {
				want = sorted3(inVersion3(want))
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Fatalf("package %d of version %d: info (-given +read):\n%s", n, format, diff)
			}
			if diff := cmp.Diff(u.Scripts, p.Scripts); diff != "" {
				t.Fatalf("package %d of version %d: scripts (-given +read):\n%s", n, format, diff)
			}
			if got, want := len(apktest.Contents(t, p)), len(slices.DeleteFunc(slices.Clone(u.Files), func(f apk.Content) bool { return f.Type == apk.TypeDir })); got != want {
				t.Fatalf("package %d of version %d: %d files, want %d", n, format, got, want)
			}
			again := unsignedOf(t, p)
			again.Format, again.Compression, again.ModTime = format, u.Compression, u.ModTime
			if !bytes.Equal(one, apktest.WriteAll(t, again)) {
				t.Fatalf("package %d of version %d: what was read is written with other bytes", n, format)
			}
			entries[format] = append(entries[format], apktest.Entry(t, one))
		}
	}
	entries[apk.V3] = append(entries[apk.V3], entries[apk.V2]...)
	for format, all := range entries {
		slices.SortFunc(all, func(a, b *apk.Entry) int { return strings.Compare(a.FullName(), b.FullName()) })
		all = slices.CompactFunc(all, func(a, b *apk.Entry) bool { return a.FullName() == b.FullName() })
		var one, two bytes.Buffer
		if err := apk.WriteIndex(&one, &apk.Index{Format: format, Compression: adb.Zstd, Entries: all}, newKeys()[0]); err != nil {
			t.Fatal(err)
		}
		x := readIndex(t, one.Bytes())
		byName := map[string]*apk.Entry{}
		for _, e := range x.Entries {
			byName[e.FullName()] = e
		}
		for _, e := range all {
			want := *e
			want.DataHash, want.Packager, want.Triggers, want.ReplacesPriority = "", "", nil, 0
			if format == apk.V3 {
				want.Info = sorted3(inVersion3(want.Info))
			} else {
				want.Replaces, want.Licenses = nil, inVersion3(want.Info).Licenses
			}
			if diff := cmp.Diff(&want, byName[e.FullName()]); diff != "" {
				t.Fatalf("entry of version %d (-given +read):\n%s", format, diff)
			}
		}
		if err := apk.WriteIndex(&two, x, newKeys()[0]); err != nil || !bytes.Equal(one.Bytes(), two.Bytes()) {
			t.Errorf("index of version %d: what was read is written with other bytes: %v", format, err)
		}
	}
}

// sorted3 puts dependencies into the order of version 3, each once.
func sorted3(i apk.Info) apk.Info {
	for _, list := range []*[]apk.Dependency{&i.Depends, &i.Provides, &i.Replaces, &i.InstallIf} {
		slices.SortStableFunc(*list, func(a, b apk.Dependency) int {
			if c := strings.Compare(a.Name, b.Name); c != 0 {
				return c
			}
			if c := a.Version.Compare(b.Version); c != 0 {
				return c
			}
			if c := strings.Compare(string(a.Version), string(b.Version)); c != 0 {
				return c
			}
			return bits(a) - bits(b)
		})
		if *list = slices.Compact(*list); len(*list) == 0 {
			*list = nil
		}
	}
	return i
}

// bits are what version 3 writes of an operator.
func bits(d apk.Dependency) int {
	n := []int{7, 1, 2, 3, 4, 5, 9, 11, 13}[d.Op]
	if d.Conflict {
		n += 16
	}
	return n
}
