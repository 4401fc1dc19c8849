package images

import "bytes"

// shellMarks are texts that programs bear inside, whatever they are called. A mark
// counts when all of its texts are there.
var shellMarks = []struct {
	name  string
	texts []string
}{
	{"busybox", []string{"BusyBox is a multi-call binary"}},
	{"busybox", []string{"BusyBox v", "applet not found"}},
	{"toybox", []string{"Toybox %s multicall binary"}},
	{"toybox", []string{"toybox 0."}},
	{"bash", []string{"@(#)Bash version "}},
	{"mksh", []string{"@(#)MIRBSD KSH "}},
	{"ksh", []string{"@(#)$Id: Version AJM "}},
	{"zsh", []string{"ZSH_EVAL_CONTEXT\x00"}},
	// Any shell of POSIX has these two commands inside itself; dash bears nothing else.
	{"a POSIX shell", []string{"getopts\x00", "unalias\x00"}},
	{"apk", []string{"apk-tools", "/lib/apk/db"}},
}

var elfMagic = []byte("\x7fELF")

// marker looks for the marks in a program that is written to it piece by piece.
type marker struct {
	found map[string]bool
	tail  []byte // the end of what was written, in which a text may have begun; before began, all of it
	began bool
	elf   bool
}

// longestMark is the length of the longest text of shellMarks.
var longestMark = func() int {
	n := 0
	for _, m := range shellMarks {
		for _, text := range m.texts {
			n = max(n, len(text))
		}
	}
	return n
}()

func (m *marker) Write(p []byte) (int, error) {
	n := len(p)
	if !m.began {
		m.tail = append(m.tail, p...)
		if len(m.tail) < len(elfMagic) {
			return n, nil
		}
		p, m.tail = m.tail, nil
		m.began, m.elf, m.found = true, bytes.HasPrefix(p, elfMagic), map[string]bool{}
	}
	if !m.elf {
		return n, nil
	}
	if len(m.tail) > 0 {
		m.look(append(m.tail, p[:min(len(p), longestMark)]...))
	}
	m.look(p)
	if len(p) >= longestMark {
		m.tail = append(m.tail[:0], p[len(p)-longestMark+1:]...)
		return n, nil
	}
	m.tail = append(m.tail, p...)
	if extra := len(m.tail) - longestMark + 1; extra > 0 {
		m.tail = append([]byte(nil), m.tail[extra:]...)
	}
	return n, nil
}

func (m *marker) look(p []byte) {
	for _, mark := range shellMarks {
		for _, text := range mark.texts {
			if !m.found[text] && bytes.Contains(p, []byte(text)) {
				m.found[text] = true
			}
		}
	}
}

// name is what the program is, or "".
func (m *marker) name() string {
	for _, mark := range shellMarks {
		all := m.elf
		for _, text := range mark.texts {
			all = all && m.found[text]
		}
		if all {
			return mark.name
		}
	}
	return ""
}
