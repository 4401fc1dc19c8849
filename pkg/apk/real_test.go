package apk_test

import (
	"os"
	"os/exec"
	"testing"
)

// realApk is the program apk: the one that TARN_APK names, or that of the PATH. Debian
// does not have it, so a test that wants it skips; where TARN_APK is set it must be there.
func realApk(t *testing.T) string {
	t.Helper()
	name := os.Getenv("TARN_APK")
	required := name != ""
	if !required {
		name = "apk"
	}
	program, err := exec.LookPath(name)
	if err != nil {
		if required {
			t.Fatal(err)
		}
		t.Skip("no program apk (TARN_APK names one)")
	}
	return program
}

func run(t *testing.T, program string, args ...string) string {
	t.Helper()
	out, err := exec.Command(program, args...).CombinedOutput()
	if err != nil {
		t.Errorf("apk %q: %v\n%s", args, err, out)
	}
	return string(out)
}
