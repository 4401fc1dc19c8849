package step

import (
	"context"
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
	"github.com/tarn-build/tarn/pkg/sandbox"
	"github.com/tarn-build/tarn/recipes"
)

// machines are the ELF machines of the architectures that strip knows.
var machines = map[apk.Arch]elf.Machine{apk.ArchX86_64: elf.EM_X86_64, apk.ArchAArch64: elf.EM_AARCH64}

// stripBatch is how many files one run of strip is given.
const stripBatch = 200

// strip removes symbols from the programs and shared libraries of a package: ELF
// files of types DYN and EXEC for the architecture itself. tarn finds them; the
// environment's strip changes them, inside the sandbox.
func strip(ctx context.Context, c Context, s recipes.Step) error {
	folder, err := packageFolder(s.Package)
	if err != nil {
		return err
	}
	found, err := c.programs(ctx, folder)
	if err != nil {
		return err
	}
	options := strings.Fields(s.Inputs["opts"])
	return c.writable(found, func() error {
		for batch := range slices.Chunk(found, stripBatch) {
			argv := append([]string{"/usr/bin/strip"}, options...)
			for _, name := range batch {
				argv = append(argv, path.Join(WorkPath, name))
			}
			if err := c.Run(ctx, sandbox.Command{Argv: argv, Dir: WorkPath}); err != nil {
				return fmt.Errorf("strip: %w", err)
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
	found, err := c.programs(ctx, from)
	if err != nil {
		return err
	}
	return c.writable(found, func() error {
		for _, program := range found {
			symbols := path.Join(to, "usr/lib/debug", strings.TrimPrefix(program, from+"/")+".debug")
			if err := c.Work.MkdirAll(path.Dir(symbols), 0o755); err != nil {
				return err
			}
			inside, symbolsInside := path.Join(WorkPath, program), path.Join(WorkPath, symbols)
			for _, argv := range [][]string{
				{"/usr/bin/objcopy", "--only-keep-debug", inside, symbolsInside},
				{"/usr/bin/objcopy", "--strip-debug", "--add-gnu-debuglink=" + symbolsInside, inside},
			} {
				if err := c.Run(ctx, sandbox.Command{Argv: argv, Dir: WorkPath}); err != nil {
					return fmt.Errorf("objcopy: %w", err)
				}
			}
			if err := c.Work.Chmod(symbols, 0o644); err != nil {
				return err
			}
		}
		return nil
	})
}

// programs lists the ELF programs and shared libraries below a folder, each file
// once however many names it has.
func (c Context) programs(ctx context.Context, folder string) ([]string, error) {
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
		is, err := c.isProgram(p, machine)
		if is {
			found = append(found, p)
		}
		return err
	})
	return found, err
}

// isProgram reads the ELF header of a file: class and byte order do not matter for
// finding the type and the machine on the architectures there are.
func (c Context) isProgram(name string, machine elf.Machine) (bool, error) {
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
	return (kind == elf.ET_DYN || kind == elf.ET_EXEC) && elf.Machine(uint16(header[18])|uint16(header[19])<<8) == machine, nil
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
// libraries are often read-only, and inside the sandbox nobody is above modes.
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
