package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"runtime/debug"
	"strconv"
	"sync"
	"time"
)

// linger ends after a while; where the surroundings say LINGER=1 it does not: a limit is
// expected there, and when whoever keeps it gets to look is not this program's to guess.
func linger() {
	if os.Getenv("LINGER") != "" {
		_ = sleep()
	}
	time.Sleep(500 * time.Millisecond)
}

// eat holds memory in a number of processes, so many MiB each, for a while. One that is
// killed ends the first.
func eat(a []string) error {
	n, mib, err := twoNumbers(a)
	if err != nil {
		return err
	}
	ended := make(chan error, n)
	for range n - 1 {
		c := exec.Command("/proc/self/exe", "eat", "1", a[1])
		c.Stderr = os.Stderr
		if err := c.Start(); err != nil {
			return err
		}
		go func() { ended <- c.Wait() }()
	}
	held := make([][]byte, 0, mib)
	for range mib {
		held = append(held, bytes.Repeat([]byte{1}, 1<<20))
	}
	for range n - 1 {
		if err := <-ended; err != nil {
			return err
		}
	}
	linger()
	for _, h := range held {
		if h[len(h)-1] != 1 {
			return errors.New("memory changed")
		}
	}
	return nil
}

// ignore runs the probe with the arguments, and takes no notice of how that ends.
func ignore(a []string) error {
	_ = exec.Command("/proc/self/exe", a...).Run()
	return nil
}

// forkMany has a number of processes at once, for a while.
func forkMany(a []string) error {
	n, err := strconv.Atoi(a[0])
	if err != nil {
		return err
	}
	// Go's runtime ends a program that needs one more thread and gets none.
	debug.SetGCPercent(-1)
	makeThreads(8)
	var first error
	for range n {
		c := exec.Command("/proc/self/exe", "sleep")
		if err := c.Start(); err != nil && first == nil {
			first = err
		}
	}
	if first != nil {
		// A control group refused it, and tells so when this ends; or another bound did,
		// behind the one that is kept by looking.
		time.Sleep(3 * time.Second)
		return first
	}
	linger()
	return nil
}

// makeThreads has the runtime make threads, which it keeps.
func makeThreads(n int) {
	var started sync.WaitGroup
	free := make(chan struct{})
	for range n {
		started.Add(1)
		go func() {
			runtime.LockOSThread()
			defer runtime.UnlockOSThread()
			started.Done()
			<-free
		}()
	}
	started.Wait()
	close(free)
}

// openMany opens a number of files at once.
func openMany(a []string) error {
	n, err := strconv.Atoi(a[0])
	if err != nil {
		return err
	}
	for range n {
		f, err := os.Open("/dev/null")
		if err != nil {
			return err
		}
		defer f.Close()
	}
	return nil
}

// fillAll writes files of so many MiB.
func fillAll(a []string) error {
	mib, err := strconv.Atoi(a[0])
	if err != nil {
		return err
	}
	for _, name := range a[1:] {
		f, err := os.Create(name)
		if err != nil {
			return err
		}
		for range mib {
			if _, err := f.Write(bytes.Repeat([]byte("x"), 1<<20)); err != nil {
				return err
			}
		}
		if err := f.Close(); err != nil {
			return err
		}
	}
	linger()
	return nil
}

func twoNumbers(a []string) (int, int, error) {
	if len(a) != 2 {
		return 0, 0, fmt.Errorf("want two numbers, got %q", a)
	}
	x, err := strconv.Atoi(a[0])
	if err != nil {
		return 0, 0, err
	}
	y, err := strconv.Atoi(a[1])
	return x, y, err
}

// grow makes a file of so many MiB that is one hole, and writes behind it.
func grow(a []string) error {
	mib, err := strconv.ParseInt(a[0], 10, 64)
	if err != nil {
		return err
	}
	f, err := os.Create(a[1])
	if err != nil {
		return err
	}
	defer f.Close()
	if err := f.Truncate(mib << 20); err != nil {
		return err
	}
	_, err = f.WriteAt([]byte("more"), mib<<20)
	return err
}
