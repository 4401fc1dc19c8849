package inspect

import (
	"debug/buildinfo"
	"debug/elf"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"regexp"
	"slices"
	"strings"

	"github.com/tarn-build/tarn/pkg/apk"
)

// driverLibraries come with the driver of a graphics card, from the machine: no package
// brings them, and none needs another one for them.
var driverLibraries = []string{
	"libEGL_nvidia.so.1", "libGLESv1_CM_nvidia.so.1", "libGLESv2_nvidia.so.1", "libGLX_nvidia.so.1", "libcuda.so.1",
	"libcudadebugger.so.1", "libnvcuvid.so.1", "libnvidia-allocator.so.1", "libnvidia-cfg.so.1", "libnvidia-eglcore.so.1",
	"libnvidia-encode.so.1", "libnvidia-fbc.so.1", "libnvidia-glcore.so.1", "libnvidia-glsi.so.1", "libnvidia-glvkspirv.so.1",
	"libnvidia-gpucomp.so.1", "libnvidia-ml.so.1", "libnvidia-ngx.so.1", "libnvidia-nvvm.so.1", "libnvidia-opencl.so.1",
	"libnvidia-opticalflow.so.1", "libnvidia-pkcs11-openssl3.so.1", "libnvidia-pkcs11.so.1", "libnvidia-ptxjitcompiler.so.1",
	"libnvidia-rtcore.so.1", "libnvidia-tls.so.1", "libnvoptix.so.1",
}

func isDriver(library string) bool { return slices.Contains(driverLibraries, library) }

// elf reads what a program or library is linked against, and its own soname.
func (s *scan) elf(name string) error {
	f, err := s.pkg.Files.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	content, ok := f.(io.ReaderAt)
	if !ok {
		return fmt.Errorf("internal error: %s can't be read at a place", name)
	}
	magic := make([]byte, len(elf.ELFMAG))
	if _, err := content.ReadAt(magic, 0); err != nil || string(magic) != elf.ELFMAG {
		return nil
	}
	e, err := elf.NewFile(content)
	if err != nil {
		return nil // not for the loader: an object of another kind, or cut short
	}
	defer e.Close()
	if e.Type != elf.ET_DYN && e.Type != elf.ET_EXEC {
		return nil
	}
	interpreter := interpreterOf(e)
	if interpreter != "" {
		loader := path.Base(interpreter)
		if rest, found := strings.CutPrefix(loader, "ld-musl"); found {
			loader = "libc.musl" + rest
		}
		s.need(name, "is run by "+interpreter, "so:"+loader)
	}
	needed, err := e.DynString(elf.DT_NEEDED)
	if err == nil {
		s.libraries(name, needed)
		s.ownLibrary(name, interpreter, e)
	}
	s.goFIPS(name, e, content)
	return nil
}

// libraries notes what a file is linked against. A name without a version says nothing
// that holds for long: it counts only where somebody is known to provide it.
func (s *scan) libraries(name string, needed []string) {
	for _, library := range needed {
		switch {
		case isDriver(library):
			s.leave(name, "is linked against "+library, "so:"+library, "it comes with the machine's driver")
		case strings.Contains(library, ".so."):
			s.need(name, "is linked against "+library, "so:"+library)
			s.linked = append(s.linked, link{name, library})
		case strings.HasSuffix(library, ".so"):
			s.unversioned = append(s.unversioned, link{name, library})
		}
	}
}

// ownLibrary notes the soname of a library. A program with a soname is none, unless its
// file is called like a library (musl's and glibc's are programs as well).
func (s *scan) ownLibrary(name, interpreter string, e *elf.File) {
	base := path.Base(name)
	if interpreter != "" && !strings.Contains(base, ".so.") && !strings.HasSuffix(base, ".so") {
		return
	}
	sonames, err := e.DynString(elf.DT_SONAME)
	if err != nil {
		return
	}
	for _, soname := range sonames {
		if isDriver(soname) {
			continue
		}
		s.sonameOf[name] = soname
		if !slices.Contains(s.folders, path.Dir(name)) {
			s.keep(name, "is a library of its own", "so:"+soname, sonameVersion(soname))
			s.vendored["so-ver:"+soname] = s.pkg.Version
			continue
		}
		s.sonames[base] = soname
		s.library(name, "is a library", soname)
	}
}

// library notes that a package provides a library: its soname, with the version in that
// name, and, for who wants the library of a certain build, so-ver: with the package's.
func (s *scan) library(name, why, soname string) {
	s.provide(name, why, "so:"+soname, sonameVersion(soname))
	s.provide(name, why, "so-ver:"+soname, s.pkg.Version)
}

func interpreterOf(e *elf.File) string {
	for _, p := range e.Progs {
		if p.Type == elf.PT_INTERP {
			text := make([]byte, min(p.Filesz, 4096))
			if n, err := p.ReadAt(text, 0); err == nil || errors.Is(err, io.EOF) {
				return strings.TrimRight(string(text[:n]), "\x00")
			}
		}
	}
	return ""
}

var digitsAndDots = regexp.MustCompile(`^[0-9]+(\.[0-9]+)*$`)

// sonameVersion is what stands behind ".so." if it is a version, else 0.
func sonameVersion(soname string) apk.Version {
	if _, version, found := strings.Cut(soname, ".so."); found && digitsAndDots.MatchString(version) {
		return apk.Version(version)
	}
	return "0"
}

// goFIPS finds programs of the Go compilers that leave cryptography to OpenSSL, which they
// load when they run: nothing in the file says so but how it was built.
func (s *scan) goFIPS(name string, e *elf.File, content io.ReaderAt) {
	if e.Section(".go.buildinfo") == nil {
		return
	}
	info, err := buildinfo.Read(content)
	if err != nil {
		return
	}
	cgo, how := false, ""
	for _, setting := range info.Settings {
		switch {
		case setting.Key == "CGO_ENABLED":
			cgo = setting.Value == "1"
		case setting.Key == "GOEXPERIMENT" && slices.ContainsFunc(strings.Split(setting.Value, ","), isFIPS),
			setting.Key == "microsoft_systemcrypto" && setting.Value == "1":
			how = setting.Key + "=" + setting.Value
		}
	}
	if cgo && how != "" {
		why := "loads OpenSSL when it runs: a Go program built with " + how
		s.need(name, why, "openssl-config-fipshardened")
		s.need(name, why, "so:libcrypto.so.3")
	}
}

func isFIPS(experiment string) bool {
	return slices.Contains([]string{"boringcrypto", "systemcrypto", "opensslcrypto"}, experiment)
}

// link is a symbolic link, or the name of a library, in a file.
type link struct{ file, target string }

// libraryLinks follows the links of the package that are called like libraries, once the
// files of all packages are known. A link in the loader's folders makes a library that
// lies elsewhere one that the loader finds, if it has the soname for a name.
func (s *scan) libraryLinks() {
	for _, l := range s.links {
		if !strings.Contains(path.Base(l.file), ".so") {
			continue
		}
		file, found := s.resolve(l.file)
		soname := s.sonameOf[file]
		if !found || soname == "" || !slices.Contains(s.folders, path.Dir(l.file)) {
			continue
		}
		if base := path.Base(l.file); s.sonames[base] == "" {
			s.sonames[base] = soname
			if base == soname && !slices.Contains(s.folders, path.Dir(file)) {
				s.library(l.file, "leads to the library "+file, soname)
			}
		}
	}
}

// linkNeeds makes a link to a library, such as libz.so in zlib-dev, need the library, and
// so do names without a version that somebody provides.
func (s *scan) linkNeeds() {
	for _, l := range s.links {
		if soname, found := s.sonames[path.Base(l.target)]; found && strings.Contains(path.Base(l.file), ".so") {
			s.need(l.file, "links to "+l.target, "so:"+soname)
			s.linked = append(s.linked, link{l.file, soname})
		}
	}
	for _, l := range s.unversioned {
		name := "so:" + l.target
		if s.sonames[l.target] == l.target || s.known(name) {
			s.need(l.file, "is linked against "+l.target, name)
			s.linked = append(s.linked, l)
		} else {
			s.leave(l.file, "is linked against "+l.target, name, "the name has no version, and nobody is known to provide it")
		}
	}
}

// versionedNeeds asks for libraries in the versions that the package was linked against, or
// later ones. The loader of glibc is left out, as in melange: all would be built again
// with each glibc.
func (s *scan) versionedNeeds() {
	if s.pkg.LibraryVersion == nil {
		return
	}
	ours := map[string]bool{}
	for _, soname := range s.sonames {
		ours[soname] = true
	}
	for _, l := range s.linked {
		name, version := "so-ver:"+l.target, s.pkg.Version
		if !ours[l.target] {
			version = s.pkg.LibraryVersion(l.target)
		}
		if version == "" || strings.HasPrefix(l.target, "ld-linux-") || !isName(name) {
			continue
		}
		d := apk.Dependency{Name: name, Op: apk.GreaterEqual, Version: version}
		s.depends = append(s.depends, Finding{Dependency: d, File: l.file, Why: "was linked with " + l.target + " of the version " + string(version)})
	}
}

// resolve follows a link within the package to a file.
func (s *scan) resolve(name string) (string, bool) {
	for range 40 {
		info, err := fs.Lstat(s.pkg.Files, name)
		if err != nil {
			return "", false
		}
		switch info.Mode().Type() {
		case 0:
			return name, true
		case fs.ModeSymlink:
		default:
			return "", false
		}
		target, err := fs.ReadLink(s.pkg.Files, name)
		if err != nil {
			return "", false
		}
		if !path.IsAbs(target) {
			target = path.Join("/", path.Dir(name), target)
		}
		name = strings.TrimPrefix(path.Clean(target), "/")
	}
	return "", false
}
