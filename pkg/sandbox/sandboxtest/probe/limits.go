package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"time"
)

// eat holds memory in a number of processes, so many MiB each, for a while.
func eat(a []string) error {
	n, mib, err := twoNumbers(a)
	if err != nil {
		return err
	}
	var others []*exec.Cmd
	for range n - 1 {
		c := exec.Command("/proc/self/exe", "eat", "1", a[1])
		c.Stderr = os.Stderr
		if err := c.Start(); err != nil {
			return err
		}
		others = append(others, c)
	}
	held := make([][]byte, 0, mib)
	for range mib {
		held = append(held, bytes.Repeat([]byte{1}, 1<<20))
	}
	time.Sleep(time.Second)
	for _, c := range others {
		err = errors.Join(err, c.Wait())
	}
	for _, h := range held {
		if h[len(h)-1] != 1 {
			return errors.New("memory changed")
		}
	}
	return err
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
	var first error
	for range n {
		c := exec.Command("/proc/self/exe", "sleep")
		if err := c.Start(); err != nil && first == nil {
			first = err
		}
	}
	time.Sleep(500 * time.Millisecond)
	return first
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
	time.Sleep(500 * time.Millisecond)
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
