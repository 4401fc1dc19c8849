package step

import (
	"context"
	"crypto/rand"
	"debug/elf"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"
	"syscall"

	"github.com/tarn-build/tarn/pkg/apk"
	"github.com/tarn-build/tarn/pkg/elfstrip"
	"github.com/tarn-build/tarn/recipes"
)

// machines are the ELF machines of the architectures that strip knows.
var machines = map[apk.Arch]elf.Machine{apk.ArchX86_64: elf.EM_X86_64, apk.ArchAArch64: elf.EM_AARCH64}

// strip takes symbols from the programs and shared libraries of a package: ELF
// files of types DYN and EXEC for the architecture itself.
func strip(ctx context.Context, c Context, s recipes.Step) error {
	folder, err := packageFolder(s.Package)
	if err != nil {
		return err
	}
	options, err := elfstrip.ParseOptions(strings.Fields(s.Inputs["opts"]))
	if err != nil {
		return fmt.Errorf("strip: %w\n  hint: run the program strip of binutils in a step of its own (runs:)", err)
	}
	found, err := c.programs(ctx, folder)
	if err != nil {
		return err
	}
	return c.writable(found, func() error {
		for _, program := range found {
			if err := ctx.Err(); err != nil {
				return err
			}
			err := c.elf(program, func(f *elfstrip.File) error {
				image, err := f.Strip(options)
				if err != nil || image == nil {
					return err
				}
				return c.replace(program, image, options.PreserveDates)
			})
			if err != nil {
				return fmt.Errorf("strip %s: %w", strings.TrimPrefix(program, folder+"/"), err)
			}
		}
		return nil
	})
}

// splitDebug moves the symbols of a package's shared libraries and
// position-independent programs into files of their own below usr/lib/debug of the
// package that the step stands in.
func splitDebug(ctx context.Context, c Context, s recipes.Step) error {
	from, to, err := c.fromTo(s)
	if err != nil {
		return err
	}
	found, err := c.programs(ctx, from, elf.ET_DYN)
	if err != nil {
		return err
	}
	return c.writable(found, func() error {
		for _, program := range found {
			if err := ctx.Err(); err != nil {
				return err
			}
			name := strings.TrimPrefix(program, from+"/")
			symbols := path.Join(to, "usr/lib/debug", name+".debug")
			if err := c.elf(program, func(f *elfstrip.File) error { return c.splitOne(f, program, symbols) }); err != nil {
				return fmt.Errorf("split/debug %s: %w", name, err)
			}
		}
		return nil
	})
}

// splitOne moves the symbols of one program into a file of their own.
func (c Context) splitOne(f *elfstrip.File, program, symbols string) error {
	debug, err := f.DebugOnly()
	if err != nil {
		return err
	}
	crc, err := debug.CRC()
	if err != nil {
		return err
	}
	stripped, err := f.Strip(elfstrip.Options{
		Level: elfstrip.Unneeded, RemoveSections: []string{".comment"}, Link: &elfstrip.Link{Name: path.Base(symbols), CRC: crc},
	})
	if err != nil {
		return err
	}
	if err := c.Work.MkdirAll(path.Dir(symbols), 0o755); err != nil {
		return err
	}
	out, err := c.Work.OpenFile(symbols, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o644)
	if err != nil {
		return err
	}
	_, err = debug.WriteTo(out)
	if err == nil {
		err = out.Chmod(0o644) // whatever the umask is
	}
	if err = errors.Join(err, out.Close()); err != nil {
		return err
	}
	return c.replace(program, stripped, false)
}

// elf reads a program and has something done with it. One without section headers holds
// nothing that could be told apart, and is left as it is.
func (c Context) elf(name string, do func(f *elfstrip.File) error) error {
	in, err := c.Work.Open(name)
	if err != nil {
		return err
	}
	defer in.Close()
	info, err := in.Stat()
	if err != nil {
		return err
	}
	f, err := elfstrip.Read(in, info.Size())
	if errors.Is(err, elfstrip.ErrNoSections) {
		c.say("%s stays as it is: %s", name, err)
		return nil
	}
	if err != nil {
		return err
	}
	return do(f)
}

// replace gives a file another content: the file itself, so that its other names, its
// owner and its attributes stay.
func (c Context) replace(name string, image *elfstrip.Image, keepTime bool) error {
	before, err := c.Work.Stat(name)
	if err != nil {
		return err
	}
	// The image is made of the file that it goes to. What it is put together in is on the
	// same disk, and has a name for a moment only.
	asideName := ".tarn-" + rand.Text()
	aside, err := c.Work.OpenFile(asideName, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer aside.Close()
	if err := c.Work.Remove(asideName); err != nil {
		return err
	}
	if _, err := image.WriteTo(aside); err != nil {
		return err
	}
	if _, err := aside.Seek(0, io.SeekStart); err != nil {
		return err
	}
	out, err := c.Work.OpenFile(name, os.O_WRONLY|os.O_TRUNC, 0)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, aside)
	if err = errors.Join(err, out.Close()); err != nil || !keepTime {
		return err
	}
	return c.Work.Chtimes(name, before.ModTime(), before.ModTime())
}

// programs lists the ELF programs and shared libraries below a folder, of certain types or
// of both, each file once however many names it has.
func (c Context) programs(ctx context.Context, folder string, types ...elf.Type) ([]string, error) {
	if len(types) == 0 {
		types = []elf.Type{elf.ET_DYN, elf.ET_EXEC}
	}
	machine, known := machines[c.Arch]
	if !known {
		return nil, fmt.Errorf("strip does not know the architecture %s", c.Arch)
	}
	var found []string
	seen := map[uint64]bool{}
	err := c.walk(ctx, folder, func(p string, d fs.DirEntry) error {
		if !d.Type().IsRegular() {
			return nil
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		if st, ok := info.Sys().(*syscall.Stat_t); ok && st.Nlink > 1 {
			if seen[st.Ino] {
				return nil
			}
			seen[st.Ino] = true
		}
		is, err := c.isProgram(p, machine, types)
		if is {
			found = append(found, p)
		}
		return err
	})
	return found, err
}

// isProgram reads the ELF header of a file: class and byte order do not matter for
// finding the type and the machine on the architectures there are.
func (c Context) isProgram(name string, machine elf.Machine, types []elf.Type) (bool, error) {
	f, err := c.open(name)
	if err != nil {
		return false, err
	}
	defer f.Close()
	header := make([]byte, 20)
	if _, err := io.ReadFull(f, header); err != nil {
		return false, nil // too short to be a program
	}
	if string(header[:4]) != elf.ELFMAG || header[elf.EI_DATA] != byte(elf.ELFDATA2LSB) || header[elf.EI_OSABI] == byte(elf.ELFOSABI_STANDALONE) {
		return false, nil
	}
	kind := elf.Type(uint16(header[16]) | uint16(header[17])<<8)
	return slices.Contains(types, kind) && elf.Machine(uint16(header[18])|uint16(header[19])<<8) == machine, nil
}

// open opens a file for reading, one that its owner may not read too: root strips
// programs of mode 4111, and for an ordinary user the package has to be the same.
func (c Context) open(name string) (*os.File, error) {
	f, err := c.Work.Open(name)
	if !errors.Is(err, fs.ErrPermission) {
		return f, err
	}
	info, err := c.Work.Lstat(name)
	if err != nil {
		return nil, err
	}
	if err := c.Work.Chmod(name, info.Mode().Perm()|0o400); err != nil {
		return nil, err
	}
	f, err = c.Work.Open(name)
	if err2 := c.Work.Chmod(name, info.Mode()&modeBits); err == nil && err2 != nil {
		f.Close()
		err = err2
	}
	return f, err
}

// modeBits are what of a mode a change of mode can set.
const modeBits = fs.ModePerm | fs.ModeSetuid | fs.ModeSetgid | fs.ModeSticky

// writable makes the files writable for their owner while do runs: installed
// libraries are often read-only, and for an ordinary user the package has to be the same.
func (c Context) writable(names []string, do func() error) error {
	modes := map[string]fs.FileMode{}
	for _, name := range names {
		info, err := c.Work.Lstat(name)
		if err != nil {
			return err
		}
		modes[name] = info.Mode()
		if err := c.Work.Chmod(name, info.Mode().Perm()|0o600); err != nil {
			return err
		}
	}
	err := do()
	for name, mode := range modes {
		if err2 := c.Work.Chmod(name, mode&modeBits); err == nil {
			err = err2
		}
	}
	return err
}
