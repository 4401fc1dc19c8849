package build

import (
	"fmt"
	"os"
	"path"
	"regexp"
	"strconv"
	"strings"

	"github.com/tarn-build/tarn/build/plan"
	"github.com/tarn-build/tarn/recipes"
)

// hardening is the package whose settings for gcc include what the build leaves for them.
const hardening = "openssf-compiler-options"

// clangPackage is the name of a clang that reads a user's settings for its version.
var clangPackage = regexp.MustCompile(`^clang-(\d+)$`)

// compilerFiles are the files in the work folder by which Wolfi's compilers put a note into
// each program of which package it is of
// (https://uapi-group.org/specifications/specs/package_metadata_for_executable_files/):
// settings for gcc and clang, and a header for programs that no linker marks. They lie at
// the places that these compilers look at, and only where the environment has one of them:
// no other compiler knows of them.
func compilerFiles(p *plan.Plan) map[string]string {
	s, files := p.Script, map[string]string{}
	note := packageNote(s)
	for _, locked := range p.Environment {
		if locked.Name == hardening {
			files[".melange.gcc.spec"] = "*link:\n+ %{!r:--package-metadata=" + note + "}\n"
			files[".melange.fdo.h"] = noteHeader(note)
		}
		m := clangPackage.FindStringSubmatch(locked.Name)
		if m == nil {
			continue
		}
		files[".melange.clang.cfg"] = "-Xlinker --package-metadata='" + note + "'\n"
		for _, arch := range []string{"aarch64", "x86_64"} {
			for _, driver := range []string{"clang", "clang++"} {
				name := fmt.Sprintf("clang-%s/%s-unknown-linux-gnu-%s.cfg", m[1], arch, driver)
				files[".config/"+name] = "@../../.melange.clang.cfg\n@/etc/" + name + "\n"
			}
		}
	}
	return files
}

// notePlain is what values of the note are made of: they stand in files of other syntaxes.
var notePlain = regexp.MustCompile(`[^A-Za-z0-9._+:~*/-]`)

// packageNote is the note as JSON.
func packageNote(s *recipes.Script) string {
	var b strings.Builder
	b.WriteString(`{"type":"apk"`)
	add := func(key, value string) {
		fmt.Fprintf(&b, `,%q:%q`, key, notePlain.ReplaceAllString(value, "_"))
	}
	add("os", s.Namespace)
	add("name", s.Name)
	add("version", string(s.Version))
	add("architecture", string(s.Arch))
	if cpe := s.Packages[0].CPE; cpe != "" {
		add("appCpe", cpe)
	}
	b.WriteByte('}')
	return b.String()
}

// noteHeader is a C header that puts the note into the object that includes it.
func noteHeader(note string) string {
	return `#ifndef MELANGE_PACKAGE_NOTE_H
#define MELANGE_PACKAGE_NOTE_H
#if defined(__ELF__)
#define MELANGE_PACKAGE_NOTE_JSON ` + strconv.Quote(note) + `
/* An ELF note of type NT_FDO_PACKAGING_METADATA. */
static const struct {
	unsigned int name_size, text_size, type;
	char name[4];
	char text[sizeof(MELANGE_PACKAGE_NOTE_JSON)];
} melange_package_note __attribute__((used, retain, section(".note.package"), aligned(4))) = {
	4, sizeof(MELANGE_PACKAGE_NOTE_JSON), 0xcafe1a7e, "FDO", MELANGE_PACKAGE_NOTE_JSON
};
#endif
#endif
`
}

// placeCompilerFiles writes them into the work folder.
func placeCompilerFiles(work *os.Root, p *plan.Plan) error {
	for name, text := range compilerFiles(p) {
		if err := work.MkdirAll(path.Dir(name), 0o755); err != nil {
			return err
		}
		if err := work.WriteFile(name, []byte(text), 0o644); err != nil {
			return err
		}
	}
	return nil
}
