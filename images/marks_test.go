package images

import (
	"math/rand/v2"
	"strings"
	"testing"
)

// However a program comes in pieces, it is known by its marks.
func TestMarksInPieces(t *testing.T) {
	filler := strings.Repeat("x", 5000)
	tests := []struct{ content, want string }{
		{"\x7fELF" + filler + "BusyBox v1.37" + filler + "applet not found" + filler, "busybox"},
		{"\x7fELF" + filler + "@(#)Bash version 5", "bash"},
		{"\x7fELF" + filler + "getopts\x00unalias\x00" + filler, "a POSIX shell"},
		{"\x7fELF" + filler + "getopts\x00" + filler, ""},
		{"#!/bin/sh\n" + filler + "BusyBox is a multi-call binary", ""},
		{"\x7fE", ""},
		{"", ""},
	}
	r := rand.New(rand.NewPCG(1, 2))
	for _, test := range tests {
		for _, largest := range []int{1, 2, 7, 40, 3000, 1 << 20} {
			m := &marker{}
			for rest := test.content; rest != ""; {
				n := min(1+r.IntN(largest), len(rest))
				if _, err := m.Write([]byte(rest[:n])); err != nil {
					t.Fatal(err)
				}
				rest = rest[n:]
			}
			if got := m.name(); got != test.want {
				t.Errorf("%.20q... in pieces of up to %d: got %q, want %q", test.content, largest, got, test.want)
			}
		}
	}
}
