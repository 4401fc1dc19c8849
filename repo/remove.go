package repo

import (
	"context"
	"strings"
	"time"

	"github.com/tarn-build/tarn/pkg/apk"
)

// removal is what is to be removed of an architecture: it lies in removingName until that
// is done, so that who is killed on the way leaves nothing that nobody knows of.
type removal struct {
	Snapshots []string `json:"snapshots,omitempty"` // times, as in their paths
	Files     []string `json:"files,omitempty"`     // paths; those that an index or a snapshot names stay
	Withdrawn []string `json:"withdrawn,omitempty"` // paths; those that an index names stay
}

// removingName is the file beside an index that a removal lies in.
const removingName = "removing.json"

func readRemoval(ctx context.Context, s Storage, arch apk.Arch) (*removal, error) {
	var r removal
	found, err := readJSON(ctx, s, string(arch)+"/"+removingName, &r)
	if err != nil || !found {
		return nil, err
	}
	return &r, nil
}

// unnamed finds what neither the new index nor a snapshot that is kept will name, and
// notes it. It gives nil when there is nothing.
func (p *Publisher) unnamed(ctx context.Context, c *change, done *Published) (*removal, error) {
	r := &removal{}
	if c.rest != nil {
		r = c.rest
	}
	for _, e := range c.dropped {
		path := string(c.arch) + "/" + e.FileName()
		switch _, listed := c.listed[e.FileName()]; {
		case listed:
			continue // again
		case c.isWithdrawn(e):
			r.Withdrawn = append(r.Withdrawn, path)
		case p.Snapshots == 0:
			r.Files = append(r.Files, path)
		}
		done.Dropped = append(done.Dropped, string(c.arch)+"/"+e.FullName())
	}
	if p.Snapshots > 0 {
		times, err := Snapshots(ctx, p.Storage, c.arch)
		if err != nil {
			return nil, err
		}
		for _, at := range times[:max(0, len(times)-p.Snapshots)] {
			old, err := p.readSnapshot(ctx, c.arch, at)
			if err != nil {
				return nil, err
			}
			r.Snapshots = append(r.Snapshots, at.Format(snapshotLayout))
			for _, e := range old.Entries {
				if i, listed := c.listed[e.FileName()]; !listed || c.index.Entries[i].Checksum != e.Checksum {
					r.Files = append(r.Files, string(c.arch)+"/"+e.FileName(), replacedPath(c.arch, e))
				}
			}
		}
	}
	if len(r.Snapshots)+len(r.Files)+len(r.Withdrawn) == 0 {
		return nil, nil
	}
	return r, p.putJSON(ctx, string(c.arch)+"/"+removingName, r)
}

// remove removes what was noted. A snapshot goes before its packages: one that can be read
// is whole.
func (p *Publisher) remove(ctx context.Context, c *change, r *removal) error {
	if r == nil {
		return nil
	}
	for _, at := range r.Snapshots {
		if _, err := time.Parse(snapshotLayout, at); err != nil {
			continue
		}
		for _, name := range indexNames {
			if err := p.Storage.Remove(ctx, snapshotPath(at, c.arch)+"/"+name); err != nil {
				return err
			}
		}
	}
	named := map[string]bool{}
	for name := range c.listed {
		named[string(c.arch)+"/"+name] = true
	}
	if err := p.removeFiles(ctx, c.arch, r.Withdrawn, named); err != nil {
		return err
	}
	if len(r.Files) > 0 {
		times, err := Snapshots(ctx, p.Storage, c.arch)
		if err != nil {
			return err
		}
		for _, at := range times {
			x, err := p.readSnapshot(ctx, c.arch, at)
			if err != nil {
				return err
			}
			for _, e := range x.Entries {
				named[string(c.arch)+"/"+e.FileName()] = true
				named[replacedPath(c.arch, e)] = true
			}
		}
	}
	if err := p.removeFiles(ctx, c.arch, r.Files, named); err != nil {
		return err
	}
	return p.Storage.Remove(ctx, string(c.arch)+"/"+removingName)
}

// removeFiles removes packages that nobody names, and nothing else, whatever is listed.
func (p *Publisher) removeFiles(ctx context.Context, arch apk.Arch, paths []string, named map[string]bool) error {
	for _, path := range paths {
		if named[path] || !isPackagePath(path, arch) {
			continue
		}
		if err := p.Storage.Remove(ctx, path); err != nil {
			return err
		}
	}
	return nil
}

// isPackagePath tells whether a path is one that the publisher puts packages to.
func isPackagePath(path string, arch apk.Arch) bool {
	for _, folder := range []string{string(arch) + "/", snapshotFolder + "/" + replacedFolder + "/" + string(arch) + "/"} {
		if name, found := strings.CutPrefix(path, folder); found && !strings.Contains(name, "/") && strings.HasSuffix(name, ".apk") {
			return true
		}
	}
	return false
}
