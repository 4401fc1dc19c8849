package apk

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"sync"
	"time"
)

// Packed is an index that is used as it lies: a name is found, and its entries are
// read, without a look at the others. It is safe for use by several goroutines at once.
//
// The form is tarn's own and made for one's own disk: it is kept beside the index that
// it was made of, under a name that covers the index's bytes and packedMagic. It is the
// text of the index behind a table of names:
//
//	magic, numbers of entries, keys, slots, lists, and the bytes of names; the newest build
//	date, the lower half first
//	entries   where the record of each begins and ends in the text
//	slots     a hash table with open addressing: the number of a key plus one, or 0
//	keys      name, where its list begins, how many provide it and name it in install_if
//	lists     numbers of entries
//	names     one after the other
//	text      as in APKINDEX
type Packed struct {
	r                     io.ReaderAt
	entries, keys, slots  uint32
	atSlots, atKeys       int64
	atLists, atNames, end int64 // end of the names, where the text begins
	size                  int64
	newest                int64

	mu    sync.Mutex
	known map[uint32]*Entry
	err   error
	text  func() (string, error)
	whole *entriesByName // of the text, once r turned out to be damaged
}

// entriesByName is what a Packed finds, in memory.
type entriesByName struct{ providers, installIf map[string][]*Entry }

const (
	packedMagic  = "tarn index 0002\n"
	packedHeader = len(packedMagic) + 7*4
	packedKey    = 5 * 4
)

// IndexText gives the text within an APKINDEX.tar.gz, signed or not, and when it was made
// (see Index.Time). Nothing is trusted.
func IndexText(data []byte, l Limits) (text string, at time.Time, err error) {
	l = l.orDefault()
	_, rest, err := splitIndex(data, l)
	if err != nil {
		return "", at, err
	}
	section, err := expand(rest, l.Index)
	if err != nil {
		return "", at, err
	}
	found := false
	err = readSmallTar(section, func(name string, content []byte) error {
		if name == indexName {
			text, at, found = string(content), indexTime(section), true
		}
		return nil
	})
	if err == nil && !found {
		err = fmt.Errorf("the archive has no %s", indexName)
	}
	return text, at, err
}

// named is a name that an entry has or provides, or that its install_if names.
type named struct {
	name      string
	entry     uint32
	key       uint32
	installIf bool
}

// Pack reads the text of an index whole, and makes it into the form of [Packed].
func Pack(text string) ([]byte, error) {
	if int64(len(text)) > 1<<31 {
		return nil, errors.New("the index is too long to be packed")
	}
	all, where, newest, err := namesOf(text)
	if err != nil {
		return nil, err
	}
	slots := uint32(1)
	for slots < 2*uint32(len(all)) {
		slots *= 2
	}
	// Names become keys in a table that is kept as it is; the hashes beside it spare most
	// looks at names.
	type key struct {
		name                        string
		hash                        uint32
		begin, providers, installIf uint32
	}
	keys := make([]key, 0, len(all))
	table := make([]uint32, slots)
	names := 0
	for i := range all {
		n := &all[i]
		hash := hashName(n.name)
		slot := hash & (slots - 1)
		for table[slot] != 0 {
			if k := &keys[table[slot]-1]; k.hash == hash && k.name == n.name {
				break
			}
			slot = (slot + 1) & (slots - 1)
		}
		if table[slot] == 0 {
			keys = append(keys, key{name: n.name, hash: hash})
			table[slot] = uint32(len(keys))
			names += len(n.name)
		}
		n.key = table[slot] - 1
		if n.installIf {
			keys[n.key].installIf++
		} else {
			keys[n.key].providers++
		}
	}
	at := uint32(0)
	for i := range keys {
		keys[i].begin = at
		at += keys[i].providers + keys[i].installIf
	}
	lists := make([]uint32, len(all))
	filled := make([][2]uint32, len(keys))
	for _, n := range all {
		k := &keys[n.key]
		if n.installIf {
			lists[k.begin+k.providers+filled[n.key][1]] = n.entry
			filled[n.key][1]++
		} else {
			lists[k.begin+filled[n.key][0]] = n.entry
			filled[n.key][0]++
		}
	}
	out := make([]byte, 0, packedHeader+4*(len(where)+int(slots)+len(lists))+packedKey*len(keys)+names+len(text))
	out = append(out, packedMagic...)
	put := func(numbers ...uint32) {
		for _, n := range numbers {
			out = binary.LittleEndian.AppendUint32(out, n)
		}
	}
	put(uint32(len(where)/2), uint32(len(keys)), slots, uint32(len(lists)), uint32(names), uint32(newest), uint32(uint64(newest)>>32))
	put(where...)
	put(table...)
	at = 0
	for i := range keys {
		k := &keys[i]
		put(at, uint32(len(k.name)), k.begin, k.providers, k.installIf)
		at += uint32(len(k.name))
	}
	put(lists...)
	for i := range keys {
		out = append(out, keys[i].name...)
	}
	return append(out, text...), nil
}

// namesOf reads an index, and gives all names in it, each once for an entry, where
// the entries begin and end, and the newest build date.
func namesOf(text string) (all []named, where []uint32, newest int64, err error) {
	all = make([]named, 0, len(text)/64)
	p := indexParser{}
	for rest := text; rest != ""; {
		begin := len(text) - len(rest)
		e, after, err := p.record(rest, nil)
		if err != nil {
			return nil, nil, 0, err
		}
		rest = after
		if e == nil {
			continue
		}
		entry, from := uint32(len(where)/2), len(all)
		where = append(where, uint32(begin), uint32(len(text)-len(rest)))
		newest = max(newest, e.BuildDate)
		add := func(name string, installIf bool) {
			for i := range all[from:] {
				if n := &all[from+i]; n.name == name && n.installIf == installIf {
					return
				}
			}
			all = append(all, named{name: name, entry: entry, installIf: installIf})
		}
		add(e.Name, false)
		for i := range e.Provides {
			add(e.Provides[i].Name, false)
		}
		for i := range e.InstallIf {
			if !e.InstallIf[i].Conflict {
				add(e.InstallIf[i].Name, true)
			}
		}
	}
	return all, where, newest, nil
}

// hashName is the 32-bit FNV-1a of a name.
func hashName(name string) uint32 {
	h := uint32(2166136261)
	for i := range len(name) {
		h = (h ^ uint32(name[i])) * 16777619
	}
	return h
}

// OpenPacked opens what Pack made of a text. Only its beginning is read. What is wrong
// further on shows when it is used: then text is called for what was packed, and that is
// read whole, so that nothing is missing; where text is nil, see Err.
func OpenPacked(r io.ReaderAt, size int64, text func() (string, error)) (*Packed, error) {
	var head [packedHeader]byte
	if _, err := r.ReadAt(head[:], 0); err != nil {
		return nil, fmt.Errorf("packed index: %w", err)
	}
	if string(head[:len(packedMagic)]) != packedMagic {
		return nil, errors.New("packed index: of another form")
	}
	number := func(i int) uint32 { return binary.LittleEndian.Uint32(head[len(packedMagic)+4*i:]) }
	p := &Packed{r: r, entries: number(0), keys: number(1), slots: number(2), size: size, known: map[uint32]*Entry{}, text: text}
	p.newest = int64(uint64(number(5)) | uint64(number(6))<<32)
	p.atSlots = int64(packedHeader) + 8*int64(p.entries)
	p.atKeys = p.atSlots + 4*int64(p.slots)
	p.atLists = p.atKeys + packedKey*int64(p.keys)
	p.atNames = p.atLists + 4*int64(number(3))
	p.end = p.atNames + int64(number(4))
	if p.end > size || p.slots == 0 || p.slots&(p.slots-1) != 0 || p.keys >= p.slots && p.keys > 0 {
		return nil, errors.New("packed index: its parts are longer than it is")
	}
	return p, nil
}

// Len is the number of entries.
func (p *Packed) Len() int { return int(p.entries) }

// Newest is the newest build date of the entries, as in Info.BuildDate; 0 where none has one.
func (p *Packed) Newest() int64 { return p.newest }

// Err is what went wrong in all lookups so far. Where it is not nil, entries were missing
// in what they gave: their place is damaged, and the text was not to be had.
func (p *Packed) Err() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.err
}

// Providers gives every entry that is called name or provides it.
func (p *Packed) Providers(name string) []*Entry { return p.look(name, false) }

// InstallIf gives every entry whose install_if names name.
func (p *Packed) InstallIf(name string) []*Entry { return p.look(name, true) }

// Names gives every name that an entry has, provides, or names in its install_if.
func (p *Packed) Names() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.whole == nil {
		list := p.names()
		if !p.repaired() {
			return list
		}
	}
	list := slices.Collect(maps.Keys(p.whole.providers))
	for name := range p.whole.installIf {
		if p.whole.providers[name] == nil {
			list = append(list, name)
		}
	}
	return list
}

func (p *Packed) names() []string {
	all := p.read(p.atKeys, int64(p.keys)*packedKey)
	names := p.read(p.atNames, p.end-p.atNames)
	var list []string
	for ; len(all) >= packedKey; all = all[packedKey:] {
		at, n := binary.LittleEndian.Uint32(all), binary.LittleEndian.Uint32(all[4:])
		if end := int64(at) + int64(n); end <= int64(len(names)) {
			list = append(list, string(names[at:end]))
		}
	}
	return list
}

func (p *Packed) look(name string, installIf bool) []*Entry {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.whole == nil {
		list := p.find(name, installIf)
		if !p.repaired() {
			return list
		}
	}
	if installIf {
		return slices.Clone(p.whole.installIf[name])
	}
	return slices.Clone(p.whole.providers[name])
}

// repaired says that the text was read instead, which it is where something went wrong.
// An entry that was given before is the same one after it.
func (p *Packed) repaired() bool {
	if p.whole != nil || p.err == nil || p.text == nil {
		return p.whole != nil
	}
	text, err := p.text()
	if err != nil {
		return false
	}
	entries, err := parseIndex(text)
	if err != nil {
		return false
	}
	x := &entriesByName{map[string][]*Entry{}, map[string][]*Entry{}}
	add := func(lists map[string][]*Entry, name string, e *Entry) {
		if list := lists[name]; len(list) == 0 || list[len(list)-1] != e {
			lists[name] = append(list, e)
		}
	}
	for i, e := range entries {
		if given := p.known[uint32(i)]; given != nil {
			e = given
		}
		add(x.providers, e.Name, e)
		for j := range e.Provides {
			add(x.providers, e.Provides[j].Name, e)
		}
		for j := range e.InstallIf {
			if !e.InstallIf[j].Conflict {
				add(x.installIf, e.InstallIf[j].Name, e)
			}
		}
	}
	p.whole, p.entries, p.err = x, uint32(len(entries)), nil
	return true
}

// find looks a name up where it was packed.
func (p *Packed) find(name string, installIf bool) []*Entry {
	slot := hashName(name) & (p.slots - 1)
	for range p.slots {
		n := p.number(p.atSlots + 4*int64(slot))
		if n == 0 || n > p.keys || p.err != nil {
			return nil
		}
		key := p.read(p.atKeys+packedKey*int64(n-1), packedKey)
		if key == nil {
			return nil
		}
		field := func(i int) uint32 { return binary.LittleEndian.Uint32(key[4*i:]) }
		if int(field(1)) == len(name) && string(p.read(p.atNames+int64(field(0)), int64(field(1)))) == name {
			begin, count := field(2), field(3)
			if installIf {
				begin, count = begin+field(3), field(4)
			}
			return p.list(begin, count)
		}
		slot = (slot + 1) & (p.slots - 1)
	}
	return nil
}

func (p *Packed) list(begin, count uint32) []*Entry {
	numbers := p.read(p.atLists+4*int64(begin), 4*int64(count))
	var list []*Entry
	for ; len(numbers) >= 4; numbers = numbers[4:] {
		if e := p.entry(binary.LittleEndian.Uint32(numbers)); e != nil {
			list = append(list, e)
		}
	}
	return list
}

// entry reads an entry, once.
func (p *Packed) entry(n uint32) *Entry {
	if e := p.known[n]; e != nil || n >= p.entries {
		return e
	}
	where := p.read(int64(packedHeader)+8*int64(n), 8)
	if where == nil {
		return nil
	}
	begin, end := int64(binary.LittleEndian.Uint32(where)), int64(binary.LittleEndian.Uint32(where[4:]))
	text := p.read(p.end+begin, end-begin)
	if text == nil {
		return nil
	}
	parser := indexParser{entries: make([]Entry, 1), dependencies: make([]Dependency, 0, 1+bytes.Count(text, []byte(" ")))}
	e, _, err := parser.record(string(text), nil)
	if err != nil || e == nil {
		p.fail(fmt.Errorf("packed index: entry %d: %v", n, err))
		return nil
	}
	p.known[n] = e
	return e
}

func (p *Packed) number(at int64) uint32 {
	raw := p.read(at, 4)
	if raw == nil {
		return 0
	}
	return binary.LittleEndian.Uint32(raw)
}

// read gives n bytes, or nil.
func (p *Packed) read(at, n int64) []byte {
	if p.err != nil {
		return nil
	}
	if at < 0 || n < 0 || at+n > p.size {
		p.fail(errors.New("packed index: it points beyond its end"))
		return nil
	}
	data := make([]byte, n)
	if _, err := p.r.ReadAt(data, at); err != nil && !(errors.Is(err, io.EOF) && at+n == p.size) {
		p.fail(fmt.Errorf("packed index: %w", err))
		return nil
	}
	return data
}

func (p *Packed) fail(err error) {
	if p.err == nil {
		p.err = err
	}
}
