package repo

import (
	"path/filepath"
	"testing"

	"github.com/tarn-build/tarn/pkg/apk"
)

// FuzzKeySet holds that what a server calls its keys is read or refused, and that what is
// read can be trusted with signatures: a key of a sane length under the name of a key.
func FuzzKeySet(f *testing.F) {
	f.Add([]byte(`{"keys":[{"kty":"RSA","kid":"a","n":"AQAB","e":"AQAB"}]}`))
	f.Add([]byte(`{"keys":[{"kty":"EC","kid":"a","crv":"P-256","x":"AA","y":"AA"},{"kty":"RSA"}]}`))
	f.Add([]byte(`{"keys":null}`))
	f.Add([]byte(`[]`))
	f.Fuzz(func(t *testing.T, data []byte) {
		keys, err := parseKeySet(data)
		if err != nil {
			return
		}
		for name, key := range keys {
			if key.N.BitLen() < 2048 || key.E < 3 || keys.PublicKey(name) != key {
				t.Errorf("%q: %d bits, exponent %d", name, key.N.BitLen(), key.E)
			}
		}
	})
}

// FuzzPackagePath holds that what is removed, whatever a list of it says, are packages
// below the two folders that packages are put to.
func FuzzPackagePath(f *testing.F) {
	for _, path := range []string{"x86_64/a-1-r0.apk", "x86_64/../a.apk", "/x86_64/a.apk", "snapshots/replaced/x86_64/a.apk", "x86_64/APKINDEX.tar.gz", "x86_64/.apk"} {
		f.Add(path)
	}
	f.Fuzz(func(t *testing.T, path string) {
		if !isPackagePath(path, apk.ArchX86_64) {
			return
		}
		if dir := filepath.Dir(path); !filepath.IsLocal(path) || dir != "x86_64" && dir != "snapshots/replaced/x86_64" {
			t.Errorf("%q lies in %q", path, dir)
		}
	})
}
