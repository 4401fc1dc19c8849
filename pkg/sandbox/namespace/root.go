package namespace

import (
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/tarn-build/tarn/pkg/sandbox"
)

// scratch is where the first stage works: a temporary file system over the host's
// /proc, which is the one folder that is sure to exist and to hold nothing that a
// sandbox is made of. It goes with the rest of the host's tree.
const scratch = "/proc"

const (
	skeleton = "skeleton" // the lowest layer
	newRoot  = "root"     // where the overlay is mounted
	upper    = "upper"    // of a writable root
	upperTmp = "tmp"      // the overlay's own folder beside it

	plain = unix.MOUNT_ATTR_NOSUID | unix.MOUNT_ATTR_NODEV
)

// root is the new root while it is furnished.
type root struct {
	fd int
	// follow has links followed: see noLinks.
	follow bool
}

// makeRoot puts this process into a root made of the layers and nothing else.
func (set *setup) makeRoot() error {
	if set.Off.Has(ownProc) {
		var err error
		if set.hostProc, err = copyMount("/proc", plain); err != nil {
			return err
		}
	}
	// Nothing that is mounted here reaches the host, or the other way.
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return lackOf(err, "make mounts private")
	}
	if err := unix.Mount("tmpfs", scratch, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, fmt.Sprintf("mode=0755,size=%d", set.Limits.Memory)); err != nil {
		return lackOf(err, "mount a temporary file system")
	}
	if err := unix.Chdir(scratch); err != nil {
		return err
	}
	if err := set.makeSkeleton(); err != nil {
		return fmt.Errorf("make the lowest layer: %w", err)
	}
	if err := set.mountOverlay(); err != nil {
		return err
	}
	fd, err := unix.Open(newRoot, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	r := root{fd, set.Off.Has(noLinks)}
	if err := r.furnish(set); err != nil {
		return err
	}
	// pivot_root(2), notes: the old root comes to lie over the new one, and goes.
	if err := unix.Fchdir(fd); err != nil {
		return err
	}
	if set.Off.Has(pivotRoot) {
		return unix.Chroot(".")
	}
	if err := unix.PivotRoot(".", "."); err != nil {
		return fmt.Errorf("change root: %w", err)
	}
	if err := unix.Unmount(".", unix.MNT_DETACH); err != nil {
		return fmt.Errorf("let go of the host's root: %w", err)
	}
	return unix.Chdir("/")
}

// skeletonFolders exist in every sandbox, whatever its layers hold. That they
// come last lets the layers' own files and modes win.
var skeletonFolders = []struct {
	path string
	mode uint32
}{
	{"proc", 0o755}, {"dev", 0o755}, {"sys", 0o755}, {"etc", 0o755}, {"root", 0o700},
	{"tmp", 0o1777}, {"run", 0o755}, {"var", 0o755}, {"var/tmp", 0o1777},
}

// makeSkeleton makes the lowest layer: the mount points, and the files without
// which the C library does not know who and where it is.
func (set *setup) makeSkeleton() error {
	if err := unix.Mkdir(skeleton, 0o755); err != nil {
		return err
	}
	for _, f := range skeletonFolders {
		if err := unix.Mkdir(path.Join(skeleton, f.path), f.mode); err != nil {
			return err
		}
	}
	passwd, group := "root:x:0:0:root:/root:/bin/sh\n", "root:x:0:\n"
	if set.UID != 0 {
		passwd += fmt.Sprintf("build:x:%d:%d:build:%s:/bin/sh\n", set.UID, set.GID, set.WorkPath)
	}
	if set.GID != 0 {
		group += fmt.Sprintf("build:x:%d:\n", set.GID)
	}
	for name, content := range map[string]string{
		"passwd":      passwd + "nobody:x:65534:65534:nobody:/:/sbin/nologin\n",
		"group":       group + "nobody:x:65534:\n",
		"hosts":       set.Hosts,
		"resolv.conf": set.Resolv,
		"hostname":    set.Hostname + "\n",
	} {
		if err := os.WriteFile(filepath.Join(skeleton, "etc", name), []byte(content), 0o644); err != nil {
			return err
		}
	}
	if err := os.MkdirAll(filepath.Join(skeleton, set.WorkPath), 0o755); err != nil {
		return err
	}
	for _, b := range set.Binds {
		if err := makeMountPoint(filepath.Join(skeleton, b.Path), b.Source); err != nil {
			return err
		}
	}
	return nil
}

// makeMountPoint makes a folder or an empty file, whichever the source is.
func makeMountPoint(name, source string) error {
	info, err := os.Stat(source)
	if err != nil {
		return err
	}
	if info.IsDir() {
		return os.MkdirAll(name, 0o755)
	}
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		return err
	}
	f, err := os.OpenFile(name, os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	return f.Close()
}

// mountOverlay lays the layers over each other at newRoot, by names of a few
// bytes: what a mount takes is short (256 bytes an option, or a page for all of
// them), and what it was given can be read inside, where no path of the host is
// to be seen.
func (set *setup) mountOverlay() error {
	names := make([]string, 0, len(set.Layers)+1)
	for i, layer := range set.Layers {
		name := strconv.Itoa(i)
		if info, err := os.Stat(layer); err != nil {
			return fmt.Errorf("layer: %w", err)
		} else if !info.IsDir() {
			return fmt.Errorf("layer %s: %w", layer, unix.ENOTDIR)
		}
		if err := os.Symlink(layer, name); err != nil {
			return err
		}
		names = append(names, name)
	}
	names = append(names, skeleton)
	folders := []string{newRoot}
	var options [][2]string
	if set.WritableRoot {
		folders = append(folders, upper, upperTmp)
		options = [][2]string{{"upperdir", upper}, {"workdir", upperTmp}, {"userxattr", ""}}
	}
	for _, f := range folders {
		if err := unix.Mkdir(f, 0o755); err != nil {
			return err
		}
	}
	if set.Off.Has(readOnlyLayers) {
		beside := set.Layers[0] + ".overlay"
		if err := unix.Mkdir(beside, 0o755); err != nil {
			return err
		}
		names, options = names[1:], [][2]string{{"upperdir", names[0]}, {"workdir", beside}, {"userxattr", ""}}
	}
	flags := plain
	if len(options) == 0 {
		flags |= unix.MOUNT_ATTR_RDONLY
	}
	if set.Off.Has(noSuid) {
		flags &^= unix.MOUNT_ATTR_NOSUID
	}
	err := error(unix.EINVAL)
	if !set.Mount2 {
		err = overlayByFD(names, options, flags)
	}
	if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOSYS) {
		err = overlayByMount(names, options, flags)
	}
	return lackOf(err, "mount an overlay of %d layers", len(set.Layers))
}

// overlayByFD names each layer for itself, which Linux can since 6.5; EINVAL is
// the answer of older ones.
func overlayByFD(names []string, options [][2]string, flags int) error {
	layers := make([][2]string, len(names))
	for i, n := range names {
		layers[i] = [2]string{"lowerdir+", n}
	}
	fd, err := newMount("overlay", append(layers, options...), flags)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return unix.MoveMount(fd, "", unix.AT_FDCWD, newRoot, unix.MOVE_MOUNT_F_EMPTY_PATH)
}

func overlayByMount(names []string, options [][2]string, flags int) error {
	data := "lowerdir=" + strings.Join(names, ":")
	for _, o := range options {
		data += "," + o[0]
		if o[1] != "" {
			data += "=" + o[1]
		}
	}
	old := uintptr(unix.MS_NODEV)
	if flags&unix.MOUNT_ATTR_NOSUID != 0 {
		old |= unix.MS_NOSUID
	}
	if flags&unix.MOUNT_ATTR_RDONLY != 0 {
		old |= unix.MS_RDONLY
	}
	return unix.Mount("overlay", newRoot, "overlay", old, data)
}

// newMount makes a mount that stands nowhere yet.
func newMount(kind string, options [][2]string, flags int) (int, error) {
	fs, err := unix.Fsopen(kind, unix.FSOPEN_CLOEXEC)
	if err != nil {
		return -1, fmt.Errorf("%s: %w", kind, err)
	}
	defer unix.Close(fs)
	for _, o := range options {
		if o[1] == "" {
			err = unix.FsconfigSetFlag(fs, o[0])
		} else {
			err = unix.FsconfigSetString(fs, o[0], o[1])
		}
		if err != nil {
			return -1, fmt.Errorf("%s: %s=%s: %w", kind, o[0], o[1], err)
		}
	}
	if err := unix.FsconfigCreate(fs); err != nil {
		return -1, fmt.Errorf("%s: %w", kind, err)
	}
	fd, err := unix.Fsmount(fs, unix.FSMOUNT_CLOEXEC, flags)
	if err != nil {
		return -1, fmt.Errorf("%s: %w", kind, err)
	}
	return fd, nil
}

// copyMount makes another mount of a file or folder, with all that is mounted
// below it, that stands nowhere yet.
func copyMount(source string, flags uint64) (int, error) {
	fd, err := unix.OpenTree(unix.AT_FDCWD, source, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_RECURSIVE)
	if err != nil {
		return -1, err
	}
	attr := unix.MountAttr{Attr_set: flags}
	if err := unix.MountSetattr(fd, "", unix.AT_EMPTY_PATH|unix.AT_RECURSIVE, &attr); err != nil {
		unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

// at opens a place inside the root. Links are not followed, not even within the
// root: a layer must not decide where a mount lands.
func (r root) at(name string) (int, error) {
	if r.follow {
		return unix.Openat(r.fd, strings.TrimPrefix(name, "/"), unix.O_PATH|unix.O_CLOEXEC, 0)
	}
	fd, err := unix.Openat2(r.fd, strings.TrimPrefix(name, "/"), &unix.OpenHow{
		Flags:   unix.O_PATH | unix.O_CLOEXEC | unix.O_NOFOLLOW,
		Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_MAGICLINKS,
	})
	if err != nil {
		return -1, err
	}
	// O_PATH|O_NOFOLLOW opens a link as itself when it is the last element.
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil || st.Mode&unix.S_IFMT == unix.S_IFLNK {
		unix.Close(fd)
		return -1, errors.Join(err, unix.ELOOP)
	}
	return fd, nil
}

// put moves a mount to its place, and closes it.
func (r root) put(mount int, name string) error {
	defer unix.Close(mount)
	place, err := r.at(name)
	if errors.Is(err, unix.ELOOP) {
		return fmt.Errorf("mount at %s: a layer has a symbolic link there", name)
	}
	if err != nil {
		return fmt.Errorf("mount at %s: %w", name, err)
	}
	defer unix.Close(place)
	if err := unix.MoveMount(mount, "", place, "", unix.MOVE_MOUNT_F_EMPTY_PATH|unix.MOVE_MOUNT_T_EMPTY_PATH); err != nil {
		return fmt.Errorf("mount at %s: %w", name, err)
	}
	return nil
}

// putNew mounts a new file system.
func (r root) putNew(kind, name string, options [][2]string, flags int) error {
	fd, err := newMount(kind, options, flags)
	if err != nil {
		return fmt.Errorf("mount at %s: %w", name, err)
	}
	return r.put(fd, name)
}

// sized are the options of a temporary file system that holds no more than all memory
// of the sandbox.
func (set *setup) sized(mode string) [][2]string {
	return [][2]string{{"mode", mode}, {"size", strconv.FormatInt(set.Limits.Memory, 10)}}
}

// temporary are the folders whose content is memory.
func (set *setup) temporary() []string {
	folders := []string{"/tmp", "/var/tmp", "/run", "/dev/shm"}
	if set.Work == "" {
		folders = append(folders, set.WorkPath)
	}
	if set.WritableRoot {
		folders = append(folders, "/")
	}
	return slices.DeleteFunc(folders, func(f string) bool {
		// What stands there is the host's then, whose file system is no memory.
		return slices.ContainsFunc(set.Binds, func(b sandbox.Bind) bool { return b.Path == f })
	})
}

// furnish mounts what stands in the root besides the layers.
func (r root) furnish(set *setup) error {
	if set.Off.Has(ownProc) {
		if err := r.put(set.hostProc, "/proc"); err != nil {
			return err
		}
	} else if err := r.putNew("proc", "/proc", nil, plain|unix.MOUNT_ATTR_NOEXEC); err != nil {
		return lackOf(err, "mount a /proc of its own")
	}
	if err := r.furnishDev(set); err != nil {
		return err
	}
	for _, t := range []struct{ path, mode string }{{"/tmp", "1777"}, {"/var/tmp", "1777"}, {"/run", "0755"}} {
		fd, err := r.at(t.path)
		if errors.Is(err, unix.ELOOP) {
			continue // e.g. /var/tmp -> ../tmp: what it leads to is what counts
		}
		if err != nil {
			return fmt.Errorf("mount at %s: %w", t.path, err)
		}
		unix.Close(fd)
		if err := r.putNew("tmpfs", t.path, set.sized(t.mode), plain); err != nil {
			return err
		}
	}
	if err := r.furnishWork(set); err != nil {
		return err
	}
	for _, b := range set.Binds {
		if err := r.bind(b); err != nil {
			return err
		}
	}
	return nil
}

func (r root) furnishWork(set *setup) error {
	if set.Work == "" {
		return r.putNew("tmpfs", set.WorkPath, set.sized("0755"), plain)
	}
	fd, err := copyMount(set.Work, plain)
	if err != nil {
		return fmt.Errorf("work folder %s: %w", set.Work, err)
	}
	return r.put(fd, set.WorkPath)
}

// bind shows a file or folder of the host. Where its place lies in a temporary
// file system or in the work folder, the place is made there.
func (r root) bind(b sandbox.Bind) error {
	flags := uint64(plain)
	if !b.Writable {
		flags |= unix.MOUNT_ATTR_RDONLY
	}
	fd, err := copyMount(b.Source, flags)
	if err != nil {
		return fmt.Errorf("bind %s: %w", b.Source, err)
	}
	if place, err := r.at(b.Path); err == nil {
		unix.Close(place)
	} else if errors.Is(err, unix.ENOENT) {
		if err := r.make(b); err != nil {
			unix.Close(fd)
			return fmt.Errorf("make mount point %s: %w", b.Path, err)
		}
	}
	return r.put(fd, b.Path)
}

// make makes a bind's mount point inside the root.
func (r root) make(b sandbox.Bind) error {
	var source unix.Stat_t
	if err := unix.Stat(b.Source, &source); err != nil {
		return err
	}
	dir, err := r.at("/.")
	if err != nil {
		return err
	}
	defer func() { unix.Close(dir) }()
	names := strings.Split(b.Path[1:], "/")
	for i, name := range names {
		if last := i == len(names)-1; last && source.Mode&unix.S_IFMT != unix.S_IFDIR {
			f, err := unix.Openat(dir, name, unix.O_CREAT|unix.O_EXCL|unix.O_WRONLY|unix.O_CLOEXEC, 0o644)
			if err == nil {
				unix.Close(f)
			}
			return err
		}
		if err := unix.Mkdirat(dir, name, 0o755); err != nil && err != unix.EEXIST {
			return err
		}
		next, err := root{fd: dir}.at(name)
		if err != nil {
			return err
		}
		unix.Close(dir)
		dir = next
	}
	return nil
}

// devices are the host's device files that commands have. A new one can't be made
// in a user namespace, so they are the host's own.
var devices = []string{"null", "zero", "full", "random", "urandom", "tty"}

// furnishDev makes /dev: six devices, terminals of its own, shared memory.
func (r root) furnishDev(set *setup) error {
	fd, err := newMount("tmpfs", [][2]string{{"mode", "0755"}}, unix.MOUNT_ATTR_NOSUID|unix.MOUNT_ATTR_NOEXEC)
	if err != nil {
		return fmt.Errorf("mount at /dev: %w", err)
	}
	if err := r.put(fd, "/dev"); err != nil {
		return err
	}
	dev, err := r.at("/dev")
	if err != nil {
		return err
	}
	defer unix.Close(dev)
	for _, name := range devices {
		f, err := unix.Openat(dev, name, unix.O_CREAT|unix.O_EXCL|unix.O_WRONLY|unix.O_CLOEXEC, 0o666)
		if err != nil {
			return fmt.Errorf("make /dev/%s: %w", name, err)
		}
		unix.Close(f)
		mount, err := copyMount("/dev/"+name, unix.MOUNT_ATTR_NOSUID|unix.MOUNT_ATTR_NOEXEC)
		if err != nil {
			return fmt.Errorf("device %s: %w", name, err)
		}
		if err := r.put(mount, "/dev/"+name); err != nil {
			return err
		}
	}
	for name, to := range map[string]string{
		"fd": "/proc/self/fd", "stdin": "/proc/self/fd/0", "stdout": "/proc/self/fd/1",
		"stderr": "/proc/self/fd/2", "ptmx": "pts/ptmx",
	} {
		if err := unix.Symlinkat(to, dev, name); err != nil {
			return fmt.Errorf("make /dev/%s: %w", name, err)
		}
	}
	for _, name := range []string{"pts", "shm"} {
		if err := unix.Mkdirat(dev, name, 0o755); err != nil {
			return fmt.Errorf("make /dev/%s: %w", name, err)
		}
	}
	if err := r.putNew("devpts", "/dev/pts", [][2]string{{"newinstance", ""}, {"ptmxmode", "0666"}, {"mode", "0620"}}, unix.MOUNT_ATTR_NOSUID|unix.MOUNT_ATTR_NOEXEC); err != nil {
		return err
	}
	if err := r.putNew("tmpfs", "/dev/shm", set.sized("1777"), plain); err != nil {
		return err
	}
	// What is in /dev stays as it is; the devices and the two folders are mounts
	// of their own and stay writable.
	return unix.MountSetattr(dev, "", unix.AT_EMPTY_PATH, &unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY})
}

var (
	// covered are the parts of /proc that tell about the machine's inside or let
	// one touch it; what does not exist is passed over.
	covered = []string{
		"acpi", "asound", "config.gz", "interrupts", "kallsyms", "kcore", "key-users", "keys", "kmsg",
		"kpagecgroup", "kpagecount", "kpageflags", "latency_stats", "modules", "pressure", "sched_debug", "scsi",
		"slabinfo", "sysrq-trigger", "timer_list", "timer_stats", "vmallocinfo",
	}
	// fixed are those that programs read, and nobody writes.
	fixed = []string{"bus", "driver", "fs", "irq", "mtrr", "sys"}
)

// coverProc takes from /proc what is not about the sandbox's own processes.
func (r root) coverProc() error {
	for _, name := range covered {
		if err := r.cover("/proc/" + name); err != nil {
			return err
		}
	}
	for _, name := range fixed {
		mount, err := copyMount("/proc/"+name, plain|unix.MOUNT_ATTR_NOEXEC|unix.MOUNT_ATTR_RDONLY)
		if errors.Is(err, unix.ENOENT) {
			continue
		}
		if err != nil {
			return fmt.Errorf("make /proc/%s read-only: %w", name, err)
		}
		if err := r.put(mount, "/proc/"+name); err != nil {
			return err
		}
	}
	return nil
}

// cover hides a file behind the null device, a folder behind an empty one.
func (r root) cover(name string) error {
	place, err := r.at(name)
	if errors.Is(err, unix.ENOENT) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("cover %s: %w", name, err)
	}
	var st unix.Stat_t
	err = unix.Fstat(place, &st)
	unix.Close(place)
	if err != nil {
		return fmt.Errorf("cover %s: %w", name, err)
	}
	if st.Mode&unix.S_IFMT == unix.S_IFDIR {
		return r.putNew("tmpfs", name, [][2]string{{"mode", "0555"}}, plain|unix.MOUNT_ATTR_NOEXEC|unix.MOUNT_ATTR_RDONLY)
	}
	mount, err := copyMount("/dev/null", unix.MOUNT_ATTR_NOSUID|unix.MOUNT_ATTR_NOEXEC|unix.MOUNT_ATTR_RDONLY)
	if err != nil {
		return fmt.Errorf("cover %s: %w", name, err)
	}
	return r.put(mount, name)
}
