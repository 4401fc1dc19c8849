package apk_test

import (
	"bytes"
	"compress/gzip"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"archive/tar"

	"github.com/tarn-build/tarn/pkg/adb"
	"github.com/tarn-build/tarn/pkg/apk"
	"github.com/tarn-build/tarn/pkg/apk/apktest"
	"github.com/tarn-build/tarn/pkg/sign"
)

// Two keys are made once for all tests.
var newKeys = sync.OnceValue(func() [2]*sign.Key {
	var keys [2]*sign.Key
	for i, name := range []string{"one.rsa", "two.rsa"} {
		var err error
		if keys[i], err = sign.Generate(name, 2048); err != nil {
			panic(err)
		}
	}
	return keys
})

// ring trusts some keys.
func ring(keys ...*sign.Key) *sign.Keyring {
	r := &sign.Keyring{}
	for _, k := range keys {
		if err := r.Add(k.Public()); err != nil {
			panic(err)
		}
	}
	return r
}

// testKeys trusts the first key.
var testKeys = keySet(func() apk.KeySet { return ring(newKeys()[0]) })

// keySet makes its keys when they are asked for.
type keySet func() apk.KeySet

func (k keySet) PublicKey(name string) *rsa.PublicKey { return k().PublicKey(name) }
func (k keySet) PublicKeyByID(id adb.KeyID) (string, crypto.PublicKey) {
	return k().PublicKeyByID(id)
}
func (k keySet) AcceptsSHA1() bool { return k().AcceptsSHA1() }

func signedBy(t testing.TB, data []byte, key apk.Signer) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := apk.SignPackage(&b, bytes.NewReader(data), int64(len(data)), key, time.Unix(1700000000, 0)); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func signed(t testing.TB, data []byte) []byte { return signedBy(t, data, newKeys()[0]) }

func TestSignPackage(t *testing.T) {
	one, two := newKeys()[0], newKeys()[1]
	plain := apktest.Package(t, "zlib", "1.3.1-r0", "usr/lib/libz.so.1", "text")
	first := signedBy(t, plain, one)
	if !bytes.HasSuffix(first, plain) {
		t.Error("the package itself changed")
	}
	if !bytes.Equal(first, signedBy(t, plain, one)) {
		t.Error("a second signature has other bytes")
	}
	if a, b := apktest.Read(t, plain), apktest.Read(t, first); a.Checksum != b.Checksum {
		t.Errorf("checksum: got %s, want %s", b.Checksum, a.Checksum)
	}
	second := signedBy(t, first, two)
	if !bytes.HasSuffix(second, plain) {
		t.Error("the package itself changed when it was signed anew")
	}
	for _, test := range []struct {
		name string
		data []byte
		keys apk.KeySet
		want string // the key, or the error
		ok   bool
	}{
		{"trusted", first, ring(one), "one.rsa.pub", true},
		{"trusted among others", first, ring(two, one), "one.rsa.pub", true},
		{"not trusted", first, ring(two), `signed by "one.rsa.pub", which is no trusted key`, false},
		{"no keys", first, nil, "which is no trusted key", false},
		{"empty ring", first, &sign.Keyring{}, "which is no trusted key", false},
		{"nil ring", first, (*sign.Keyring)(nil), "which is no trusted key", false},
		{"unsigned", plain, ring(one), "it bears no signature", false},
		{"replaced", second, ring(two), "two.rsa.pub", true},
		{"replaced, the old one is gone", second, ring(one), `signed by "two.rsa.pub"`, false},
		{"signature of another package", slices.Concat(first[:len(first)-len(plain)], apktest.Package(t, "zlib", "1.3.1-r1")), ring(one), "does not hold", false},
	} {
		t.Run(test.name, func(t *testing.T) {
			got, err := apktest.Read(t, test.data).VerifySignature(test.keys)
			if test.ok && (err != nil || got != test.want) {
				t.Errorf("got %q, %v, want %q", got, err, test.want)
			}
			if !test.ok {
				if _, is := errors.AsType[*apk.TrustError](err); !is || !strings.Contains(err.Error(), test.want) {
					t.Errorf("got %v, want a TrustError %q", err, test.want)
				}
			}
		})
	}
}

// Such a name stands in an extended header, before what it names.
func TestLongKeyName(t *testing.T) {
	key, err := sign.Generate(strings.Repeat("k", 150)+".rsa", 2048)
	if err != nil {
		t.Fatal(err)
	}
	data := signedBy(t, apktest.Package(t, "a", "1-r0", "b", "c"), key)
	if got, err := apktest.Read(t, data).VerifySignature(ring(key)); err != nil || got != key.KeyName() {
		t.Errorf("package: got %q, %v", got, err)
	}
	var index bytes.Buffer
	if err := apk.WriteIndex(&index, &apk.Index{Entries: []*apk.Entry{apktest.Entry(t, data)}}, key); err != nil {
		t.Fatal(err)
	}
	if got, err := apk.VerifyIndex(index.Bytes(), ring(key)); err != nil || got != key.KeyName() {
		t.Errorf("index: got %q, %v", got, err)
	}
	if x := readIndex(t, index.Bytes()); len(x.Entries) != 1 || len(x.Signatures) != 1 {
		t.Errorf("index: %d entries, %d signatures", len(x.Entries), len(x.Signatures))
	}
}

func TestSignRefusesWhatDoesNotHold(t *testing.T) {
	data := apktest.Package(t, "zlib", "1.3.1-r0", "usr/lib/libz.so.1", "text")
	data[len(data)-1] ^= 1
	var b bytes.Buffer
	err := apk.SignPackage(&b, bytes.NewReader(data), int64(len(data)), newKeys()[0], time.Time{})
	if _, ok := errors.AsType[*apk.TrustError](err); !ok || b.Len() != 0 {
		t.Errorf("got %v and %d bytes, want a TrustError and nothing", err, b.Len())
	}
}

// legacy signs over SHA-1, as abuild does.
func legacy(t *testing.T, section []byte, key *rsa.PrivateKey, name string) []byte {
	t.Helper()
	digest := sha1.Sum(section)
	value, err := rsa.SignPKCS1v15(nil, key, crypto.SHA1, digest[:])
	if err != nil {
		t.Fatal(err)
	}
	return archive(t, false, func(w *tar.Writer) { put(w, tar.Header{Name: name}, string(value)) })
}

func TestSHA1IsAFlag(t *testing.T) {
	private, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	keys := &sign.Keyring{}
	if err := keys.Add(sign.Public{Name: "old.rsa.pub", Key: &private.PublicKey}); err != nil {
		t.Fatal(err)
	}
	var index bytes.Buffer
	if err := apk.WriteIndex(&index, &apk.Index{}); err != nil {
		t.Fatal(err)
	}
	file := slices.Concat(legacy(t, index.Bytes(), private, ".SIGN.RSA.old.rsa.pub"), index.Bytes())
	// The same signature under the name of the other algorithm is none.
	renamed := slices.Concat(legacy(t, index.Bytes(), private, ".SIGN.RSA256.old.rsa.pub"), index.Bytes())
	unknown := slices.Concat(legacy(t, index.Bytes(), private, ".SIGN.DSA.old.rsa.pub"), index.Bytes())
	if _, err := apk.VerifyIndex(file, keys); err == nil || !strings.Contains(err.Error(), "over SHA-1, which is not accepted") {
		t.Errorf("got %v, want that SHA-1 is not accepted", err)
	}
	keys.AllowSHA1 = true
	if got, err := apk.VerifyIndex(file, keys); err != nil || got != "old.rsa.pub" {
		t.Errorf("got %q, %v, want old.rsa.pub", got, err)
	}
	if _, err := apk.VerifyIndex(renamed, keys); err == nil || !strings.Contains(err.Error(), "does not hold") {
		t.Errorf("got %v, want that it does not hold", err)
	}
	if _, err := apk.VerifyIndex(unknown, keys); err == nil || !strings.Contains(err.Error(), `algorithm "DSA"`) {
		t.Errorf("got %v, want that the algorithm is not known", err)
	}
}

func TestOthersIndexSignatures(t *testing.T) {
	dir := vectors(t)
	for _, test := range []struct {
		index, keys, want string
		sha1              bool
	}{
		{"rsa256-signed/APKINDEX.tar.gz", "rsa256-signed", "test-rsa256.rsa.pub", false},
		{"signing/APKINDEX.tar.gz", "signing/keys", "chainguard-0106f58bac88057c2ff5c2829850df492717a876ed700443550353c7ab23f5a0.rsa.pub", false},
		{"signing/APKINDEX.tar.gz", "signing/keys/chainguard-60912bbc46bfc8ed6bda0b50db3a8a5f3c4344d6bc8549ec9b84d96140b475d1.rsa.pub", "chainguard-60912bbc46bfc8ed6bda0b50db3a8a5f3c4344d6bc8549ec9b84d96140b475d1.rsa.pub", false},
		{"signing/APKINDEX.tar.gz", "signing/keys/chainguard-61cb6bccd1f584b007db7be51ebce2b0530a54cc5a94e7650b570d113d537cf3.rsa.pub", "chainguard-61cb6bccd1f584b007db7be51ebce2b0530a54cc5a94e7650b570d113d537cf3.rsa.pub", false},
		{"signing/APKINDEX.tar.gz", "rsa256-signed", "", false},
		{"alpine-316/APKINDEX.tar.gz", "alpine-316", "", true}, // that key is another architecture's
		{"APKINDEX.tar.gz", "alpine-316", "", true},            // its signature stands at the wrong end
	} {
		data, err := os.ReadFile(filepath.Join(dir, test.index))
		if err != nil {
			t.Fatal(err)
		}
		keys := &sign.Keyring{AllowSHA1: test.sha1}
		if err := keys.Load(filepath.Join(dir, test.keys)); err != nil {
			t.Fatal(err)
		}
		got, err := apk.VerifyIndex(data, keys)
		if got != test.want || (err == nil) != (test.want != "") {
			t.Errorf("%s with %s: got %q, %v, want %q", test.index, test.keys, got, err, test.want)
		}
		x, err := apk.ReadIndex(bytes.NewReader(data), apk.Limits{})
		if err != nil {
			t.Fatal(err)
		}
		if again, _ := x.VerifySignature(keys); again != test.want {
			t.Errorf("%s with %s, read first: got %q, want %q", test.index, test.keys, again, test.want)
		}
		if test.want == "" {
			continue
		}
		data[len(data)-20] ^= 1
		if _, err := apk.VerifyIndex(data, keys); err == nil || !strings.Contains(err.Error(), "does not hold") {
			t.Errorf("%s with a flipped bit: got %v, want that it does not hold", test.index, err)
		}
	}
}

// What is not signed does not become so by standing behind what is.
func TestIndexBehindASignedOne(t *testing.T) {
	key := newKeys()[0]
	var b bytes.Buffer
	if err := apk.WriteIndex(&b, &apk.Index{Entries: []*apk.Entry{apktest.Entry(t, apktest.Package(t, "a", "1-r0"))}}, key); err != nil {
		t.Fatal(err)
	}
	if _, err := apk.VerifyIndex(b.Bytes(), testKeys); err != nil {
		t.Fatal(err)
	}
	var z bytes.Buffer
	w := gzip.NewWriter(&z)
	w.Write([]byte("more"))
	w.Close()
	for name, data := range map[string][]byte{
		"gzip": slices.Concat(b.Bytes(), z.Bytes()), "bytes": append(bytes.Clone(b.Bytes()), 0), "cut": b.Bytes()[:b.Len()-1],
		"signature alone": b.Bytes()[:700], "empty": nil,
	} {
		if _, err := apk.VerifyIndex(data, testKeys); err == nil {
			t.Errorf("%s: it was taken", name)
		}
	}
}
