package signature

import (
	"bytes"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// An Object is a tag or a commit of git, its bytes as git cat-file prints them. That they
// are those that the object's name stands for, the caller has made sure of.
type Object struct {
	Kind string // "tag" or "commit"
	Data []byte
}

// VerifyGit checks the signature that a tag or a commit holds (gitformat-signature(5)).
// An object without one is an *Error.
func (k *Keys) VerifyGit(object Object, o Options) (Signer, error) {
	signed, signature := object.split()
	if len(signature) == 0 {
		return Signer{}, k.refuse(nil, "the %s is not signed", object.Kind)
	}
	at := object.time()
	var s Signer
	var err error
	switch text := string(signature); {
	case strings.HasPrefix(text, armourSignature) || strings.HasPrefix(text, "-----BEGIN PGP MESSAGE-----"):
		if k.scheme != PGP {
			return Signer{}, k.refuse(nil, "the %s is signed by OpenPGP, and not by %s", object.Kind, k.scheme)
		}
		s, err = k.verifyPGP(whole(signed), signature, o)
	case strings.HasPrefix(text, "-----BEGIN SSH SIGNATURE-----"):
		if k.scheme != SSH {
			return Signer{}, k.refuse(nil, "the %s is signed by SSH, and not by %s", object.Kind, k.scheme)
		}
		s, err = k.verifySSH(whole(signed), signature, namespaceGit, at)
		s.At = at
	default:
		first, _, _ := strings.Cut(text, "\n")
		return Signer{}, k.refuse(nil, "the %s has a signature of a kind that is not read: %q", object.Kind, first)
	}
	if err == nil && s.At.After(o.Now.Add(ahead)) {
		err = k.refuse([]string{s.Key}, "it is dated %s, which is yet to come", s.At.UTC().Format(time.RFC3339))
	}
	if err != nil {
		return Signer{}, err
	}
	return s, nil
}

// Signed reports whether the object bears a signature, whoever's it is.
func (o Object) Signed() bool {
	_, made := o.split()
	return len(made) > 0
}

// Target is the object that a tag names, and the tag's own name.
func (o Object) Target() (object, kind, name string, err error) {
	for line := range bytes.Lines(o.Data) {
		key, value, _ := strings.Cut(strings.TrimSuffix(string(line), "\n"), " ")
		switch key {
		case "":
			if object == "" || kind == "" || name == "" {
				return "", "", "", fmt.Errorf("tag without object, type and name")
			}
			return object, kind, name, nil
		case "object":
			object = value
		case "type":
			kind = value
		case "tag":
			name = value
		}
	}
	return "", "", "", fmt.Errorf("tag without a message")
}

// split separates what was signed from the signature: in a commit it is a header, in a tag
// it ends the message.
func (o Object) split() (signed, signature []byte) {
	if o.Kind == "tag" {
		return splitTag(o.Data)
	}
	header, message, found := bytes.Cut(o.Data, []byte("\n\n"))
	if !found {
		return o.Data, nil
	}
	var kept, made bytes.Buffer
	in := ""
	for line := range bytes.Lines(append(slices.Clip(header), '\n')) {
		text, continued := bytes.CutPrefix(line, []byte(" "))
		if !continued {
			key, value, _ := bytes.Cut(line, []byte(" "))
			in, text = string(key), value
		}
		switch in {
		case "gpgsig":
			made.Write(text)
		case "gpgsig-sha256": // of the object's other name; no part of what was signed
		default:
			kept.Write(line)
		}
	}
	kept.WriteByte('\n')
	kept.Write(message)
	return kept.Bytes(), made.Bytes()
}

// splitTag cuts at the last line that begins a signature, as git does.
func splitTag(data []byte) (signed, signature []byte) {
	cut, at := -1, 0
	for line := range bytes.Lines(data) {
		for _, begin := range []string{armourSignature, "-----BEGIN PGP MESSAGE-----", "-----BEGIN SSH SIGNATURE-----", "-----BEGIN SIGNED MESSAGE-----"} {
			if bytes.HasPrefix(line, []byte(begin)) {
				cut = at
			}
		}
		at += len(line)
	}
	if cut < 0 {
		return data, nil
	}
	return data[:cut], data[cut:]
}

// time is when the object was made, as it says; zero when it does not.
func (o Object) time() time.Time {
	who := "committer "
	if o.Kind == "tag" {
		who = "tagger "
	}
	for line := range bytes.Lines(o.Data) {
		if len(line) == 1 {
			break
		}
		rest, found := strings.CutPrefix(string(line), who)
		if !found {
			continue
		}
		fields := strings.Fields(rest[strings.LastIndexByte(rest, '>')+1:])
		if len(fields) > 0 {
			if n, err := strconv.ParseInt(fields[0], 10, 64); err == nil {
				return time.Unix(n, 0)
			}
		}
	}
	return time.Time{}
}
