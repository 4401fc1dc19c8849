// Package debian reads the formats of Debian's archives and of apt: control
// paragraphs (deb822), Release and InRelease with their OpenPGP signatures,
// Packages and Sources indexes, .deb files, version numbers, and the places that
// a machine's apt takes packages from.
//
// It knows formats only: it opens no connection, keeps nothing, and does not know
// what the packages are for. Every reader has limits, since what it reads comes
// from outside.
//
// The formats are told in deb-control(5), deb(5), deb-version(7), sources.list(5),
// and https://wiki.debian.org/DebianRepository/Format.
package debian
