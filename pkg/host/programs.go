package host

import (
	"maps"
	"slices"
)

// Program is a program of the list, as tarn doctor shows it.
type Program struct {
	Name    string
	Path    string // "" when it is not installed
	Use     string // what is missing without it
	Package string // of Debian, that has it
}

// uses says what each program of the list is for.
var uses = map[string]string{
	"git":          "recipes that check out git repositories need it",
	"apt-config":   "proxies that apt is set to are not found without it",
	"newuidmap":    "an ordinary user can give files to one user only without it",
	"crun":         "--runner crun needs it",
	"runc":         "--runner runc needs it",
	"runsc":        "--runner runsc (gVisor) needs it",
	"kata-runtime": "--runner kata-runtime needs it",
	"newgidmap":    "an ordinary user can give files to one group only without it",
}

// Programs lists the programs that tarn runs on the host, sorted by name.
func Programs() []Program {
	var all []Program
	for _, name := range slices.Sorted(maps.Keys(packages)) {
		p := Program{Name: name, Use: uses[name], Package: packages[name]}
		if path, err := find(name); err == nil {
			p.Path = path
		}
		all = append(all, p)
	}
	return all
}
