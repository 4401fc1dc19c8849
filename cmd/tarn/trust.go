package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/pflag"

	"github.com/tarn-build/tarn/pkg/apk"
	"github.com/tarn-build/tarn/pkg/sign"
	"github.com/tarn-build/tarn/pkg/store"
	"github.com/tarn-build/tarn/pkg/yamlread"
	"github.com/tarn-build/tarn/repo"
)

// trustFlags are the flags of every verb that reads repositories: whom it believes, and
// what.
type trustFlags struct {
	keyrings       []string // FILE, FOLDER or LOCATION=FILE
	allowUntrusted bool
	allowSHA1      bool
	allowRollback  bool
	maxAge         age
	discoverKeys   bool
}

func (f *trustFlags) add(flags *pflag.FlagSet) {
	flags.StringSliceVarP(&f.keyrings, "keyring-append", "k", nil, "a further public key, or a folder of keys, to trust; REPOSITORY=KEY for that repository alone")
	flags.BoolVar(&f.allowSHA1, "allow-sha1", false, "accept signatures over SHA-1, as Alpine's older indexes bear")
	flags.BoolVar(&f.allowRollback, "allow-rollback", false, "accept an index that is older than one that was seen before")
	flags.Var(&f.maxAge, "max-age", "refuse an index that is older than this, e.g. 36h or 14d")
	flags.BoolVar(&f.discoverKeys, "discover-keys", false, "trust the keys that a repository's server names, for that repository alone")
}

// addUntrusted adds the flag that asks for no signatures, under the name it has there.
func (f *trustFlags) addUntrusted(flags *pflag.FlagSet, name string) {
	flags.BoolVar(&f.allowUntrusted, name, false, "read repositories without asking for signatures")
}

// age is a duration that may be said in days and weeks.
type age time.Duration

func (a *age) Type() string { return "duration" }

func (a *age) String() string {
	if *a == 0 {
		return ""
	}
	return time.Duration(*a).String()
}

// Set reads 36h, 14d or 2w.
func (a *age) Set(text string) error {
	for unit, length := range map[string]time.Duration{"d": 24 * time.Hour, "w": 7 * 24 * time.Hour} {
		if number, found := strings.CutSuffix(text, unit); found {
			n, err := strconv.ParseUint(number, 10, 16)
			if err != nil {
				return fmt.Errorf("%q is no duration such as 36h or 14d", text)
			}
			*a = age(time.Duration(n) * length)
			return nil
		}
	}
	d, err := time.ParseDuration(text)
	if err != nil || d < 0 {
		return fmt.Errorf("%q is no duration such as 36h or 14d", text)
	}
	*a = age(d)
	return nil
}

// UnmarshalText reads an age of tarn.yaml.
func (a *age) UnmarshalText(text []byte) error { return a.Set(string(text)) }

// workspaceTrust says how one repository is trusted.
type workspaceTrust struct {
	Repository   string   `yaml:"repository,required"` // as it is named where it is used
	Keys         []string `yaml:"keys"`                // these alone vouch for it
	MaxAge       age      `yaml:"max-age"`             // an older index is refused
	AllowSHA1    bool     `yaml:"allow-sha1"`
	DiscoverKeys bool     `yaml:"discover-keys"`

	Place yamlread.Place `yaml:",here"`
}

// cutScope reads LOCATION=FILE, where a key is trusted for one repository alone.
func cutScope(text string) (location, file string, scoped bool) {
	if _, err := os.Stat(text); err == nil {
		return "", text, false // a file may be called so
	}
	i := strings.LastIndexByte(text, '=')
	if i <= 0 {
		return "", text, false
	}
	return text[:i], text[i+1:], true
}

// sameLocation tells whether two names mean one repository.
func (w *workspace) sameLocation(a, b string) bool {
	whole := func(l string) string {
		if !strings.Contains(l, "://") {
			return filepath.Clean(w.path(l))
		}
		return strings.TrimRight(l, "/")
	}
	return whole(a) == whole(b)
}

// openRepository opens a repository with the trust that flags and workspace give it. A
// repository that has keys of its own is vouched for by them alone; keys are those of all
// the others.
func (a *app) openRepository(ws *workspace, st *store.Store, f *trustFlags, keys *sign.Keyring, location string) (*repo.Repository, error) {
	o := repo.Options{Keys: keys, AllowUntrusted: f.allowUntrusted, Offline: a.offline, Store: st, AllowRollback: f.allowRollback, MaxAge: time.Duration(f.maxAge), DiscoverKeys: f.discoverKeys}
	own := &sign.Keyring{AllowSHA1: f.allowSHA1}
	isOwn := false
	for _, t := range ws.Trust {
		if !ws.sameLocation(t.Repository, location) {
			continue
		}
		own.AllowSHA1 = own.AllowSHA1 || t.AllowSHA1
		o.DiscoverKeys = o.DiscoverKeys || t.DiscoverKeys
		if o.MaxAge == 0 {
			o.MaxAge = time.Duration(t.MaxAge)
		}
		for _, path := range t.Keys {
			isOwn = true
			if err := own.Load(ws.path(path)); err != nil {
				return nil, fmt.Errorf("keys of %s: %w", location, err)
			}
		}
	}
	for _, text := range f.keyrings {
		if scope, file, scoped := cutScope(text); scoped && ws.sameLocation(scope, location) {
			isOwn = true
			if err := own.Load(file); err != nil {
				return nil, usagef("--keyring-append: %v", err)
			}
		}
	}
	if isOwn {
		o.Keys = own
	} else if own.AllowSHA1 {
		all := &sign.Keyring{AllowSHA1: true}
		for _, k := range keys.Keys() {
			if err := all.Add(k); err != nil {
				return nil, err
			}
		}
		o.Keys = all
	}
	return repo.Open(location, o)
}

// keyring is the public keys of the workspace and of the flags, but for those that are
// for one repository alone.
func keyring(ws *workspace, more []string) (*sign.Keyring, error) {
	keys := &sign.Keyring{}
	for _, dir := range ws.Keys {
		if err := keys.Load(ws.path(dir)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
	}
	for _, name := range ws.signingKeys() {
		if err := keys.Load(publicFile(name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
	}
	for _, path := range more {
		if _, file, scoped := cutScope(path); !scoped {
			if err := keys.Load(file); err != nil {
				return nil, err
			}
		}
	}
	return keys, nil
}

// tellDoubles tells, once each, of packages that repositories do not agree on.
func (a *app) tellDoubles(ctx context.Context, to io.Writer, set repo.Set, arch apk.Arch, lock repo.Lock) error {
	doubles, err := set.Doubles(ctx, arch, lock)
	if err != nil {
		return err
	}
	for _, d := range doubles {
		if _, told := a.toldDoubles.LoadOrStore(d, true); !told {
			fmt.Fprintln(to, plain("warning: "+d.String()))
		}
	}
	return nil
}
