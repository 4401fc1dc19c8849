package solve

import (
	"bytes"
	"crypto/sha1"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/tarn-build/tarn/pkg/apk"
)

// realAPK solves worlds with the apk that TARN_APK names, in an empty root.
type realAPK struct {
	t    *testing.T
	path string
	root string
}

func newRealAPK(t *testing.T) *realAPK {
	path := os.Getenv("TARN_APK")
	if path == "" {
		t.Skip("TARN_APK names no apk of apk-tools 3")
	}
	r := &realAPK{t: t, path: path, root: t.TempDir()}
	for _, dir := range []string{"etc/apk", "lib/apk/db", "var/cache/apk", "tmp"} {
		if err := os.MkdirAll(filepath.Join(r.root, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	r.write("etc/apk/arch", "x86_64\n")
	r.write("etc/apk/world", "")
	return r
}

func (r *realAPK) write(name, text string) {
	if err := os.WriteFile(filepath.Join(r.root, name), []byte(text), 0o644); err != nil {
		r.t.Fatal(err)
	}
}

var installing = regexp.MustCompile(`(?m)^\(\s*\d+/\d+\) Installing (\S+?)(?:@\S+)? \((.*)\)$`)

// add gives the packages that apk would install, in order; not ok where it refuses.
func (r *realAPK) add(packages []*Package, world []Requirement) (installed []string, output string, ok bool) {
	byTag := map[string]*apk.Index{"": {}, "edge": {}}
	for i, p := range packages {
		p.Checksum = sha1.Sum([]byte(strconv.Itoa(i)))
		p.Size, p.FileSize, p.Arch = 1, 1, "x86_64"
		if byTag[p.Tag] == nil {
			byTag[p.Tag] = &apk.Index{}
		}
		byTag[p.Tag].Entries = append(byTag[p.Tag].Entries, p.Entry)
	}
	repositories := ""
	for tag, index := range byTag {
		var b bytes.Buffer
		if err := apk.WriteIndex(&b, index); err != nil {
			r.t.Fatal(err)
		}
		name := "index" + tag + ".tar.gz"
		r.write(name, b.String())
		if tag != "" {
			repositories += "@" + tag + " "
		}
		repositories += "test:/" + filepath.Join(r.root, name) + "\n"
	}
	r.write("etc/apk/repositories", repositories)
	r.write("lib/apk/db/installed", "")
	args := []string{"--allow-untrusted", "--simulate", "--root", r.root, "--root-tmpfs=no", "--no-cache", "add"}
	for _, q := range world {
		args = append(args, q.String())
	}
	out, err := exec.Command(r.path, args...).CombinedOutput()
	if err != nil {
		var exit *exec.ExitError
		if !errors.As(err, &exit) || !bytes.Contains(out, []byte("unable to select packages")) {
			r.t.Fatalf("apk %v: %v\n%s", args, err, out)
		}
		return nil, string(out), false
	}
	for _, match := range installing.FindAllStringSubmatch(string(out), -1) {
		installed = append(installed, match[1]+"-"+match[2])
	}
	return installed, string(out), true
}

// TestAgainstAPK lets the real apk solve small random universes, too. What apk solves
// has a solution here; and all but a few solutions are the same: where they are not, it
// is one of the differences that the package comment tells, or two packages that nothing
// but their name tells apart. TARN_UNIVERSES says how many; with SHOW="another solution"
// those are printed.
func TestAgainstAPK(t *testing.T) {
	real := newRealAPK(t)
	rounds := 400
	if n, err := strconv.Atoi(os.Getenv("TARN_UNIVERSES")); err == nil {
		rounds = n
	}
	counts := map[string]int{}
	for seed := range uint64(rounds) {
		r := rand.New(rand.NewPCG(seed, 2))
		packages, world := randomCase(r, seed%4 == 3)
		for _, p := range packages {
			p.Rank, p.Installed = 0, false
		}
		// apk add keeps one entry of the world for each name, the last.
		slices.SortStableFunc(world, func(a, b Requirement) int { return strings.Compare(a.Name, b.Name) })
		world = slices.CompactFunc(world, func(a, b Requirement) bool { return a.Name == b.Name })
		want, output, apkSolves := real.add(packages, world)
		got, err := Solve(NewUniverse(packages), world, Options{})
		names := make([]string, len(got))
		for i, p := range got {
			names[i] = p.FullName()
		}
		var kind string
		var ambiguous *Ambiguous
		switch {
		case errors.As(err, &ambiguous) && apkSolves:
			kind = "question here, solved by apk"
		case err == nil && !apkSolves:
			kind = "solved here, refused by apk"
		case err != nil && apkSolves:
			kind = "no solution here, solved by apk"
		case err != nil:
			kind = "both refuse"
		case slices.Equal(names, want):
			kind = "the same"
		case slices.Equal(slices.Sorted(slices.Values(names)), slices.Sorted(slices.Values(want))):
			kind = "another order"
		default:
			kind = "another solution"
		}
		counts[kind]++
		if os.Getenv("SHOW") == kind {
			fmt.Printf("=== seed %d\n%swe: %v %v\napk: %v %v\n", seed, describe(packages, world), names, err, want, output)
		}
	}
	t.Log(counts)
	if n := counts["no solution here, solved by apk"]; n > 0 {
		t.Errorf("%d worlds that apk solves have no solution here", n)
	}
	if other, same := counts["another solution"]+counts["question here, solved by apk"], counts["the same"]; 50*other > same {
		t.Errorf("%d worlds have another solution than apk's, and only %d the same", other, same)
	}
}
