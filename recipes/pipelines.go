package recipes

import (
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"
	"sync"

	"github.com/tarn-build/tarn/pkg/diag"
	"github.com/tarn-build/tarn/pkg/yamlread"
)

// builtin is the folder pipelines of this package.
//
//go:embed all:pipelines
var builtin embed.FS

// Dir is a folder of pipeline files.
type Dir struct {
	// Path is the folder's name in messages, as the user gave it.
	Path string
	// FS holds the files. Nothing outside of it is ever read; see [OpenDir].
	FS fs.FS
}

// OpenDir opens a folder of pipeline files that no name and no symbolic link leads out of.
func OpenDir(path string) (Dir, error) {
	root, err := os.OpenRoot(path)
	if err != nil {
		return Dir{}, fmt.Errorf("open pipelines: %w", err)
	}
	return Dir{path, root.FS()}, nil
}

// Pipelines finds the files that "uses" names: in the given folders in their order, then
// among the built-in ones. A file is read once, so folders must not change below it.
// It may be used by several goroutines. A nil *Pipelines has the built-in ones.
type Pipelines struct {
	dirs  []Dir
	mu    sync.Mutex
	files map[string]*pipelineFile
}

// NewPipelines looks in the folders, in order, before the built-in pipelines.
func NewPipelines(dirs ...Dir) *Pipelines {
	return &Pipelines{dirs: dirs, files: map[string]*pipelineFile{}}
}

var onlyBuiltin = NewPipelines()

// pipelineFile is one file that "uses" can name.
type pipelineFile struct {
	task    Task
	builtin bool
	notes   diag.Problems // unknown keys, which do nothing
	err     error         // diag.Problems where the file is wrong
}

// errNoPipeline is what a name gives that no folder has.
var errNoPipeline = errors.New("no such pipeline")

// find gives the file of a pipeline.
func (p *Pipelines) find(name string) *pipelineFile {
	if p == nil {
		p = onlyBuiltin
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if f := p.files[name]; f != nil {
		return f
	}
	f := p.read(name)
	p.files[name] = f
	return f
}

func (p *Pipelines) read(name string) *pipelineFile {
	file := name + ".yaml"
	if !fs.ValidPath(file) {
		return &pipelineFile{err: errNoPipeline}
	}
	for _, dir := range p.dirs {
		data, err := yamlread.ReadFile(dir.FS, file)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		f := &pipelineFile{err: err}
		if err == nil {
			// As in melange, unknown keys of other people's pipelines are no mistake.
			_, f.err = yamlread.Decoder{Lenient: true, Notes: &f.notes}.Decode(path.Join(dir.Path, file), data, &f.task)
			f.check(func(c *checker, t *Task) { c.own(t); c.shape(t) })
		}
		return f
	}
	data, err := builtin.ReadFile(path.Join("pipelines", file))
	if err != nil {
		return &pipelineFile{err: errNoPipeline}
	}
	f := &pipelineFile{builtin: true}
	_, f.err = yamlread.Decode("pipelines/"+file, data, &f.task)
	f.check(func(c *checker, t *Task) { c.shape(t) })
	return f
}

// check holds every task of the file against what is asked of it.
func (f *pipelineFile) check(each func(*checker, *Task)) {
	if f.err != nil {
		return
	}
	var (
		c    checker
		walk func(t *Task)
	)
	walk = func(t *Task) {
		each(&c, t)
		for i := range t.Pipeline {
			walk(&t.Pipeline[i])
		}
	}
	walk(&f.task)
	f.err = c.problems.Err()
}

// Names lists all pipelines, sorted.
func (p *Pipelines) Names() []string {
	names := BuiltinPipelines()
	if p != nil {
		for _, dir := range p.dirs {
			names = append(names, namesIn(dir.FS)...)
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// BuiltinPipelines lists the pipelines of this package, sorted.
func BuiltinPipelines() []string {
	below, err := fs.Sub(builtin, "pipelines")
	if err != nil {
		panic("internal error: no built-in pipelines: " + err.Error())
	}
	return namesIn(below)
}

func namesIn(fsys fs.FS) (names []string) {
	// A folder that can't be read has no names to suggest; using it tells why.
	_ = fs.WalkDir(fsys, ".", func(path string, entry fs.DirEntry, err error) error {
		if err == nil && !entry.IsDir() {
			if name, ok := strings.CutSuffix(path, ".yaml"); ok {
				names = append(names, name)
			}
		}
		return nil
	})
	return names
}

// Pipeline gives a pipeline's file as it is written.
func (p *Pipelines) Pipeline(name string) (*Task, error) {
	f := p.find(name)
	if f.err != nil {
		return nil, fmt.Errorf("pipeline %q: %w", name, f.err)
	}
	return &f.task, nil
}
