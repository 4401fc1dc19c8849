package solve

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tarn-build/tarn/pkg/apk"
)

// shared finds the folder of test data that is too large for the repository.
func shared(t testing.TB, path string) string {
	t.Helper()
	root := os.Getenv("TARN_SHARED")
	if root == "" {
		root = filepath.Join("..", "..", "..", "shared")
	}
	file := filepath.Join(root, path)
	if _, err := os.Stat(file); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal(err)
		}
		t.Skipf("no test data: %v", err)
	}
	return file
}

func readIndex(t testing.TB, path string) []*Package {
	t.Helper()
	f, err := os.Open(shared(t, path))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	index, err := apk.ReadIndex(f, apk.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	packages := make([]*Package, len(index.Entries))
	for i, e := range index.Entries {
		packages[i] = &Package{Entry: e}
	}
	return packages
}

// worlds are solved over Alpine's own index; each becomes a line of the golden
// file, or an error.
var worlds = []string{
	"alpine-base", "busybox", "alpine-sdk", "build-base", "python3", "python3 py3-pip", "nginx", "nginx nginx-mod-http-lua",
	"curl", "curl !ca-certificates-bundle", "git", "git docs", "openssh", "openssh-server", "openssl", "openssl<3", "openssl-dev",
	"postgresql15", "mariadb", "redis", "sqlite", "perl", "ruby", "lua5.4", "luajit", "nodejs", "nodejs npm", "go", "rust", "cargo",
	"clang15", "llvm15", "cmake", "meson", "gtk+3.0", "gtk4.0", "qt5-qtbase", "ffmpeg", "imagemagick", "ghostscript",
	"haproxy", "squid", "bind", "dnsmasq", "iptables", "wireguard-tools", "docs man-pages", "bash bash-completion git", "bash zsh fish",
	"awk", "so:libc.musl-x86_64.so.1", "cmd:sh", "cmd:vim", "pc:zlib", "musl-dev zlib-dev pcre2-dev make", "!busybox alpine-base",
	"linux-lts", "linux-virt", "openrc", "util-linux", "eudev", "gcc g++ libstdc++", "no-such-package", "zlib=1.2.13-r0", "zlib=1.2.13", "zlib~1.2",
	"samba", "apache2", "php81", "xz zstd lz4", "docs zlib zlib-dev", "grub", "syslinux", "cryptsetup", "lvm2", "dbus", "fish", "tcl", "gettext", "gdb", "strace", "valgrind", "btrfs-progs", "e2fsprogs", "nftables", "postfix", "dovecot", "asterisk", "freeradius",
}

// TestAlpine solves many worlds over a real index.
func TestAlpine(t *testing.T) {
	packages := readIndex(t, "vectors/alpine-317/APKINDEX.tar.gz")
	u := NewUniverse(packages)
	var b strings.Builder
	solved := 0
	for _, world := range worlds {
		fmt.Fprintf(&b, "> %s\n", world)
		got, err := Solve(u, requirements(t, world), Options{})
		var conflict *Conflict
		var ambiguous *Ambiguous
		if err != nil && !errors.As(err, &conflict) && !errors.As(err, &ambiguous) {
			t.Fatal(err)
		}
		if err != nil {
			fmt.Fprintf(&b, "%v\n", err)
			continue
		}
		solved++
		for _, p := range got {
			fmt.Fprintf(&b, "%s ", p)
		}
		b.WriteString("\n")
	}
	if solved < 50 {
		t.Errorf("%d worlds have a solution, want at least 50", solved)
	}
	file := filepath.Join("testdata", "alpine-317.golden")
	if os.Getenv("UPDATE_GOLDEN") != "" {
		if err := os.WriteFile(file, []byte(b.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), b.String()); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

func requirements(t testing.TB, world string) []Requirement {
	t.Helper()
	var list []Requirement
	for word := range strings.FieldsSeq(world) {
		r, err := ParseRequirement(word)
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, r)
	}
	return list
}
