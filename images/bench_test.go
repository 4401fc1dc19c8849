package images_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/tarn-build/tarn/images"
	"github.com/tarn-build/tarn/pkg/apk"
	"github.com/tarn-build/tarn/pkg/store"
)

// benchPackages makes 300 packages of 2 MB, 40 files each, that compress about as
// programs do: to two fifths.
func benchPackages(b *testing.B) []contents {
	r := rand.NewChaCha8([32]byte{1})
	all := make([]contents, 300)
	for i := range all {
		c := contents{name: fmt.Sprintf("p%03d", i), version: "1.0-r0"}
		for j := range 40 {
			raw := make([]byte, 16<<10)
			if _, err := r.Read(raw); err != nil {
				b.Fatal(err)
			}
			text := base64.StdEncoding.EncodeToString(raw)
			c.files = append(c.files, fmt.Sprintf("0644 usr/share/%s/file%02d %s", c.name, j, text+strings.Repeat(text[:8<<10], 4)))
		}
		all[i] = c
	}
	return all
}

// composing is what a process that composes is told.
type composing struct {
	Store, File, Out string
	Packages         []images.Package
}

// composingEnv names a file with a composing, and makes the test program compose.
const composingEnv = "TARN_BENCH_COMPOSE"

func TestMain(m *testing.M) {
	if file := os.Getenv(composingEnv); file != "" {
		if err := composeOnce(file); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		// Not of the parent, who asks: what it says of a child begins with its own.
		status, err := os.ReadFile("/proc/self/status")
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Stdout.Write(status)
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func composeOnce(file string) error {
	debug.SetGCPercent(200) // as the command has it
	data, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	var c composing
	if err := json.Unmarshal(data, &c); err != nil {
		return err
	}
	st, err := store.Open(c.Store)
	if err != nil {
		return err
	}
	defer st.Close()
	s, err := images.Load(fstest.MapFS{"web.yaml": {Data: []byte(c.File)}}, "web.yaml")
	if err != nil {
		return err
	}
	ctx := context.Background()
	image, err := images.Compose(ctx, s, c.Packages, images.Options{Arch: apk.ArchX86_64, Store: st})
	if err != nil {
		return err
	}
	return errors.Join(image.WriteLayout(ctx, filepath.Join(c.Out, "web")), image.WriteSBOM(filepath.Join(c.Out, "web.spdx.json")))
}

// measured composes in a process of its own, whose processor time and greatest memory
// nothing else shares.
func measured(b *testing.B, c composing) (seconds, mebibytes float64) {
	b.Helper()
	data, err := json.Marshal(c)
	if err != nil {
		b.Fatal(err)
	}
	file := filepath.Join(b.TempDir(), "composing.json")
	if err := os.WriteFile(file, data, 0o600); err != nil {
		b.Fatal(err)
	}
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), composingEnv+"="+file)
	var complaints bytes.Buffer
	cmd.Stderr = &complaints
	status, err := cmd.Output()
	if err != nil {
		b.Fatalf("%v\n%s", err, complaints.Bytes())
	}
	_, peak, _ := strings.Cut(string(status), "VmHWM:")
	var kibibytes float64
	if _, err := fmt.Sscan(peak, &kibibytes); err != nil {
		b.Fatalf("no VmHWM in %q: %v", status, err)
	}
	return (cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()).Seconds(), kibibytes / 1024
}

// Composing an image of 300 packages of 600 MB and writing its layout: with a store that
// has the packages alone, again with nothing changed, with another entrypoint, with one
// package changed, and, for comparison, an image of nothing but the packages of that one's
// layer, of which it is the one that changed. Each is a process of its own, so that processor time (cpu-s/op) and greatest memory (MB-peak) are those of composing.
func BenchmarkCompose(b *testing.B) {
	all := benchPackages(b)
	for _, layering := range []string{"package", "single"} {
		b.Run(layering, func(b *testing.B) {
			dir := b.TempDir()
			c := composing{File: "contents: {packages: [p000]}\nlayering: {strategy: " + layering + "}\n", Out: filepath.Join(dir, "out"), Store: filepath.Join(dir, "store")}
			if err := os.Mkdir(c.Out, 0o755); err != nil {
				b.Fatal(err)
			}
			stock := func(packages ...contents) []images.Package {
				st, err := store.Open(c.Store)
				if err != nil {
					b.Fatal(err)
				}
				defer st.Close()
				return put(b, st, packages...)
			}
			run := func(name string, before func(i int) composing) {
				b.Run(name, func(b *testing.B) {
					var seconds, memory float64
					i := 0
					for ; b.Loop(); i++ {
						b.StopTimer()
						c := before(i)
						b.StartTimer()
						s, m := measured(b, c)
						seconds, memory = seconds+s, max(memory, m)
					}
					b.ReportMetric(seconds/float64(i), "cpu-s/op")
					b.ReportMetric(memory, "MB-peak")
				})
			}
			run("cold", func(int) composing {
				if err := store.RemoveAll(c.Store); err != nil {
					b.Fatal(err)
				}
				c.Packages = stock(all...)
				return c
			})
			run("unchanged", func(int) composing { return c })
			run("another-entrypoint", func(i int) composing {
				other := c
				other.File += fmt.Sprintf("cmd: run %d-%d\n", i, time.Now().UnixNano())
				return other
			})
			change := func() images.Package {
				changed := all[7]
				changed.date = time.Now().UnixNano() % 2e9
				return stock(changed)[0]
			}
			run("one-package-changed", func(int) composing {
				other := c
				other.Packages = slices.Clone(c.Packages)
				other.Packages[7] = change()
				return other
			})
			run("that-layer-alone", func(int) composing {
				other := composing{File: "contents: {packages: [p007]}\nlayering: {strategy: single}\n", Out: b.TempDir(), Store: c.Store}
				changed := change()
				for _, i := range layerOf(b, c, 7) {
					if other.Packages = append(other.Packages, c.Packages[i]); i == 7 {
						other.Packages[len(other.Packages)-1] = changed
					}
				}
				return other
			})
		})
	}
}

// layerOf gives the packages that share a layer with the one at an index; of a single
// layer it is that one alone.
func layerOf(b *testing.B, c composing, index int) []int {
	b.Helper()
	if strings.Contains(c.File, images.StrategySingle) {
		return []int{index}
	}
	var parts []images.Part
	for _, p := range c.Packages {
		parts = append(parts, images.Part{Name: p.Entry.Name, Origin: p.Entry.Origin, Version: p.Entry.Version, Size: p.Entry.Size, Installed: p.Entry.Size})
	}
	for _, group := range images.Divide(parts, &images.Layering{Strategy: images.StrategyPackage}) {
		if slices.Contains(group, index) {
			return group
		}
	}
	b.Fatal("no layer has it")
	return nil
}

// Reading the lock of an image of 300 packages, and finding that it fits.
func BenchmarkReadLock(b *testing.B) {
	st := openStore(b)
	var packages []images.Package
	lock := &images.Lock{Version: "v1", Config: &images.LockConfig{World: []string{"p000"}}}
	for i := range 300 {
		c := contents{name: fmt.Sprintf("p%03d", i), version: "1.0-r0", files: []string{fmt.Sprintf("0644 usr/share/p%03d x", i)}}
		for j := 1; j < 8; j++ {
			c.lines = append(c.lines, fmt.Sprintf("depend = p%03d", (i+j)%300))
		}
		packages = append(packages, put(b, st, c)...)
		locked, err := images.LockPackage(st, packages[i].Digest, apk.ArchX86_64, "r/x86_64/"+packages[i].Entry.FileName())
		if err != nil {
			b.Fatal(err)
		}
		lock.Contents.Packages = append(lock.Contents.Packages, locked)
	}
	data, err := json.Marshal(lock)
	if err != nil {
		b.Fatal(err)
	}
	s := load(b, "contents: {packages: [p000]}\n")
	b.SetBytes(int64(len(data)))
	for b.Loop() {
		l, err := images.ReadLock("web.lock.json", data)
		if err != nil {
			b.Fatal(err)
		}
		if diffs := l.Satisfies(s.World, packages); len(diffs) > 0 {
			b.Fatal(diffs)
		}
		if _, err := l.Fetch(b.Context(), st, apk.ArchX86_64, nil); err != nil {
			b.Fatal(err)
		}
	}
}
