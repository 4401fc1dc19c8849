package sign

import (
	"context"
	"crypto"
	"crypto/rsa"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/kballard/go-shellquote"

	"github.com/tarn-build/tarn/pkg/apk"
	"github.com/tarn-build/tarn/pkg/host"
)

// DigestSigner has a private key, or reaches one: a file's, an agent's, a KMS's. It
// gives the RSASSA-PKCS1-v1_5 signature of a SHA-256 digest, 32 bytes, and for version 3
// of the package format that of a SHA-512 digest, 64 bytes.
type DigestSigner interface {
	Sign(digest []byte) ([]byte, error)
}

// Signer is a signer whose public half is known. A *Key is one, and so is what With makes.
type Signer interface {
	apk.Signer3
	Public() Public
}

var (
	_ Signer = (*Key)(nil)
	_ Signer = checked{}
)

// With makes a signer of one that has the private half of a public key. No signature
// leaves it that does not hold: a service that signs with another key is told at once,
// and not by whoever installs what it signed.
func With(public Public, s DigestSigner) Signer { return checked{public, s} }

type checked struct {
	public Public
	DigestSigner
}

func (c checked) KeyName() string             { return c.public.Name }
func (c checked) Public() Public              { return c.public }
func (c checked) PublicKey() crypto.PublicKey { return c.public.Key }

func (c checked) Sign(digest []byte) ([]byte, error)       { return c.sign(crypto.SHA256, digest) }
func (c checked) SignSHA512(digest []byte) ([]byte, error) { return c.sign(crypto.SHA512, digest) }

func (c checked) sign(hash crypto.Hash, digest []byte) ([]byte, error) {
	signature, err := c.DigestSigner.Sign(digest)
	if err != nil {
		return nil, err
	}
	if err := rsa.VerifyPKCS1v15(c.public.Key, hash, digest, signature); err != nil {
		return nil, fmt.Errorf("the signature of %d bytes that the signer gave is not one by this key", len(signature))
	}
	return signature, nil
}

// execPrefix begins the name of a signer that is a program.
const execPrefix = "exec:"

// IsProgram tells whether a name is that of a program, for Open, and no file.
func IsProgram(name string) bool { return strings.HasPrefix(name, execPrefix) }

// CutProgram splits the name of a program, for Open, into the file of its public key and
// the command.
func CutProgram(name string) (public, command string, isProgram bool) {
	rest, isProgram := strings.CutPrefix(name, execPrefix)
	if !isProgram {
		return "", "", false
	}
	public, command, _ = strings.Cut(strings.TrimSpace(rest), " ")
	return public, command, true
}

// JoinProgram is the name of a program, for Open.
func JoinProgram(public, command string) string {
	return execPrefix + shellquote.Join(public) + " " + command
}

// Open opens the signer of a name: the file of a private key, or
//
//	exec:NAME.rsa.pub PROGRAM ARGUMENT...
//
// where the first word is the file of the public key and the rest a command, split into
// words as a shell does and run without one. The command is run once for each signature.
// It reads the SHA-256 digest to sign from its standard input, 32 bytes, and writes the
// RSASSA-PKCS1-v1_5 signature to its standard output, nothing else, as this one does:
//
//	openssl pkeyutl -sign -inkey FILE -pkeyopt digest:sha256
//
// For packages and indexes of version 3 the digest is SHA-512, 64 bytes.
//
// Its environment is that of this process. It has a minute.
func Open(name string, passphrase Passphrase) (Signer, error) {
	command, isProgram := strings.CutPrefix(name, execPrefix)
	if !isProgram {
		return LoadWith(name, passphrase)
	}
	words, err := shellquote.Split(command)
	if err != nil {
		return nil, fmt.Errorf("signer %q: %v", name, err)
	}
	if len(words) < 2 || !strings.HasSuffix(words[0], publicSuffix) {
		return nil, fmt.Errorf("signer %q: expected exec:NAME.rsa.pub PROGRAM ARGUMENT..., the public key's file first", name)
	}
	data, err := os.ReadFile(words[0])
	if err != nil {
		return nil, fmt.Errorf("signer %q: %w", name, err)
	}
	public, err := ParsePublic(filepath.Base(words[0]), data)
	if err != nil {
		return nil, err
	}
	return With(public, program(words[1:])), nil
}

// signTime is how long a program may take for a signature.
const signTime = time.Minute

// program is a command that signs.
type program []string

func (p program) Sign(digest []byte) ([]byte, error) {
	ctx, cancel := context.WithTimeoutCause(context.Background(), signTime, fmt.Errorf("no signature within %s", signTime))
	defer cancel()
	signature, err := host.Sign(ctx, p, digest)
	if err != nil {
		return nil, err
	}
	if len(signature) == 0 {
		return nil, errors.New("the signer gave no signature")
	}
	return signature, nil
}
