// Package signature checks what upstream signed: files by OpenPGP, minisign or SSH, lists of
// checksums, and tags and commits of git. It knows the formats and whose keys are believed;
// it knows nothing of recipes, fetches nothing, runs nothing, and never signs.
//
// A signature counts when a believed key made it, when that key was good at the time that
// the signature names, and when its algorithms are. That the key has expired since takes
// nothing away from what it signed before: sources are built for years. A key that was
// revoked because somebody has stolen it never counts.
package signature

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"time"
)

// Scheme is a way to sign.
type Scheme string

// The schemes there are.
const (
	PGP      Scheme = "pgp"      // OpenPGP (RFC 9580), detached or clear-signed
	Minisign Scheme = "minisign" // also of its older form, without hashing
	SSH      Scheme = "ssh"      // PROTOCOL.sshsig of OpenSSH
)

// Schemes lists them.
func Schemes() []Scheme { return []Scheme{PGP, Minisign, SSH} }

// MaxSize is the most bytes that a signature, a list of checksums or a file of keys may have.
const MaxSize = 1 << 20

// maxLegacy is the most bytes of a file that a minisign signature without hashing is
// checked for: the whole of it has to be in memory.
const maxLegacy = 1 << 30

// ahead is how far in the future a signature may be dated: clocks differ.
const ahead = 24 * time.Hour

// A File is one that keys stand in.
type File struct {
	Name string
	Data []byte
}

// Keys are the keys that are believed, all of one scheme. They are for one goroutine at a time.
type Keys struct {
	scheme Scheme
	pgp    pgpKeys
	mini   minisignKeys
	ssh    sshKeys
}

// ReadKeys reads public keys: OpenPGP's binary or in ASCII armour, minisign's .pub files,
// SSH's .pub files or allowed_signers (ssh-keygen(1)). Weak ones are refused, and so is a
// file that holds none.
func ReadKeys(scheme Scheme, files []File) (*Keys, error) {
	k := &Keys{scheme: scheme}
	for _, f := range files {
		if len(f.Data) > MaxSize {
			return nil, fmt.Errorf("%s: more than %d bytes", f.Name, MaxSize)
		}
		var err error
		switch scheme {
		case PGP:
			err = k.pgp.read(f.Data)
		case Minisign:
			err = k.mini.read(f.Data)
		case SSH:
			err = k.ssh.read(f.Data)
		default:
			err = fmt.Errorf("no scheme %q", scheme)
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", f.Name, err)
		}
	}
	if len(k.Fingerprints()) == 0 {
		return nil, errors.New("no keys")
	}
	return k, nil
}

// Fingerprints names the keys: OpenPGP's by fingerprint, minisign's by id, SSH's by SHA-256.
func (k *Keys) Fingerprints() []string {
	switch k.scheme {
	case PGP:
		return k.pgp.fingerprints()
	case Minisign:
		return k.mini.fingerprints()
	}
	return k.ssh.fingerprints()
}

// Options say what else is asked of a signature.
type Options struct {
	// Now is the time beyond which no signature may be dated, but for a day.
	Now time.Time
	// SHA1 accepts OpenPGP signatures over a SHA-1, which are refused else. The file must
	// be known by a better digest.
	SHA1 bool
}

// Signer is who made a signature that holds.
type Signer struct {
	Key  string    // as Fingerprints names it
	Name string    // as the key or the list of allowed signers says; may be empty
	At   time.Time // when, as the signature says; zero when it does not
}

func (s Signer) String() string {
	if s.Name == "" {
		return s.Key
	}
	return s.Key + " (" + s.Name + ")"
}

// Error says why a signature is not believed.
type Error struct {
	Reason string
	By     []string // the keys that made it, as it says; may be empty
	Want   []string // the keys that are believed
}

func (e *Error) Error() string {
	text := "signature does not hold: " + e.Reason
	if len(e.By) > 0 {
		text += "\n  made by: " + strings.Join(e.By, ", ")
	}
	if len(e.Want) > 0 {
		text += "\n  believed: " + strings.Join(e.Want, ", ")
	}
	return text
}

func (k *Keys) refuse(by []string, format string, args ...any) error {
	return &Error{Reason: fmt.Sprintf(format, args...), By: by, Want: k.Fingerprints()}
}

// Content opens what was signed, from its beginning. It may be asked for several times.
type Content func() (io.ReadCloser, error)

// Verify checks a detached signature. What is wrong with it is an *Error.
func (k *Keys) Verify(signed Content, signature []byte, o Options) (Signer, error) {
	if len(signature) > MaxSize {
		return Signer{}, k.refuse(nil, "it has more than %d bytes", MaxSize)
	}
	if len(strings.TrimSpace(string(signature))) == 0 {
		return Signer{}, k.refuse(nil, "it is empty")
	}
	var s Signer
	var err error
	switch k.scheme {
	case PGP:
		s, err = k.verifyPGP(signed, signature, o)
	case Minisign:
		s, err = k.verifyMinisign(signed, signature)
	default:
		s, err = k.verifySSH(signed, signature, namespaceFile, o.Now)
	}
	if err == nil && s.At.After(o.Now.Add(ahead)) {
		err = k.refuse([]string{s.Key}, "it is dated %s, which is yet to come", s.At.UTC().Format(time.RFC3339))
	}
	if err != nil {
		return Signer{}, err
	}
	return s, nil
}

// whole is content that is in memory.
func whole(data []byte) Content {
	return func() (io.ReadCloser, error) { return io.NopCloser(strings.NewReader(string(data))), nil }
}
