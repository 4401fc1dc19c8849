package images

import (
	"path"
	"strings"

	"github.com/tarn-build/tarn/pkg/yamlread"
)

// Maker says what makes or changes a path of an image that no package brings as it is.
type Maker struct {
	Place string `json:"place,omitempty"` // in the image file, e.g. images/core/web.yaml:12:5; "" where every image has it
	What  string `json:"what"`            // e.g. "paths, symlink"
}

// Makers lists what of the image file, or of every image, makes or changes a path, given
// without a slash in front.
func (s *Spec) Makers(p string) []Maker {
	var all []Maker
	add := func(place yamlread.Place, what string) {
		m := Maker{What: what}
		if !place.IsZero() {
			m.Place = place.String()
		}
		all = append(all, m)
	}
	clean := func(p string) string { return strings.TrimPrefix(path.Clean("/"+p), "/") }
	below := func(p, dir string) bool { return p == dir || strings.HasPrefix(p, dir+"/") }
	for i := range s.Paths {
		q := &s.Paths[i]
		if made := clean(q.Path); made == p || q.Recursive && below(p, made) {
			add(q.Here, "paths, "+q.Type)
		}
	}
	for i := range s.Accounts.Users {
		u := &s.Accounts.Users[i]
		home := u.HomeDir
		if home == "" {
			home = "/home/" + u.UserName
		}
		switch p {
		case "etc/passwd", "etc/shadow":
			add(u.Here, "user "+u.UserName)
		case clean(home):
			add(u.Here, "home of the user "+u.UserName)
		}
	}
	for i := range s.Accounts.Groups {
		if p == "etc/group" {
			add(s.Accounts.Groups[i].Here, "group "+s.Accounts.Groups[i].GroupName)
		}
	}
	for i := range s.Certificates.Additional {
		c := &s.Certificates.Additional[i]
		if strings.HasPrefix(p, "usr/local/share/ca-certificates/"+c.Name) || strings.HasSuffix(p, "ca-certificates.crt") || strings.HasSuffix(p, "tls-ca-bundle.pem") || strings.HasSuffix(p, "java/cacerts") {
			add(c.Here, "certificate "+c.Name)
		}
	}
	if s.Entrypoint.Type == "service-bundle" {
		for name := range s.Entrypoint.Services {
			if below(p, "sv/"+name) {
				add(s.Entrypoint.Here.Value("services"), "service "+name)
			}
		}
	}
	for _, made := range []struct{ path, what string }{
		{"usr/lib/apk", "apk's database"},
		{"lib/apk", "apk's database"},
		{"etc/apk/world", "what the image file asks for"},
		{"etc/apk/repositories", "repositories of the image file"},
		{"etc/apk/keys", "keys of the image file"},
		{"etc/apk", "apk's configuration"},
		{"dev", "devices that every image has"},
		{"etc/ld.so.cache", "the cache of the loader, as ldconfig makes it"},
	} {
		if below(p, made.path) {
			add(yamlread.Place{}, made.what)
			break
		}
	}
	if dir, base := path.Split(p); strings.HasPrefix(dir, "etc/ld-musl") || strings.HasPrefix(base, "ld-musl-") && dir == "etc/" {
		add(yamlread.Place{}, "where musl's loader looks for libraries")
	}
	return all
}
