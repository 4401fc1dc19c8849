package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"text/tabwriter"
)

// builtRow is one recipe in what tarn build --json prints.
type builtRow struct {
	Recipe   string  `json:"recipe"`
	State    string  `json:"state"`
	Seconds  float64 `json:"seconds"`
	Packages []struct {
		Files int   `json:"files"`
		Size  int64 `json:"size"`
	} `json:"packages"`
}

// composedRow is one image in what tarn image build --json prints.
type composedRow struct {
	Image    string  `json:"image"`
	Packages int     `json:"packages"`
	Files    int     `json:"files"`
	Size     int64   `json:"size"`
	Seconds  float64 `json:"seconds"`
	Digest   string  `json:"digest"`
}

// testedRow is one package in what tarn test --json prints.
type testedRow struct {
	State string `json:"state"`
}

// servedRow is one image in what tarn image test --json prints.
type servedRow struct {
	Image string `json:"image"`
	State string `json:"state"`
	Tests []struct {
		Test    string `json:"test"`
		Answers []struct {
			Question string `json:"question"`
			Proto    string `json:"proto"`
			Status   int    `json:"status"`
			Server   string `json:"server"`
			TLS      string `json:"tls"`
			Bytes    int    `json:"bytes"`
			Refused  string `json:"refused"`
		} `json:"answers"`
	} `json:"tests"`
}

func read[T any](file string) ([]T, error) {
	if file == "" {
		return nil, nil
	}
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	var rows []T
	if err := json.Unmarshal(data, &rows); err != nil {
		return nil, fmt.Errorf("read %s: %v", file, err)
	}
	return rows, nil
}

// summary prints what was built and composed, and what the images' services answered.
func summary(w io.Writer, builtFile, testedFile, composedFile, servedFile string) error {
	built, err := read[builtRow](builtFile)
	if err != nil {
		return err
	}
	tested, err := read[testedRow](testedFile)
	if err != nil {
		return err
	}
	composed, err := read[composedRow](composedFile)
	if err != nil {
		return err
	}
	count := map[string]int{}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(t, "recipe\tpackages\tfiles\tkB\tseconds\tstate\t")
	for _, r := range built {
		files, size := 0, int64(0)
		for _, p := range r.Packages {
			files, size = files+p.Files, size+p.Size
		}
		count[r.State]++
		fmt.Fprintf(t, "%s\t%d\t%d\t%d\t%.1f\t%s\t\n", r.Recipe, len(r.Packages), files, size/1000, r.Seconds, r.State)
	}
	fmt.Fprintln(t, "\t\t\t\t\t\t\nimage\tpackages\tfiles\tkB\tseconds\tdigest\t")
	for _, r := range composed {
		fmt.Fprintf(t, "%s\t%d\t%d\t%d\t%.1f\t%.19s\t\n", r.Image, r.Packages, r.Files, r.Size/1000, r.Seconds, r.Digest)
	}
	if err := t.Flush(); err != nil {
		return err
	}
	served, err := read[servedRow](servedFile)
	if err != nil {
		return err
	}
	fmt.Fprintln(w)
	tries := map[string]int{}
	for _, r := range served {
		tries[r.State]++
		r.print(w)
	}
	states := map[string]int{}
	for _, r := range tested {
		states[r.State]++
	}
	fmt.Fprintf(w, "tests of packages: passed %d, cached %d, untested %d\n", states["passed"], states["cached"], states["untested"])
	fmt.Fprintf(w, "tests of images: passed %d, cached %d, untested %d\n", tries["passed"], tries["cached"], tries["untested"])
	fmt.Fprintf(w, "built %d, cached %d\n", count["built"], count["cached"])
	return nil
}

// print tells what the services of an image answered; -dev images have the same ones.
func (r *servedRow) print(w io.Writer) {
	if strings.HasSuffix(r.Image, "-dev") {
		return
	}
	for _, test := range r.Tests {
		for _, a := range test.Answers {
			answer := fmt.Sprintf("%d bytes", a.Bytes)
			switch {
			case a.Refused != "":
				answer = "refused: " + a.Refused
			case a.Proto != "":
				answer = fmt.Sprintf("%s %d, %d bytes", a.Proto, a.Status, a.Bytes)
			}
			if a.TLS != "" {
				answer += ", " + a.TLS
			}
			fmt.Fprintf(w, "%s: %s: %s\n", r.Image, a.Question, answer)
		}
	}
}
