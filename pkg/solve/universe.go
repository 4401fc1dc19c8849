package solve

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/tarn-build/tarn/pkg/apk"
)

// Memory is a Universe of packages held in memory. It is safe for use by several
// goroutines at once, and is made once and solved over many times.
type Memory struct {
	providers map[string][]*Package
	installIf map[string][]*Package
}

// NewUniverse makes a Universe of packages, which it keeps pointers to.
func NewUniverse(packages []*Package) *Memory {
	u := &Memory{
		providers: make(map[string][]*Package, 2*len(packages)),
		installIf: map[string][]*Package{},
	}
	for _, p := range packages {
		add(u.providers, p.Name, p)
		for i := range p.Provides {
			add(u.providers, p.Provides[i].Name, p)
		}
		for i := range p.InstallIf {
			if !p.InstallIf[i].Conflict {
				add(u.installIf, p.InstallIf[i].Name, p)
			}
		}
	}
	return u
}

// add appends p to the list of name unless it stands there already; the packages
// come one after the other, so it could only be the last.
func add(lists map[string][]*Package, name string, p *Package) {
	list := lists[name]
	if len(list) == 0 || list[len(list)-1] != p {
		lists[name] = append(list, p)
	}
}

// Providers gives every package that is called name or provides it.
func (u *Memory) Providers(name string) []*Package { return u.providers[name] }

// InstallIf gives every package whose install_if names name.
func (u *Memory) InstallIf(name string) []*Package { return u.installIf[name] }

// Names gives every name that a package has or provides, in any order.
func (u *Memory) Names() []string {
	names := make([]string, 0, len(u.providers))
	for name := range u.providers {
		names = append(names, name)
	}
	return names
}

// Union is the packages of several universes.
type Union []Universe

// Providers gives every package that is called name or provides it.
func (u Union) Providers(name string) []*Package {
	return u.join(func(one Universe) []*Package { return one.Providers(name) })
}

// InstallIf gives every package whose install_if names name.
func (u Union) InstallIf(name string) []*Package {
	return u.join(func(one Universe) []*Package { return one.InstallIf(name) })
}

func (u Union) join(look func(Universe) []*Package) []*Package {
	var all []*Package
	for _, one := range u {
		if found := look(one); all == nil {
			all = slices.Clip(found)
		} else {
			all = append(all, found...)
		}
	}
	return all
}

// Names gives every name that a package has or provides, in any order, each once or
// more often.
func (u Union) Names() []string {
	var names []string
	for _, one := range u {
		if one, ok := one.(interface{ Names() []string }); ok {
			names = append(names, one.Names()...)
		}
	}
	return names
}

// Entries is what an index says of names, e.g. an [apk.Packed].
type Entries interface {
	Providers(name string) []*apk.Entry
	InstallIf(name string) []*apk.Entry
	Names() []string
}

// Lazy is a Universe of entries that are looked up one by one. It is safe for use by
// several goroutines at once, and gives the same package for the same entry always.
type Lazy struct {
	entries Entries
	like    Package
	mu      sync.Mutex
	known   map[*apk.Entry]*Package
}

// NewLazy makes a Universe of entries, each of which becomes a package like that: with
// its Rank, Order, Tag and From.
func NewLazy(entries Entries, like Package) *Lazy {
	return &Lazy{entries: entries, like: like, known: map[*apk.Entry]*Package{}}
}

// Providers gives every package that is called name or provides it.
func (u *Lazy) Providers(name string) []*Package { return u.packages(u.entries.Providers(name)) }

// InstallIf gives every package whose install_if names name.
func (u *Lazy) InstallIf(name string) []*Package { return u.packages(u.entries.InstallIf(name)) }

// Names gives every name that a package has or provides, in any order.
func (u *Lazy) Names() []string { return u.entries.Names() }

func (u *Lazy) packages(entries []*apk.Entry) []*Package {
	u.mu.Lock()
	defer u.mu.Unlock()
	list := make([]*Package, len(entries))
	for i, e := range entries {
		p := u.known[e]
		if p == nil {
			one := u.like
			one.Entry = e
			p = &one
			u.known[e] = p
		}
		list[i] = p
	}
	return list
}

// ParseRequirement reads an entry of the world: a name, a name with a constraint
// ("openssl>=3"), a conflict ("!busybox"), each with or without a tag
// ("zlib@edge", "zlib@edge>=1.3").
func ParseRequirement(s string) (Requirement, error) {
	// The tag stands between name and constraint, as apk writes it, or behind
	// both, as apko's image files do.
	name, rest, tagged := strings.Cut(s, "@")
	if !tagged {
		d, err := apk.ParseDependency(s)
		return Requirement{Dependency: d}, err
	}
	end := strings.IndexAny(rest, "<>=~@")
	if end < 0 {
		end = len(rest)
	}
	tag, constraint := rest[:end], rest[end:]
	if tag == "" {
		return Requirement{}, fmt.Errorf("requirement %q has an empty tag", s)
	}
	d, err := apk.ParseDependency(name + constraint)
	if err != nil {
		return Requirement{}, err
	}
	if d.Conflict {
		return Requirement{}, fmt.Errorf("conflict %q has a tag", s)
	}
	return Requirement{Dependency: d, Tag: tag}, nil
}

// String writes the requirement as an entry of the world.
func (r Requirement) String() string {
	if r.Tag == "" {
		return r.Dependency.String()
	}
	bare := r.Dependency
	bare.Op, bare.Version = apk.Any, ""
	return bare.String() + "@" + r.Tag + r.Op.String() + string(r.Version)
}

// String is the package's name and version, and its tag where it has one.
func (p *Package) String() string {
	if p.Tag != "" {
		return p.FullName() + "@" + p.Tag
	}
	return p.FullName()
}

// canonical orders packages by what they are, so that nothing depends on the
// order in which a Universe hands them out.
func canonical(a, b *Package) int {
	if a == b {
		return 0
	}
	if c := strings.Compare(a.Name, b.Name); c != 0 {
		return c
	}
	if a.Version != b.Version {
		if c := b.Version.Compare(a.Version); c != 0 {
			return c
		}
	}
	if c := cmp.Or(
		strings.Compare(string(a.Version), string(b.Version)),
		cmp.Compare(a.Rank, b.Rank),
		cmp.Compare(a.Order, b.Order),
		strings.Compare(a.Tag, b.Tag),
		strings.Compare(a.From, b.From),
		strings.Compare(string(a.Arch), string(b.Arch)),
		strings.Compare(string(a.Checksum[:]), string(b.Checksum[:])),
	); c != 0 {
		return c
	}
	if a.Installed != b.Installed {
		if a.Installed {
			return -1
		}
		return 1
	}
	// Two records of one package that differ in nothing above differ in their
	// fields or not at all.
	return strings.Compare(fmt.Sprint(a.Info, a.FileSize), fmt.Sprint(b.Info, b.FileSize))
}
