package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/tarn-build/tarn/pkg/sign"
)

type keygenOptions struct {
	kind           string
	bits           int
	format         string
	encrypt        bool
	passphraseFile string
}

func (a *app) keygenCommand() *cobra.Command {
	var o keygenOptions
	cmd := &cobra.Command{
		Use:   "keygen [FILE.rsa | FILE.key]",
		Short: "make a key pair that signs packages and indexes, or images",
		Long: `keygen makes an RSA key pair: the private key in FILE.rsa, readable for its owner
alone, and the public key beside it in FILE.rsa.pub. Files that are there are never
overwritten. Without a name the workspace's own key is made.

FILE.key, or --type ecdsa, makes a key that signs images, of ECDSA over P-256, with its
public key in FILE.pub: cosign takes it as its own when it is encrypted.

With --encrypt the private key's file is encrypted: PKCS#8, PBES2 with AES-256; a key for
images in the form of cosign's. Its passphrase is the first line of --passphrase-file, else $TARN_PASSPHRASE, else asked for.`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(_ *cobra.Command, args []string) error { return a.runKeygen(o, args) },
	}
	f := cmd.Flags()
	f.StringVar(&o.kind, "type", "", "rsa, for packages and indexes, or ecdsa, for images (default: as the name ends)")
	f.IntVar(&o.bits, "key-size", sign.DefaultBits, "bits of the key")
	f.StringVar(&o.format, "format", "pkcs1", "how the private key is written: pkcs1, which melange reads, or pkcs8")
	f.BoolVar(&o.encrypt, "encrypt", false, "encrypt the private key with a passphrase")
	f.StringVar(&o.passphraseFile, "passphrase-file", "", "the file of the passphrase; implies --encrypt")
	return cmd
}

func (a *app) runKeygen(o keygenOptions, args []string) error {
	path := ""
	if len(args) == 1 {
		path = args[0]
	} else {
		ws, err := a.workspace()
		if err != nil {
			return err
		}
		if path = ws.signingKey(); sign.IsProgram(path) {
			return usagef("the workspace's key is a program's: %s", path)
		}
	}
	extension := filepath.Ext(path)
	switch {
	case o.kind == "" && extension == ".key", o.kind == "ecdsa":
		return a.makeMessageKey(o, path)
	case o.kind != "" && o.kind != "rsa":
		return usagef("--type %q is neither rsa nor ecdsa", o.kind)
	case extension != ".rsa":
		return usagef("key %q: the name of a private key ends in .rsa, or in .key when it signs images", path)
	}
	form := sign.Form{PKCS8: o.format == "pkcs8"}
	if o.format != "pkcs1" && o.format != "pkcs8" {
		return usagef("--format %q is neither pkcs1 nor pkcs8", o.format)
	}
	if o.encrypt || o.passphraseFile != "" {
		var err error
		if form.Passphrase, err = a.newPassphrase(o.passphraseFile, path); err != nil {
			return err
		}
	}
	key, err := sign.Generate(filepath.Base(path), o.bits)
	if err != nil {
		return usagef("%v", err)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	if err := key.WriteFilesAs(filepath.Dir(path), form); err != nil {
		return err
	}
	if a.json {
		return a.printJSON(map[string]string{"private": path, "public": path + ".pub"})
	}
	fmt.Fprintf(a.out, "%s\n%s.pub\n", path, path)
	return nil
}

// makeMessageKey makes a key that signs images.
func (a *app) makeMessageKey(o keygenOptions, path string) error {
	if filepath.Ext(path) != ".key" {
		return usagef("key %q: the name of a private key that signs images ends in .key", path)
	}
	var secret []byte
	if o.encrypt || o.passphraseFile != "" {
		var err error
		if secret, err = a.newPassphrase(o.passphraseFile, path); err != nil {
			return err
		}
	}
	key, err := sign.GenerateMessageKey(filepath.Base(path))
	if err != nil {
		return usagef("%v", err)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	if err := key.WriteFiles(filepath.Dir(path), secret); err != nil {
		return err
	}
	public := sign.PublicPath(path)
	if a.json {
		return a.printJSON(map[string]string{"private": path, "public": public})
	}
	fmt.Fprintf(a.out, "%s\n%s\n", path, public)
	return nil
}

// newPassphrase is that of a key to be made; who types it types it twice.
func (a *app) newPassphrase(file, path string) ([]byte, error) {
	secret, err := a.passphrase(file)(path)
	if err != nil {
		return nil, err
	}
	if len(bytes.TrimSpace(secret)) == 0 {
		return nil, usagef("no passphrase is given\n  hint: --passphrase-file FILE, or $%s", passphraseVariable)
	}
	if _, set := os.LookupEnv(passphraseVariable); file == "" && !set {
		again, err := a.ask("once more: ")
		if err != nil {
			return nil, err
		}
		if !bytes.Equal(secret, again) {
			return nil, usagef("the two passphrases differ")
		}
	}
	return secret, nil
}
