// Command demo prints what make demo came to: which packages were built, which images
// composed, and what the services of these answered when they were started out of the
// images' own layers.
package main

import (
	"flag"
	"fmt"
	"os"
)

func main() {
	built := flag.String("built", "", "what tarn build --json printed")
	tested := flag.String("tested", "", "what tarn test --json printed")
	composed := flag.String("composed", "", "what tarn image build --json printed")
	served := flag.String("served", "", "what tarn image test --json printed")
	flag.Parse()
	if err := summary(os.Stdout, *built, *tested, *composed, *served); err != nil {
		fmt.Fprintln(os.Stderr, "demo:", err)
		os.Exit(1)
	}
}
