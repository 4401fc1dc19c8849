package apk

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/tarn-build/tarn/pkg/adb"
)

// The fields of the objects of version 3, by their numbers (src/apk_adb.h of apk-tools).
const (
	depName = iota + 1
	depVersion
	depMatch
)

const (
	infoName = iota + 1
	infoVersion
	infoHashes
	infoDescription
	infoArch
	infoLicense
	infoOrigin
	infoMaintainer
	infoURL
	infoCommit
	infoBuildTime
	infoInstalledSize
	infoFileSize
	infoProviderPriority
	infoDepends
	infoProvides
	infoReplaces
	infoInstallIf
	infoRecommends
	infoLayer
	infoTags
	infoFields = iota
)

const (
	packageInfo = iota + 1
	packagePaths
	packageScripts
	packageTriggers
	packageReplacesPriority
	packageFields = iota
)

const (
	indexDescription = iota + 1
	indexPackages
	indexNames
	indexFields = iota
)

const (
	dirName = iota + 1
	dirACL
	dirFiles
)

const (
	fileName = iota + 1
	fileACL
	fileSize
	fileTime
	fileHash
	fileTarget
)

const (
	aclMode = iota + 1
	aclUser
	aclGroup
	aclXattrs
)

// scriptFields are the scripts in the order of their fields.
var scriptFields = []string{".trigger", ".pre-install", ".post-install", ".pre-deinstall", ".post-deinstall", ".pre-upgrade", ".post-upgrade"}

// What a version is compared with, in bits.
const (
	matchEqual    = 1
	matchLess     = 2
	matchGreater  = 4
	matchFuzzy    = 8
	matchConflict = 16
	matchAny      = matchEqual | matchLess | matchGreater
)

// matches are the bits of each operator.
var matches = [...]uint64{
	Any: matchAny, Equal: matchEqual, Less: matchLess, LessEqual: matchLess | matchEqual,
	Greater: matchGreater, GreaterEqual: matchGreater | matchEqual, Fuzzy: matchFuzzy | matchEqual,
	LessFuzzy: matchLess | matchFuzzy | matchEqual, GreaterFuzzy: matchGreater | matchFuzzy | matchEqual,
}

func operatorOf(match uint64) (Op, bool) {
	if match == matchFuzzy {
		return Fuzzy, true
	}
	for op, bits := range matches {
		if bits == match {
			return Op(op), true
		}
	}
	return Any, false
}

// values reads the values of an ADB block. The first mistake stays, and all that is
// read after it is nothing. What many packages share is read once, so that a block costs
// no more than its length.
type values struct {
	data *adb.Data
	err  error

	// By the place of an object or array, what was read there: its number from 1.
	dependencyAt, listAt []int32
	dependencies         []Dependency
	lists                [][]Dependency
	words                map[adb.Value][]string

	// What many entries need is allocated for many at once.
	slab     []Dependency
	licenses []string

	left int // bytes of texts that may still be looked at
}

// maxRepeated is how many times the length of a block all texts of its entries may be
// together: an honest writer has a text once, and few of them are shared by many.
const maxRepeated = 16

func newValues(block []byte) (*values, error) {
	data, err := adb.NewData(block)
	if err != nil {
		return nil, err
	}
	places := len(block)/4 + 1
	return &values{data: data, dependencyAt: make([]int32, places), listAt: make([]int32, places), words: map[adb.Value][]string{}, left: maxRepeated*len(block) + 1<<20}, nil
}

func (v *values) wrong(err error) {
	if v.err == nil && err != nil {
		v.err = err
	}
}

func (v *values) wrongAt(what string, err error) { v.wrong(fmt.Errorf("%s: %v", what, err)) }

func (v *values) text(what string, from adb.Value) string {
	if from == adb.Null || v.err != nil {
		return ""
	}
	s, err := v.data.Blob(from)
	if err != nil {
		v.wrongAt(what, err)
	}
	return s
}

func (v *values) object(what string, from adb.Value) adb.Slots {
	if from == adb.Null || v.err != nil {
		return adb.Slots{}
	}
	o, err := v.data.Object(from)
	if err != nil {
		v.wrongAt(what, err)
	}
	return o
}

func (v *values) array(what string, from adb.Value) adb.Slots {
	if from == adb.Null || v.err != nil {
		return adb.Slots{}
	}
	a, err := v.data.Array(from)
	if err != nil {
		v.wrongAt(what, err)
	}
	return a
}

// item is a value of an array, of which none is null.
func (v *values) item(what string, array adb.Slots, i int) adb.Value {
	value := array.At(i)
	if value == adb.Null && v.err == nil {
		v.wrongAt(what, fmt.Errorf("value %d of an array is null", i))
	}
	return value
}

func (v *values) number(what string, from adb.Value) int64 {
	if from == adb.Null || v.err != nil {
		return 0
	}
	n, err := v.data.Int(from)
	if err == nil && n > 1<<63-1 {
		err = fmt.Errorf("%d does not fit in 63 bits", n)
	}
	if err != nil {
		v.wrongAt(what, err)
		return 0
	}
	return int64(n)
}

// texts reads an array of texts.
func (v *values) texts(what string, from adb.Value) []string {
	if from == adb.Null {
		return nil
	}
	if all, found := v.words[from]; found {
		return all
	}
	array := v.array(what, from)
	var all []string
	for i := range array.Len() {
		all = append(all, v.text(what, v.item(what, array, i+1)))
	}
	v.words[from] = all
	return all
}

// tags reads an array of words.
func (v *values) tags(from adb.Value) []string {
	_, known := v.words[from]
	all := v.texts("tags", from)
	for i := 0; i < len(all) && !known; i++ {
		if !isPlain(all[i]) {
			v.wrongAt("tags", fmt.Errorf("%q has a space or a control character", shorten(all[i])))
		}
	}
	return all
}

// list reads an array of dependencies.
func (v *values) list(what string, from adb.Value) []Dependency {
	array := v.array(what, from)
	if array.Len() == 0 {
		return nil
	}
	known := &v.listAt[from.Place()/4]
	if *known > 0 {
		return v.lists[*known-1]
	}
	n := array.Len()
	if cap(v.slab)-len(v.slab) < n {
		v.slab = make([]Dependency, 0, max(n, 8*slab))
	}
	begin := len(v.slab)
	for i := range n {
		v.slab = append(v.slab, v.dependency(what, v.item(what, array, i+1)))
	}
	all := v.slab[begin:len(v.slab):len(v.slab)]
	v.lists = append(v.lists, all)
	*known = int32(len(v.lists))
	return all
}

func (v *values) dependency(what string, from adb.Value) Dependency {
	o := v.object(what, from)
	if o.Len() == 0 {
		v.wrongAt(what, errors.New("a dependency without a name"))
		return Dependency{}
	}
	known := &v.dependencyAt[from.Place()/4]
	if *known > 0 {
		return v.dependencies[*known-1]
	}
	d := Dependency{Name: v.text(what, o.At(depName)), Version: Version(v.text(what, o.At(depVersion)))}
	match := uint64(v.number(what, o.At(depMatch)))
	d.Conflict = match&matchConflict != 0
	match &^= matchConflict
	if d.Version != "" {
		if match == 0 {
			match = matchEqual
		}
		op, valid := operatorOf(match)
		if d.Op = op; !valid || op == Any {
			v.wrongAt(what, fmt.Errorf("%q has the unknown operator %d", shorten(d.Name), match))
		}
	}
	if v.err != nil {
		return Dependency{}
	}
	if err := d.check(); err != nil {
		v.wrongAt(what, err)
	}
	v.dependencies = append(v.dependencies, d)
	*known = int32(len(v.dependencies))
	return d
}

// maxCommit is how long the name of a commit may be, in bytes.
const maxCommit = 64

// info reads what a package tells of itself; hashes are the bytes of its identity.
func (v *values) info(from adb.Value, e *Entry) (hashes string) {
	o := v.object("info", from)
	e.Name = v.text("name", o.At(infoName))
	e.Version = Version(v.text("version", o.At(infoVersion)))
	hashes = v.text("hashes", o.At(infoHashes))
	e.Description = v.text("description", o.At(infoDescription))
	e.Arch = Arch(v.text("arch", o.At(infoArch)))
	if license := v.text("license", o.At(infoLicense)); license != "" {
		if len(v.licenses) == 0 {
			v.licenses = make([]string, slab)
		}
		v.licenses[0] = license
		e.Licenses, v.licenses = v.licenses[:1:1], v.licenses[1:]
	}
	e.Origin = v.text("origin", o.At(infoOrigin))
	e.Maintainer = v.text("maintainer", o.At(infoMaintainer))
	e.URL = v.text("url", o.At(infoURL))
	if commit := v.text("repo-commit", o.At(infoCommit)); len(commit) <= maxCommit {
		e.Commit = hex.EncodeToString([]byte(commit))
	} else {
		v.wrong(fmt.Errorf("repo-commit: %d bytes", len(commit)))
	}
	e.BuildDate = v.number("build-time", o.At(infoBuildTime))
	e.Size = v.number("installed-size", o.At(infoInstalledSize))
	e.FileSize = v.number("file-size", o.At(infoFileSize))
	e.ProviderPriority = v.number("provider-priority", o.At(infoProviderPriority))
	e.Depends = v.list("depends", o.At(infoDepends))
	e.Provides = v.list("provides", o.At(infoProvides))
	e.Replaces = v.list("replaces", o.At(infoReplaces))
	e.InstallIf = v.list("install-if", o.At(infoInstallIf))
	e.Recommends = v.list("recommends", o.At(infoRecommends))
	e.Layer = v.number("layer", o.At(infoLayer))
	e.Tags = v.tags(o.At(infoTags))
	v.left -= len(e.Name) + len(e.Version) + len(e.Description) + len(e.Arch) + len(e.License()) + len(e.Origin) + len(e.Maintainer) + len(e.URL)
	if v.err == nil && v.left < 0 {
		v.wrong(errors.New("long texts that stand there again and again"))
	}
	if v.err != nil {
		return ""
	}
	if hasBreak(e.Description) {
		e.Description = strings.Join(strings.FieldsFunc(e.Description, func(r rune) bool { return r == '\n' || r == '\r' }), " ")
	}
	v.wrong(e.Info.checkRead())
	return hashes
}

// checkRead refuses in what was read what would not survive as lines and words. Lists,
// which many entries may share, were looked at when they were read.
func (i *Info) checkRead() error {
	if err := checkName(i.Name); err != nil {
		return err
	}
	if err := checkVersionText(i.Version); err != nil {
		return err
	}
	for _, s := range [...]string{string(i.Arch), i.Origin, i.Description, i.URL, i.Maintainer, i.License()} {
		if hasBreak(s) {
			return fmt.Errorf("%q has a line break or a zero byte", shorten(s))
		}
	}
	return nil
}

// hasBreak says that s has a line break or a zero byte.
func hasBreak(s string) bool {
	for i := range len(s) {
		if c := s[i]; c <= '\r' && (c == '\n' || c == '\r' || c == 0) {
			return true
		}
	}
	return false
}

// identity takes the hashes of an index's entry.
func (e *Entry) identity(hashes string) error {
	switch len(hashes) {
	case len(e.Checksum):
		copy(e.Checksum[:], hashes)
	case len(e.SHA256):
		copy(e.SHA256[:], hashes)
		copy(e.Checksum[:], hashes)
	case 0:
		return errors.New("it has no checksum")
	default:
		return fmt.Errorf("a checksum of %d bytes, expected one of 20 or 32", len(hashes))
	}
	return nil
}

// builder makes the values of version 3.
type builder struct {
	adb.Builder
}

func (b *builder) number(n int64) adb.Value {
	if n <= 0 {
		return adb.Null
	}
	return b.Int(uint64(n))
}

func (b *builder) texts(all []string) adb.Value {
	var items []adb.Value
	for _, s := range all {
		if s != "" {
			items = append(items, b.Blob(s))
		}
	}
	return b.Array(items)
}

// list adds dependencies in the order that apk-tools gives them, each once.
func (b *builder) list(all []Dependency) adb.Value {
	sorted := slices.Clone(all)
	slices.SortFunc(sorted, func(a, b Dependency) int {
		return cmp.Or(cmp.Compare(a.Name, b.Name), a.Version.Compare(b.Version), cmp.Compare(a.Version, b.Version), cmp.Compare(matchOf(a), matchOf(b)))
	})
	sorted = slices.Compact(sorted)
	items := make([]adb.Value, len(sorted))
	for i, d := range sorted {
		items[i] = b.Object([]adb.Value{b.Blob(d.Name), b.Blob(string(d.Version)), b.match(d)})
	}
	return b.Array(items)
}

func matchOf(d Dependency) uint64 {
	match := matches[d.Op]
	if d.Conflict {
		match |= matchConflict
	}
	return match
}

// match leaves out what a reader takes for granted.
func (b *builder) match(d Dependency) adb.Value {
	if !d.Conflict && (d.Op == Any || d.Op == Equal) {
		return adb.Null
	}
	return b.Int(matchOf(d))
}

// info adds what a package tells of itself. What version 3 has no field for is left
// out: Packager, DataHash, a Commit that is no hexadecimal, a priority below 0 (which
// counts as none for apk-tools).
func (b *builder) info(i *Info, hashes adb.Value, size int64) adb.Value {
	commit, err := hex.DecodeString(i.Commit)
	if err != nil || len(commit) > maxCommit {
		commit = nil
	}
	fields := make([]adb.Value, infoFields)
	set := func(field int, v adb.Value) { fields[field-1] = v }
	set(infoName, b.Blob(i.Name))
	set(infoVersion, b.Blob(string(i.Version)))
	set(infoHashes, hashes)
	set(infoDescription, b.Blob(i.Description))
	set(infoArch, b.Blob(string(i.Arch)))
	set(infoLicense, b.Blob(i.License()))
	set(infoOrigin, b.Blob(i.Origin))
	set(infoMaintainer, b.Blob(i.Maintainer))
	set(infoURL, b.Blob(i.URL))
	set(infoCommit, b.Blob(string(commit)))
	set(infoBuildTime, b.number(i.BuildDate))
	set(infoInstalledSize, b.number(i.Size))
	set(infoFileSize, b.number(size))
	set(infoProviderPriority, b.number(i.ProviderPriority))
	set(infoDepends, b.list(i.Depends))
	set(infoProvides, b.list(i.Provides))
	set(infoReplaces, b.list(i.Replaces))
	set(infoInstallIf, b.list(i.InstallIf))
	set(infoRecommends, b.list(i.Recommends))
	set(infoLayer, b.number(i.Layer))
	set(infoTags, b.texts(i.Tags))
	return b.Object(fields)
}

// signed3 is what the signatures of version 3 are over.
type signed3 struct {
	schema adb.Schema
	block  []byte // the content of the ADB block
}

// sign makes a signature block of each key, behind those of old that are by others.
func (s signed3) sign(keys []Signer, old []adb.Signature) ([][]byte, error) {
	var kept, all [][]byte
	replaced := map[adb.KeyID]bool{}
	for _, key := range keys {
		able, ok := key.(Signer3)
		if !ok {
			return nil, fmt.Errorf("key %s makes no signatures of version 3", key.KeyName())
		}
		block, err := adb.Sign(s.schema, s.block, able.PublicKey(), able.SignSHA512)
		if err != nil {
			return nil, fmt.Errorf("key %s: %w", key.KeyName(), err)
		}
		replaced[block.Key] = true
		all = append(all, block.Bytes())
	}
	for _, block := range old {
		if !replaced[block.Key] {
			kept = append(kept, block.Bytes())
		}
	}
	if len(kept)+len(all) > maxSignatures {
		return nil, fmt.Errorf("more than %d signatures", maxSignatures)
	}
	return append(kept, all...), nil
}

// verify finds a signature that holds and gives the name of its key.
func (s signed3) verify(what string, blocks []adb.Signature, keys KeySet) (string, error) {
	if len(blocks) == 0 {
		return "", &TrustError{what, "it bears no signature"}
	}
	var why []string
	for _, block := range blocks {
		name, err := s.verifyOne(block, keys)
		if err == nil {
			return name, nil
		}
		why = append(why, err.Error())
	}
	return "", &TrustError{what, strings.Join(why, "; ")}
}

func (s signed3) verifyOne(block adb.Signature, keys KeySet) (string, error) {
	if keys == nil {
		return "", fmt.Errorf("signed by the key with the ID %s, which is no trusted key", block.Key)
	}
	name, key := keys.PublicKeyByID(block.Key)
	if key == nil {
		return "", fmt.Errorf("signed by the key with the ID %s, which is no trusted key", block.Key)
	}
	if err := block.Verify(s.schema, s.block, key); err != nil {
		return "", fmt.Errorf("the signature of %q does not hold", name)
	}
	return name, nil
}

// signatures3 tells signature blocks as Signatures.
func signatures3(blocks []adb.Signature) []Signature {
	var all []Signature
	for _, b := range blocks {
		all = append(all, Signature{Algorithm: "ADB", KeyName: b.Key.String(), Value: b.Value})
	}
	return all
}

// isV3 says that a file begins as those of version 3 do.
func isV3(begin []byte) bool { return len(begin) >= 4 && string(begin[:3]) == "ADB" }

// uniqueSize is the length of what makes the info of one build another than that of the
// next: the beginning of the SHA-256 of all, as apk-tools computes it.
const uniqueSize = 20

func uniqueOf(block []byte) string {
	sum := sha256.Sum256(block)
	return string(sum[:uniqueSize])
}
