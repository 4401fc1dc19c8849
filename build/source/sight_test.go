package source

import (
	"strings"
	"testing"
)

func TestChecksumOf(t *testing.T) {
	a, b, long := strings.Repeat("a", 64), strings.Repeat("b", 64), strings.Repeat("c", 128)
	tests := []struct{ name, text, want string }{
		{"alone", a + "\n", a},
		{"of sha256sum", b + "  other.tar.gz\n" + a + "  x.tar.gz\n", a},
		{"of a binary", a + " *x.tar.gz\n", a},
		{"in a folder", a + "  ./dist/x.tar.gz\n", a},
		{"of BSD", "SHA256 (other.tar.gz) = " + b + "\nSHA256 (x.tar.gz) = " + a + "\n", a},
		{"in capitals", strings.ToUpper(a) + "  x.tar.gz", a},
		{"signed in clear text", "-----BEGIN PGP SIGNED MESSAGE-----\nHash: SHA512\n\n" + a + "  x.tar.gz\n-----BEGIN PGP SIGNATURE-----\n", a},
		{"of another length", long + "  x.tar.gz\n", ""},
		{"of other files", b + "  x.tar.gz.asc\n" + b + "  x.tar.xz\n", ""},
		{"a page that says that there is none", "<html>404</html>", ""},
		{"nothing", "", ""},
	}
	for _, test := range tests {
		if got := checksumOf([]byte(test.text), "x.tar.gz", 64); got != test.want {
			t.Errorf("%s: got %q, want %q", test.name, got, test.want)
		}
	}
}
