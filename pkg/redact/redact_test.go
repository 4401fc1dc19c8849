package redact_test

import (
	"testing"

	"github.com/tarn-build/tarn/pkg/redact"
)

func TestAddress(t *testing.T) {
	for address, want := range map[string]string{
		"https://host.example/x":                      "https://host.example/x",
		"https://ann:canary@host.example/x":           "https://xxxxx@host.example/x",
		"https://canary@host.example/x":               "https://xxxxx@host.example/x",
		"https://canary:@host.example/x":              "https://xxxxx@host.example/x",
		"https://canary:x-oauth-basic@host.example/x": "https://xxxxx@host.example/x",
		"https://:canary@host.example/x":              "https://xxxxx@host.example/x",
		"https://a@canary@host.example/x?y=z@v":       "https://xxxxx@host.example/x?y=z@v",
		"ssh://git@host.example/x":                    "ssh://git@host.example/x",
		"ssh://git:canary@host.example/x":             "ssh://xxxxx@host.example/x",
		"https://host.example/{sha256}":               "https://host.example/{sha256}",
		"https://host.example/x@v1":                   "https://host.example/x@v1",
		"https://ann:can/ary@host.example/x":          "an address that cannot be read",
		"folder/file":                                 "folder/file",
	} {
		if got := redact.Address(address); got != want {
			t.Errorf("%s: got %s, want %s", address, got, want)
		}
		if want == "an address that cannot be read" {
			continue
		}
		if got := redact.Text("fetch \"" + address + "\": ann@host.example"); got != "fetch \""+want+"\": ann@host.example" {
			t.Errorf("in a text: got %s, want %s", got, want)
		}
	}
}
