package store

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// isFree reports whether another process could take the lock of the store in dir.
func isFree(t *testing.T, dir string, how int) bool {
	t.Helper()
	f, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	err = flock(f, how|unix.LOCK_NB)
	if err != nil && !errors.Is(err, unix.EWOULDBLOCK) {
		t.Fatal(err)
	}
	return err == nil
}

// TestGate looks at the lock as another process does while goroutines come and go.
func TestGate(t *testing.T) {
	s := openStore(t)
	enter := func(how func() (func(), error)) func() {
		t.Helper()
		release, err := how()
		if err != nil {
			t.Fatal(err)
		}
		return release
	}
	look := func(when string, shared, exclusive bool) {
		t.Helper()
		if got := isFree(t, s.dir, unix.LOCK_SH); got != shared {
			t.Errorf("%s: another may share it: %v", when, got)
		}
		if got := isFree(t, s.dir, unix.LOCK_EX); got != exclusive {
			t.Errorf("%s: another may have it alone: %v", when, got)
		}
	}
	for range 2 {
		look("at first", true, true)
		one, two := enter(s.shared), enter(s.shared)
		look("with two inside", true, false)
		one()
		look("with one inside", true, false)
		three := enter(s.shared)
		two()
		look("with another inside", true, false)
		three()
		look("with nobody inside", true, true)
		alone := enter(s.exclusive)
		look("with one alone", false, false)
		alone()
	}
	// Who removes the file makes another lock, and the old one counts no more.
	if err := os.Remove(s.gate.path); err != nil {
		t.Fatal(err)
	}
	again := enter(s.shared)
	look("of a new file", true, false)
	again()
	look("of a new file, with nobody inside", true, true)
	if err := os.Remove(s.gate.path); err != nil {
		t.Fatal(err)
	}
	alone := enter(s.exclusive)
	look("of a third file", false, false)
	alone()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	for _, how := range []func() (func(), error){s.shared, s.exclusive} {
		if _, err := how(); !errors.Is(err, errClosed) {
			t.Errorf("the lock of a closed store: %v", err)
		}
	}
}

// TestKnownBlobsNeedNoLock: what was noted as used is looked at while another process
// has the store alone, which leaves it where it is; what is new waits.
func TestKnownBlobsNeedNoLock(t *testing.T) {
	s := openStore(t)
	d, _, err := s.Put(strings.NewReader("blob"))
	if err != nil {
		t.Fatal(err)
	}
	id := NewHash("known").Sum()
	if err := s.Remember(id, d); err != nil {
		t.Fatal(err)
	}
	other, err := Open(s.dir)
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	if freed, err := other.GC(context.Background(), 0, GCOptions{}); err != nil || freed.Total().Number != 0 {
		t.Fatalf("GC = %+v, %v", freed, err)
	}
	release, err := other.exclusive()
	if err != nil {
		t.Fatal(err)
	}
	defer release()
	if !s.Has(d) {
		t.Error("Has = false")
	}
	var got Digest
	if found, err := s.Recall(id, &got); !found || err != nil || got != d {
		t.Errorf("Recall = %v, %v, %s", found, err, got)
	}
	f, err := s.Open(d)
	if err != nil {
		t.Fatal(err)
	}
	f.Close()
}
