// Package apk reads and writes Alpine's packages and indexes, of format version 2 (gzip
// and tar) and of version 3 (ADB, of apk-tools 3): versions, dependencies, .PKGINFO, the
// sections of a package, the index, signatures, and the database of what is installed.
// It knows the formats and nothing of recipes, repositories or images.
//
// What is read is told by its first bytes: ReadPackage, ReadIndex, VerifyIndex and
// SignPackage take both versions. What is written is told by the field Format of an
// Unsigned or an Index, of which the zero value is version 2.
package apk
