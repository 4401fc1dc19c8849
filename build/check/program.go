package check

import (
	"debug/elf"
	"fmt"
	"path"
	"strings"

	"github.com/tarn-build/tarn/pkg/apk"
)

// isProgram tells whether an entry is something that is run or loaded: a program, a
// library, or a module of the kernel.
func isProgram(e *entry) bool {
	base := path.Base(e.path)
	named := strings.HasSuffix(base, ".so") || strings.Contains(base, ".so.") || strings.HasSuffix(base, ".ko")
	return (named || e.Type().IsRegular() && e.mode()&0o111 != 0) && e.elf() != nil
}

// unstripped finds programs with sections for debuggers. Packages of such sections are
// left alone, and so are sections that belong to the program in memory, which strip
// does not touch either (.debug_gdb_scripts).
func unstripped(p Package, e *entry) string {
	for _, suffix := range []string{"-dbg", "-debug", "-debuginfo"} {
		if strings.HasSuffix(p.Name, suffix) {
			return ""
		}
	}
	if strings.HasPrefix(e.path, "usr/lib/debug/") || !isProgram(e) {
		return ""
	}
	for _, s := range e.elf().Sections {
		for _, prefix := range []string{".debug", ".zdebug", ".stab"} {
			if strings.HasPrefix(s.Name, prefix) && s.Flags&elf.SHF_ALLOC == 0 && s.Size > 0 {
				return fmt.Sprintf("has debugging sections (%s)", s.Name)
			}
		}
	}
	return ""
}

// machines are the architectures that packages are built for, by ELF's number. Numbers
// of what is no processor of the machine (BPF, CUDA, AMD's GPUs) are in no list here:
// such code is made for all machines.
var machines = map[elf.Machine]struct {
	name string
	arch apk.Arch
}{
	elf.EM_X86_64: {"x86_64", apk.ArchX86_64}, elf.EM_AARCH64: {"aarch64", apk.ArchAArch64},
	elf.EM_386: {"i386", "x86"}, elf.EM_ARM: {"arm", "armv7"}, elf.EM_PPC: {"ppc", "ppc"}, elf.EM_PPC64: {"ppc64", "ppc64le"},
	elf.EM_S390: {"s390x", "s390x"}, elf.EM_MIPS: {"mips", "mips"}, elf.EM_RISCV: {"riscv", "riscv64"},
	elf.EM_LOONGARCH: {"loongarch", "loongarch64"}, elf.EM_SPARC: {"sparc", "sparc"}, elf.EM_SPARCV9: {"sparc64", "sparc64"},
	elf.EM_IA_64: {"ia64", "ia64"}, elf.EM_68K: {"m68k", "m68k"}, elf.EM_PARISC: {"parisc", "parisc"}, elf.EM_SH: {"sh", "sh"},
}

// otherMachine finds programs that do not run on the package's architecture. Where that
// is not known, those that packages are built for will do.
func otherMachine(p Package, e *entry) string {
	if !isProgram(e) {
		return ""
	}
	m, known := machines[e.elf().Machine]
	if !known {
		return ""
	}
	switch {
	case m.arch == p.Arch || p.Arch == "armhf" && m.arch == "armv7":
		return ""
	case machineOf(p.Arch):
		return fmt.Sprintf("is for %s, the package for %s", m.name, p.Arch)
	case m.arch == apk.ArchX86_64 || m.arch == apk.ArchAArch64:
		return ""
	}
	return "is for " + m.name
}

// machineOf tells whether an architecture is one with programs of its own.
func machineOf(arch apk.Arch) bool {
	for _, m := range machines {
		if m.arch == arch || arch == "armhf" {
			return true
		}
	}
	return false
}
