// Package step does the steps that tarn does itself, in the work folder, from
// outside the sandbox: unpacking sources, moving files to subpackages, stripping
// programs. It never follows a link out of the work folder, and knows nothing of
// recipes beyond the step.
package step

import (
	"context"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/tarn-build/tarn/build/source"
	"github.com/tarn-build/tarn/pkg/apk"
	"github.com/tarn-build/tarn/recipes"
)

// WorkPath is where the work folder stands inside the sandbox.
const WorkPath = "/home/build"

// OutPath is the folder, below the work folder, that holds a folder a package.
const OutPath = "melange-out"

// Context is what native steps work with.
type Context struct {
	// Work is the work folder.
	Work *os.Root
	// Sources unpacks what was fetched before.
	Sources *source.Fetcher
	// Log gets what a step has to tell, a line each; may be nil.
	Log io.Writer
	// Main is the recipe's main package: where split takes from by default.
	Main string
	// Arch is the architecture of what is built: programs of others are not stripped.
	Arch apk.Arch
	// Time is the modification time of what is unpacked.
	Time time.Time

	closed map[uint64]fs.FileMode // see opened
}

// native is one step that tarn does itself.
type native func(ctx context.Context, c Context, s recipes.Step) error

// natives are the steps there are. One that is changed so that it leaves another tree behind
// gets another number in build/plan, so that what it made before is made again.
var natives = map[string]native{
	"fetch":          fetch,
	"git-checkout":   checkout,
	"patch":          applyPatches,
	"strip":          strip,
	"split/alldocs":  splitInfo(alldocs),
	"split/bin":      splitBin,
	"split/dev":      splitDev,
	"split/infodir":  splitInfo(infodir),
	"split/debug":    splitDebug,
	"split/lib":      splitLib,
	"split/locales":  split(locales),
	"split/manpages": split(manpages),
	"split/static":   split(static),
}

// Names lists the native steps there are.
func Names() []string { return slices.Sorted(maps.Keys(natives)) }

// Do does a native step.
func Do(ctx context.Context, c Context, s recipes.Step) error {
	do, found := natives[s.Native]
	if !found {
		return fmt.Errorf("internal error: no native step %q", s.Native)
	}
	if s.Native == "strip" || strings.HasPrefix(s.Native, "split/") {
		return c.opened(func(c Context) error { return do(ctx, c, s) })
	}
	return do(ctx, c, s)
}

// dir is the step's working directory, below the work folder.
func dir(s recipes.Step) (string, error) {
	if s.Dir == "" {
		return ".", nil
	}
	inside, found := strings.CutPrefix(path.Clean(s.Dir)+"/", WorkPath+"/")
	if !found {
		return "", fmt.Errorf("working directory %q is outside %s", s.Dir, WorkPath)
	}
	return below(".", inside)
}

// below joins a folder of the work folder and a path that a recipe gives, which
// must stay inside.
func below(folder, p string) (string, error) {
	if path.IsAbs(p) {
		inside, found := strings.CutPrefix(path.Clean(p)+"/", WorkPath+"/")
		if !found {
			return "", fmt.Errorf("path %q is outside %s", p, WorkPath)
		}
		folder, p = ".", inside
	}
	joined := path.Join(folder, p)
	if joined == ".." || strings.HasPrefix(joined, "../") {
		return "", fmt.Errorf("path %q leads out of %s", p, WorkPath)
	}
	return joined, nil
}

// fetch puts a file, or what an archive holds, into the working directory.
func fetch(ctx context.Context, c Context, s recipes.Step) error {
	folder, err := dir(s)
	if err != nil {
		return err
	}
	src, err := source.OfFetch(s)
	if err != nil {
		return err
	}
	digest, err := c.Sources.Fetch(ctx, src)
	if err != nil {
		return err
	}
	if err := c.Work.MkdirAll(folder, 0o755); err != nil {
		return err
	}
	if s.Inputs["extract"] == "false" {
		return c.Sources.Place(ctx, digest, c.Work, path.Join(folder, src.Name), c.Time)
	}
	into, err := below(folder, s.Inputs["directory"])
	if err != nil {
		return err
	}
	if err := c.Work.MkdirAll(into, 0o755); err != nil {
		return err
	}
	strip := 1
	if text := s.Inputs["strip-components"]; text != "" {
		if strip, err = strconv.Atoi(text); err != nil || strip < 0 {
			return fmt.Errorf("strip-components %q is no number", text)
		}
	}
	if s.Inputs["delete"] != "true" {
		// The archive itself stays in the working directory, as in melange.
		if err := c.Sources.Place(ctx, digest, c.Work, path.Join(folder, src.Name), c.Time); err != nil {
			return err
		}
	}
	for _, name := range strings.Fields(s.Inputs["nested"]) {
		if !fs.ValidPath(name) {
			return fmt.Errorf("nested: %q is no path of an archive", name)
		}
		if digest, err = c.Sources.Inner(ctx, digest, name); err != nil {
			return err
		}
	}
	return c.Sources.Unpack(ctx, digest, c.Work, into, strip, c.Time)
}

// checkout puts a git tree into the working directory.
func checkout(ctx context.Context, c Context, s recipes.Step) error {
	folder, err := dir(s)
	if err != nil {
		return err
	}
	src, err := source.OfCheckout(s)
	if err != nil {
		return err
	}
	into, err := below(folder, s.Inputs["destination"])
	if err != nil {
		return err
	}
	if err := c.Work.MkdirAll(into, 0o755); err != nil {
		return err
	}
	return c.Sources.Checkout(ctx, src, c.Work, into, c.Time)
}
