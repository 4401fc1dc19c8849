package store

import (
	"bytes"
	"crypto/sha256"
	"encoding"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// ActionID names an action by all that decides its outcome: 64 lower-case
// hexadecimal digits of a SHA-256, made by Hash.Sum.
type ActionID string

func (s *Store) recordPath(id ActionID) (string, error) {
	if !isHex(string(id)) {
		return "", fmt.Errorf("action %q is not 64 hexadecimal digits", string(id))
	}
	return filepath.Join(s.dir, "records", string(id)[:2], string(id)), nil
}

// record is what the store keeps of one action. Its file is a few lines of text and
// then the value as it is, so that reading it is one hash and one decoding:
//
//	tarn record 1 SHA-256-OF-THE-REST
//	action ID
//	blobs SHA-256 SHA-256 ...
//	json
//	VALUE
//
// The last line is "binary" where the value's own form was kept.
type record struct {
	action ActionID
	blobs  []Digest // those of the store that the value names, in order
	form   string
	value  []byte
}

const (
	recordHead = "tarn record 1 "
	// recordStart is where that begins which the checksum is of.
	recordStart = len(recordHead) + 2*sha256.Size + 1

	formJSON   = "json"
	formBinary = "binary"
)

// BlobNamer is what a value is that says itself which blobs of the store it names. Of
// other values Remember finds them in their JSON; in what a value that is an
// encoding.BinaryMarshaler makes of itself it finds none.
type BlobNamer interface{ Blobs() []Digest }

// Remember keeps value as what the action gave. A value that is an
// encoding.BinaryAppender or an encoding.BinaryMarshaler is kept in that form, any
// other as JSON. Every blob of the store that it names (a JSON string "sha256:...", or
// what its method Blobs gives) is on the disk before the record is, and the record is
// on the disk when Remember is done. A record that is there already is replaced.
func (s *Store) Remember(id ActionID, value any) error {
	if err := s.remember(id, value, true); err != nil {
		return err
	}
	path, err := s.recordPath(id)
	if err != nil {
		return err
	}
	s.markDirty(filepath.Dir(path))
	return s.fault("remember action", s.syncDirty())
}

// RememberUnsynced is Remember for what is made again in a moment: it waits for no disk.
// Other processes know the record at once, and it outlives this one however that ends;
// but a power cut of the next seconds may lose it. Then the action is not known.
func (s *Store) RememberUnsynced(id ActionID, value any) error { return s.remember(id, value, false) }

func (s *Store) remember(id ActionID, value any, sync bool) error {
	path, err := s.recordPath(id)
	if err != nil {
		return err
	}
	file, err := s.encodeRecord(id, value)
	if err != nil {
		return err
	}
	if sync {
		if err := s.syncDirty(); err != nil {
			return s.fault("remember action", err)
		}
	}
	tmp, err := s.writeTemp(file, 0o444, sync)
	if err == nil {
		err = s.nameRecord(id, tmp, path)
	}
	return s.fault("remember action", err)
}

// nameRecord gives the file of a record its name.
func (s *Store) nameRecord(id ActionID, tmp, path string) (err error) {
	defer func() {
		if err != nil {
			os.Remove(tmp)
		}
	}()
	release, err := s.shared()
	if err != nil {
		return err
	}
	defer release()
	if err := s.use("record " + string(id)); err != nil {
		return err
	}
	return s.renameInto(tmp, path)
}

// encodeRecord makes the file of a record, and notes the use of the blobs that it names.
func (s *Store) encodeRecord(id ActionID, value any) ([]byte, error) {
	r := record{action: id, form: formBinary}
	var err error
	appender, appends := value.(encoding.BinaryAppender)
	if !appends {
		if marshaler, ok := value.(encoding.BinaryMarshaler); ok {
			r.value, err = marshaler.MarshalBinary()
		} else {
			r.form = formJSON
			r.value, err = json.Marshal(value)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("remember action %s: %v", id, err)
	}
	var named []Digest
	if namer, ok := value.(BlobNamer); ok {
		named = slices.Clone(namer.Blobs())
	} else if r.form == formJSON {
		named = digestsIn(r.value)
	}
	if len(named) > 0 {
		slices.Sort(named)
		if r.blobs, err = s.present(slices.Compact(named)); err != nil {
			return nil, err
		}
	}
	file := r.start()
	if appends {
		if file, err = appender.AppendBinary(file); err != nil {
			return nil, fmt.Errorf("remember action %s: %v", id, err)
		}
	} else {
		file = append(file, r.value...)
	}
	return finishRecord(file), nil
}

// digestsIn finds the digests that stand in JSON as strings of their own.
func digestsIn(data []byte) []Digest {
	var found []Digest
	for {
		_, rest, ok := bytes.Cut(data, []byte(`"`+digestPrefix))
		if !ok {
			return found
		}
		data = rest
		if len(rest) <= 2*sha256.Size || rest[2*sha256.Size] != '"' {
			continue
		}
		if d := Digest(digestPrefix + string(rest[:2*sha256.Size])); d.valid() {
			found = append(found, d)
		}
	}
}

// start is all of the record's file that stands before the value, without the checksum.
func (r *record) start() []byte {
	b := make([]byte, 0, recordStart+len("action \nblobs\nbinary\n")+(1+len(r.blobs))*(2*sha256.Size+1)+len(r.value))
	b = append(b, recordHead...)
	b = append(b[:recordStart-1], '\n')
	b = append(b, "action "...)
	b = append(b, r.action...)
	b = append(b, "\nblobs"...)
	for _, d := range r.blobs {
		b = append(b, ' ')
		b = append(b, d.Hex()...)
	}
	b = append(b, '\n')
	b = append(b, r.form...)
	return append(b, '\n')
}

// finishRecord puts the checksum into the file of a record.
func finishRecord(file []byte) []byte {
	sum := sha256.Sum256(file[recordStart:])
	hex.Encode(file[len(recordHead):], sum[:])
	return file
}

// isLostRecord reports whether data is what a power cut leaves of a record that nobody
// waited for: file systems that choose a file's place late (ext4, see auto_da_alloc in the
// kernel's admin-guide/ext4, XFS, btrfs) may have its name on the disk and nothing in it.
func isLostRecord(data []byte) bool { return len(data) == 0 }

// isOldRecord reports whether data is a record as tarn kept them before 2026-12: all of
// it JSON. Nothing is known of its action.
func isOldRecord(data []byte) bool { return bytes.HasPrefix(data, []byte(`{"sum":"sha256:`)) }

// decodeRecord checks the checksum before anything inside is believed. The record's
// value is a part of data.
func decodeRecord(id ActionID, data []byte) (_ record, why string) {
	if len(data) < recordStart || string(data[:len(recordHead)]) != recordHead || data[recordStart-1] != '\n' {
		return record{}, "it is not a record"
	}
	want := Digest(digestPrefix + string(data[len(recordHead):recordStart-1]))
	if !want.valid() {
		return record{}, "it is not a record"
	}
	if got := DigestOf(data[recordStart:]); got != want {
		return record{}, fmt.Sprintf("its bytes hash to %s, its checksum says %s", got, want)
	}
	action, rest, _ := bytes.Cut(data[recordStart:], []byte{'\n'})
	blobs, rest, _ := bytes.Cut(rest, []byte{'\n'})
	form, value, ended := bytes.Cut(rest, []byte{'\n'})
	r := record{action: id, form: string(form), value: value}
	if of, ok := strings.CutPrefix(string(action), "action "); !ok || of != string(id) {
		return record{}, fmt.Sprintf("it is the record of %s", action)
	}
	names := strings.Split(string(blobs), " ")
	if names[0] != "blobs" || !ended || r.form != formJSON && r.form != formBinary {
		return record{}, "it is not a record"
	}
	for _, name := range names[1:] {
		if !isHex(name) {
			return record{}, fmt.Sprintf("it names a blob %q", name)
		}
		r.blobs = append(r.blobs, Digest(digestPrefix+name))
	}
	return r, ""
}

// Recall gives what Remember kept for the action, if it is known and every blob
// that it names is still there. A record of another shape than value (of an older
// tarn) is not known. A damaged record is moved aside and is a *CorruptError.
//
// A value that was kept in its binary form is given to its method UnmarshalBinary, which
// may keep the bytes that it is given: nobody else has them.
func (s *Store) Recall(id ActionID, value any) (bool, error) {
	r, err := s.readRecord(id)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	if len(r.blobs) > 0 {
		if there, err := s.present(r.blobs); err != nil || len(there) < len(r.blobs) {
			return false, err
		}
	}
	if r.form == formJSON {
		return json.Unmarshal(r.value, value) == nil, nil
	}
	v, ok := value.(encoding.BinaryUnmarshaler)
	return ok && v.UnmarshalBinary(r.value) == nil, nil
}

// readRecord reads and checks a record; an absent one is fs.ErrNotExist, and so is one
// of the old form, or one that a power cut took.
func (s *Store) readRecord(id ActionID) (record, error) {
	path, err := s.recordPath(id)
	if err != nil {
		return record{}, err
	}
	fd, err := openat(unix.AT_FDCWD, path, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return record{}, fs.ErrNotExist
	}
	if err != nil {
		return record{}, s.fault("recall action "+string(id), &fs.PathError{Op: "open", Path: path, Err: err})
	}
	defer unix.Close(fd)
	data, st, err := readAll(fd)
	if err != nil {
		return record{}, s.fault("recall action "+string(id), &fs.PathError{Op: "read", Path: path, Err: err})
	}
	if isLostRecord(data) || isOldRecord(data) {
		return record{}, fs.ErrNotExist
	}
	r, why := decodeRecord(id, data)
	if why != "" {
		return record{}, s.moveAside("record", string(id), path, fd, why)
	}
	touch(path, &st)
	return r, nil
}

// readAll reads an open file in as few system calls as there can be: os.ReadFile takes
// twice as many, which is much of what a small record costs.
func readAll(fd int) ([]byte, unix.Stat_t, error) {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return nil, st, err
	}
	data := make([]byte, st.Size)
	for n := 0; n < len(data); {
		got, err := unix.Read(fd, data[n:])
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return nil, st, err
		}
		if got == 0 {
			data = data[:n] // it was cut while it was read: the checksum will tell
		}
		n += got
	}
	return data, st, nil
}
