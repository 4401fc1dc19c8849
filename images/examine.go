package images

import "github.com/tarn-build/tarn/pkg/rootfs"

// Marks looks into programs for what shells and package managers bear inside, whatever
// they are called. The program is written to it, piece by piece.
type Marks struct{ marker }

// Program is what the program is, e.g. busybox, or "".
func (m *Marks) Program() string { return m.name() }

// Examine lists what a policy may mind in a file system, of whoever's making: shells,
// package managers, and files that give rights to whoever runs them. marks are programs
// known by Marks, by the digest of the file; fullNames gives the owners of nodes their
// name and version.
func Examine(t *rootfs.Tree, marks, fullNames map[string]string) []Reason {
	return checkDistroless(t, marks, fullNames)
}
