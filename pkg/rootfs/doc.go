// Package rootfs puts the files of packages together to one tree: the root of a
// sandbox or of an image. The tree lies in memory and holds what a path is, whose
// it is and where its content can be read; it never touches the host's file
// system, follows symbolic links only within itself, and runs nothing.
//
//	packages --Install--> Tree --AddUser, WriteFile, ...--> Tree --Archive--> tar
//
// It knows file conflicts, accounts, busybox's links and the search path of
// libraries. It knows nothing of container images, repositories or recipes.
package rootfs
