// Package view looks at images, whoever made them and wherever they lie:
//
//	reference --Open--> Opened --Image.Read--> Contents
//
// It knows OCI layouts, archives of docker save and of OCI layouts, registries, layers
// with their whiteouts, and what the files of an image tell: its packages by apk's or
// dpkg's database, its system, users and libraries. It knows nothing of image files,
// and trusts nothing that it reads: every blob is held against its digest, every
// expansion against a limit, and no path, link or device of an image is ever made on
// the host.
package view
