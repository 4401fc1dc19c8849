package scaffold

import (
	"fmt"
	"net/url"
	"path"
	"regexp"
	"strings"

	"github.com/tarn-build/tarn/pkg/apk"
)

// Origin is where a source comes from, and what is known of its bytes.
type Origin struct {
	// URI is the address of a file: http, https or debian:SOURCE/FILE.
	URI    string
	SHA256 string // of the file, hexadecimal
	// Repository, Tag and Commit are those of a git tree.
	Repository, Tag, Commit string
	// Vouched says who says that the digest is right, besides the connection; empty when
	// nobody does.
	Vouched string
	// Signature is the address of a signature beside the file, which was not checked.
	Signature string
	// Local says that the source was a file of this machine, and URI is made up.
	Local bool
	// Strip is how many leading folders of the archive's paths are left out.
	Strip int
}

var (
	archiveEnding = regexp.MustCompile(`(?i)(\.tar\.(gz|xz|bz2|zst|lz|lzma|Z)|\.t[gx]z|\.tbz2?|\.zip|\.crate|\.gem|\.tar)$`)
	nameVersion   = regexp.MustCompile(`^(.+?)[-_ ][vV]?(\d[A-Za-z0-9]*(?:[._+~-][A-Za-z0-9]+)*)$`)
	nameAndDigits = regexp.MustCompile(`^(.*[A-Za-z])(\d+(?:[._]\d+)*)$`)
	// repacked is what Debian adds to the version of what it packed anew.
	repacked = regexp.MustCompile(`[.+~-](dfsg|ds|repack)[.0-9]*(\+really)?`)
	// decoration is what stands in a file's name beside name and version.
	decoration = regexp.MustCompile(`(?i)[-._](src|source|sources|orig|release|final|stable|dist|bundle)$`)
)

// OfAddress tells what the address of a file says of name and upstream's version; each
// is empty where it says nothing.
func OfAddress(uri string) (name, version string) {
	if rest, is := strings.CutPrefix(uri, "debian:"); is {
		source, file, _ := strings.Cut(rest, "/")
		file = undecorated(archiveEnding.ReplaceAllString(file, ""))
		_, version, _ = strings.Cut(file, "_")
		if _, after, found := strings.Cut(version, "+really"); found {
			version = after
		}
		return source, repacked.ReplaceAllString(version, "")
	}
	u, err := url.Parse(uri)
	if err != nil {
		return "", ""
	}
	parts := strings.Split(strings.Trim(u.Path, "/"), "/")
	file := archiveEnding.ReplaceAllString(parts[len(parts)-1], "")
	// github.com/OWNER/NAME/archive/refs/tags/v1.2.tar.gz and the like of others: the file
	// is a tag's.
	for i, part := range parts {
		if part == "archive" && i >= 1 {
			project := parts[i-1]
			if project == "-" && i >= 2 { // gitlab: NAME/-/archive/TAG/NAME-TAG.tar.gz
				project = parts[i-2]
			}
			return strings.TrimSuffix(project, ".git"), OfTag(strings.TrimPrefix(file, project+"-"), project)
		}
	}
	// sourceforge.net/projects/NAME/files/.../FILE/download
	if file == "download" && len(parts) > 1 {
		file = archiveEnding.ReplaceAllString(parts[len(parts)-2], "")
	}
	file = undecorated(file)
	for _, form := range []*regexp.Regexp{nameVersion, nameAndDigits} {
		if m := form.FindStringSubmatch(file); m != nil {
			return m[1], m[2]
		}
	}
	return file, ""
}

func undecorated(file string) string {
	for decoration.MatchString(file) {
		file = decoration.ReplaceAllString(file, "")
	}
	return file
}

// OfRepository is the project's name in a repository's address.
func OfRepository(address string) string {
	u, err := url.Parse(address)
	if err != nil {
		return ""
	}
	return strings.TrimSuffix(path.Base(strings.Trim(u.Path, "/")), ".git")
}

// OfTag is upstream's version in a tag, e.g. 1.2.3 in v1.2.3, zlib-1.2.3, REL_1_2_3.
func OfTag(tag, project string) string {
	version := tag[strings.LastIndexByte(tag, '/')+1:]
	if rest, found := cutPrefixFold(version, project); found {
		version = rest
	}
	i := strings.IndexAny(version, "0123456789")
	if i < 0 {
		return version
	}
	version = version[i:]
	if !strings.Contains(version, ".") {
		version = strings.ReplaceAll(version, "_", ".")
		if !strings.ContainsAny(version, "abcdefghijklmnopqrstuvwxyz") {
			version = strings.ReplaceAll(version, "-", ".")
		}
	}
	return version
}

func cutPrefixFold(s, prefix string) (string, bool) {
	if prefix != "" && len(s) >= len(prefix) && strings.EqualFold(s[:len(prefix)], prefix) {
		return s[len(prefix):], true
	}
	return s, false
}

// PackageName is a name that packages may have, made of upstream's.
func PackageName(name string) string {
	name = strings.ToLower(name[strings.LastIndexByte(name, '/')+1:])
	name = regexp.MustCompile(`[^a-z0-9+_.-]+`).ReplaceAllString(name, "-")
	return strings.Trim(name, "-._+")
}

var prerelease = regexp.MustCompile(`^([0-9]+(?:\.[0-9]+)*[a-z]?)[-._~]?(alpha|beta|pre|rc|dev|a|b|p)[-._]?([0-9]*)$`)

// PackageVersion is upstream's version in apk's grammar: 1.0-rc1 is 1.0_rc1. ok is false
// where nothing of it can be kept.
func PackageVersion(upstream string) (version string, ok bool) {
	upstream = strings.TrimPrefix(strings.ToLower(upstream), "v")
	if _, err := apk.ParseVersion(upstream); err == nil && !strings.Contains(upstream, "-r") {
		return upstream, true
	}
	if m := prerelease.FindStringSubmatch(upstream); m != nil {
		suffix := map[string]string{"a": "alpha", "b": "beta", "dev": "pre"}[m[2]]
		if suffix == "" {
			suffix = m[2]
		}
		version = m[1] + "_" + suffix + m[3]
	} else {
		version = strings.Trim(regexp.MustCompile(`[^0-9.]+`).ReplaceAllString(upstream, "."), ".")
		version = regexp.MustCompile(`\.{2,}`).ReplaceAllString(version, ".")
	}
	_, err := apk.ParseVersion(version)
	return version, err == nil
}

// transform is a variable made of the version, for an address that has it in another form.
type transform struct{ match, replace, to string }

// template writes ${{package.version}} into an address, or variables made of it where the
// address has the version in another form, and gives these.
func template(address, upstream, version string) (string, []transform) {
	var transforms []transform
	add := func(t transform) string {
		for _, known := range transforms {
			if known == t {
				return "${{vars." + t.to + "}}"
			}
		}
		transforms = append(transforms, t)
		return "${{vars." + t.to + "}}"
	}
	const whole = "${{package.version}}"
	switch {
	case upstream == "":
		return address, nil
	case upstream == version:
		address = replaceWhole(address, version, whole)
	default:
		// Upstream's own form, by what turns one into the other.
		if m := prerelease.FindStringSubmatch(strings.ToLower(upstream)); m != nil && strings.HasPrefix(version, m[1]+"_") && strings.HasSuffix(version, m[3]) {
			between := upstream[len(m[1]) : len(upstream)-len(m[3])]
			suffix := strings.TrimSuffix(strings.TrimPrefix(version, m[1]), m[3])
			address = replaceWhole(address, upstream, add(transform{suffix, between, "upstream-version"}))
		} else if dotted := dots(upstream); dotted == version {
			address = replaceWhole(address, upstream, add(transform{`\.`, separator(upstream), "upstream-version"}))
		}
	}
	for _, form := range []struct{ separator, to string }{{"_", "underscored-version"}, {"-", "dashed-version"}, {"", "joined-version"}} {
		other := strings.ReplaceAll(version, ".", form.separator)
		if other == version || len(other) < 3 || strings.Contains(address, whole) && form.separator == "" {
			continue
		}
		if replaced := replaceWhole(address, other, "\x00"); replaced != address {
			address = strings.ReplaceAll(replaced, "\x00", add(transform{`\.`, form.separator, form.to}))
		}
	}
	// A folder of the line of versions: .../1.2/x-1.2.3.tar.xz
	if part := strings.Split(version, "."); len(part) > 2 {
		line := part[0] + "." + part[1]
		for _, form := range []string{"/" + line + "/", "/v" + line + "/"} {
			if strings.Contains(address, form) {
				address = strings.ReplaceAll(address, form, strings.Replace(form, line, add(transform{`^(\d+\.\d+)\..*$`, "${1}", "major-minor-version"}), 1))
			}
		}
	}
	return address, transforms
}

func dots(s string) string { return strings.NewReplacer("_", ".", "-", ".").Replace(s) }

func separator(s string) string {
	if strings.Contains(s, "_") {
		return "_"
	}
	return "-"
}

// replaceWhole replaces a version where no more digits stand around it.
func replaceWhole(s, version, by string) string {
	pattern := regexp.MustCompile(`(^|[^0-9.])` + regexp.QuoteMeta(version) + `($|[^0-9])`)
	for i := 0; i < 8; i++ { // matches share the byte between them
		// Not where a longer version goes on: 1.2 in 1.2.3.
		replaced := pattern.ReplaceAllStringFunc(s, func(m string) string {
			sub := pattern.FindStringSubmatch(m)
			return sub[1] + "\x01" + sub[2]
		})
		next := regexp.MustCompile(`\x01(\.[0-9])`).ReplaceAllString(replaced, strings.ReplaceAll(version, "$", "$$")+"\x02$1")
		if next = strings.ReplaceAll(next, "\x02", ""); next == s {
			break
		}
		s = strings.ReplaceAll(next, "\x01", by)
	}
	return s
}

// github is OWNER/NAME of an address at GitHub, or "".
func github(address string) string {
	u, err := url.Parse(address)
	if err != nil || u.Hostname() != "github.com" && u.Hostname() != "www.github.com" {
		return ""
	}
	part := strings.Split(strings.Trim(u.Path, "/"), "/")
	if len(part) < 2 {
		return ""
	}
	return fmt.Sprintf("%s/%s", part[0], strings.TrimSuffix(part[1], ".git"))
}
