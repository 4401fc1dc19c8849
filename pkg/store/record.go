package store

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
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

// record is the file of one action. Sum is the digest of Body as it stands there.
type record struct {
	Sum  Digest          `json:"sum"`
	Body json.RawMessage `json:"body"`
}

type recordBody struct {
	Action ActionID        `json:"action"`
	Blobs  []Digest        `json:"blobs,omitempty"` // those of the store that Value names
	Value  json.RawMessage `json:"value"`
}

var digestText = regexp.MustCompile(`"sha256:[0-9a-f]{64}"`)

// Remember keeps value, as JSON, as what the action gave. Every blob of the store
// that value names (a JSON string "sha256:...") is on the disk before the record
// is. A record that is there already is replaced.
func (s *Store) Remember(id ActionID, value any) error {
	path, err := s.recordPath(id)
	if err != nil {
		return err
	}
	data, err := json.Marshal(value)
	if err != nil {
		return fmt.Errorf("remember action %s: %v", id, err)
	}
	body := recordBody{Action: id, Value: data}
	for _, match := range digestText.FindAll(data, -1) {
		d := Digest(bytes.Trim(match, `"`))
		if !slices.Contains(body.Blobs, d) && s.Has(d) {
			body.Blobs = append(body.Blobs, d)
		}
	}
	slices.Sort(body.Blobs)
	if err := s.syncDirty(); err != nil {
		return s.fault("remember action", err)
	}
	raw, err := json.Marshal(body)
	if err != nil {
		return fmt.Errorf("remember action %s: %v", id, err)
	}
	file, err := json.Marshal(record{Sum: DigestOf(raw), Body: raw})
	if err != nil {
		return fmt.Errorf("remember action %s: %v", id, err)
	}
	if err := os.Mkdir(filepath.Dir(path), 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
		return s.fault("remember action", err)
	}
	release, err := s.shared()
	if err != nil {
		return err
	}
	defer release()
	if err := s.use("record " + string(id)); err != nil {
		return err
	}
	if err := s.writeFile(path, append(file, '\n'), 0o444); err != nil {
		return s.fault("remember action", err)
	}
	if err := syncDir(filepath.Dir(path)); err != nil {
		return s.fault("remember action", err)
	}
	return nil
}

// syncDirty puts the names of all blobs that were put or seen on the disk.
func (s *Store) syncDirty() error {
	s.dirty.Lock()
	defer s.dirty.Unlock()
	for dir := range s.dirty.dirs {
		if err := syncDir(dir); err != nil {
			return err
		}
		delete(s.dirty.dirs, dir)
	}
	return nil
}

// Recall gives what Remember kept for the action, if it is known and every blob
// that it names is still there. A record of another shape than value (of an older
// tarn) is not known. A damaged record is moved aside and is a *CorruptError.
func (s *Store) Recall(id ActionID, value any) (bool, error) {
	body, err := s.readRecord(id)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	for _, d := range body.Blobs {
		if !s.Has(d) {
			return false, nil
		}
	}
	if err := json.Unmarshal(body.Value, value); err != nil {
		return false, nil
	}
	return true, nil
}

// readRecord reads and checks a record; an absent one is fs.ErrNotExist.
func (s *Store) readRecord(id ActionID) (*recordBody, error) {
	path, err := s.recordPath(id)
	if err != nil {
		return nil, err
	}
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fs.ErrNotExist
	}
	if err != nil {
		return nil, s.fault("recall action", err)
	}
	defer f.Close()
	data, err := io.ReadAll(f)
	if err != nil {
		return nil, s.fault("recall action "+string(id), err)
	}
	body, why := decodeRecord(id, data)
	if why != "" {
		return nil, s.moveAside("record", string(id), path, f, why)
	}
	touch(path)
	return body, nil
}

// decodeRecord checks the checksum before anything inside is believed.
func decodeRecord(id ActionID, data []byte) (_ *recordBody, why string) {
	var r record
	if err := json.Unmarshal(data, &r); err != nil {
		return nil, "it is not a record: " + err.Error()
	}
	if got := DigestOf(r.Body); got != r.Sum {
		return nil, fmt.Sprintf("its bytes hash to %s, its checksum says %s", got, r.Sum)
	}
	var body recordBody
	if err := json.Unmarshal(r.Body, &body); err != nil {
		return nil, "it is not a record: " + err.Error()
	}
	if body.Action != id {
		return nil, fmt.Sprintf("it is the record of action %s", body.Action)
	}
	return &body, ""
}
