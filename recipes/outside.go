package recipes

import (
	"maps"
	"slices"
	"strings"
)

// Outside is a task of a recipe that asks for something from outside, by an address and
// a digest or a commit, as it is for one target. Whether its conditions hold is not
// looked at.
type Outside struct {
	*Task
	// Inputs are what the task gives (with), substituted; without the defaults of the
	// pipeline that it uses.
	Inputs map[string]string
	// Table and Key are the item of a range that the task is for; nil and "" without.
	Table *Table
	Key   string
}

// OutsideOf lists the tasks that ask for something from outside: fetch, git-checkout, and
// others with the same inputs (uri, or repository). They come in the order of the file,
// builds before tests, one for each item of a range. Only the mistakes of what they give
// are found.
func OutsideOf(r *Recipe, t Target) (all []Outside, err error) {
	e := &expander{recipe: r, target: t}
	defer func() {
		if e.stopped(recover()) {
			err = e.problems.Err()
		}
	}()
	e.variables()
	// Subpackages count whatever their condition says, so this is not variants.
	var variants []variant
	tables := map[string]*Table{}
	for i := range r.Data {
		tables[r.Data[i].Name] = &r.Data[i]
	}
	for i := range r.Subpackages {
		sub := &r.Subpackages[i]
		if sub.Range == "" {
			variants = append(variants, variant{Subpackage: sub, vars: e.vars})
			continue
		}
		if table := tables[sub.Range]; table != nil {
			for _, key := range slices.Sorted(maps.Keys(table.Items)) {
				variants = append(variants, variant{Subpackage: sub, vars: e.rangeVars(sub, len(variants), key, table.Items[key])})
			}
		}
	}
	for i := range variants {
		v := &variants[i]
		v.name = plainText(v.Name, v.vars)
	}
	e.stepScope(variants)
	var walk func(tasks []Task, f frame, v *variant)
	walk = func(tasks []Task, f frame, v *variant) {
		for i := range tasks {
			task := &tasks[i]
			walk(task.Pipeline, f, v)
			if task.With["uri"] == "" && task.With["repository"] == "" {
				continue
			}
			o := Outside{Task: task, Inputs: map[string]string{}}
			for name, value := range task.With {
				o.Inputs[name] = strings.TrimSpace(e.substitute(value, task.Here.Value("with").Value(name), &f).text)
			}
			if v != nil && v.Range != "" {
				o.Table, o.Key = tables[v.Range], v.vars["range.key"]
			}
			all = append(all, o)
		}
	}
	section := func(tasks []Task, test *TestSection, v *variant) {
		f := frame{scope: e.packageScope(v), vars: e.vars}
		if v != nil {
			f.vars = v.vars
		}
		walk(tasks, f, v)
		if test != nil {
			walk(test.Pipeline, f, v)
		}
	}
	section(r.Pipeline, r.Test, nil)
	for i := range variants {
		section(variants[i].Pipeline, variants[i].Test, &variants[i])
	}
	e.problems.Sort()
	return all, e.problems.Err()
}
