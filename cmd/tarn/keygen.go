package main

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/tarn-build/tarn/pkg/sign"
)

func (a *app) keygenCommand() *cobra.Command {
	var bits int
	cmd := &cobra.Command{
		Use:   "keygen [FILE.rsa]",
		Short: "make a key pair that signs packages and indexes",
		Long: `keygen makes an RSA key pair: the private key in FILE.rsa, readable for its owner
alone, and the public key beside it in FILE.rsa.pub. Files that are there are never
overwritten. Without a name the workspace's own key is made.`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(_ *cobra.Command, args []string) error { return a.runKeygen(bits, args) },
	}
	cmd.Flags().IntVar(&bits, "key-size", 4096, "bits of the key")
	return cmd
}

func (a *app) runKeygen(bits int, args []string) error {
	path := ""
	if len(args) == 1 {
		path = args[0]
	} else {
		ws, err := a.workspace()
		if err != nil {
			return err
		}
		path = ws.signingKey()
	}
	if filepath.Ext(path) != ".rsa" {
		return usagef("key %q: the name of a private key ends in .rsa", path)
	}
	key, err := sign.Generate(filepath.Base(path), bits)
	if err != nil {
		return usagef("%v", err)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	if err := key.WriteFiles(filepath.Dir(path)); err != nil {
		return err
	}
	if a.json {
		return a.printJSON(map[string]string{"private": path, "public": path + ".pub"})
	}
	fmt.Fprintf(a.out, "%s\n%s.pub\n", path, path)
	return nil
}
