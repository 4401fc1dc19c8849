package repo

import (
	"net/http"
	"net/url"
	"testing"
)

// A redirect never leaves what was asked for over TLS to one that anybody can answer.
func TestRedirects(t *testing.T) {
	for _, test := range []struct {
		from, to string
		allowed  bool
	}{
		{"https://a.example", "https://b.example", true},
		{"http://a.example", "http://b.example", true},
		{"http://a.example", "https://b.example", true},
		{"https://a.example", "http://a.example", false},
		{"http://a.example", "file:///etc/passwd", false},
	} {
		request := func(address string) *http.Request {
			u, err := url.Parse(address)
			if err != nil {
				t.Fatal(err)
			}
			return &http.Request{URL: u}
		}
		err := checkRedirect(request(test.to), []*http.Request{request(test.from)})
		if (err == nil) != test.allowed {
			t.Errorf("%s to %s: got %v, want allowed %v", test.from, test.to, err, test.allowed)
		}
	}
}
