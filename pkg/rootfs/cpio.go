package rootfs

import (
	"bufio"
	"fmt"
	"io"
	"io/fs"
	"math"
)

// WriteCPIO writes the archive as Linux takes it for its first root file system
// (initramfs): cpio in the "new ASCII" form (Documentation/driver-api/early-userspace/
// buffer-format.rst). Of hard links only the last has the content, as cpio(1) writes
// and reads it. The form has no extended attributes, and no file of 4 GiB.
func (a *Archive) WriteCPIO(w io.Writer) error {
	b := bufio.NewWriterSize(w, 64<<10)
	c := &cpioWriter{w: b}
	links := map[string][]int{} // the members of each file with several, by the first
	for i := range a.Members {
		m := &a.Members[i]
		if m.Hardlink != "" {
			links[m.Hardlink] = append(links[m.Hardlink], i)
		}
	}
	numbers := map[string]uint32{} // of files with several paths
	last := map[string]int{}
	for first, others := range links {
		last[first] = others[len(others)-1]
	}
	for i := range a.Members {
		m := &a.Members[i]
		first := m.Path
		if m.Hardlink != "" {
			first = m.Hardlink
		}
		e := cpioEntry{name: m.Path, mode: cpioMode(m.Mode), uid: m.UID, gid: m.GID, links: 1, time: m.time(), major: m.Major, minor: m.Minor}
		others := links[first]
		if len(others) == 0 {
			c.inodes++
			e.inode = c.inodes
		} else {
			if numbers[first] == 0 {
				c.inodes++
				numbers[first] = c.inodes
			}
			e.inode, e.links = numbers[first], len(others)+1
		}
		if m.Mode.IsDir() {
			e.links = 2
		}
		var err error
		switch {
		case m.Mode.Type() == fs.ModeSymlink:
			err = c.header(&e, int64(len(m.Target)))
			if err == nil {
				_, err = io.WriteString(c, m.Target)
			}
		case m.Mode.IsRegular() && (len(others) == 0 || last[first] == i):
			err = c.header(&e, m.Inode.Size)
			if err == nil && m.Inode.Size > 0 {
				err = m.copy(c)
			}
		default:
			err = c.header(&e, 0)
		}
		if err == nil {
			err = c.align(4)
		}
		if err != nil {
			return fmt.Errorf("/%s: %w", m.Path, err)
		}
	}
	if err := c.header(&cpioEntry{name: "TRAILER!!!", links: 1}, 0); err != nil {
		return err
	}
	if err := c.align(512); err != nil {
		return err
	}
	return b.Flush()
}

// cpioEntry is what stands in a header.
type cpioEntry struct {
	name         string
	inode        uint32
	mode         uint32
	uid, gid     int
	links        int
	time         int64
	major, minor int64
}

// cpioWriter counts what it writes.
type cpioWriter struct {
	w      io.Writer
	at     int64
	inodes uint32
}

func (c *cpioWriter) Write(p []byte) (int, error) {
	n, err := c.w.Write(p)
	c.at += int64(n)
	return n, err
}

func (c *cpioWriter) align(to int64) error {
	var zeros [512]byte
	_, err := c.Write(zeros[:(to-c.at%to)%to])
	return err
}

func (c *cpioWriter) header(e *cpioEntry, size int64) error {
	for _, n := range []int64{size, e.time, int64(e.uid), int64(e.gid), e.major, e.minor} {
		if n < 0 || n > math.MaxUint32 {
			return fmt.Errorf("%d does not fit into cpio's 32 bits", n)
		}
	}
	// magic, inode, mode, uid, gid, links, time, size, device (2), of a device (2), name, checksum
	_, err := fmt.Fprintf(c, "070701%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%s\x00",
		e.inode, e.mode, e.uid, e.gid, e.links, e.time, size, 0, 0, e.major, e.minor, len(e.name)+1, 0, e.name)
	if err != nil {
		return err
	}
	return c.align(4)
}

// cpioMode is a mode with its type as stat(2) has it.
func cpioMode(m fs.FileMode) uint32 {
	var kind uint32
	switch m.Type() {
	case fs.ModeDir:
		kind = 0o040000
	case fs.ModeSymlink:
		kind = 0o120000
	case fs.ModeNamedPipe:
		kind = 0o010000
	case fs.ModeDevice:
		kind = 0o060000
	case fs.ModeDevice | fs.ModeCharDevice:
		kind = 0o020000
	default:
		kind = 0o100000
	}
	return kind | UnixMode(m)
}

// Attributed are the members with extended attributes, which cpio does not have.
func (a *Archive) Attributed() []string {
	var paths []string
	for i := range a.Members {
		if m := &a.Members[i]; len(m.Xattrs) > 0 {
			paths = append(paths, m.Path)
		}
	}
	return paths
}
