package namespace

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/tarn-build/tarn/pkg/sandbox"
)

const (
	offVariable = "TARN_TEST_NAMESPACES_OFF"
	offTest     = "TestNamespacesOff"
)

// TestNamespacesOff takes one kind of namespace away in a user namespace around
// this test, whose limits are its own, and wants the setting's name to be told.
func TestNamespacesOff(t *testing.T) {
	if kinds, ok := os.LookupEnv(offVariable); ok {
		for _, kind := range strings.Fields(kinds) {
			if err := os.WriteFile("/proc/sys/user/max_"+kind+"_namespaces", []byte("0"), 0); err != nil {
				t.Fatal(err)
			}
		}
		facts := Check(context.Background())
		var lack *sandbox.Lack
		_, open := Backend{}.Open(context.Background(), sandbox.Spec{Layers: []string{"/usr"}})
		if errors.As(open, &lack) != !facts[1].OK {
			t.Errorf("check says %+v, open says %v", facts[1], open)
		}
		if err := json.NewEncoder(os.Stderr).Encode(facts); err != nil {
			t.Fatal(err)
		}
		return
	}
	if err := (Backend{}).Available(); err != nil {
		t.Skip(err)
	}
	for _, c := range []struct{ kinds, detail, fix string }{
		{"", "", ""},
		{"user", "user.max_user_namespaces = 0", "sysctl -w user.max_user_namespaces=10000"},
		{"net", "user.max_net_namespaces = 0", "sysctl -w user.max_net_namespaces=10000"},
		{"pid", "user.max_pid_namespaces = 0", "sysctl -w user.max_pid_namespaces=10000"},
	} {
		facts := factsWithout(t, c.kinds)
		i := slices.IndexFunc(facts, func(f Fact) bool { return f.Name == "namespaces" })
		if i < 0 {
			t.Fatalf("without %q: no fact about namespaces: %+v", c.kinds, facts)
		}
		if got := facts[i]; got.OK != (c.kinds == "") || !strings.Contains(got.Detail, c.detail) || got.Fix != c.fix {
			t.Errorf("without %q: got %+v, want %q, %q", c.kinds, got, c.detail, c.fix)
		}
	}
}

// factsWithout checks in a user namespace that has none of the kinds.
func factsWithout(t *testing.T, kinds string) []Fact {
	t.Helper()
	c := exec.Command("/proc/self/exe", "-test.run=^"+offTest+"$")
	c.Env = append(os.Environ(), offVariable+"="+kinds)
	c.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWUSER,
		UidMappings: []syscall.SysProcIDMap{{HostID: os.Geteuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{HostID: os.Getegid(), Size: 1}},
	}
	var out, words bytes.Buffer
	c.Stdout, c.Stderr = &out, &words
	if err := c.Run(); err != nil {
		t.Fatalf("without %q: %v\n%s%s", kinds, err, out.String(), words.String())
	}
	var facts []Fact
	if err := json.Unmarshal(words.Bytes(), &facts); err != nil {
		t.Fatalf("without %q: %v\n%s", kinds, err, words.String())
	}
	return facts
}

func TestCheck(t *testing.T) {
	facts := Check(context.Background())
	for _, name := range []string{
		"kernel", "namespaces", "mounts", "overlay", "overlay lowerdir+", "process table", "system call filter",
		"static program", "subordinate ids", "limits",
	} {
		i := slices.IndexFunc(facts, func(f Fact) bool { return f.Name == name })
		if i < 0 {
			t.Errorf("no fact %q in %+v", name, facts)
			continue
		}
		t.Logf("%+v", facts[i])
		if f := facts[i]; !f.OK && f.Detail == "" {
			t.Errorf("%s is not so, and no reason is given", name)
		}
	}
	needed := slices.ContainsFunc(facts, func(f Fact) bool { return f.Needed && !f.OK })
	if err := (Backend{}).Available(); (err != nil) != needed {
		t.Errorf("Available says %v, Check says %+v", err, facts)
	}
}

func TestSince(t *testing.T) {
	for release, want := range map[string]bool{
		"6.14.0": true, "6.14.0-rc1+": true, "6.18.44-cloud": true, "7.0.1": true, "10.2": true,
		"6.13.12": false, "6.1.0-56-cloud-amd64": false, "5.15.0-101-generic": false, "4.4.0": false, "unknown": false, "": false,
	} {
		if got := since(release, 6, 14); got != want {
			t.Errorf("%q is Linux 6.14 or later: got %v, want %v", release, got, want)
		}
	}
}
