package main

import (
	"bytes"
	"compress/gzip"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/klauspost/compress/zstd"
	"github.com/rogpeppe/go-internal/testscript"
)

// nowhere TEXT FOLDER... fails where a file below the folders holds a text, in its name, in
// its bytes, or in what is left of them when they are unpacked.
func nowhere(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: nowhere TEXT FOLDER...")
	}
	text, files := []byte(args[0]), 0
	for _, dir := range args[1:] {
		err := filepath.WalkDir(ts.MkAbs(dir), func(name string, d fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			if strings.Contains(d.Name(), args[0]) {
				ts.Fatalf("the name of %s", name)
			}
			if !d.Type().IsRegular() {
				return nil
			}
			files++
			data, err := os.ReadFile(name)
			if err != nil {
				return err
			}
			for _, all := range [][]byte{data, unpacked(data)} {
				if i := bytes.Index(all, text); i >= 0 {
					ts.Fatalf("%s holds it: %q", name, all[max(0, i-60):min(len(all), i+80)])
				}
			}
			return nil
		})
		ts.Check(err)
	}
	if files == 0 {
		ts.Fatalf("there is no file in %s", strings.Join(args[1:], ", "))
	}
}

// unpacked is what a compressed file holds, as far as it can be read.
func unpacked(data []byte) []byte {
	var r io.Reader
	switch {
	case bytes.HasPrefix(data, []byte{0x1f, 0x8b}):
		z, err := gzip.NewReader(bytes.NewReader(data))
		if err != nil {
			return nil
		}
		r = z
	case bytes.HasPrefix(data, []byte{0x28, 0xb5, 0x2f, 0xfd}):
		z, err := zstd.NewReader(bytes.NewReader(data))
		if err != nil {
			return nil
		}
		defer z.Close()
		r = z
	default:
		return nil
	}
	all, _ := io.ReadAll(r) // what follows damage is nobody's
	return all
}
