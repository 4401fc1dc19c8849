package inspect

import (
	"errors"
	"io"
	"io/fs"
	"path"
	"slices"
	"strings"
)

// commandFolders are where a program becomes a command.
var commandFolders = []string{"bin", "sbin", "usr/bin", "usr/sbin"}

// isCommand tells whether a file can be run by everybody.
func isCommand(info fs.FileInfo) bool { return info.Mode().IsRegular() && info.Mode()&0o555 == 0o555 }

// commandLinks makes commands of links to programs of the same package: whoever installs
// it can run them. (What a link to another package's program runs depends on that one.)
func (s *scan) commandLinks() error {
	for _, l := range s.links {
		if !slices.Contains(commandFolders, path.Dir(l.file)) {
			continue
		}
		file, found := s.resolve(l.file)
		if !found {
			continue
		}
		info, err := fs.Stat(s.pkg.Files, file)
		if err != nil {
			return err
		}
		if isCommand(info) {
			s.provide(l.file, "is a command: a link to "+file, "cmd:"+path.Base(l.file), s.pkg.Version)
		}
	}
	return nil
}

// notAsked are interpreters that scripts name and nobody is asked for: of these there are
// several, and packages of this ecosystem provide none of the names.
var notAsked = []string{"python3", "python", "sh", "awk", "luajit"}

// shebang reads what a script is run by.
func (s *scan) shebang(name string) error {
	if !slices.ContainsFunc([]string{"usr/bin/", "usr/local/bin/", "usr/local/sbin/"}, func(folder string) bool { return strings.HasPrefix(name, folder) }) {
		return nil
	}
	f, err := s.pkg.Files.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	// The kernel looks at the first 256 bytes.
	head := make([]byte, 256)
	n, err := io.ReadFull(f, head)
	if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
		return err
	}
	line, isScript := strings.CutPrefix(string(head[:n]), "#!")
	if !isScript {
		return nil
	}
	line, _, _ = strings.Cut(line, "\n")
	interpreter := interpreterOfScript(strings.Fields(line))
	if command := path.Base(interpreter); interpreter != "" {
		why := "is a script for " + interpreter
		switch {
		case slices.Contains(notAsked, command):
			s.leave(name, why, "cmd:"+command, "nobody is asked for that name")
		case path.IsAbs(interpreter) && !slices.Contains(commandFolders, strings.TrimPrefix(path.Dir(interpreter), "/")):
			s.leave(name, why, "cmd:"+command, "it is no command: it stands in no folder of commands")
		default:
			s.need(name, why, "cmd:"+command)
		}
	}
	return nil
}

// interpreterOfScript is the program that runs a script, by the words of its first line:
// what env is told to look for, and a path otherwise.
func interpreterOfScript(words []string) string {
	if len(words) == 0 {
		return ""
	}
	if path.Base(words[0]) != "env" {
		return words[0]
	}
	for _, w := range words[1:] {
		if w != "-S" && w != "-i" && w != "--split-string" && !strings.Contains(w, "=") {
			if strings.HasPrefix(w, "-") {
				return "" // an option that nobody writes here
			}
			return w
		}
	}
	return ""
}
