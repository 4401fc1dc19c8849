package adb

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// magic begins a file that is not compressed.
const magic = "ADB."

// Kind is the kind of a block.
type Kind uint32

const (
	BlockADB       Kind = iota // values: what is signed
	BlockSignature             // one signature of the ADB block
	BlockData                  // the content of one file
	blockExtended              // its header tells kind and length in more bytes
)

func (k Kind) String() string {
	switch k {
	case BlockADB:
		return "ADB block"
	case BlockSignature:
		return "signature block"
	case BlockData:
		return "data block"
	}
	return fmt.Sprintf("block of the unknown kind %d", uint32(k))
}

const (
	blockAlignment = 8
	maxShort       = 1<<30 - 1 // what the length of a short header can tell
	shortHeader    = 4
	longHeader     = 16
)

// Reader reads the blocks of a file, expanded: one ADB block, then signatures, then data.
type Reader struct {
	Schema Schema

	r       io.Reader
	last    Kind
	any     bool  // a block was read
	left    int64 // of the block's content
	padding int64
}

// NewReader reads the beginning of a file.
func NewReader(r io.Reader) (*Reader, error) {
	var header [8]byte
	if _, err := io.ReadFull(r, header[:]); err != nil {
		return nil, readable(err)
	}
	if string(header[:4]) != magic {
		return nil, fmt.Errorf("expected %q at the beginning, found %q", magic, header[:4])
	}
	return &Reader{Schema: Schema(binary.LittleEndian.Uint32(header[4:])), r: r}, nil
}

// readable gives the end of a file too early a name.
func readable(err error) error {
	if err == io.EOF || err == io.ErrUnexpectedEOF {
		return errors.New("unexpected end")
	}
	return err
}

// Next goes to the next block, past what was not read of the one before, and gives the
// length of its content in bytes. The error is io.EOF behind the last.
func (r *Reader) Next() (kind Kind, length int64, err error) {
	if _, err := io.Copy(io.Discard, r); err != nil {
		return 0, 0, err
	}
	if err := r.skipPadding(); err != nil {
		return 0, 0, err
	}
	var header [longHeader]byte
	if n, err := io.ReadFull(r.r, header[:shortHeader]); n == 0 && err == io.EOF {
		if !r.any {
			return 0, 0, errors.New("unexpected end")
		}
		return 0, 0, io.EOF
	} else if err != nil {
		return 0, 0, readable(err)
	}
	word := binary.LittleEndian.Uint32(header[:])
	kind, size, headerLength := Kind(word>>30), uint64(word&maxShort), uint64(shortHeader)
	if kind == blockExtended {
		if _, err := io.ReadFull(r.r, header[shortHeader:]); err != nil {
			return 0, 0, readable(err)
		}
		kind, size, headerLength = Kind(word&maxShort), binary.LittleEndian.Uint64(header[8:]), longHeader
	}
	switch {
	case kind > BlockData:
		return 0, 0, errors.New(kind.String())
	case size < headerLength || size > 1<<62:
		return 0, 0, fmt.Errorf("%s with a length of %d bytes", kind, size)
	case !r.any && kind != BlockADB:
		return 0, 0, fmt.Errorf("expected an ADB block first, found %s", kind)
	case r.any && (kind == BlockADB || kind < r.last):
		return 0, 0, fmt.Errorf("%s behind %s", kind, r.last)
	}
	r.any, r.last = true, kind
	r.left = int64(size - headerLength)
	r.padding = int64(-size & (blockAlignment - 1))
	return kind, r.left, nil
}

// skipPadding reads the zeros behind a block.
func (r *Reader) skipPadding() error {
	var zeros [blockAlignment]byte
	if _, err := io.ReadFull(r.r, zeros[:r.padding]); err != nil {
		return readable(err)
	}
	for _, b := range zeros[:r.padding] {
		if b != 0 {
			return errors.New("something stands between two blocks")
		}
	}
	r.padding = 0
	return nil
}

// Left is how much of the block's content was not read yet, in bytes.
func (r *Reader) Left() int64 { return r.left }

// Read reads the content of the block.
func (r *Reader) Read(p []byte) (int, error) {
	if r.left == 0 {
		return 0, io.EOF
	}
	if int64(len(p)) > r.left {
		p = p[:r.left]
	}
	n, err := r.r.Read(p)
	r.left -= int64(n)
	if err == io.EOF && r.left > 0 {
		err = readable(err)
	} else if err == io.EOF {
		err = nil
	}
	return n, err
}

// Writer writes the blocks of a file.
type Writer struct {
	w io.Writer
}

// NewWriter writes the beginning of a file.
func NewWriter(w io.Writer, s Schema) (*Writer, error) {
	header := binary.LittleEndian.AppendUint32([]byte(magic), uint32(s))
	_, err := w.Write(header)
	return &Writer{w}, err
}

// Block writes a block.
func (w *Writer) Block(kind Kind, content ...[]byte) error {
	var length int64
	for _, c := range content {
		length += int64(len(c))
	}
	if err := w.header(kind, length); err != nil {
		return err
	}
	for _, c := range content {
		if _, err := w.w.Write(c); err != nil {
			return err
		}
	}
	return w.pad(length)
}

// BlockFrom writes a block that has first, then length bytes of r. Fewer are an error.
func (w *Writer) BlockFrom(kind Kind, first []byte, r io.Reader, length int64) error {
	all := int64(len(first)) + length
	if err := w.header(kind, all); err != nil {
		return err
	}
	if _, err := w.w.Write(first); err != nil {
		return err
	}
	if n, err := io.CopyN(w.w, r, length); err != nil {
		if err == io.EOF {
			return fmt.Errorf("expected %d bytes, found %d", length, n)
		}
		return err
	}
	return w.pad(all)
}

func isLong(length int64) bool { return length > maxShort-shortHeader }

func (w *Writer) header(kind Kind, length int64) error {
	var header []byte
	if isLong(length) {
		header = binary.LittleEndian.AppendUint32(header, uint32(blockExtended)<<30|uint32(kind))
		header = binary.LittleEndian.AppendUint32(header, 0)
		header = binary.LittleEndian.AppendUint64(header, uint64(length+longHeader))
	} else {
		header = binary.LittleEndian.AppendUint32(header, uint32(kind)<<30|uint32(length+shortHeader))
	}
	_, err := w.w.Write(header)
	return err
}

func (w *Writer) pad(length int64) error {
	size := length + shortHeader
	if isLong(length) {
		size = length + longHeader
	}
	_, err := w.w.Write(make([]byte, -size&(blockAlignment-1)))
	return err
}
