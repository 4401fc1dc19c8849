package images

import (
	"bytes"
	"debug/elf"
	"reflect"
	"testing"

	"github.com/tarn-build/tarn/pkg/apk"
)

func someScan() *scan {
	return &scan{
		Info: apk.Info{Name: "web", Version: "1.0-r0", Arch: apk.ArchX86_64, Licenses: []string{"MIT"}}, Checksum: apk.Checksum{1, 2}, FileSize: 1 << 40,
		Scripts: []Script{{Name: ".post-install", Content: []byte("#!/bin/sh\n")}}, Marks: map[string]string{"ab": "busybox"}, NamesOnly: true,
		Entries: []scanEntry{
			{Path: "usr", Type: 'd', Mode: 0o755},
			{Path: "usr/é\n", Type: 'f', Mode: 0o4755, UID: -1, GID: 65534, User: "web", Group: "www", Time: -5, Size: 1 << 33, Sum: "00ff", SHA1: apk.Checksum{3}, Xattrs: map[string][]byte{"user.a": {0, 1}, "user.b": {}}},
			{Path: "usr/lib/libz.so.1", Type: 'f', Library: &library{Soname: "libz.so.1", Machine: elf.EM_LOONGARCH, Class: elf.ELFCLASS64, Data: elf.ELFDATA2LSB}},
			{Path: "dev/x", Type: 'c', Major: 1, Minor: 1 << 20},
			{Path: "l", Type: 'l', Target: "usr"}, {Path: "h", Type: 'f', Hardlink: "usr/é\n"},
		},
	}
}

// What the store kept of a package is what was read of it.
func TestScanIsKept(t *testing.T) {
	for _, want := range []*scan{someScan(), {Entries: []scanEntry{}}} {
		data, err := want.AppendBinary(nil)
		if err != nil {
			t.Fatal(err)
		}
		var got scan
		if err := got.UnmarshalBinary(data); err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(&got, want) {
			t.Errorf("got  %+v\nwant %+v", got, *want)
		}
		for i := range data {
			if new(scan).UnmarshalBinary(data[:i]) == nil {
				t.Errorf("the first %d of %d bytes were taken", i, len(data))
			}
		}
		if new(scan).UnmarshalBinary(append(data, 0)) == nil {
			t.Error("a byte behind the end was taken")
		}
	}
}

// Whatever the bytes are, reading them ends and takes no more memory than they stand for;
// what is taken is written again as something that is read the same.
func FuzzScan(f *testing.F) {
	data, err := someScan().AppendBinary(nil)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(data)
	f.Add([]byte("\x02{}\xff\xff\xff\xff\x0f"))
	f.Fuzz(func(t *testing.T, data []byte) {
		var s, again scan
		if s.UnmarshalBinary(data) != nil {
			return
		}
		once, err := s.AppendBinary(nil)
		if err != nil {
			t.Skip() // a time or text that JSON does not take
		}
		if err := again.UnmarshalBinary(once); err != nil {
			t.Fatal(err)
		}
		if twice, err := again.AppendBinary(nil); err != nil || !bytes.Equal(once, twice) {
			t.Fatalf("%v: written twice: %q and %q", err, once, twice)
		}
	})
}
