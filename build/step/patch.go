package step

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"regexp"
	"strconv"
	"strings"

	"github.com/tarn-build/tarn/pkg/patch"
	"github.com/tarn-build/tarn/recipes"
)

// applyPatches applies patches in the working directory: those that the input patches
// lists, or those of a series file of quilt's.
func applyPatches(ctx context.Context, c Context, s recipes.Step) error {
	folder, err := dir(s)
	if err != nil {
		return err
	}
	strip, err := number(s, "strip-components")
	if err != nil {
		return err
	}
	fuzz, err := number(s, "fuzz")
	if err != nil {
		return err
	}
	list, err := c.patches(folder, s, strip)
	if err != nil {
		return err
	}
	if err := c.Work.MkdirAll(folder, 0o755); err != nil {
		return err
	}
	for _, one := range list {
		c.say("applying %s", one.file)
		if err := c.patch(ctx, folder, one, fuzz); err != nil {
			return err
		}
	}
	return nil
}

// number reads an input that is a number, 0 or more.
func number(s recipes.Step, name string) (int, error) {
	text := strings.TrimSpace(s.Inputs[name])
	n, err := strconv.Atoi(text)
	if err != nil || n < 0 {
		return 0, fmt.Errorf("%s: %s %q is no number", s.Native, name, text)
	}
	return n, nil
}

// patchFile is one patch of a list.
type patchFile struct {
	file  string // as the recipe or the series names it
	strip int
}

// seriesStrip is what may stand behind a patch in a series file of quilt's.
var seriesStrip = regexp.MustCompile(`\s+-p(\d+)$`)

// patches lists what a step applies.
func (c Context) patches(folder string, s recipes.Step, strip int) ([]patchFile, error) {
	named, series := strings.Fields(s.Inputs["patches"]), strings.TrimSpace(s.Inputs["series"])
	switch {
	case len(named) > 0 && series != "":
		return nil, errors.New("patch: both patches and series")
	case len(named) == 0 && series == "":
		return nil, errors.New("patch: neither patches nor series")
	}
	var list []patchFile
	for _, name := range named {
		list = append(list, patchFile{name, strip})
	}
	if series == "" {
		return list, nil
	}
	text, err := c.read(folder, series)
	if err != nil {
		return nil, err
	}
	for line := range strings.Lines(string(text)) {
		// A comment is a line of its own, or comes after a space.
		line, _, _ = strings.Cut(" "+line, " #")
		if line = strings.TrimSpace(line); line == "" {
			continue
		}
		one := patchFile{line, strip}
		if m := seriesStrip.FindStringSubmatch(line); m != nil {
			one.file = strings.TrimSuffix(line, m[0])
			if one.strip, err = strconv.Atoi(m[1]); err != nil {
				return nil, fmt.Errorf("patch: %s: %s is no number", series, m[1])
			}
		}
		list = append(list, one)
	}
	return list, nil
}

// patch applies one patch.
func (c Context) patch(ctx context.Context, folder string, one patchFile, fuzz int) error {
	text, err := c.read(folder, one.file)
	if err != nil {
		return err
	}
	diffs, err := patch.Parse(text)
	if wrong, is := errors.AsType[*patch.SyntaxError](err); is {
		return fmt.Errorf("%s:%d: %s", one.file, wrong.Line, wrong.Text)
	}
	if err != nil {
		return err
	}
	err = patch.Apply(ctx, c.Work, folder, diffs, patch.Options{
		Strip: one.strip, Fuzz: fuzz, ModTime: c.Time, Report: func(line string) { c.say("%s", line) },
	})
	wrong, is := errors.AsType[*patch.Error](err)
	if !is {
		return err
	}
	var b strings.Builder
	for i, p := range wrong.Problems {
		if i > 0 {
			b.WriteByte('\n')
		}
		fmt.Fprintf(&b, "%s:%d: %s", one.file, p.Line, p.What())
	}
	return errors.New(b.String())
}

// read reads a file that a recipe names, from the working directory on.
func (c Context) read(folder, name string) ([]byte, error) {
	at, err := below(folder, name)
	if err != nil {
		return nil, err
	}
	f, err := c.Work.Open(at)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, c.absent(folder, name)
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var b bytes.Buffer
	if n, err := io.Copy(&b, io.LimitReader(f, patch.MaxSize+1)); err != nil {
		return nil, err
	} else if n > patch.MaxSize {
		return nil, fmt.Errorf("patch: %s is longer than %d bytes", name, patch.MaxSize)
	}
	return b.Bytes(), nil
}

// absent says that a patch is not there, and where it is instead.
func (c Context) absent(folder, name string) error {
	text := fmt.Sprintf("patch: there is no %s in %s", name, path.Join(WorkPath, folder))
	if _, err := c.Work.Stat(path.Base(name)); err == nil {
		return fmt.Errorf("%s\n  hint: %s is in %s", text, path.Base(name), WorkPath)
	}
	return fmt.Errorf("%s\n  hint: files beside the recipe, in the folder of its name, are in %s at the start", text, WorkPath)
}

// say writes a line to the log.
func (c Context) say(format string, args ...any) {
	if c.Log != nil {
		fmt.Fprintf(c.Log, format+"\n", args...)
	}
}
