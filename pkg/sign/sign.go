// Package sign keeps keys: it makes, reads and writes them, makes signatures with
// private ones, or lets a program make them, and collects public ones that are trusted.
// Packages and indexes are signed with RSA, which is a Key; messages, such as those about
// images, with ECDSA as cosign does, with Ed25519, or with RSA, which is a MessageSigner.
// It knows key files and the interfaces of package apk, and nothing of what is signed.
package sign

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

const (
	// DefaultBits is the length of a new key.
	DefaultBits = 4096
	// minBits is the length below which a key is refused.
	minBits = 2048
	// maxBits is the length above which a key only costs time.
	maxBits = 16384
)

// The ends of the names of key files. Tools for packages look for them.
const (
	privateSuffix = ".rsa"
	publicSuffix  = ".rsa.pub"
)

// maxKeyFile is how long a key file may be, in bytes.
const maxKeyFile = 64 << 10

// Key is a private key. It never shows itself when it is printed.
type Key struct {
	name    string // of the private key's file, e.g. tarn.rsa
	private *rsa.PrivateKey
}

// Generate makes a key. name is the name of its file, which ends in .rsa; bits 0 is
// DefaultBits.
func Generate(name string, bits int) (*Key, error) {
	if err := checkName(name, privateSuffix); err != nil {
		return nil, err
	}
	if bits == 0 {
		bits = DefaultBits
	}
	if bits < minBits || bits > maxBits {
		return nil, fmt.Errorf("key %q: %d bits are out of range: at least %d, at most %d", name, bits, minBits, maxBits)
	}
	private, err := rsa.GenerateKey(rand.Reader, bits)
	if err != nil {
		return nil, err
	}
	return &Key{name, private}, nil
}

// KeyName is the file name of the public key, e.g. tarn.rsa.pub.
func (k *Key) KeyName() string { return k.name + ".pub" }

// Sign gives the RSASSA-PKCS1-v1_5 signature of a SHA-256 digest. The same digest
// gives the same signature.
func (k *Key) Sign(digest []byte) ([]byte, error) {
	return rsa.SignPKCS1v15(nil, k.private, crypto.SHA256, digest)
}

// SignSHA512 gives the RSASSA-PKCS1-v1_5 signature of a SHA-512 digest, as packages and
// indexes of version 3 bear it.
func (k *Key) SignSHA512(digest []byte) ([]byte, error) {
	return rsa.SignPKCS1v15(nil, k.private, crypto.SHA512, digest)
}

// PublicKey is the public half without its name.
func (k *Key) PublicKey() crypto.PublicKey { return &k.private.PublicKey }

// Public is the public half.
func (k *Key) Public() Public { return Public{k.KeyName(), &k.private.PublicKey} }

// String is the key's name.
func (k *Key) String() string { return k.name }

// GoString is the key's name.
func (k *Key) GoString() string { return "sign.Key(" + k.name + ")" }

// existsError says that a key file is not overwritten. It is fs.ErrExist.
type existsError struct{ path string }

func (e *existsError) Error() string        { return fmt.Sprintf("write key: %s is there already", e.path) }
func (e *existsError) Is(target error) bool { return target == fs.ErrExist }

// WriteFiles is WriteFilesAs with the form that every tool reads: PKCS#1 in the clear.
func (k *Key) WriteFiles(dir string) error { return k.WriteFilesAs(dir, Form{}) }

// WriteFilesAs writes NAME.rsa with mode 0600 and NAME.rsa.pub with mode 0644 into a
// folder. Neither is overwritten, for that would orphan what the old key signed:
// one that is there is fs.ErrExist. Of several processes that write at once one wins.
func (k *Key) WriteFilesAs(dir string, f Form) error {
	private := filepath.Join(dir, k.name)
	for _, path := range []string{private, filepath.Join(dir, k.KeyName())} {
		if _, err := os.Lstat(path); err == nil {
			return &existsError{path}
		} else if !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	secret, err := k.marshal(f)
	if err != nil {
		return err
	}
	// The private half first: the public one can be made of it again.
	if err := create(private, secret, 0o600); err != nil {
		return err
	}
	if err := k.WritePublic(dir); err != nil {
		_ = os.Remove(private)
		return err
	}
	return nil
}

// WritePublic writes NAME.rsa.pub into a folder where it is missing, as whoever stopped
// WriteFiles between its two files leaves it.
func (k *Key) WritePublic(dir string) error {
	text, err := k.Public().MarshalPEM()
	if err != nil {
		return err
	}
	if err := create(filepath.Join(dir, k.KeyName()), text, 0o644); !errors.Is(err, fs.ErrExist) {
		return err
	}
	return nil
}

// create makes a file that is not there yet, whole or not at all. Until it is whole it
// has no name: whoever is stopped in between leaves nothing of a key behind.
func create(path string, data []byte, mode os.FileMode) error {
	fd, err := unix.Open(filepath.Dir(path), unix.O_TMPFILE|unix.O_WRONLY|unix.O_CLOEXEC, 0o600)
	if errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.EISDIR) {
		return createNamed(path, data, mode)
	}
	if err != nil {
		return &os.PathError{Op: "open", Path: filepath.Dir(path), Err: err}
	}
	f := os.NewFile(uintptr(fd), path)
	defer f.Close()
	if err := fill(f, data, mode); err != nil {
		return err
	}
	// A link fails where a rename would overwrite what another process wrote meanwhile.
	err = unix.Linkat(unix.AT_FDCWD, fmt.Sprintf("/proc/self/fd/%d", fd), unix.AT_FDCWD, path, unix.AT_SYMLINK_FOLLOW)
	if errors.Is(err, unix.EEXIST) {
		return &existsError{path}
	}
	if errors.Is(err, unix.ENOENT) {
		return createNamed(path, data, mode) // there is no /proc
	}
	if err != nil {
		return &os.PathError{Op: "link", Path: path, Err: err}
	}
	return nil
}

// createNamed is create on a file system that has no files without names.
func createNamed(path string, data []byte, mode os.FileMode) error {
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+"-")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	defer f.Close()
	if err := fill(f, data, mode); err != nil {
		return err
	}
	if err := os.Link(f.Name(), path); errors.Is(err, fs.ErrExist) {
		return &existsError{path}
	} else if err != nil {
		return err
	}
	return nil
}

func fill(f *os.File, data []byte, mode os.FileMode) error {
	if err := f.Chmod(mode); err != nil { // whatever the umask is
		return err
	}
	if _, err := f.Write(data); err != nil {
		return err
	}
	return f.Sync()
}

// Public is a public key with the name of its file.
type Public struct {
	Name string // e.g. tarn.rsa.pub
	Key  *rsa.PublicKey
}

// MarshalPEM is the key as in its file: PKIX in PEM.
func (p Public) MarshalPEM() ([]byte, error) {
	der, err := x509.MarshalPKIXPublicKey(p.Key)
	if err != nil {
		return nil, fmt.Errorf("key %s: %w", p.Name, err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}), nil
}

// ParsePublic reads the content of a public key's file; name is the file's name.
func ParsePublic(name string, data []byte) (Public, error) {
	if err := checkName(name, publicSuffix); err != nil {
		return Public{}, err
	}
	key, err := parsePublic(data)
	if err != nil {
		return Public{}, fmt.Errorf("key %s: %v", name, err)
	}
	return Public{name, key}, nil
}

func parsePublic(data []byte) (*rsa.PublicKey, error) {
	block, _ := pem.Decode(data)
	if block == nil {
		return nil, errors.New("expected a public key in PEM, found none")
	}
	var parsed any
	var err error
	switch block.Type {
	case "PUBLIC KEY":
		parsed, err = x509.ParsePKIXPublicKey(block.Bytes)
	case "RSA PUBLIC KEY":
		parsed, err = x509.ParsePKCS1PublicKey(block.Bytes)
	default:
		if strings.Contains(block.Type, "PRIVATE") {
			return nil, errors.New("it is a private key, expected a public one")
		}
		return nil, fmt.Errorf("it is a %q, expected a public key", block.Type)
	}
	if err != nil {
		return nil, fmt.Errorf("malformed public key: %v", err)
	}
	key, ok := parsed.(*rsa.PublicKey)
	if !ok {
		return nil, errors.New("it is no RSA key, and packages are signed with RSA only")
	}
	return key, checkBits(key.N.BitLen())
}

func checkBits(bits int) error {
	if bits < minBits {
		return fmt.Errorf("%d bits are too few: at least %d", bits, minBits)
	}
	if bits > maxBits {
		return fmt.Errorf("%d bits are too many: at most %d", bits, maxBits)
	}
	return nil
}

func checkName(name, suffix string) error {
	if !strings.HasSuffix(name, suffix) || name == suffix || strings.ContainsAny(name, "/\n\x00") {
		return fmt.Errorf("key %q: expected a file name that ends in %s", name, suffix)
	}
	return nil
}

// readFile reads a small file.
func readFile(path string) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() || info.Size() > maxKeyFile {
		return nil, fmt.Errorf("key %s: expected a file of at most %d bytes", path, maxKeyFile)
	}
	return os.ReadFile(path)
}
