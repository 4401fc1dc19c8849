package main

import "testing"

// What is noted of a checkout in packages holds no secret and no path of this machine.
func TestPublicAddress(t *testing.T) {
	for remote, want := range map[string]string{
		"https://github.com/wolfi-dev/os":                "https://github.com/wolfi-dev/os",
		"https://github.com/wolfi-dev/os.git":            "https://github.com/wolfi-dev/os",
		"https://somebody:ghp_secret@github.com/x/y.git": "https://github.com/x/y",
		"https://github.com/x/y.git?token=secret":        "https://github.com/x/y",
		"git@github.com:wolfi-dev/os.git":                "https://github.com/wolfi-dev/os",
		"github.com:wolfi-dev/os":                        "https://github.com/wolfi-dev/os",
		"ssh://git@github.com:22/wolfi-dev/os":           "https://github.com/wolfi-dev/os",
		"git://git.example.org/os":                       "git://git.example.org/os",
		"/home/somebody/os":                              "",
		"../os":                                          "",
		"file:///home/somebody/os":                       "",
		"":                                               "",
		"https://":                                       "",
		"a/b:c":                                          "",
		"%zz":                                            "",
		"ext::sh -c id":                                  "",
		"somebody:secret@host:path/of/it":                "",
	} {
		if got := publicAddress(remote); got != want {
			t.Errorf("%q: got %q, want %q", remote, got, want)
		}
	}
}
