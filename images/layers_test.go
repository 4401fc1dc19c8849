package images_test

import (
	"archive/tar"
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/klauspost/compress/gzip"

	"github.com/tarn-build/tarn/images"
	"github.com/tarn-build/tarn/pkg/apk"
	"github.com/tarn-build/tarn/pkg/store"
)

// divided names the packages of each group.
func divided(parts []images.Part, layering *images.Layering) []string {
	var groups []string
	for _, g := range images.Divide(parts, layering) {
		var names []string
		for _, i := range g {
			names = append(names, parts[i].Name)
		}
		groups = append(groups, strings.Join(names, " "))
	}
	return groups
}

// The origin strategy is apko's, with its budget and its ties (groupByOriginAndSize).
func TestOriginStrategy(t *testing.T) {
	d := func(text string) []apk.Dependency {
		dep, err := apk.ParseDependency(text)
		if err != nil {
			t.Fatal(err)
		}
		return []apk.Dependency{dep}
	}
	parts := []images.Part{
		{Name: "a", Origin: "a", Version: "1-r0", Size: 9, Installed: 100},
		{Name: "b", Origin: "b", Version: "1-r0", Size: 1, Installed: 300},
		{Name: "b-libs", Origin: "b", Version: "1-r0", Size: 1, Installed: 300},
		{Name: "c", Origin: "c", Version: "1-r0", Size: 99, Installed: 50},
		{Name: "d", Origin: "d", Version: "1-r0", Size: 5, Installed: 100},
		{Name: "e", Origin: "e", Version: "2-r0", Size: 5, Installed: 10},
		{Name: "f", Origin: "f", Version: "1-r0", Size: 5, Installed: 20, Replaces: d("e<2")},
		{Name: "g", Origin: "g", Version: "1-r0", Size: 5, Installed: 5, Replaces: d("e")},
	}
	for _, test := range []struct {
		budget int
		want   []string
	}{
		{0, []string{"a b b-libs c d e f g"}},
		{1, []string{"a b b-libs c d e f g"}},
		{2, []string{"b b-libs", "a c d e f g"}},
		{3, []string{"b b-libs", "a", "c d e f g"}},
		{4, []string{"b b-libs", "a", "d", "c e f g"}},
		{6, []string{"b b-libs", "a", "d", "c", "f", "e g"}},
		{50, []string{"b b-libs", "a", "d", "c", "f", "e g"}},
	} {
		for range 4 {
			got := divided(parts, &images.Layering{Strategy: "origin", Budget: test.budget})
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("budget %d: -want +got:\n%s", test.budget, diff)
			}
			rand.Shuffle(len(parts), func(i, j int) { parts[i], parts[j] = parts[j], parts[i] })
		}
	}
	if got := divided(parts, &images.Layering{}); got != nil {
		t.Errorf("layering: {}: got groups %q, want a single layer", got)
	}
}

func TestPackageStrategy(t *testing.T) {
	part := func(name string, size int64) images.Part { return images.Part{Name: name, Origin: name, Size: size} }
	small := []images.Part{part("a", 3<<20), part("b", 1000)}
	if diff := cmp.Diff([]string{"a b"}, divided(small, nil)); diff != "" {
		t.Errorf("a small image: -want +got:\n%s", diff)
	}
	parts := []images.Part{part("big", 5<<20), part("bigger", 600<<10), part("x", 1000), part("y", 1000), part("z", 511<<10)}
	if diff := cmp.Diff([]string{"big", "bigger", "x y z"}, divided(parts, nil)); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	for _, count := range []int{3, 50, 300, 2000} {
		var many []images.Part
		for i := range count {
			many = append(many, part(fmt.Sprint("p", i), 2<<20))
		}
		for _, budget := range []int{0, 1, 2, 10, 40} {
			got := images.Divide(many, &images.Layering{Strategy: "package", Budget: budget})
			most := budget
			if budget == 0 {
				most = 99
			}
			if len(got) > most || count >= most && len(got) < (most+2)/3 {
				t.Errorf("%d packages, budget %d: %d layers", count, budget, len(got))
			}
			seen := map[int]bool{}
			for _, g := range got {
				for _, i := range g {
					if seen[i] {
						t.Fatalf("%d packages, budget %d: package %d is in two layers", count, budget, i)
					}
					seen[i] = true
				}
			}
			if len(seen) != count {
				t.Errorf("%d packages, budget %d: %d are in layers", count, budget, len(seen))
			}
		}
	}
}

// A package that comes, goes or becomes larger touches the layer that it is in, which may
// fall in two or become one with a neighbour, and no other.
func TestLayersAreStable(t *testing.T) {
	for seed := range uint64(200) {
		r := rand.New(rand.NewPCG(seed, 7))
		var parts []images.Part
		for i := range 60 + r.IntN(60) {
			parts = append(parts, images.Part{Name: fmt.Sprintf("p%d", i), Origin: fmt.Sprintf("o%d", r.IntN(50)), Size: 1 << (8 + r.IntN(14))})
		}
		before := divided(parts, nil)
		if len(before) > 90 {
			continue // too near to the limit, beyond which layers become larger
		}
		at := r.IntN(len(parts))
		name := parts[at].Name
		var after []string
		switch what := r.IntN(3); what {
		case 0:
			after = divided(slices.Delete(slices.Clone(parts), at, at+1), nil)
		case 1:
			name = "new"
			after = divided(append(slices.Clone(parts), images.Part{Name: "new", Origin: fmt.Sprintf("o%d", r.IntN(60)), Size: 100 << 10}), nil)
		default:
			changed := slices.Clone(parts)
			changed[at].Size += changed[at].Size / 3
			after = divided(changed, nil)
		}
		gone, come := without(before, after, name), without(after, before, name)
		// What one side has in one layer may be in several of the other: all of those are
		// of one layer, but for a package that has got one of its own.
		if len(gone) > 1 && len(come) > 1 {
			t.Errorf("seed %d: %s touches more than its own layer:\n-%s\n+%s", seed, name, strings.Join(gone, "\n-"), strings.Join(come, "\n+"))
		}
	}
}

// without gives the groups that other has not, without a package.
func without(groups, other []string, name string) []string {
	var list []string
	for _, g := range groups {
		if slices.Contains(other, g) {
			continue
		}
		rest := slices.DeleteFunc(strings.Fields(g), func(n string) bool { return n == name })
		if len(rest) > 0 {
			list = append(list, strings.Join(rest, " "))
		}
	}
	return list
}

// Layers of the same packages are the same bytes, whatever else is in the image, whoever
// has accounts in it, and in which order the packages are installed.
func TestLayersOfTheSamePackages(t *testing.T) {
	var all []contents
	r := rand.New(rand.NewPCG(1, 2))
	for i := range 40 {
		name := fmt.Sprintf("p%02d", i)
		c := contents{name: name, version: "1-r0", origin: fmt.Sprintf("o%d", i/3)}
		// Folders that many bring, each with its own mode, and files of another user.
		c.files = append(c.files, fmt.Sprintf("0%o usr/share/", []int{0o755, 0o700, 0o750}[r.IntN(3)]), fmt.Sprintf("0%o var/empty%d/", []int{0o755, 0o700}[r.IntN(2)], r.IntN(4)))
		c.headers = append(c.headers, tar.Header{Typeflag: tar.TypeReg, Name: "usr/share/" + name + ".own", Mode: 0o600, Uid: 82, Gid: 82})
		text := strings.Repeat(name, 1+r.IntN(200<<10))
		c.files = append(c.files, "0644 usr/share/"+name+" "+text)
		all = append(all, c)
	}
	st := openStore(t)
	digests := map[string]string{}
	same := 0
	for _, variant := range []struct {
		file     string
		packages func() []contents
	}{
		{"contents: {packages: [p00]}\n", func() []contents { return all }},
		{webImage, func() []contents { return append([]contents{layoutPackage, muslPackage, webPackage}, all...) }},
		{"contents: {packages: [p00]}\n", func() []contents { return all[:30] }},
		{"contents: {packages: [p00]}\n", func() []contents {
			reversed := slices.Clone(all)
			slices.Reverse(reversed)
			return reversed
		}},
	} {
		image := mustCompose(t, st, variant.file, variant.packages()...)
		if len(image.About.Layers) < 8 {
			t.Fatalf("%d layers: the test shows nothing", len(image.About.Layers))
		}
		for _, l := range image.About.Layers {
			packages := strings.Join(l.Packages, " ")
			if packages == "" {
				continue
			}
			if digests[packages] == "" {
				digests[packages] = l.Digest
				continue
			}
			same++
			if digests[packages] != l.Digest {
				t.Errorf("layers of %s differ", packages)
			}
		}
		flatten(t, image)
	}
	if same < 20 {
		t.Errorf("only %d layers were compared", same)
	}
}

// The folders of an image are the tree's, though each layer has them as its own packages do.
func TestFoldersAreTheTrees(t *testing.T) {
	packages := []contents{layoutPackage, big("a", "1-r0"), big("b", "1-r0"), big("c", "1-r0"), big("d", "1-r0"), big("e", "1-r0"),
		{name: "first", version: "1-r0", files: []string{"0700 srv/x/", "0700 srv/only/"}},
		{name: "second", version: "1-r0", files: []string{"0755 srv/x/", "0644 srv/x/file y", "0777 usr/share/"}},
	}
	var want string
	for _, layering := range []string{"layering: {}\n", "", "layering: {strategy: origin, budget: 20}\n"} {
		got := flatten(t, mustCompose(t, openStore(t), bigImage+layering, packages...))
		if want == "" {
			want = got
			if !strings.Contains(got, "srv/x/ 5 0700 0:0") {
				t.Fatalf("the first package does not decide the folder:\n%s", got)
			}
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%q: -want +got:\n%s", layering, diff)
		}
	}
}

// A layer is the same bytes on one processor and on many, and one gzip member however large it is.
func TestCompressedBytes(t *testing.T) {
	var text strings.Builder
	for r := rand.New(rand.NewPCG(3, 4)); text.Len() < 9<<20; {
		fmt.Fprintf(&text, "%d line of text\n", r.IntN(1e6))
	}
	large := contents{name: "large", version: "1-r0", files: []string{"0644 usr/share/large " + text.String()}}
	for compression, media := range map[string]string{
		"gzip": "application/vnd.oci.image.layer.v1.tar+gzip", "zstd": "application/vnd.oci.image.layer.v1.tar+zstd", "none": "application/vnd.oci.image.layer.v1.tar",
	} {
		file := "contents: {packages: [large]}\nlayering: {compression: " + compression + "}\n"
		var digests []string
		for _, processors := range []int{1, 5} {
			before := runtime.GOMAXPROCS(processors)
			st := openStore(t)
			image := mustCompose(t, st, file, large, layoutPackage)
			runtime.GOMAXPROCS(before)
			l := image.About.Layers[0]
			digests = append(digests, l.Digest)
			if string(l.MediaType) != media || len(image.About.Layers) != 3 {
				t.Errorf("%s: media type %s of %d layers", compression, l.MediaType, len(image.About.Layers))
			}
			flatten(t, image)
			if compression == "gzip" {
				oneMember(t, st, l.Digest)
			}
		}
		if digests[0] != digests[1] {
			t.Errorf("%s: bytes depend on the number of processors", compression)
		}
	}
	if _, err := images.ParseCompression("zst"); err == nil || !strings.Contains(err.Error(), `did you mean "zstd"?`) {
		t.Errorf("zst: %v", err)
	}
}

func oneMember(t *testing.T, st *store.Store, digest string) {
	t.Helper()
	f, err := st.Open(store.Digest(digest))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	data, err := io.ReadAll(f)
	if err != nil {
		t.Fatal(err)
	}
	in := bytes.NewReader(data)
	z, err := gzip.NewReader(in)
	if err != nil {
		t.Fatal(err)
	}
	z.Multistream(false)
	n, err := io.Copy(io.Discard, z)
	if err != nil || n < 9<<20 || in.Len() != 0 {
		t.Errorf("the first gzip member has %d bytes, and %d bytes follow (%v)", n, in.Len(), err)
	}
}

// A layer that is so large that all processors compress it is the same bytes on one, two
// and eight of them, one gzip member, and what gzip(1) reads.
func TestLargeLayerBytes(t *testing.T) {
	var block, text strings.Builder
	for r := rand.New(rand.NewPCG(5, 6)); block.Len() < 1<<20; {
		fmt.Fprintf(&block, "%x", r.Uint64())
	}
	for n := range 33 {
		fmt.Fprintf(&text, "%d\n%s", n, block.String())
	}
	data, entry := contents{name: "large", version: "1-r0", files: []string{"0644 usr/share/large " + text.String()}}.build(t)
	digests := map[string]bool{}
	for _, processors := range []int{1, 2, 8} {
		func() {
			defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(processors))
			st := openStore(t)
			digest, _, err := st.Put(bytes.NewReader(data))
			if err != nil {
				t.Fatal(err)
			}
			image, err := compose(t, st, "contents: {packages: [large]}\n", []images.Package{{Entry: entry, Digest: digest, From: "test"}})
			if err != nil {
				t.Fatal(err)
			}
			l := image.About.Layers[0]
			if l.Unpacked <= 32<<20 {
				t.Fatalf("the layer has %d bytes, want more than 32 MiB", l.Unpacked)
			}
			if digests[l.Digest] = true; len(digests) > 1 {
				t.Fatalf("the bytes depend on the number of processors: %v", digests)
			}
			if processors < 8 {
				return
			}
			oneMember(t, st, l.Digest)
			f, err := st.Open(store.Digest(l.Digest))
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			cmd := exec.CommandContext(t.Context(), "gzip", "-t")
			cmd.Stdin = f
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Errorf("gzip -t: %v\n%s", err, out)
			}
		}()
	}
}

// A layer that was compressed for one image is not compressed for another.
func TestCompressedOnce(t *testing.T) {
	st := openStore(t)
	packages := []contents{layoutPackage, big("a", "1-r0"), big("b", "1-r0"), big("c", "1-r0"), big("d", "1-r0"), big("e", "1-r0"), big("f", "1-r0")}
	first := mustCompose(t, st, bigImage, packages...)
	parts := put(t, st, packages[1:]...)
	other, err := compose(t, st, bigImage+"cmd: another\n", parts)
	if err != nil {
		t.Fatal(err)
	}
	old := map[string]bool{}
	for _, l := range first.About.Layers {
		old[l.Digest] = true
	}
	for _, l := range other.About.Layers {
		if len(l.Packages) > 0 && !old[l.Digest] {
			t.Errorf("the layer of %v is another", l.Packages)
		}
	}
}
