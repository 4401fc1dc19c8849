// Package apk reads and writes Alpine's packages and indexes of format version 2:
// versions, dependencies, .PKGINFO, the three gzip members of a package, the
// index, and the database of what is installed. It knows the formats and nothing
// of recipes, repositories or images.
package apk
