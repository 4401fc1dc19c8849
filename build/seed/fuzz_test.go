package seed

import (
	"io/fs"
	"path"
	"strings"
	"testing"

	"github.com/tarn-build/tarn/pkg/diag"
)

// FuzzPlace: whatever a package calls its paths and links, they stay below /seed.
func FuzzPlace(f *testing.F) {
	f.Add("bin/bash", "../../etc/passwd")
	f.Add("lib64/x", "/lib/y")
	f.Add("usr/share/../../x", "..")
	f.Fuzz(func(t *testing.T, from, link string) {
		if !fs.ValidPath(from) {
			return
		}
		to := place(from)
		if to == "" {
			return
		}
		if !strings.HasPrefix(to, "seed/usr/") || !fs.ValidPath(to) {
			t.Fatalf("%q stands at %q", from, to)
		}
		text := relink(from, to, link)
		if text == "" {
			return
		}
		if target := path.Join("/", path.Dir(to), text); path.IsAbs(text) || !strings.HasPrefix(target, "/seed/usr/") {
			t.Errorf("link %q -> %q at %q says %q and leads to %q", from, link, to, text, target)
		}
	})
}

func FuzzLock(f *testing.F) {
	f.Add(defaultLock[:900])
	f.Add([]byte("suite: a\npackages: [{name: gcc-12}]\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		l, err := parseLock(&toolchain, "seed.lock.yaml", data)
		if err != nil {
			if _, is := diag.Of(err); !is {
				t.Errorf("%v has no place", err)
			}
			return
		}
		if _, err := entry(&toolchain, l); err != nil {
			t.Logf("a version that no package can have: %v", err)
		}
	})
}
