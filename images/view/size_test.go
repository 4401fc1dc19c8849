package view

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tarn-build/tarn/pkg/rootfs"
)

// sized is an image of packages, each with one file in a layer of its own.
func sized(t *testing.T, files map[string]string) *Contents {
	t.Helper()
	c := &Contents{Files: map[string]*File{}}
	inodes := map[string]*rootfs.Inode{}
	for name, content := range files {
		at := "usr/share/" + name
		inodes[at] = &rootfs.Inode{Mode: 0o644, Size: int64(len(content)), Sum: content}
		c.Files[at] = &File{Layer: len(c.Layers)}
		c.Layers = append(c.Layers, Layer{DiffID: name + content, Size: int64(len(content)) / 2, Unpacked: int64(len(content)), Bytes: int64(len(content))})
		if name != "own" {
			c.Packages = append(c.Packages, Package{Kind: "apk", Name: name, Version: "1-r0", Origin: name, Size: int64(len(content))})
		}
	}
	slices.SortFunc(c.Packages, func(a, b Package) int { return strings.Compare(a.Name, b.Name) }) // Find searches by halves
	c.Tree = rootfs.Of(inodes)
	for n := range c.Tree.All() {
		if name := strings.TrimPrefix(n.Path, "usr/share/"); name != n.Path && name != "own" {
			n.Owner = name
		}
	}
	return c
}

// A package that changes is pulled alone where it has a layer, and with all others where there is one.
func TestSeries(t *testing.T) {
	mega := func(c string, n int) string { return strings.Repeat(c, n<<20) }
	first := map[string]string{"a": mega("a", 6), "b": mega("b", 4), "c": mega("c", 2), "d": mega("d", 1), "own": "x"}
	second := map[string]string{"a": mega("a", 6), "b": mega("B", 4), "c": mega("c", 2), "e": mega("e", 1), "own": "y"}
	pulls := Series([]*Contents{sized(t, first), sized(t, second), sized(t, second), sized(t, first)}, 2)
	for _, test := range []struct {
		at       int
		strategy string
		want     int64 // in mebibytes of files, of which layers are half
	}{
		{0, "as it is", 13}, {0, "single", 13}, {0, "origin", 13}, {0, "package", 13},
		{1, "as it is", 5}, {1, "single", 13}, {1, "origin", 7}, {1, "package", 5},
		{2, "as it is", 0}, {2, "single", 0}, {2, "origin", 0}, {2, "package", 0},
		{3, "as it is", 0}, {3, "single", 0}, {3, "origin", 0}, {3, "package", 0},
	} {
		if got := pulls[test.at].Bytes[test.strategy] * 2 >> 20; got != test.want {
			t.Errorf("version %d, %s: got %d MiB, want %d", test.at, test.strategy, got, test.want)
		}
	}
	if got := strings.Join(pulls[1].Changed, " ") + " -" + strings.Join(pulls[1].Gone, " "); got != "b e -d" {
		t.Errorf("got changes %q", got)
	}
}

// The map is one file that asks for nothing, hostile names stay text, and a browser draws it.
func TestTreemap(t *testing.T) {
	c := sized(t, map[string]string{"a": strings.Repeat("a", 5000), "</script><script>document.title='harm'</script>": strings.Repeat("b", 3000), "own": strings.Repeat("c", 1000)})
	file := filepath.Join(t.TempDir(), "map.html")
	f, err := os.Create(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := Treemap(f, []Shown{{"web (x86_64)", c.Sizes()}}); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	text := string(data)
	for _, not := range []string{"http:", "https:", "src=", "href=", "url(", "@import", "</script><script>document.title"} {
		if strings.Contains(text, not) {
			t.Errorf("the map has %q in it", not)
		}
	}
	browser, err := exec.LookPath("chromium")
	if err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal("chromium is missing")
		}
		t.Skip("chromium is missing")
	}
	ctx, stop := context.WithTimeout(t.Context(), 2*time.Minute)
	defer stop()
	out, err := exec.CommandContext(ctx, browser, "--headless", "--no-sandbox", "--disable-gpu", "--user-data-dir="+t.TempDir(), "--virtual-time-budget=3000", "--window-size=800,600", "--dump-dom", "file://"+file).Output()
	if err != nil {
		t.Fatalf("chromium: %v", err)
	}
	for _, want := range []string{"<title>web (x86_64): sizes</title>", `aria-label="a 1-r0: 5.0 kB, 55.6 %"`, "of no package 1.0 kB", "9.0 kB of files"} {
		if !strings.Contains(string(out), want) {
			t.Errorf("the drawn map has no %q:\n%s", want, out)
		}
	}
}
