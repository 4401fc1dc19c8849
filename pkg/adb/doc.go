// Package adb reads and writes ADB, the container that apk-tools 3 keeps packages and
// indexes in: values (numbers, bytes, arrays, objects), the blocks of a file, its
// compression, and the form of its signatures. It knows the container and nothing of
// what the objects mean: see package apk.
//
// The format is described in doc/apk-v3.5.scd of apk-tools.
package adb

// Schema says what the root object of a file is: four letters, read as a number.
type Schema uint32

const (
	SchemaPackage   Schema = 'p' | 'c'<<8 | 'k'<<16 | 'g'<<24
	SchemaIndex     Schema = 'i' | 'n'<<8 | 'd'<<16 | 'x'<<24
	SchemaInstalled Schema = 'i' | 'd'<<8 | 'b'<<16 // the database of what is installed
)

func (s Schema) String() string {
	switch s {
	case SchemaPackage:
		return "package"
	case SchemaIndex:
		return "index"
	case SchemaInstalled:
		return "database of what is installed"
	}
	return "file of an unknown schema"
}
