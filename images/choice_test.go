package images

import "testing"

func TestRefusesLicense(t *testing.T) {
	deny, allow := Choice{Deny: []string{"GPL-2.0-only", "AGPL-*"}}, Choice{Allow: []string{"MIT", "Apache-2.0", "GPL-2.0-or-later"}}
	tests := []struct {
		license         string
		denied, allowed bool
	}{
		{"MIT", false, true},
		{"mit or gpl-2.0-only", false, true},
		{"MIT AND GPL-2.0-only", true, true}, // the -or-later that is allowed covers it
		{"MIT AND (BSD-3-Clause OR AGPL-3.0-only)", false, false},
		{"MIT AND (AGPL-3.0-or-later OR GPL-2.0-only)", true, true},
		{"GPL-2.0-only WITH Classpath-exception-2.0", true, false},
		{"Apache-2.0 WITH LLVM-exception", false, true},
		// Other ways to write the same.
		{"GPL-2.0", true, true},
		{"GPL-2.0+", false, true},
		{"GPL-2.0-or-later", false, true},
		// What is no expression names no way out.
		{"GPL-2.0-only MIT", true, false},
		{"MIT/GPL-2.0-only", true, false},
		{"MIT, GPL-2.0", true, false},
		{"(MIT OR GPL-2.0-only", true, false},
		{"MIT OR", false, false},
		{"Own licence of somebody", false, false},
	}
	for _, test := range tests {
		if why := deny.refusesLicense([]string{test.license}); (why != "") != test.denied {
			t.Errorf("deny: %s: got %q, want denied %v", test.license, why, test.denied)
		}
		if why := allow.refusesLicense([]string{test.license}); (why == "") != test.allowed {
			t.Errorf("allow: %s: got %q, want allowed %v", test.license, why, test.allowed)
		}
	}
}
