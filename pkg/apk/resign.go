package apk

import (
	"archive/tar"
	"bytes"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
)

// AddSignatures writes the package that r has with a signature of each key. Signatures
// by other keys stay, those by the same keys are replaced, and all else stays byte for
// byte (of version 3, below the compression): the package keeps its checksum. It signs
// only what holds: the data must be the one that the control section names. modTime is
// that of the signatures' files.
func AddSignatures(w io.Writer, r io.ReaderAt, size int64, modTime time.Time, keys ...Signer) error {
	return resign(w, r, size, modTime, true, keys)
}

// ReplaceSignatures is AddSignatures, but signatures by other keys do not stay.
func ReplaceSignatures(w io.Writer, r io.ReaderAt, size int64, modTime time.Time, keys ...Signer) error {
	return resign(w, r, size, modTime, false, keys)
}

func resign(w io.Writer, r io.ReaderAt, size int64, modTime time.Time, keep bool, keys []Signer) error {
	p, err := ReadPackage(r, size, Limits{})
	if err != nil {
		return fmt.Errorf("sign: %w", err)
	}
	if err := p.VerifyData(); err != nil {
		return fmt.Errorf("sign: %w", err)
	}
	if p.v3 != nil {
		old := p.v3.signatures
		if !keep {
			old = nil
		}
		if err := signPackage3(w, p, keys, old); err != nil {
			return fmt.Errorf("sign %s: %w", p.Info.FullName(), err)
		}
		return nil
	}
	var old []Signature
	if keep {
		old = p.Signatures
	}
	signatures, err := mergeSignatures(old, keys, p.control.sha256, modTime)
	if err != nil {
		return fmt.Errorf("sign %s: %w", p.Info.FullName(), err)
	}
	if _, err := w.Write(signatures); err != nil {
		return err
	}
	_, err = io.Copy(w, io.NewSectionReader(r, p.SignatureSize, size-p.SignatureSize))
	return err
}

// AddIndexSignatures writes an APKINDEX.tar.gz or a Packages.adb with a signature of each
// key. Signatures by other keys stay, those by the same keys are replaced, and so does
// the rest of the index, byte for byte. It signs only what can be read.
func AddIndexSignatures(w io.Writer, data []byte, keys ...Signer) error {
	return resignIndex(w, data, true, keys)
}

// ReplaceIndexSignatures is AddIndexSignatures, but signatures by other keys do not stay.
func ReplaceIndexSignatures(w io.Writer, data []byte, keys ...Signer) error {
	return resignIndex(w, data, false, keys)
}

func resignIndex(w io.Writer, data []byte, keep bool, keys []Signer) error {
	x, err := ReadIndex(bytes.NewReader(data), Limits{})
	if err != nil {
		return fmt.Errorf("sign index: %w", err)
	}
	if x.v3 != nil {
		old := x.v3.signatures
		if !keep {
			old = nil
		}
		if err := x.v3.write(w, keys, old); err != nil {
			return fmt.Errorf("sign index: %w", err)
		}
		return nil
	}
	_, rest, err := splitIndex(data, Limits{}.orDefault())
	if err != nil {
		return fmt.Errorf("sign index: %w", err)
	}
	d, err := digest(bytes.NewReader(rest), nil)
	if err != nil {
		return err
	}
	if !keep {
		x.Signatures = nil
	}
	signatures, err := mergeSignatures(x.Signatures, keys, d.sha256, time.Time{})
	if err != nil {
		return fmt.Errorf("sign index: %w", err)
	}
	if _, err := w.Write(signatures); err != nil {
		return err
	}
	_, err = w.Write(rest)
	return err
}

// WithoutSignatures is an APKINDEX.tar.gz or a Packages.adb without the signatures that
// it bears.
func WithoutSignatures(data []byte) ([]byte, error) {
	if isV3(data) {
		parts, err := splitIndex3(data, Limits{}.orDefault())
		if err != nil {
			return nil, err
		}
		var b bytes.Buffer
		err = parts.write(&b, nil, nil)
		return b.Bytes(), err
	}
	_, rest, err := splitIndex(data, Limits{}.orDefault())
	return rest, err
}

// mergeSignatures makes a section of signatures: those of keys, then those of old that
// are by other keys.
func mergeSignatures(old []Signature, keys []Signer, digest [32]byte, modTime time.Time) ([]byte, error) {
	files, err := signatureFiles(keys, digest)
	if err != nil {
		return nil, err
	}
	for _, s := range old {
		name := signaturePrefix + s.Algorithm + "." + s.KeyName
		replaced := slices.ContainsFunc(keys, func(k Signer) bool { return k.KeyName() == s.KeyName })
		there := slices.ContainsFunc(files, func(f section) bool { return f.name == name })
		if !replaced && !there {
			files = append(files, section{name, 0o644, s.Value})
		}
	}
	return smallSection(files, modTime, false)
}

// signatureFiles makes the file of a signature of each key.
func signatureFiles(keys []Signer, digest [32]byte) ([]section, error) {
	var files []section
	for _, key := range keys {
		name := key.KeyName()
		if !strings.HasSuffix(name, ".rsa.pub") || strings.ContainsAny(name, "/\n\x00") {
			return nil, fmt.Errorf("key %q: expected a name that ends in .rsa.pub", name)
		}
		value, err := key.Sign(digest[:])
		if err != nil {
			return nil, fmt.Errorf("key %s: %w", name, err)
		}
		files = append(files, section{signaturePrefix + "RSA256." + name, 0o644, value})
	}
	return files, nil
}

// indexTime is when an index says that it was made: the time of its text in the archive,
// as apk-tools writes it. It is zero where nothing is said, as in melange's.
func indexTime(section []byte) time.Time {
	for t := tar.NewReader(bytes.NewReader(section)); ; {
		h, err := t.Next()
		if err != nil {
			return time.Time{}
		}
		if h.Name == indexName && h.ModTime.Unix() > 0 {
			return time.Unix(h.ModTime.Unix(), 0).UTC()
		}
	}
}
