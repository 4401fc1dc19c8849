package repo

import (
	"context"
	"errors"
	"io"
	"io/fs"
)

// Storage is where the files of a repository lie, for reading. Package storagetest
// holds what every storage promises.
type Storage interface {
	// Open opens a file by its path below the repository, e.g. x86_64/APKINDEX.tar.gz.
	// Where the file still has the version known, of an Object that Open gave before, it
	// may give an Object that is Unchanged. A file that is not there is fs.ErrNotExist; no
	// path leads out of the repository.
	Open(ctx context.Context, name, known string) (*Object, error)
}

// Object is a file of a storage, as it was when it was opened: what takes its place
// later does not change what is read.
type Object struct {
	io.ReadCloser
	// Version is what the storage calls these bytes of this file, to ask later whether it
	// has others; "" when it cannot tell.
	Version string
	// Unchanged says that the file has the version that was known. There are no bytes.
	Unchanged bool
}

// Lister is a storage that tells what it has.
type Lister interface {
	// List gives the names of what lies directly in a folder, sorted, those of folders
	// with a slash at the end. A folder that is not there has nothing in it.
	List(ctx context.Context, dir string) ([]string, error)
}

// Writer changes the files of a storage. It asks for no rename, so that a storage of
// objects can be one.
type Writer interface {
	// Put makes a file of content, in one moment: who reads sees what was there, or all of
	// it, and it survives whatever happens to the machine once Put has returned. When when
	// does not hold the error is ErrChanged, and nothing is changed.
	Put(ctx context.Context, name string, content io.Reader, when Condition) error
	// Remove removes a file. One that is not there is no error.
	Remove(ctx context.Context, name string) error
	// Lock waits until no other writer holds the lock, in this process or another, and
	// holds it until unlock is called or the process ends.
	Lock(ctx context.Context) (unlock func(), err error)
}

// WritableStorage is a storage that can be published to.
type WritableStorage interface {
	Storage
	Lister
	Writer
}

// Condition says what has to be there for Put to replace it. The zero value is whatever
// there is.
type Condition struct {
	// Absent: there must be no file of that name.
	Absent bool
	// Version that the file must have, of an Object; "" is any.
	Version string
}

// ErrChanged says that a file is not the one that was to be replaced.
var ErrChanged = errors.New("it was changed meanwhile")

// missingError says in words of its own that something is not there. It is fs.ErrNotExist.
type missingError string

func (e missingError) Error() string        { return string(e) }
func (e missingError) Is(target error) bool { return target == fs.ErrNotExist }
