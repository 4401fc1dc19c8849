package main

import (
	"errors"
	"fmt"
	"testing"

	"github.com/tarn-build/tarn/build/seed"
	"github.com/tarn-build/tarn/build/source"
)

// What nobody vouches for is a matter of trust, and what could not be asked one of sources.
func TestExitCodeOfSums(t *testing.T) {
	mismatch := &source.MismatchError{Algorithm: "h1", Want: "h1:a", Got: "h1:b"}
	for _, test := range []struct {
		err  error
		want int
	}{
		{&seed.SumError{Module: "m@v1", Database: "sums.test", Err: mismatch}, exitTrust},
		{&source.Error{Name: "m@v1", Tried: []source.Attempt{{From: "the checksum database", Err: errors.New("no answer")}}}, exitSource},
	} {
		if got := exitCode(fmt.Errorf("update the lock of Go: %w", test.err)); got != test.want {
			t.Errorf("%v: got %d, want %d", test.err, got, test.want)
		}
	}
}
