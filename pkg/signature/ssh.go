package signature

import (
	"bytes"
	"crypto/rsa"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/bmatcuk/doublestar/v4"
	"github.com/hiddeco/sshsig"
	"golang.org/x/crypto/ssh"
)

// Namespaces keep a signature for one purpose from being used for another.
const (
	namespaceFile = "file"
	namespaceGit  = "git"
)

type sshKeys struct{ signers []allowedSigner }

// allowedSigner is a line of allowed_signers (ssh-keygen(1), ALLOWED SIGNERS).
type allowedSigner struct {
	key           ssh.PublicKey
	name          string
	namespaces    []string // patterns; any when empty
	after, before time.Time
}

func (k *sshKeys) read(data []byte) error {
	before := len(k.signers)
	n := 0
	for line := range bytes.Lines(data) {
		n++
		text := strings.TrimSpace(string(line))
		if text == "" || strings.HasPrefix(text, "#") {
			continue
		}
		s, err := parseSigner(text)
		if err != nil {
			return fmt.Errorf("line %d: %w", n, err)
		}
		k.signers = append(k.signers, s)
	}
	if len(k.signers) == before {
		return errors.New("no SSH key in it")
	}
	return nil
}

// parseSigner reads "PRINCIPALS [OPTIONS] TYPE KEY [COMMENT]", or a line of a .pub file,
// which has no principals.
func parseSigner(line string) (s allowedSigner, err error) {
	if strings.Contains(line, "PRIVATE KEY") {
		return s, errors.New("it is a private key")
	}
	principals, rest := "", line
	if first, _, _ := strings.Cut(line, " "); !isKeyType(first) {
		if quoted, found := strings.CutPrefix(line, `"`); found {
			principals, rest, found = strings.Cut(quoted, `"`)
			if !found {
				return s, errors.New(`principals have no closing "`)
			}
		} else {
			principals, rest, _ = strings.Cut(line, " ")
		}
	}
	key, comment, options, _, err := ssh.ParseAuthorizedKey([]byte(strings.TrimSpace(rest)))
	if err != nil {
		return s, errors.New("expected PRINCIPALS [OPTIONS] TYPE KEY")
	}
	s = allowedSigner{key: key, name: principals}
	if principals == "" {
		s.name = comment
	}
	if err := weak(key); err != nil {
		return s, err
	}
	for _, option := range options {
		name, value, _ := strings.Cut(option, "=")
		value = strings.Trim(value, `"`)
		switch strings.ToLower(name) {
		case "namespaces":
			s.namespaces = strings.Split(value, ",")
		case "valid-after":
			s.after, err = parseMoment(value)
		case "valid-before":
			s.before, err = parseMoment(value)
		case "cert-authority":
			err = errors.New("keys of certificate authorities are not believed: name the signer's own")
		default:
			err = fmt.Errorf("unknown option %q", name)
		}
		if err != nil {
			return s, err
		}
	}
	return s, nil
}

func isKeyType(word string) bool {
	return strings.HasPrefix(word, "ssh-") || strings.HasPrefix(word, "ecdsa-") || strings.HasPrefix(word, "sk-")
}

// weak says why a key is not believed.
func weak(key ssh.PublicKey) error {
	if strings.Contains(key.Type(), "ssh-dss") {
		return errors.New("key is weak: DSA")
	}
	if c, is := key.(ssh.CryptoPublicKey); is {
		if r, is := c.CryptoPublicKey().(*rsa.PublicKey); is && r.N.BitLen() < minRSA {
			return fmt.Errorf("key is weak: RSA of %d bits", r.N.BitLen())
		}
	}
	return nil
}

// parseMoment reads YYYYMMDD[HHMM[SS]][Z]; times without a zone are of UTC here, so that
// they mean the same on every machine.
func parseMoment(text string) (time.Time, error) {
	digits := strings.TrimSuffix(text, "Z")
	for _, layout := range []string{"20060102", "200601021504", "20060102150405"} {
		if len(digits) == len(layout) {
			return time.Parse(layout, digits)
		}
	}
	return time.Time{}, fmt.Errorf("%q is no time: YYYYMMDD[HHMM[SS]][Z]", text)
}

func (k *sshKeys) fingerprints() []string {
	var all []string
	for _, s := range k.signers {
		all = append(all, ssh.FingerprintSHA256(s.key))
	}
	return all
}

// verifySSH checks a signature of a namespace. SSH's signatures do not say when they were
// made: at is when, as far as the caller knows, for keys that are allowed for a time.
func (k *Keys) verifySSH(signed Content, text []byte, namespace string, at time.Time) (Signer, error) {
	if i := bytes.Index(text, []byte("-----BEGIN SSH SIGNATURE-----")); i > 0 {
		text = text[i:]
	}
	s, err := sshsig.Unarmor(text)
	if err != nil {
		return Signer{}, k.refuse(nil, "%s", strings.TrimPrefix(err.Error(), "ssh: "))
	}
	by := []string{ssh.FingerprintSHA256(s.PublicKey)}
	if err := weak(s.PublicKey); err != nil {
		return Signer{}, k.refuse(by, "%v", err)
	}
	if s.Namespace != namespace {
		return Signer{}, k.refuse(by, "it is for the namespace %q, expected %q", s.Namespace, namespace)
	}
	reason := "no believed key made it"
	for _, a := range k.ssh.signers {
		if !bytes.Equal(a.key.Marshal(), s.PublicKey.Marshal()) {
			continue
		}
		switch {
		case !a.signsFor(namespace):
			reason = fmt.Sprintf("the key may not sign for the namespace %q", namespace)
			continue
		case !a.after.IsZero() && at.Before(a.after):
			reason = "the key is allowed from " + a.after.Format(time.DateOnly) + " on"
			continue
		case !a.before.IsZero() && !at.Before(a.before):
			reason = "the key is allowed until " + a.before.Format(time.DateOnly)
			continue
		}
		r, err := signed()
		if err != nil {
			return Signer{}, err
		}
		defer r.Close()
		content := &remembered{r: r}
		err = sshsig.Verify(content, s, a.key, s.HashAlgorithm, namespace)
		if content.err != nil {
			return Signer{}, content.err
		}
		if err != nil {
			return Signer{}, k.refuse(by, "it is not over these bytes")
		}
		return Signer{Key: by[0], Name: a.name}, nil
	}
	return Signer{}, k.refuse(by, "%s", reason)
}

func (a allowedSigner) signsFor(namespace string) bool {
	return len(a.namespaces) == 0 || slices.ContainsFunc(a.namespaces, func(pattern string) bool {
		return doublestar.MatchUnvalidated(strings.TrimSpace(pattern), namespace)
	})
}
