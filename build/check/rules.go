package check

import (
	"io/fs"
	"path"
	"regexp"
	"slices"
	"strings"

	"github.com/tarn-build/tarn/pkg/diag"
)

// All are the rules, in the order in which they run.
var All = []Rule{
	{
		Name: "dev", Why: "device files are made by the machine or the container engine, not by packages", Example: "dev/null", Instead: "leave the file out",
		file: onlyFiles(under("dev")),
	},
	{
		Name: "setuidgid", Why: "a program that changes its user is a way to gain privileges", Example: "usr/bin/su with mode 4755", Instead: "remove the bit, or use setcap",
		file: mode(fs.ModeSetuid|fs.ModeSetgid|fs.ModeSticky, "has a setuid, setgid or sticky bit"),
	},
	{
		Name: "tempdir", Why: "what is in temporary folders is gone when the image runs", Example: "run/nginx", Instead: "make it when the program starts, or by usr/lib/tmpfiles.d",
		tree: temporary,
	},
	{
		Name: "varempty", Why: "var/empty is where daemons that shall see nothing live: it stays empty", Example: "var/empty/x", Instead: "put the file elsewhere",
		file: onlyFiles(under("var/empty")),
	},
	{
		Name: "worldwrite", Why: "a file that everybody may write is nobody's", Example: "etc/x with mode 0666", Instead: "chmod o-w",
		file: mode(0o002, "may be written by everybody"),
	},
	{
		Name: "infodir", Why: "every package with info pages writes usr/share/info/dir, so two of them collide", Example: "usr/share/info/dir", Instead: "remove the file after make install",
		file: onlyFiles(func(name string) bool { return name == "usr/share/info/dir" || under("usr/share/info/dir")(name) }),
	},
	{
		Name: "usrmerge", Why: "bin, sbin, lib, lib64 and usr/sbin are links to usr/bin and usr/lib: a package that brings its own folder hides them", Example: "sbin/x", Instead: "install below usr/bin or usr/lib, e.g. --sbindir=/usr/bin",
		file: func(_ Package, e *entry) string {
			if e.isMerge() {
				return ""
			}
			for _, folder := range []string{"sbin", "bin", "usr/sbin", "lib", "lib64"} {
				if e.path == folder || strings.HasPrefix(e.path, folder+"/") {
					return "stands in " + folder
				}
			}
			return ""
		},
	},
	{
		Name: "libtool/la-files", Why: "libtool's archives name folders of the build and link too much", Example: "usr/lib/libx.la", Instead: "find ... -name '*.la' -delete, as autoconf/make-install does",
		file: onlyFiles(func(name string) bool { return strings.HasSuffix(name, ".la") }),
	},
	{
		Name: "opt", Severity: diag.Warning, Why: "opt is for software that the system's owner adds", Example: "opt/x", Instead: "install below usr",
		file: compat(under("opt")),
	},
	{
		Name: "srv", Severity: diag.Warning, Why: "srv is for data that the system's owner serves", Example: "srv/x", Instead: "install below usr/share or var",
		file: compat(under("srv")),
	},
	{
		Name: "usrlocal", Severity: diag.Warning, Why: "usr/local is for software that the system's owner builds", Example: "usr/local/bin/x", Instead: "--prefix=/usr",
		file: compat(under("usr/local")),
	},
	{
		Name: "object", Severity: diag.Warning, Why: "object files are left over from compiling", Example: "usr/lib/x.o", Instead: "leave the file out",
		file: onlyFiles(func(name string) bool {
			return strings.HasSuffix(name, ".o") && !startFile.MatchString(path.Base(name))
		}),
	},
	{
		Name: "maninfo", Severity: diag.Warning, Why: "manuals belong to a package of their own, which an image leaves out", Example: "usr/share/man/man1/x.1", Instead: "a subpackage NAME-doc with split/manpages or split/infodir",
		file: notIn(func(_ Package, e *entry) string {
			if e.IsDir() || !under("usr/share/man")(e.path) && !under("usr/share/info")(e.path) {
				return ""
			}
			return "is a manual outside a -doc package"
		}, "-doc"),
	},
	{
		Name: "staticarchive", Severity: diag.Warning, Why: "static libraries are for those who link against them", Example: "usr/lib/libx.a", Instead: "move it to -static or -dev, as split/static does",
		file: notIn(func(_ Package, e *entry) string {
			if e.IsDir() || !strings.HasSuffix(e.path, ".a") {
				return ""
			}
			return "is a static library outside a -dev or -static package"
		}, "-dev", "-static"),
	},
	{
		Name: "sbom", Severity: diag.Warning, Why: "var/lib/db/sbom holds SPDX documents alone", Example: "var/lib/db/sbom/x.txt", Instead: "leave the file out: tarn writes the document",
		file: onlyFiles(func(name string) bool {
			return path.Dir(name) == "var/lib/db/sbom" && !strings.HasSuffix(name, ".spdx.json")
		}),
	},
	{
		Name: "python/docs", Severity: diag.Warning, Why: "a folder named docs in site-packages collides with that of other packages", Example: "usr/lib/python3.13/site-packages/docs", Instead: "leave the folder out",
		file: sitePackages("doc", "docs"),
	},
	{
		Name: "python/test", Severity: diag.Warning, Why: "a folder named tests in site-packages collides with that of other packages", Example: "usr/lib/python3.13/site-packages/tests", Instead: "leave the folder out",
		file: sitePackages("test", "tests"),
	},
	{
		Name: "dll", Severity: diag.Warning, Why: "a library for Windows does nothing here", Example: "usr/lib/x.dll", Instead: "leave the file out",
		file: notIn(onlyFiles(func(name string) bool { return strings.HasSuffix(name, ".dll") }), "-dev"),
	},
	{
		Name: "dylib", Severity: diag.Warning, Why: "a library for macOS does nothing here", Example: "usr/lib/x.dylib", Instead: "leave the file out",
		file: notIn(onlyFiles(func(name string) bool { return strings.HasSuffix(name, ".dylib") }), "-dev"),
	},
	{
		Name: "strip", Severity: diag.Warning, Why: "sections for debuggers are often larger than the program, and no image needs them", Example: "usr/bin/x with .debug_info", Instead: "uses: strip, after make install; split/debug keeps them for a -dbg package",
		file: unstripped,
	},
	{
		Name: "binaryarch", Severity: diag.Warning, Why: "a program for another processor does not start", Example: "usr/bin/x for i386", Instead: "leave the file out, or build it for this architecture",
		file: otherMachine,
	},
	{
		Name: "unsupportedarch", Severity: diag.Warning, Why: "files for other architectures are dead weight", Example: "usr/lib/x/riscv64/plugin", Instead: "leave the files out",
		file: otherArchitecture,
	},
	{
		Name: "nonlinux", Severity: diag.Warning, Why: "files for other systems are dead weight", Example: "usr/share/x/windows/x.ini", Instead: "leave the files out",
		file: otherSystem,
	},
	{
		Name: "python/multiple", Severity: diag.Warning, Why: "a package that brings several Python projects collides with those that bring one of them; pip install without --no-deps does it", Example: "usr/lib/python3.13/site-packages/a, usr/lib/python3.13/site-packages/b", Instead: "a package each, which the others name in dependencies; or pip install --no-deps",
		tree: severalProjects,
	},
	{
		Name: "pkgconf", Severity: diag.Warning, Why: "a pkg-config file that names what is not there breaks the builds of others", Example: "usr/lib/pkgconfig/x.pc", Instead: "test it: uses: test/pkgconf, or a step that runs pkgconf",
		file: func(_ Package, e *entry) string {
			if folder := path.Dir(e.path); e.IsDir() || folder != "usr/lib/pkgconfig" && folder != "usr/share/pkgconfig" {
				return ""
			}
			return "is a pkg-config file, and no test of the package looks at it"
		},
		answeredBy: testedBy([]string{"pkgconf"}, "pkgconf", "pkg-config"),
	},
	{
		Name: "lddcheck", Severity: diag.Warning, Why: "a library may be linked against what no package brings: nothing notices before a program loads it", Example: "usr/lib/libx.so.1", Instead: "test it: uses: test/tw/ldd-check, or a step that runs ldd",
		file: func(_ Package, e *entry) string {
			// Not a link, whose library is its package's; not a script of the linker.
			if !sharedObject.MatchString(e.path) || e.elf() == nil {
				return ""
			}
			return "is a library, and no test of the package loads it"
		},
		answeredBy: testedBy([]string{"ldd-check"}, "ldd"),
	},
	{
		Name: "cudaruntimelib", Severity: diag.Warning, Why: "the driver's libraries come from the machine that has the card; a package that brings them hides those", Example: "usr/lib/libcuda.so.1", Instead: "leave the file out; to link against, use a package of stubs",
		file: func(_ Package, e *entry) string {
			if e.IsDir() || !cudaDriver.MatchString(e.path) {
				return ""
			}
			return "is a library of the driver"
		},
	},
	{
		Name: "duplicate", Severity: diag.Warning, Why: "the same file twice is twice as large", Example: "usr/share/x/large, usr/lib/x/large", Instead: "a link in place of the second one: ln, or ln -s",
		tree: duplicates,
	},
	{
		Name: "license-files", Severity: diag.Warning, Why: "a licence that the source brings and copyright does not name is one that nobody who relies on copyright keeps", Example: "COPYING", Instead: "name it in copyright; detection-override says of a copyright that the scanner is wrong",
		tree: otherLicences,
	},
	{
		Name: "documentation", Severity: diag.Off, Why: "documents belong to a package of their own, which an image leaves out", Example: "usr/share/x/README", Instead: "a subpackage NAME-doc, or leave the file out",
		file: notIn(func(_ Package, e *entry) string {
			if e.IsDir() || !document.MatchString(e.path) {
				return ""
			}
			return "is a document outside a -doc package"
		}, "-doc"),
	},
	{
		Name: "empty", Severity: diag.Off, Why: "a package that installs nothing is often a build that went wrong", Example: "", Instead: "look at what the build installed; a package that is meant to be empty says so in checks.disabled",
		tree: empty,
	},
}

// isMerge tells whether an entry is itself the link that merges a folder into usr.
func (e *entry) isMerge() bool {
	if e.Type() != fs.ModeSymlink {
		return false
	}
	target, err := fs.ReadLink(e.files, e.path)
	if err != nil {
		return false
	}
	if !path.IsAbs(target) {
		target = path.Join("/", path.Dir(e.path), target)
	}
	return slices.Contains([]string{"/usr/bin", "/usr/lib"}, path.Clean(target))
}

var (
	// startFile is what a C library or compiler brings for the linker to begin programs with.
	startFile    = regexp.MustCompile(`^[A-Za-z]*crt[A-Za-z0-9]*\.o$`)
	sharedObject = regexp.MustCompile(`\.so(\.[0-9]+)*$`)
	cudaDriver   = regexp.MustCompile(`^usr/lib/lib(cuda|nvidia-ml)\.so(\.[0-9]+)*$`)
	document     = regexp.MustCompile(`(^|/)(READ(\.?ME)?|TODO|CREDITS)$|\.(md|docx?|rst|[0-9][a-z])$`)
)
