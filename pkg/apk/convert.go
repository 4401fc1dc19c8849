package apk

import (
	"errors"
	"io"
	"os"
	"time"

	"github.com/tarn-build/tarn/pkg/adb"
)

// Convert writes a package in the other version of the format, or anew in its own,
// without signatures: the same files, scripts and info, as far as that version can tell
// them (see Unsigned). The package is checked while it is read: VerifyData. dir is where
// the contents lie meanwhile; "" is the system's folder for such.
func Convert(w io.Writer, p *Package, f Format, c adb.Compression, dir string) (Written, error) {
	spool, err := os.CreateTemp(dir, "apk-convert-")
	if err != nil {
		return Written{}, err
	}
	defer spool.Close()
	if err := os.Remove(spool.Name()); err != nil {
		return Written{}, err
	}
	u := Unsigned{Format: f, Compression: c, Info: p.Info, Scripts: p.Scripts, Control: p.Control, TempDir: dir}
	if u.Info.BuildDate > 0 {
		u.ModTime = time.Unix(u.Info.BuildDate, 0)
	}
	var at int64
	err = p.Files(func(f *File, content io.Reader) error {
		one := Content{File: *f}
		if f.Type == TypeFile {
			n, err := io.Copy(spool, content)
			if err != nil {
				return err
			}
			if n != f.Size {
				return errors.New("unexpected end")
			}
			from := at
			one.Open = func() (io.ReadCloser, error) { return io.NopCloser(io.NewSectionReader(spool, from, n)), nil }
			at += n
		}
		u.Files = append(u.Files, one)
		return nil
	})
	if err != nil {
		return Written{}, err
	}
	return WritePackage(w, u)
}
