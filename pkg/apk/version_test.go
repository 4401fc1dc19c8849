package apk

import (
	"errors"
	"math/rand/v2"
	"os"
	"os/exec"
	"strings"
	"testing"
)

// versionChain is in the order of apk-tools 3, each before the next: every pair of it
// is a comparison.
var versionChain = strings.Fields(`
	0_alpha 0 0.0_pre 0.0 0.00 0.01 0.1 0.1.0_alpha_pre2 0.1.0_alpha 0.1.0_alpha0 0.1.0_alpha1 0.1.0_alpha1_p1 0.1.0_alpha2
	0.1.0_beta 0.1.0_pre 0.1.0_rc1_alpha 0.1.0_rc1 0.1.0_rc10 0.1.0 0.1.0-r0 0.1.0-r1 0.1.0-r10
	0.1.0~0a 0.1.0~0a-r1 0.1.0~0b 0.1.0_cvs 0.1.0_svn 0.1.0_git 0.1.0_git20230101_pre1 0.1.0_git20230101
	0.1.0_git20240101 0.1.0_hg 0.1.0_p1_pre2 0.1.0_p1 0.1.0_p1-r1 0.1.0_p1~f 0.1.0_p1_p1 0.1.0_p2 0.1.0a_rc1 0.1.0a
	0.1.0a-r1 0.1.0a_p1 0.1.0b 0.1.0.0 0.1.0.1 0.9 0.10 0.99f 1 1-r1 1~1234-r1 1_p 1_p0 1_p1 1a 1.0 1.0.1 1.2_pre1
	1.2 1.2-r0 1.2.3 1.3 1.10 1.20 2.0.0 3 4.09-r1 4.5.14 8.2.0015 8.2.002 8.2.1 9.2.0993 9.2.992 10 11 20230201
	99999999999999999999 99999999999999999999.1 100000000000000000000`)

func TestVersionChain(t *testing.T) {
	pairs := 0
	for i, a := range versionChain {
		if _, err := ParseVersion(a); err != nil {
			t.Errorf("ParseVersion: %v", err)
		}
		for j, b := range versionChain {
			want := sign(i - j)
			if got := sign(Version(a).Compare(Version(b))); got != want {
				t.Errorf("%s compared with %s: got %d, want %d", a, b, got, want)
			}
			pairs++
		}
	}
	if pairs < 2000 {
		t.Errorf("only %d comparisons", pairs)
	}
}

func sign(n int) int {
	switch {
	case n < 0:
		return -1
	case n > 0:
		return 1
	}
	return 0
}

// Differences in zeros that are of no weight, and what is no version at all.
func TestVersionCompareTraps(t *testing.T) {
	for _, test := range []struct {
		a, b string
		want int
	}{
		{"1.0_p1", "1.0_p01", 0},
		{"01.2", "1.2", 0},
		{"1.2-r1", "1.2-r01", 0},
		{"1.2", "1.2-r0", -1},
		{"1.02", "1.2", -1},
		{"1.2", "1.02", 1},
		{"9.2.0993", "9.2.992", -1},
		{"", "1", -1},
		{"", "", 0},
		{"x", "1", -1},
		{"x", "y", -1},
		{"1.0-beta", "1.0", -1},
		{"1.0-beta", "1.0_rc1", 1},
		{"1.0-SNAPSHOT", "1.0-SNAPSHOT", 0},
		{"0.99f7-r0", "0.99f7-r1", -1},
		{"0.99f7-r0", "0.99f", -1},
	} {
		if got := sign(Version(test.a).Compare(Version(test.b))); got != test.want {
			t.Errorf("%q compared with %q: got %d, want %d", test.a, test.b, got, test.want)
		}
		if got := sign(Version(test.b).Compare(Version(test.a))); got != -test.want {
			t.Errorf("%q compared with %q: got %d, want %d", test.b, test.a, got, -test.want)
		}
	}
}

func TestParseVersionRefuses(t *testing.T) {
	for text, want := range map[string]string{
		"":            "version is empty",
		"v1.2":        `version "v1.2" does not begin with a digit`,
		".1":          `version ".1" does not begin with a digit`,
		"1.":          `version "1.": unexpected "."`,
		"1..2":        `version "1..2": unexpected "..2"`,
		"1.2.":        `version "1.2.": unexpected "."`,
		"1.2ab":       `version "1.2ab": unexpected "b"`,
		"1.2a3":       `version "1.2a3": unexpected "3"`,
		"1.2a.3":      `version "1.2a.3": unexpected ".3"`,
		"1.2A":        `version "1.2A": unexpected "A"`,
		"1.2_foo":     `version "1.2_foo": unexpected "_foo"`,
		"1.2_":        `version "1.2_": unexpected "_"`,
		"1.2_p1a":     `version "1.2_p1a": unexpected "a"`,
		"1.2_p1.1":    `version "1.2_p1.1": unexpected ".1"`,
		"1.2_p_":      `version "1.2_p_": unexpected "_"`,
		"1.2~":        `version "1.2~": unexpected "~"`,
		"1.2~xyz":     `version "1.2~xyz": unexpected "~xyz"`,
		"1.2~ab~cd":   `version "1.2~ab~cd": unexpected "~cd"`,
		"1.2~ab_p1":   `version "1.2~ab_p1": unexpected "_p1"`,
		"1.2-r":       `version "1.2-r": unexpected "-r"`,
		"1.2-1":       `version "1.2-1": unexpected "-1"`,
		"1.2-r1-r2":   `version "1.2-r1-r2": unexpected "-r2"`,
		"1.2-r1_p1":   `version "1.2-r1_p1": unexpected "_p1"`,
		"1.2-r1~ab":   `version "1.2-r1~ab": unexpected "~ab"`,
		"1.2 ":        `version "1.2 ": unexpected " "`,
		"1:2":         `version "1:2": unexpected ":2"`,
		"1.2+dfsg":    `version "1.2+dfsg": unexpected "+dfsg"`,
		"1.2\n":       `version "1.2\n": unexpected "\n"`,
		"1.2\x00":     `version "1.2\x00": unexpected "\x00"`,
		"1.2-r1\xff":  `version "1.2-r1\xff": unexpected "\xff"`,
		"1.2_alphab1": `version "1.2_alphab1": unexpected "_alphab1"`,
	} {
		v, err := ParseVersion(text)
		if err == nil {
			t.Errorf("ParseVersion(%q): got %q, want an error", text, v)
		} else if err.Error() != want {
			t.Errorf("ParseVersion(%q):\n got %s\nwant %s", text, err, want)
		}
	}
}

func TestVersionParts(t *testing.T) {
	for _, test := range []struct {
		version, base Version
		revision      uint64
		ok            bool
	}{
		{"1.3.1-r0", "1.3.1", 0, true},
		{"1.3.1-r12", "1.3.1", 12, true},
		{"1.3.1", "1.3.1", 0, false},
		{"1_p1~ab-r7", "1_p1~ab", 7, true},
		{"1-r99999999999999999999", "1", 0, false},
		{"1-rx", "1-rx", 0, false},
		{"1-r", "1-r", 0, false},
		{"", "", 0, false},
	} {
		if got := test.version.Base(); got != test.base {
			t.Errorf("%q.Base(): got %q, want %q", test.version, got, test.base)
		}
		if n, ok := test.version.Revision(); n != test.revision && test.ok || ok != test.ok {
			t.Errorf("%q.Revision(): got %d, %v, want %d, %v", test.version, n, ok, test.revision, test.ok)
		}
	}
}

// randomVersion is a version, or, now and then, what is none.
func randomVersion(r *rand.Rand) Version {
	var b strings.Builder
	pick := func(words ...string) { b.WriteString(words[r.IntN(len(words))]) }
	numbers := []string{"0", "00", "1", "01", "2", "9", "10", "010", "100"}
	pick(numbers...)
	for r.IntN(2) == 0 {
		b.WriteByte('.')
		pick(numbers...)
	}
	pick("", "", "", "a", "b")
	for r.IntN(3) == 0 {
		pick("_alpha", "_beta", "_pre", "_rc", "_cvs", "_svn", "_git", "_hg", "_p")
		pick("", "0", "1", "01", "2")
	}
	pick("", "", "", "~a", "~0a")
	pick("", "-r0", "-r1", "-r01", "-r10")
	pick("", "", "", "", "", "", "", "-", "x", "_")
	return Version(b.String())
}

func TestCompareIsAnOrder(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 200_000 {
		a, b, c := randomVersion(r), randomVersion(r), randomVersion(r)
		ab, ba, bc, ac := sign(a.Compare(b)), sign(b.Compare(a)), sign(b.Compare(c)), sign(a.Compare(c))
		if a.Compare(a) != 0 {
			t.Fatalf("%q is not equal to itself", a)
		}
		if ab != -ba {
			t.Fatalf("%q and %q: %d one way, %d the other", a, b, ab, ba)
		}
		if ab <= 0 && bc <= 0 && ac > 0 || ab < 0 && bc <= 0 && ac >= 0 || ab == 0 && ac != bc {
			t.Fatalf("%q, %q, %q: %d, %d, but %d", a, b, c, ab, bc, ac)
		}
	}
}

func FuzzParseVersion(f *testing.F) {
	for _, v := range versionChain {
		f.Add(v, "1.2-r0")
	}
	f.Add("1.2_", "1.2-r")
	f.Fuzz(func(t *testing.T, a, b string) {
		v, err := ParseVersion(a)
		if err == nil && string(v) != a {
			t.Errorf("ParseVersion(%q) gives %q", a, v)
		}
		if x, y := sign(Version(a).Compare(Version(b))), sign(Version(b).Compare(Version(a))); x != -y {
			t.Errorf("%q and %q: %d one way, %d the other", a, b, x, y)
		}
		base := Version(a).Base()
		if n, ok := Version(a).Revision(); err == nil && ok {
			if _, err := ParseVersion(string(base)); err != nil {
				t.Errorf("base of %q: %v", a, err)
			}
			if base.Compare(v) >= 0 {
				t.Errorf("%q is not before %q, revision %d", base, v, n)
			}
		}
	})
}

// The real apk is the judge: of what is a version, and of two which comes first.
func TestRealApkComparesVersions(t *testing.T) {
	program := os.Getenv("TARN_APK")
	if program == "" {
		t.Skip("no program apk (TARN_APK names one)")
	}
	r := rand.New(rand.NewPCG(3, 4))
	judge := func(args ...string) string {
		// Its exit status is that of its findings.
		out, err := exec.Command(program, append([]string{"version"}, args...)...).CombinedOutput()
		if _, is := errors.AsType[*exec.ExitError](err); err != nil && !is {
			t.Fatal(err)
		}
		return string(out)
	}
	for range 20 {
		var all []string
		for range 500 {
			all = append(all, string(randomVersion(r)))
		}
		wrong := map[string]bool{}
		for line := range strings.Lines(judge(append([]string{"--check"}, all...)...)) {
			wrong[strings.TrimSuffix(line, "\n")] = true
		}
		for _, v := range all {
			if _, err := ParseVersion(v); (err != nil) != wrong[v] {
				t.Errorf("%q: we say %v, apk says wrong %v", v, err, wrong[v])
			}
		}
	}
	for range 1500 {
		a, b := randomVersion(r), randomVersion(r)
		if r.IntN(2) == 0 { // a close relative
			b = a[:r.IntN(len(a))+1] + b[min(len(b), r.IntN(len(a))+1):]
		}
		_, err1 := ParseVersion(string(a))
		_, err2 := ParseVersion(string(b))
		if err1 != nil || err2 != nil {
			continue
		}
		want := map[int]string{-1: "<", 0: "=", 1: ">"}[sign(a.Compare(b))]
		if got := strings.TrimSpace(judge("--test", string(a), string(b))); got != want {
			t.Errorf("%s and %s: apk says %s, we say %s", a, b, got, want)
		}
	}
}
