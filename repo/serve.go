package repo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path"
	"regexp"
	"strings"
	"time"

	"github.com/tarn-build/tarn/pkg/apk"
)

// Handler serves the repository in a folder, for reading: indexes, packages, public keys,
// and its snapshots as repositories of their own below snapshots/TIME, where a TIME at
// which nothing changed means the newest change before it. Ranges and conditions are
// kept, files are sent as they are, and nothing else is in reach: no folder is listed, no
// file that begins with a dot is there, and no link is followed.
func Handler(dir string) http.Handler { return handler{Folder(dir)} }

type handler struct{ folder Folder }

// contentTypes are those of the files of a repository.
var contentTypes = map[string]string{
	".gz":   "application/gzip",
	".apk":  "application/vnd.alpine.apk",
	".adb":  "application/vnd.alpine.adb",
	".pub":  "application/x-pem-file",
	".json": "application/json",
}

var snapshotRequest = regexp.MustCompile(`^snapshots/([0-9TZ]+)/([a-z0-9_]+)/([^/]+)$`)

func (h handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		w.Header().Set("Allow", "GET, HEAD")
		http.Error(w, "only GET and HEAD", http.StatusMethodNotAllowed)
		return
	}
	name := strings.TrimPrefix(r.URL.Path, "/")
	kind := contentTypes[path.Ext(name)]
	if !fs.ValidPath(name) || strings.HasPrefix(name, ".") || strings.Contains(name, "/.") || kind == "" {
		http.NotFound(w, r)
		return
	}
	f, info, err := h.open(r.Context(), name)
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, errNotServed):
		http.NotFound(w, r)
		return
	case err != nil:
		http.Error(w, "the file cannot be read", http.StatusInternalServerError)
		return
	}
	defer f.Close()
	header := w.Header()
	header.Set("Content-Type", kind)
	header.Set("ETag", `"`+fileVersion(info)+`"`)
	header.Set("Cache-Control", "no-cache") // ask each time whether it is the same
	header.Set("X-Content-Type-Options", "nosniff")
	http.ServeContent(w, r, "", info.ModTime(), f)
}

var errNotServed = errors.New("it is not served")

// open opens a file that is neither a link nor behind one.
func (h handler) open(ctx context.Context, name string) (*os.File, fs.FileInfo, error) {
	f, info, err := h.openPlain(name)
	if err == nil || !errors.Is(err, fs.ErrNotExist) {
		return f, info, err
	}
	m := snapshotRequest.FindStringSubmatch(name)
	if m == nil {
		return nil, nil, err
	}
	arch, file := apk.Arch(m[2]), m[3]
	at, parseErr := time.Parse(snapshotLayout, m[1])
	if _, archErr := archFolder(arch); parseErr != nil || archErr != nil {
		return nil, nil, err
	}
	folder, err := h.folderAt(ctx, arch, at)
	if err != nil {
		return nil, nil, err
	}
	if isIndex(file) {
		return h.openPlain(folder + "/" + file)
	}
	index, _, err := readIndexes(ctx, h.folder, folder, nil) // the reader checks signatures and bytes
	if err != nil || index == nil {
		return nil, nil, fs.ErrNotExist
	}
	for _, e := range index.Entries {
		if e.FileName() != file {
			continue
		}
		if f, info, err := h.openPlain(replacedPath(arch, e)); err == nil {
			return f, info, nil
		}
		return h.openPlain(string(arch) + "/" + file)
	}
	return nil, nil, fs.ErrNotExist
}

// folderAt is the folder of the index that was there at a time.
func (h handler) folderAt(ctx context.Context, arch apk.Arch, at time.Time) (string, error) {
	if x, _, err := readIndexes(ctx, h.folder, string(arch), nil); err == nil && x != nil {
		if now, _ := made(x); !now.After(at) {
			return string(arch), nil
		}
	}
	times, err := Snapshots(ctx, h.folder, arch)
	if err != nil {
		return "", err
	}
	newest, found := newestUntil(times, at)
	if !found {
		return "", fs.ErrNotExist
	}
	return snapshotPath(newest.Format(snapshotLayout), arch), nil
}

func (h handler) openPlain(name string) (*os.File, fs.FileInfo, error) {
	root, err := os.OpenRoot(string(h.folder))
	if err != nil {
		return nil, nil, err
	}
	defer root.Close()
	parts := strings.Split(name, "/")
	for i := range parts {
		info, err := root.Lstat(path.Join(parts[:i+1]...))
		if err != nil {
			return nil, nil, err
		}
		// A pipe would not come back from being opened.
		if !info.IsDir() && !info.Mode().IsRegular() {
			return nil, nil, errNotServed
		}
	}
	f, err := root.Open(name)
	if err != nil {
		return nil, nil, err
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = errNotServed
	}
	if err != nil {
		f.Close()
		return nil, nil, err
	}
	return f, info, nil
}

// drainTime is how long a server that stops waits for the answers that it has begun.
const drainTime = 5 * time.Second

// Serve answers requests on a listener until the context ends, and then lets the answers
// that it has begun come to their end. log, if not nil, gets a line for each request.
func Serve(ctx context.Context, l net.Listener, h http.Handler, log io.Writer) error {
	if log != nil {
		h = logged{h, log}
	}
	server := &http.Server{Handler: h, ReadHeaderTimeout: 10 * time.Second, IdleTimeout: time.Minute, MaxHeaderBytes: 64 << 10}
	failed := make(chan error, 1)
	go func() { failed <- server.Serve(l) }()
	select {
	case err := <-failed:
		return fmt.Errorf("serve: %w", err)
	case <-ctx.Done():
	}
	drain, cancel := context.WithTimeout(context.WithoutCancel(ctx), drainTime)
	defer cancel()
	if err := server.Shutdown(drain); err != nil {
		return server.Close()
	}
	return nil
}

// logged writes a line for each request.
type logged struct {
	http.Handler
	to io.Writer
}

func (l logged) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s := &status{ResponseWriter: w, code: http.StatusOK}
	l.Handler.ServeHTTP(s, r)
	fmt.Fprintf(l.to, "%s %d %s %d bytes\n", r.Method, s.code, r.URL.EscapedPath(), s.bytes)
}

// status remembers what was answered.
type status struct {
	http.ResponseWriter
	code  int
	bytes int64
}

func (s *status) WriteHeader(code int) {
	s.code = code
	s.ResponseWriter.WriteHeader(code)
}

func (s *status) Write(p []byte) (int, error) {
	n, err := s.ResponseWriter.Write(p)
	s.bytes += int64(n)
	return n, err
}
