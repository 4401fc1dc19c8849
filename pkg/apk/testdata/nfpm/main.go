// Command nfpm writes a package as nfpm does: the configuration on its standard input
// becomes the package on its standard output. It is a module of its own, so that what
// nfpm needs is no part of tarn.
package main

import (
	"fmt"
	"os"

	"github.com/goreleaser/nfpm/v2"
	"github.com/goreleaser/nfpm/v2/apk"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run() error {
	config, err := nfpm.Parse(os.Stdin)
	if err != nil {
		return err
	}
	info, err := config.Get("apk")
	if err != nil {
		return err
	}
	return apk.Default.Package(nfpm.WithDefaults(info), os.Stdout)
}
