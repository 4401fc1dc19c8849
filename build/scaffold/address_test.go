package scaffold

import (
	"fmt"
	"testing"
)

func TestOfAddress(t *testing.T) {
	tests := []struct{ uri, want string }{
		{"https://example.org/hello-2.12.1.tar.gz", "hello 2.12.1"},
		{"https://example.org/hello_2.12.1.orig.tar.xz", "hello 2.12.1"},
		{"https://example.org/files/x264-snapshot-20191217.tar.bz2", "x264-snapshot 20191217"},
		{"https://example.org/font-2.tar.gz", "font 2"},
		{"https://example.org/libfoo2-1.0-rc1.tgz", "libfoo2 1.0-rc1"},
		{"https://example.org/foo-1.2.3-src.tar.gz", "foo 1.2.3"},
		{"https://example.org/foo.tar.gz", "foo "},
		{"https://github.com/lz4/lz4/archive/refs/tags/v1.10.0.tar.gz", "lz4 1.10.0"},
		{"https://github.com/lz4/lz4/archive/v1.10.0.tar.gz", "lz4 1.10.0"},
		{"https://github.com/lz4/lz4/releases/download/v1.10.0/lz4-1.10.0.tar.gz", "lz4 1.10.0"},
		{"https://gitlab.com/o/thing/-/archive/v2.1/thing-v2.1.tar.gz", "thing 2.1"},
		{"https://sourceforge.net/projects/zsh/files/zsh/5.9/zsh-5.9.tar.xz/download", "zsh 5.9"},
		{"https://crates.example.org/ripgrep/ripgrep-14.1.0.crate", "ripgrep 14.1.0"},
		{"debian:zlib/zlib_1.3.dfsg+really1.3.1.orig.tar.gz", "zlib 1.3.1"},
		{"debian:tar/tar_1.35+dfsg.orig.tar.xz", "tar 1.35"},
		{"debian:lz4/lz4_1.10.0.orig.tar.gz", "lz4 1.10.0"},
		{"debian:libevent/libevent_2.1.12-stable.orig.tar.gz", "libevent 2.1.12"},
		{"://", " "},
	}
	for _, test := range tests {
		name, version := OfAddress(test.uri)
		if got := name + " " + version; got != test.want {
			t.Errorf("%s: got %q, want %q", test.uri, got, test.want)
		}
	}
}

func TestOfTag(t *testing.T) {
	for tag, want := range map[string]string{
		"v1.2.3": "1.2.3", "zlib-1.3": "1.3", "REL_17_2": "17.2", "release/2.0": "2.0", "1.0": "1.0", "R_2_7_1": "2.7.1", "v1.0-rc1": "1.0-rc1", "nightly": "nightly", "zlib1-2": "1.2",
	} {
		if got := OfTag(tag, "zlib"); got != want {
			t.Errorf("%s: got %q, want %q", tag, got, want)
		}
	}
}

func TestPackageVersion(t *testing.T) {
	for upstream, want := range map[string]string{
		"1.2.3": "1.2.3", "1.0-rc1": "1.0_rc1", "2.0.0-beta.2": "2.0.0_beta2", "1.0b3": "1.0_beta3", "9.1p1": "9.1_p1", "2024-01-02": "2024.01.02",
		"1.2a": "1.2a", "V3": "3", "2.1.12-stable": "2.1.12", "x": "",
	} {
		if got, ok := PackageVersion(upstream); ok != (want != "") || ok && got != want {
			t.Errorf("%s: got %q %t, want %q", upstream, got, ok, want)
		}
	}
}

func TestTemplate(t *testing.T) {
	tests := []struct{ address, upstream, version, want string }{
		{"https://e.org/a-1.2.3.tar.gz", "1.2.3", "1.2.3", "https://e.org/a-${{package.version}}.tar.gz []"},
		{"https://e.org/v1.2.3/a-1.2.3.tar.gz", "1.2.3", "1.2.3", "https://e.org/v${{package.version}}/a-${{package.version}}.tar.gz []"},
		{"https://e.org/1.2/a-1.2.3.tar.gz", "1.2.3", "1.2.3", "https://e.org/${{vars.major-minor-version}}/a-${{package.version}}.tar.gz [{^(\\d+\\.\\d+)\\..*$ ${1} major-minor-version}]"},
		{"https://e.org/REL_1_2_3/a-1.2.3.tar.gz", "1.2.3", "1.2.3", "https://e.org/REL_${{vars.underscored-version}}/a-${{package.version}}.tar.gz [{\\. _ underscored-version}]"},
		{"https://e.org/a-1.0-rc1.tar.gz", "1.0-rc1", "1.0_rc1", "https://e.org/a-${{vars.upstream-version}}.tar.gz [{_rc -rc upstream-version}]"},
		{"https://e.org/unzip60.tar.gz", "6.0", "6.0", "https://e.org/unzip60.tar.gz []"},
		{"https://e.org/tcl869.tar.gz", "8.6.9", "8.6.9", "https://e.org/tcl${{vars.joined-version}}.tar.gz [{\\.  joined-version}]"},
		{"https://e.org/11.2/a-1.2.tar.gz", "1.2", "1.2", "https://e.org/11.2/a-${{package.version}}.tar.gz []"},
		{"https://e.org/a-1.2.tar.gz?of=1.2.3", "1.2", "1.2", "https://e.org/a-${{package.version}}.tar.gz?of=1.2.3 []"},
		{"https://e.org/a-2024-01-02.tar.gz", "2024-01-02", "2024.01.02", "https://e.org/a-${{vars.upstream-version}}.tar.gz [{\\. - upstream-version}]"},
		{"https://e.org/a.tar.gz", "", "0", "https://e.org/a.tar.gz []"},
	}
	for _, test := range tests {
		address, transforms := template(test.address, test.upstream, test.version)
		if got := fmt.Sprint(address, " ", transforms); got != test.want {
			t.Errorf("%s: got  %s\nwant %s", test.address, got, test.want)
		}
	}
}
