package recipes

import (
	"fmt"
	"maps"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/tarn-build/tarn/pkg/diag"
	"github.com/tarn-build/tarn/pkg/elfstrip"
	"github.com/tarn-build/tarn/pkg/yamlread"
)

// Traced is one task as the compiler saw it, run or not. Tasks inside the built-in
// pipelines are left out.
type Traced struct {
	At   string            `json:"at"`
	Uses string            `json:"uses,omitempty"`
	With map[string]string `json:"with,omitempty"` // what differs from the defaults
	If   *bool             `json:"if,omitempty"`   // nil where the task has no condition
	Dir  string            `json:"dir,omitempty"`
	Env  map[string]string `json:"env,omitempty"`  // in tests and pipeline files its own alone, else with what it inherits, as melange's compiler has it
	Runs string            `json:"runs,omitempty"` // normalised
}

// frame is what a task finds around it.
type frame struct {
	scope *scope
	vars  map[string]string // of the first pass; nil in pipeline files
	at    string
	dir   string // working-directory, as it was substituted
	env   map[string]string
	pkg   string
	steps *[]Step
	needs needSet
	off   bool // a condition further out does not hold: nothing here runs
	below bool // in a group or a pipeline file
	test  bool

	// Inside a pipeline file:
	recipe  *Task              // the task of the recipe that brought us here
	from    yamlread.Place     // of what uses the file
	chain   []string           // pipelines in use, the outermost first
	file    *pipelineFile      // the innermost
	quoting map[string]Quoting // of the inputs, in a built-in pipeline
	inputs  map[string]string  // of the innermost file
}

func (f *frame) builtin() bool { return f.file != nil && f.file.builtin }

// pipeline compiles tasks and counts those that run.
func (e *expander) pipeline(tasks []Task, f frame) (ran int64) {
	at := f.at
	for i := range tasks {
		f.at = at + "/" + strconv.Itoa(i)
		if e.task(&tasks[i], f) {
			ran++
		}
	}
	return ran
}

// substitute takes text of a task through its passes.
func (e *expander) substitute(text string, at yamlread.Place, f *frame) phrase {
	p := phrase{text: text, at: at}.plain(f.vars).strict(f.scope, nil, &e.problems)
	e.spend(len(p.text), at)
	return p
}

// task compiles one task and what is below it; it reports whether the task runs.
func (e *expander) task(t *Task, f frame) bool {
	if len(f.chain) == 0 {
		f.recipe = t
		first := len(e.problems)
		defer func() { e.usedAt(first, t.Here) }()
	}
	if e.tasks++; e.tasks > maxTasks {
		exceed(f.recipe.Here, "the recipe has more than %d steps, those of the pipelines it uses among them", maxTasks)
	}
	hidden := f.builtin() // what stands inside a built-in pipeline is not traced
	trace := Traced{At: f.at, Uses: t.Uses}
	with := make(map[string]string, len(t.With))
	for name, value := range t.With {
		with[name] = e.substitute(value, t.Here.Value("with").Value(name), &f).text
	}
	runs := e.condition(t.If, t.Here.Value("if"), f.vars, f.scope)
	if t.If != "" {
		trace.If = &runs
	}
	ownDir := t.WorkingDirectory != ""
	trace.Env = e.surroundings(t, &f)
	if len(f.chain) == 0 && !f.test {
		trace.Env = f.env
	}
	task, shown := t, with
	if t.Uses != "" && len(t.Pipeline) == 0 {
		outer := f
		inner, ok := e.use(t, with, &f)
		if !ok {
			return true
		}
		if runs && !f.off && len(inner.Needs.Packages)+len(inner.Needs.Native) == 0 {
			e.needs(t, &outer)
		}
		if inner.If != "" {
			runs = e.condition(inner.If, inner.Here.Value("if"), nil, f.scope)
			trace.If = &runs
		}
		ownDir = ownDir || inner.WorkingDirectory != ""
		if own := e.surroundings(inner, &f); own != nil {
			all := maps.Clone(trace.Env)
			if all == nil {
				all = map[string]string{}
			}
			maps.Copy(all, own)
			trace.Env = all
		}
		task, shown = inner, differing(inner, f.inputs)
	}
	if t.Uses != "" && (len(t.With) > 0 || f.below) {
		trace.With = shown // at the top melange leaves defaults out where nothing is given
	}
	trace.Dir = f.dir
	script := e.shell(task.Runs, task.Here.Value("runs"), &f)
	prefetch := ""
	if len(f.chain) > 0 {
		prefetch = e.shell(task.Prefetch, task.Here.Value("prefetch"), &f)
	}
	if !f.builtin() {
		trace.Runs = script
	}
	if !hidden {
		e.trace = append(e.trace, trace)
	}
	f.below = true
	// What does not run is compiled as well, so that its mistakes are found.
	f.off = f.off || !runs
	if f.off {
		e.pipeline(task.Pipeline, f)
		return false
	}
	e.needs(task, &f)
	before := len(*f.steps)
	e.emit(task, script, &f)
	ran := e.pipeline(task.Pipeline, f)
	if prefetch != "" {
		// It belongs to the first step that it is for.
		if len(*f.steps) == before {
			*f.steps = append(*f.steps, e.step(t, &f))
		}
		first := &(*f.steps)[before]
		first.Prefetch = strings.TrimPrefix(first.Prefetch+"\n"+prefetch, "\n")
	}
	if want := task.Assertions.RequiredSteps; want > 0 && ran != want {
		e.add(task.Here.Value("assertions").Value("required-steps").Problem("", "%s must run here for %s, and %d do", count(want, "step"), e.target.Arch, ran))
	}
	// The folder of a group is made also when none of its steps runs in it.
	if dir := absolute(f.dir); ownDir && dir != "" && script == "" && task.Native == "" {
		if !slices.ContainsFunc((*f.steps)[before:], func(s Step) bool { return s.Dir == dir }) {
			*f.steps = slices.Insert(*f.steps, before, e.step(t, &f))
		}
	}
	return true
}

func count(n int64, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}

// surroundings sets the folder and the environment that a task gives itself and
// those below it, and gives the variables that are its own.
func (e *expander) surroundings(t *Task, f *frame) map[string]string {
	if t.WorkingDirectory != "" {
		f.dir = e.substitute(t.WorkingDirectory, t.Here.Value("working-directory"), f).text
	}
	if len(t.Environment) == 0 {
		return nil
	}
	own := make(map[string]string, len(t.Environment))
	for name, value := range t.Environment {
		own[name] = e.substitute(value, t.Here.Value("environment").Value(name), f).text
	}
	env := maps.Clone(own)
	for name, value := range f.env {
		if _, ok := env[name]; !ok {
			env[name] = value
		}
	}
	f.env = env
	return own
}

// usedAt says of the mistakes since first that stand in a pipeline file which task uses it.
func (e *expander) usedAt(first int, from yamlread.Place) {
	for i := first; i < len(e.problems); i++ {
		p := &e.problems[i]
		if p.File == e.recipe.path || p.Step != "" {
			continue // the second: told by a step of this group
		}
		if p.Hint != "" {
			p.Hint += "; "
		}
		p.Hint += "used at " + from.String()
		p.Step = stepAt(e.recipe.Here, from.Line(), from.Column())
	}
}

// use puts a pipeline file into the place of the task that names it: what the
// file says counts, and what it does not say stays as the task has it.
func (e *expander) use(t *Task, with map[string]string, f *frame) (*Task, bool) {
	at := t.Here.Value("uses")
	file := e.pipelines.find(t.Uses)
	switch ps, wrong := diag.Of(file.err); {
	case file.err == errNoPipeline:
		hint := diag.DidYouMean(t.Uses, e.pipelines.Names())
		if !isPipelineName(t.Uses) {
			hint = "a pipeline is named by its file's path below the folder of pipelines, without .yaml"
		}
		e.add(at.Problem(hint, "no pipeline %q", t.Uses))
		return nil, false
	case wrong:
		e.problems = append(e.problems, ps...)
		return nil, false
	case file.err != nil:
		e.add(at.Problem("", "read pipeline %q: %s", t.Uses, file.err))
		return nil, false
	}
	if slices.Contains(f.chain, t.Uses) || len(f.chain) >= maxPipelineDepth {
		e.add(at.Problem("", "pipelines use each other: %s", strings.Join(append(slices.Clone(f.chain), t.Uses), ", ")))
		return nil, false
	}
	e.notes = append(e.notes, file.notes...)
	inner := file.task
	if !inner.Here.Has("assertions") {
		inner.Assertions = t.Assertions
	}
	known := slices.Sorted(maps.Keys(inner.Inputs))
	for name := range with {
		if _, ok := inner.Inputs[name]; !ok {
			hint := diag.DidYouMean(name, known)
			if hint == "" {
				hint = "its inputs are " + strings.Join(known, ", ")
				if len(known) == 0 {
					hint = "it has none"
				}
			}
			e.add(t.Here.Value("with").Key(name).Problem(hint, "pipeline %q has no input %q", t.Uses, name))
		}
	}
	inputs := e.inputs(&inner, t, with, f.scope)
	for _, name := range known {
		input := inner.Inputs[name]
		if input.Required && inputs["inputs."+name] == "" {
			e.add(at.Problem("", "pipeline %q needs the input %q", t.Uses, name))
		}
		if problem := checkDigest(name, inputs["inputs."+name]); problem != "" {
			e.add(t.Here.Value("with").Value(name).Problem("", "%s", problem))
		}
	}
	if file.builtin && inner.hasNative("fetch") && inputs["inputs.expected-sha256"] == "" && inputs["inputs.expected-sha512"] == "" && inputs["inputs.expected-none"] == "" {
		e.add(at.Problem("add expected-sha256", "fetch is told no digest"))
	}
	if file.builtin && inner.hasNative("strip") {
		if _, err := elfstrip.ParseOptions(strings.Fields(inputs["inputs.opts"])); err != nil {
			e.add(t.Here.Value("with").Value("opts").Problem("run the program strip of binutils in a step of your own (runs:)", "strip: %s", err))
		}
	}
	quoting := map[string]Quoting{}
	if file.builtin {
		if f.builtin() {
			maps.Copy(quoting, f.quoting)
		}
		for name, input := range inner.Inputs {
			quoting["inputs."+name] = input.As
		}
	}
	f.scope = &scope{f.scope, inputs}
	f.vars = nil
	f.file, f.quoting, f.inputs = file, quoting, inputs
	f.chain = append(slices.Clip(f.chain), t.Uses)
	f.from = t.Here
	return &inner, true
}

func (t *Task) hasNative(name string) bool {
	return slices.ContainsFunc(t.Pipeline, func(s Task) bool { return s.Native == name })
}

func isPipelineName(name string) bool {
	return name != "" && !strings.HasPrefix(name, "/") && !slices.Contains(strings.Split(name, "/"), "..")
}

// digestLengths are inputs that must be hexadecimal where they are given.
var digestLengths = map[string]int{"expected-sha256": 64, "expected-sha512": 128, "expected-commit": 40}

func checkDigest(name, value string) string {
	length, ok := digestLengths[name]
	if !ok || value == "" {
		return ""
	}
	if strings.Trim(value, "0123456789abcdefABCDEF") != "" {
		return fmt.Sprintf("%s is not hexadecimal: %q", name, value)
	}
	if len(value) != length {
		return fmt.Sprintf("%s has %d digits, expected %d", name, len(value), length)
	}
	return ""
}

// inputs gives each input its value: what the task gives, else the default, in
// which other inputs may stand.
func (e *expander) inputs(file, t *Task, with map[string]string, outer *scope) map[string]string {
	values := make(map[string]string, len(file.Inputs))
	for name, value := range with {
		values["inputs."+name] = value
	}
	const resolving = "\x00"
	var resolve func(name string) string
	s := &scope{outer: outer, vars: values}
	resolve = func(name string) string {
		key := "inputs." + name
		input := file.Inputs[name]
		if v := values[key]; v == resolving {
			e.add(input.Here.Value("default").Problem("", "the default of %q is made of itself", name))
			return ""
		} else if v != "" {
			return v
		}
		values[key] = resolving
		for from := 0; ; {
			v, malformed, found := next(input.Default, from)
			if !found {
				break
			}
			from = v.end
			if other, ok := strings.CutPrefix(v.name, "inputs."); ok && malformed == "" {
				if _, own := file.Inputs[other]; own {
					resolve(other)
				}
			}
		}
		values[key] = ""
		values[key] = phrase{text: input.Default, at: input.Here.Value("default")}.strict(s, nil, &e.problems).text
		e.spend(len(values[key]), input.Here.Value("default"))
		return values[key]
	}
	for _, name := range slices.Sorted(maps.Keys(file.Inputs)) {
		resolve(name)
	}
	for name := range with {
		if _, ok := file.Inputs[name]; !ok {
			delete(values, "inputs."+name)
		}
	}
	return values
}

// differing is the inputs of a pipeline that are not as its defaults are written.
func differing(file *Task, inputs map[string]string) map[string]string {
	var all map[string]string
	for name, input := range file.Inputs {
		if v := inputs["inputs."+name]; v != input.Default {
			if all == nil {
				all = map[string]string{}
			}
			all[name] = v
		}
	}
	return all
}

// shell makes the finished script of a task's text.
func (e *expander) shell(text string, at yamlread.Place, f *frame) string {
	if strings.TrimSpace(text) == "" {
		return ""
	}
	before := len(e.problems)
	raw := phrase{text: text, at: at}.plain(f.vars)
	var form func(variable, string) (string, *diag.Problem)
	if f.builtin() {
		form = func(v variable, value string) (string, *diag.Problem) {
			quoting, ok := f.quoting[v.name]
			if !ok {
				return value, nil
			}
			quoted, err := quoting.quote(value)
			if err != nil {
				name := strings.TrimPrefix(v.name, "inputs.")
				p := f.from.Value("with").Value(name).Problem("", "the input %q %s", name, err)
				return "", &p
			}
			return quoted, nil
		}
	}
	script := raw.strict(f.scope, form, &e.problems)
	e.spend(len(script.text), at)
	if len(e.problems) > before {
		return ""
	}
	text, err := normalise(script.text)
	if err != nil {
		if se, ok := err.(*shellError); ok {
			e.add(script.problem(min(se.offset, len(script.text)), "", "shell: %s", se.text))
		} else {
			e.add(at.Problem("", "shell: %s", err))
		}
	}
	return text
}

// needs adds what a task asks for to the environment.
func (e *expander) needs(t *Task, f *frame) {
	from := t.Needs.Here.String()
	if len(f.chain) > 0 {
		from = "pipeline " + f.chain[len(f.chain)-1]
	}
	add := func(key string, list []string, native bool) {
		at := t.Needs.Here.Value(key)
		for i, text := range list {
			p := phrase{text: text, at: at.Item(i)}.plain(f.vars).strict(f.scope, nil, &e.problems)
			e.need(p, from, native, f.needs)
		}
	}
	add("packages", t.Needs.Packages, false)
	add("native", t.Needs.Native, true)
}

// step is what all steps of a task have in common.
func (e *expander) step(t *Task, f *frame) Step {
	name := t.Name
	if f.recipe.Name != "" && f.recipe != t {
		name = f.recipe.Name
	}
	if name == "" {
		name = f.recipe.Uses
	}
	return Step{
		At: f.at, Name: phrase{text: name}.plain(f.vars).text, Uses: f.recipe.Uses, Line: f.recipe.Here.Line(),
		Dir: absolute(f.dir), Env: f.env, Package: f.pkg,
	}
}

// emit adds the step of a task itself.
func (e *expander) emit(t *Task, script string, f *frame) {
	if script == "" && t.Native == "" {
		return
	}
	s := e.step(t, f)
	s.Shell = script
	if t.Native != "" {
		s.Native = t.Native
		s.Inputs = make(map[string]string, len(f.inputs))
		for name, value := range f.inputs {
			name = strings.TrimPrefix(name, "inputs.")
			input := f.file.task.Inputs[name]
			if input.OnlyGiven && value == "" {
				continue
			}
			if !input.Hint {
				s.Inputs[name] = value
				continue
			}
			if s.Hints == nil {
				s.Hints = map[string]string{}
			}
			s.Hints[name] = value
		}
	}
	*f.steps = append(*f.steps, s)
}

// absolute is a working directory from the root, "" for the work folder itself.
func absolute(dir string) string {
	if dir == "" {
		return ""
	}
	if !path.IsAbs(dir) {
		dir = path.Join(workDir, dir)
	}
	if dir = path.Clean(dir); dir == workDir {
		return ""
	}
	return dir
}
