package environment

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/tarn-build/tarn/pkg/apk"
	"github.com/tarn-build/tarn/pkg/apk/apktest"
	"github.com/tarn-build/tarn/pkg/store"
	"github.com/tarn-build/tarn/repo"
)

// shelf is a source of packages that lie in memory.
type shelf map[string][]byte

func (shelf) Name() string                                             { return "shelf" }
func (shelf) Identity(e *apk.Entry) string                             { return "shelf:" + e.FullName() }
func (shelf) Packages(context.Context, apk.Arch) ([]*apk.Entry, error) { return nil, nil }
func (s shelf) Fetch(_ context.Context, st *store.Store, e *apk.Entry) (store.Digest, error) {
	digest, _, err := st.Put(bytes.NewReader(s[e.Name]))
	return digest, err
}

// lockOf puts packages on a shelf and locks all of them. A package named in bare
// has an entry without a checksum, as one has that is made when it is asked for.
func lockOf(t *testing.T, bare string, packages ...[]byte) repo.Lock {
	t.Helper()
	s := shelf{}
	var lock repo.Lock
	for _, data := range packages {
		p := apktest.Read(t, data)
		s[p.Info.Name] = data
		entry := apk.EntryOf(p, int64(len(data)))
		if entry.Name == bare {
			entry.Checksum = apk.Checksum{}
		}
		lock = append(lock, repo.Locked{
			Name: entry.Name, Version: entry.Version, Identity: s.Identity(entry), From: s.Name(), Entry: entry, Source: s,
		})
	}
	return lock
}

func assemble(t *testing.T, lock repo.Lock, o Options) (*Environment, error) {
	t.Helper()
	st, err := store.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	o.Arch = apk.ArchX86_64
	return Assemble(t.Context(), st, lock, o)
}

// read gives a file as the overlay of the layers shows it.
func read(t *testing.T, env *Environment, name string) string {
	t.Helper()
	for _, layer := range env.Layers {
		data, err := os.ReadFile(filepath.Join(layer, name))
		if err == nil {
			return string(data)
		}
		if !os.IsNotExist(err) {
			t.Fatal(err)
		}
	}
	t.Fatalf("%s is in no layer", name)
	return ""
}

func TestDatabaseListsPackagesThatAreMadeHere(t *testing.T) {
	seed := apktest.Package(t, "seed-toolchain", "12.2.0-r0", "usr/bin/gcc", "#!/bin/sh\n")
	env, err := assemble(t, lockOf(t, "seed-toolchain", seed), Options{Database: true})
	if err != nil {
		t.Fatal(err)
	}
	want := fmt.Sprintf("C:%s\n", apktest.Read(t, seed).Checksum)
	if got := read(t, env, "usr/lib/apk/db/installed"); !strings.Contains(got, want) || !strings.Contains(got, "P:seed-toolchain\n") {
		t.Errorf("the database lacks %q:\n%s", want, got)
	}
}

func TestWhoseFileWins(t *testing.T) {
	other := apktest.Package(t, "other", "1-r0", "usr/bin/tool", "other")
	for _, tt := range []struct {
		name  string
		info  apk.Info
		pairs []string
		want  string // content of usr/bin/tool, or what the error says
		fails bool
	}{
		{"two owners", apk.Info{}, []string{"usr/bin/tool", "mine"}, "usr/bin/tool", true},
		{"the same bytes", apk.Info{}, []string{"usr/bin/tool", "other"}, "other", false},
		{"one replaces the other", apk.Info{Replaces: []apk.Dependency{{Name: "other"}}}, []string{"usr/bin/tool", "mine"}, "mine", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tt.info.Name, tt.info.Version, tt.info.Arch = "mine", "1-r0", apk.ArchX86_64
			mine := apktest.Write(t, tt.info, tt.pairs...)
			for _, packages := range [][][]byte{{other, mine}, {mine, other}} {
				env, err := assemble(t, lockOf(t, "", packages...), Options{})
				if tt.fails {
					if err == nil || !strings.Contains(err.Error(), tt.want) {
						t.Errorf("got error %v, want one that names %s", err, tt.want)
					}
					continue
				}
				if err != nil {
					t.Fatal(err)
				}
				if got := read(t, env, "usr/bin/tool"); got != tt.want {
					t.Errorf("usr/bin/tool holds %q, want %q", got, tt.want)
				}
			}
		})
	}
}
