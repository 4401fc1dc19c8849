package scaffold

import "testing"

func TestExpression(t *testing.T) {
	for claimed, want := range map[string]string{
		"MIT": "MIT", "mit": "MIT", "MIT License": "MIT", "MIT/Apache-2.0": "MIT OR Apache-2.0", "(MIT OR Apache-2.0)": "(MIT OR Apache-2.0)",
		"mit or gplv2+": "MIT OR GPL-2.0-or-later", "GPL-2.0": "GPL-2.0-only", "GPL-2.0-or-later WITH GCC-exception-3.1": "GPL-2.0-or-later WITH GCC-exception-3.1",
		"perl_5": "Artistic-1.0-Perl OR GPL-1.0-or-later",
		"BSD":    "", "Dual license": "", "SEE LICENSE IN x": "", "MIT OR": "", "": "", "Whatever-1.0": "", "MIT Apache-2.0": "",
	} {
		if got := expression(claimed); got != want {
			t.Errorf("%q: got %q, want %q", claimed, got, want)
		}
	}
}
