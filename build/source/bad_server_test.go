package source_test

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tarn-build/tarn/build/source"
	"github.com/tarn-build/tarn/pkg/debian/debiantest"
	"github.com/tarn-build/tarn/pkg/web"
)

// badServer answers requests as a server does that is not right: what answer writes is all
// that goes over the wire. n counts requests from 1.
func badServer(t *testing.T, answer func(w *bufio.Writer, r *http.Request, n int)) (url string, requests *atomic.Int64) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	requests = new(atomic.Int64)
	var open sync.WaitGroup
	open.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			open.Go(func() {
				defer conn.Close()
				r, err := http.ReadRequest(bufio.NewReader(conn))
				if err != nil {
					return
				}
				w := bufio.NewWriter(conn)
				answer(w, r, int(requests.Add(1)))
				_ = w.Flush()
			})
		}
	})
	t.Cleanup(func() { listener.Close(); open.Wait() })
	return "http://" + listener.Addr().String(), requests
}

// from is where a request's range begins.
func from(r *http.Request) (at int) {
	_, _ = fmt.Sscanf(r.Header.Get("Range"), "bytes=%d-", &at)
	return at
}

// part writes an answer to a range, cut after some bytes.
func part(w io.Writer, data []byte, at, cut int) {
	fmt.Fprintf(w, "HTTP/1.1 206 Partial Content\r\nContent-Length: %d\r\nContent-Range: bytes %d-%d/%d\r\nETag: \"e\"\r\nConnection: close\r\n\r\n", len(data)-at, at, len(data)-1, len(data))
	_, _ = w.Write(data[at:min(len(data), at+cut)])
}

func full(w io.Writer, data []byte, length, cut int) {
	fmt.Fprintf(w, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\nETag: \"e\"\r\nConnection: close\r\n\r\n", length)
	_, _ = w.Write(data[:min(cut, len(data))])
}

// Of servers that fail in every way that servers do, either the right bytes come, or an error,
// in bounded time, and nothing of the others is kept.
func TestBadServers(t *testing.T) {
	data := content[:300_000]
	whole := len(data)
	other := bytes.Repeat([]byte("x"), whole)
	var compressed bytes.Buffer
	z := gzip.NewWriter(&compressed)
	if _, err := z.Write(data); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	gaveUp := make(chan struct{}) // closed when who waited for more bytes asks again
	givenUp := sync.OnceFunc(func() { close(gaveUp) })
	status := func(w io.Writer, line, headers string) {
		fmt.Fprintf(w, "HTTP/1.1 %s\r\nContent-Length: 0\r\n%sConnection: close\r\n\r\n", line, headers)
	}
	for _, test := range []struct {
		name   string
		answer func(w *bufio.Writer, r *http.Request, n int)
		fails  string // "" where the bytes come
		most   int64  // requests; 200 when 0
		stall  time.Duration
	}{
		{name: "fails nine of ten with 503", answer: func(w *bufio.Writer, r *http.Request, n int) {
			if n%10 != 0 {
				status(w, "503 Service Unavailable", "Retry-After: 0\r\n")
				return
			}
			full(w, data, whole, whole)
		}},
		{name: "closes nine connections of ten", answer: func(w *bufio.Writer, r *http.Request, n int) {
			if n%10 == 0 {
				full(w, data, whole, whole)
			}
		}},
		{name: "fails nine of ten, and stops in the middle of the tenth", answer: func(w *bufio.Writer, r *http.Request, n int) {
			switch at := from(r); {
			case n%10 != 0:
				status(w, "502 Bad Gateway", "")
			case at > 0:
				part(w, data, at, 100_000)
			default:
				full(w, data, whole, 100_000)
			}
		}},
		{name: "stops in the middle, by ranges", answer: func(w *bufio.Writer, r *http.Request, n int) {
			if at := from(r); at > 0 {
				part(w, data, at, 70_000)
				return
			}
			full(w, data, whole, 70_000)
		}, most: 5},
		{name: "stops in the middle, and knows no ranges", answer: func(w *bufio.Writer, r *http.Request, n int) {
			full(w, data, whole, 60_000*n)
		}, most: 5},
		{name: "stops a chunked answer", answer: func(w *bufio.Writer, r *http.Request, n int) {
			if at := from(r); at > 0 {
				part(w, data, at, whole)
				return
			}
			fmt.Fprintf(w, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nETag: \"e\"\r\n\r\n%x\r\n%s\r\n", 1000, data[:1000])
		}, most: 2},
		{name: "says that it is shorter", answer: func(w *bufio.Writer, r *http.Request, n int) { full(w, data, whole-1, whole) }, fails: "digest does not match", most: 1},
		{name: "says that it is longer", answer: func(w *bufio.Writer, r *http.Request, n int) {
			if from(r) > 0 {
				status(w, "416 Range Not Satisfiable", "")
				return
			}
			full(w, data, whole+1, whole)
		}, fails: "416"},
		{name: "says that it is longer, and knows no ranges", answer: func(w *bufio.Writer, r *http.Request, n int) { full(w, data, whole+1, whole) }, fails: "unexpected EOF"},
		{name: "says that it has no bytes", answer: func(w *bufio.Writer, r *http.Request, n int) { full(w, nil, 0, 0) }, fails: "digest does not match", most: 1},
		{name: "serves other bytes", answer: func(w *bufio.Writer, r *http.Request, n int) { full(w, other, whole, whole) }, fails: "digest does not match", most: 1},
		{name: "serves other bytes from the middle on", answer: func(w *bufio.Writer, r *http.Request, n int) {
			if at := from(r); at > 0 {
				part(w, other, at, whole)
				return
			}
			full(w, data, whole, 1000)
		}, fails: "digest does not match", most: 2},
		{name: "answers with another range", answer: func(w *bufio.Writer, r *http.Request, n int) {
			if at := from(r); at > 0 {
				part(w, data, at-1, whole)
				return
			}
			full(w, data, whole, 1000)
		}, fails: "other bytes than asked for"},
		{name: "answers with a range that nobody asked for", answer: func(w *bufio.Writer, r *http.Request, n int) { part(w, data, 10, whole) }, fails: "other bytes than asked for", most: 1},
		{name: "serves a page that says it is gone", answer: func(w *bufio.Writer, r *http.Request, n int) {
			full(w, []byte("<html>gone</html>"), 17, 17)
		}, fails: "digest does not match", most: 1},
		{name: "compresses what nobody wanted compressed", answer: func(w *bufio.Writer, r *http.Request, n int) {
			fmt.Fprintf(w, "HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s", compressed.Len(), compressed.Bytes())
		}, fails: "digest does not match", most: 1},
		{name: "says of an archive that it is compressed", answer: func(w *bufio.Writer, r *http.Request, n int) {
			fmt.Fprintf(w, "HTTP/1.1 200 OK\r\nContent-Encoding: x-gzip\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s", whole, data)
		}, most: 1},
		{name: "redirects in a circle", answer: func(w *bufio.Writer, r *http.Request, n int) { status(w, "302 Found", "Location: /again\r\n") }, fails: "more than 10 redirects", most: 11},
		{name: "redirects to a file of this machine", answer: func(w *bufio.Writer, r *http.Request, n int) {
			status(w, "302 Found", "Location: file:///etc/passwd\r\n")
		}, fails: `redirect to the scheme "file"`, most: 1},
		{name: "drips, a little at a time", answer: func(w *bufio.Writer, r *http.Request, n int) {
			full(w, nil, whole, 0)
			for rest := data; len(rest) > 0; rest = rest[min(len(rest), 30_000):] {
				_, _ = w.Write(rest[:min(len(rest), 30_000)])
				_ = w.Flush()
				time.Sleep(10 * time.Millisecond)
			}
		}, most: 1},
		{name: "drips, and stops", answer: func(w *bufio.Writer, r *http.Request, n int) {
			if n > 1 {
				givenUp()
			}
			if at := from(r); at > 0 {
				part(w, data, at, whole)
				return
			}
			full(w, data, whole, 1000)
			_ = w.Flush()
			<-gaveUp
		}, stall: 300 * time.Millisecond},
		{name: "does not speak HTTP", answer: func(w *bufio.Writer, r *http.Request, n int) {
			_, _ = w.WriteString("220 ftp.example.org ready\r\n")
		}, fails: "malformed HTTP"},
		{name: "has a header that does not end", answer: func(w *bufio.Writer, r *http.Request, n int) {
			_, _ = w.WriteString("HTTP/1.1 200 OK\r\nX: " + strings.Repeat("y", 12<<20))
		}, fails: "header"},
		{name: "never ends", answer: func(w *bufio.Writer, r *http.Request, n int) {
			_, _ = w.WriteString("HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n")
			for range 1000 {
				if _, err := w.Write(data); err != nil {
					return
				}
			}
		}, fails: "more than 1000000 bytes", most: 1},
		{name: "is busy until a date", answer: func(w *bufio.Writer, r *http.Request, n int) {
			if n == 1 {
				status(w, "429 Too Many Requests", "Retry-After: "+time.Now().Add(-time.Hour).UTC().Format(http.TimeFormat)+"\r\n")
				return
			}
			full(w, data, whole, whole)
		}, most: 2},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			url, requests := badServer(t, test.answer)
			f := &source.Fetcher{Store: newStore(t), MaxSize: 1_000_000, Client: &web.Client{Retry: quick, Stall: test.stall}}
			s := source.Source{Name: "x", URIs: []string{url + "/x.tar"}, SHA256: debiantest.SHA256(data)}
			_, err := f.Fetch(context.Background(), s)
			if n := requests.Load(); n > max(test.most, 200) && test.most == 0 || test.most > 0 && n > test.most {
				t.Errorf("it was asked %d times", n)
			}
			if test.fails == "" {
				if err != nil {
					t.Fatal(err)
				}
				return
			}
			if _, is := errors.AsType[*source.Error](err); !is || !strings.Contains(err.Error(), test.fails) {
				t.Fatalf("got %v, want an *Error with %q", err, test.fails)
			}
			if n := blobs(t, f.Store); n != 0 {
				t.Errorf("%d blobs are kept", n)
			}
			// Another address, and a mirror, have the right bytes all the same.
			good := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = w.Write(data) }))
			defer good.Close()
			s.URIs = append(s.URIs, good.URL)
			if _, err := f.Fetch(context.Background(), s); err != nil {
				t.Errorf("with a second address: %v", err)
			}
		})
	}
}

// A git server that fails nine requests of ten, each of which git needs several in a row, gives the
// tree all the same; so does one that breaks off.
func TestCheckoutFromBadServers(t *testing.T) {
	u := newUpstream(t)
	u.commit("a", "one\n")
	big := make([]byte, 1<<20)
	for i := range big {
		big[i] = byte(rand.Uint32())
	}
	if err := os.WriteFile(filepath.Join(u.dir, "big"), big, 0o644); err != nil {
		t.Fatal(err)
	}
	commit := u.commit()
	for name, wrap := range map[string]func(next http.Handler, n int64, w http.ResponseWriter, r *http.Request){
		"fails nine of ten": func(next http.Handler, n int64, w http.ResponseWriter, r *http.Request) {
			if n%10 != 0 {
				w.WriteHeader(http.StatusServiceUnavailable)
				return
			}
			next.ServeHTTP(w, r)
		},
		"closes nine of ten": func(next http.Handler, n int64, w http.ResponseWriter, r *http.Request) {
			if n%10 != 0 {
				panic(http.ErrAbortHandler)
			}
			next.ServeHTTP(w, r)
		},
		"breaks off": func(next http.Handler, n int64, w http.ResponseWriter, r *http.Request) {
			if r.Method == http.MethodPost && n < 8 {
				next.ServeHTTP(&cutting{w, 200_000}, r)
				return
			}
			next.ServeHTTP(w, r)
		},
		"redirects": func(next http.Handler, n int64, w http.ResponseWriter, r *http.Request) {
			if rest, found := strings.CutPrefix(r.URL.Path, "/moved/"); found {
				if r.Method == http.MethodPost {
					t.Error("git posts to where it was redirected from")
				}
				http.Redirect(w, r, "/repo/"+rest+"?"+r.URL.RawQuery, http.StatusMovedPermanently)
				return
			}
			next.ServeHTTP(w, r)
		},
	} {
		t.Run(name, func(t *testing.T) {
			var n atomic.Int64
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { wrap(u.handler, n.Add(1), w, r) }))
			defer server.Close()
			address := server.URL + "/repo/.git"
			if name == "redirects" {
				address = server.URL + "/moved/.git"
			}
			got, root, err := checkout(t, newFetcher(t), map[string]string{"repository": address, "expected-commit": commit})
			if err != nil {
				t.Fatal(err)
			}
			if got["big"] != string(big) {
				t.Error("it is another file")
			}
			if config, err := root.ReadFile("src/.git/config"); err != nil || !strings.Contains(string(config), address) {
				t.Errorf("origin: %s, %v", config, err)
			}
		})
	}
	// What is not there is asked for once, and told with its own address.
	server := httptest.NewServer(http.NotFoundHandler())
	defer server.Close()
	_, _, err := checkout(t, newFetcher(t), map[string]string{"repository": server.URL + "/none.git", "expected-commit": commit})
	if err == nil || !strings.Contains(err.Error(), "repository '"+server.URL+"/none.git/' not found") || strings.Count(err.Error(), "127.0.0.1") != strings.Count(err.Error(), server.URL) {
		t.Errorf("got %v", err)
	}
}

// cutting breaks the connection off after some bytes.
type cutting struct {
	http.ResponseWriter
	left int
}

func (c *cutting) Write(p []byte) (int, error) {
	if c.left -= len(p); c.left < 0 {
		_, _ = c.ResponseWriter.Write(p[:len(p)/2])
		c.ResponseWriter.(http.Flusher).Flush()
		panic(http.ErrAbortHandler)
	}
	return c.ResponseWriter.Write(p)
}
