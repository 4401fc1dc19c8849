package main

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/spf13/pflag"
	"golang.org/x/term"

	"github.com/tarn-build/tarn/pkg/apk"
	"github.com/tarn-build/tarn/pkg/sign"
)

// signingFlags are the flags of every verb that signs.
type signingFlags struct {
	keys           []string
	passphraseFile string
}

func (f *signingFlags) add(flags *pflag.FlagSet, usage string) {
	flags.StringArrayVar(&f.keys, "signing-key", nil, usage)
	f.addPassphrase(flags)
}

func (f *signingFlags) addPassphrase(flags *pflag.FlagSet) {
	flags.StringVar(&f.passphraseFile, "passphrase-file", "", "the file of the private key's passphrase (default: $"+passphraseVariable+", else it is asked for)")
}

// passphraseVariable is where the environment holds the passphrase of a private key.
const passphraseVariable = "TARN_PASSPHRASE"

// passphrase gives what opens a private key: the first line of the file that a flag names,
// the environment's, or what is typed.
func (a *app) passphrase(file string) sign.Passphrase {
	return func(path string) ([]byte, error) {
		if file != "" {
			data, err := os.ReadFile(file)
			if err != nil {
				return nil, usagef("--passphrase-file: %v", err)
			}
			line, _, _ := bytes.Cut(data, []byte("\n"))
			return bytes.TrimSuffix(line, []byte("\r")), nil
		}
		if text, set := os.LookupEnv(passphraseVariable); set {
			return []byte(text), nil
		}
		return a.ask("passphrase of " + relative(path) + ": ")
	}
}

// ask asks on the terminal; without one there is no answer.
func (a *app) ask(question string) ([]byte, error) {
	in, isFile := a.in.(*os.File)
	if !isFile || !term.IsTerminal(int(in.Fd())) {
		return nil, nil
	}
	fmt.Fprint(a.err, question)
	answer, err := term.ReadPassword(int(in.Fd()))
	fmt.Fprintln(a.err)
	return answer, err
}

// lockedHint says how to open a key.
func lockedHint(err error) error {
	if is[*sign.LockedError](err) {
		return usagef("%v\n  hint: --passphrase-file FILE, or $%s", err, passphraseVariable)
	}
	return err
}

// openSigners opens the keys that the flags name, or else the workspace's own, of which
// the first is made when it is not there.
func (a *app) openSigners(ws *workspace, f *signingFlags) ([]sign.Signer, error) {
	var all []sign.Signer
	open := func(name string) error {
		s, err := sign.Open(name, a.passphrase(f.passphraseFile))
		if err != nil {
			return lockedHint(err)
		}
		for _, other := range all {
			if other.KeyName() == s.KeyName() {
				return usagef("two keys are called %s: a reader could not tell their signatures apart", s.KeyName())
			}
		}
		all = append(all, s)
		return nil
	}
	for _, name := range f.keys {
		if err := open(name); err != nil {
			return nil, err
		}
	}
	if len(all) > 0 {
		return all, nil
	}
	if !ws.isReal() && ws.SigningKey == "" {
		return nil, usagef("no signing key is said, and there is no workspace that has one\n  hint: tarn keygen FILE.rsa, then --signing-key FILE.rsa")
	}
	for i, name := range ws.signingKeys() {
		_, err := os.Stat(name)
		switch {
		case sign.IsProgram(name) || err == nil && (i > 0 || ws.SigningKey != ""):
			err = open(name)
		case err == nil:
			var key *sign.Key
			if key, err = a.loadOwnKey(name, f); err == nil {
				all = append(all, key)
			}
		case i > 0 || ws.SigningKey != "":
			err = fmt.Errorf("signing key %s is not there\n  hint: tarn keygen %s", relative(name), relative(name))
		default:
			var key *sign.Key
			if key, err = a.makeOwnKey(name, f); err == nil {
				all = append(all, key)
			}
		}
		if err != nil {
			return nil, err
		}
	}
	return all, nil
}

// makeOwnKey makes the workspace's key.
func (a *app) makeOwnKey(path string, f *signingFlags) (*sign.Key, error) {
	key, err := sign.Generate(filepath.Base(path), 0)
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, err
	}
	if err := key.WriteFiles(filepath.Dir(path)); errors.Is(err, fs.ErrExist) {
		return a.loadOwnKey(path, f) // another process was faster
	} else if err != nil {
		return nil, err
	}
	fmt.Fprintf(a.err, "made the workspace's signing key %s\n", relative(path))
	return key, nil
}

// loadOwnKey loads the workspace's private key. Whoever was killed while it was made
// may have left it without its public half, which others need.
func (a *app) loadOwnKey(path string, f *signingFlags) (*sign.Key, error) {
	key, err := sign.LoadWith(path, a.passphrase(f.passphraseFile))
	if err != nil {
		return nil, lockedHint(err)
	}
	if _, err := os.Stat(path + ".pub"); errors.Is(err, fs.ErrNotExist) {
		return key, key.WritePublic(filepath.Dir(path))
	}
	return key, nil
}

// signers are keys as package apk takes them.
func signers(keys []sign.Signer) []apk.Signer {
	all := make([]apk.Signer, len(keys))
	for i, k := range keys {
		all[i] = k
	}
	return all
}

// publicHalves is the keyring of those who sign.
func publicHalves(keys []sign.Signer) (*sign.Keyring, error) {
	ring := &sign.Keyring{}
	for _, k := range keys {
		if err := ring.Add(k.Public()); err != nil {
			return nil, err
		}
	}
	return ring, nil
}

// signingKey is the path of the private key that signs the workspace's repository, or the
// program that does.
func (w *workspace) signingKey() string {
	if w.SigningKey != "" {
		return w.signer(w.SigningKey)
	}
	return filepath.Join(w.path(w.Output), "keys", w.Name+".rsa")
}

// signer is a signer that tarn.yaml names: its file lies where the workspace says, and so
// does the public key of a program.
func (w *workspace) signer(name string) string {
	public, rest, isProgram := sign.CutProgram(name)
	if !isProgram {
		return w.path(name)
	}
	return sign.JoinProgram(w.path(public), rest)
}

// signingKeys are the path of that key, and those of the keys that sign beside it.
func (w *workspace) signingKeys() []string {
	all := []string{w.signingKey()}
	for _, name := range w.CoSigningKeys {
		all = append(all, w.signer(name))
	}
	return all
}

// publicFile is where the public half of a signer lies.
func publicFile(signer string) string {
	if public, _, isProgram := sign.CutProgram(signer); isProgram {
		return public
	}
	return signer + ".pub"
}
