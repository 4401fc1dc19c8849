package service

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

const (
	maxAnswer = 1 << 20   // bytes of one answer
	maxOutput = 256 << 10 // bytes kept of what a program prints
	// pause lies between two looks whether a server listens.
	pause = 20 * time.Millisecond
	// quiet is how long a server must live that listens nowhere.
	quiet = time.Second
)

// Init returns at once, unless this process was started in a sandbox to watch over a
// service: then it does that and never returns. It has to be called before a program
// does anything else.
func Init() {
	if len(os.Args) != 1 || os.Args[0] != Path {
		return
	}
	var t Task
	err := json.NewDecoder(os.Stdin).Decode(&t)
	if err == nil {
		err = json.NewEncoder(os.Stdout).Encode(t.run())
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

// run starts the server, asks, and stops it.
func (t *Task) run() *Report {
	r := &Report{}
	var out tail
	server := exec.Command(t.Argv[0], t.Argv[1:]...)
	server.Env, server.Dir = t.Env, t.Dir
	server.Stdout, server.Stderr = &out, &out
	server.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	// What it leaves behind may hold its output open.
	server.WaitDelay = time.Second
	if err := server.Start(); err != nil {
		r.Failed = reason(err)
		return r
	}
	ended := make(chan *Ended, 1)
	go func() {
		_ = server.Wait()
		ended <- endOf(server.ProcessState)
	}()
	r.Silent, r.Ended = t.wait(ended)
	if len(r.Silent) == 0 && r.Ended == nil {
		t.ask(r, ended)
	}
	if r.Ended == nil {
		r.Stopped = t.Stop.do(server.Process, ended)
	}
	r.Output = out.bytes()
	return r
}

// reason is an error without the name of what was to be started, which the caller knows.
func reason(err error) string {
	if perr, is := errors.AsType[*os.PathError](err); is {
		return perr.Err.Error()
	}
	return err.Error()
}

func endOf(s *os.ProcessState) *Ended {
	if status, is := s.Sys().(syscall.WaitStatus); is && status.Signaled() {
		return &Ended{Status: 128 + int(status.Signal()), Signal: status.Signal().String()}
	}
	return &Ended{Status: s.ExitCode()}
}

// wait waits until the server listens everywhere, or ends, or it takes too long.
func (t *Task) wait(ended <-chan *Ended) (silent []string, early *Ended) {
	silent = t.Listens
	if len(silent) == 0 {
		select {
		case e := <-ended:
			return nil, e
		case <-time.After(quiet):
			return nil, nil
		}
	}
	deadline := time.After(t.Within)
	for {
		var left []string
		for _, address := range silent {
			ctx, cancel := context.WithTimeout(context.Background(), time.Second)
			conn, err := dial(ctx, "tcp", address)
			cancel()
			if err != nil {
				left = append(left, address)
				continue
			}
			conn.Close()
		}
		if silent = left; len(silent) == 0 {
			return nil, nil
		}
		select {
		case e := <-ended:
			return silent, e
		case <-deadline:
			return silent, nil
		case <-time.After(pause):
		}
	}
}

// dial knows localhost itself: a root may have no list of hosts, or one without it.
func dial(ctx context.Context, network, address string) (net.Conn, error) {
	var d net.Dialer
	host, port, err := net.SplitHostPort(address)
	if err != nil || host != "localhost" {
		return d.DialContext(ctx, network, address)
	}
	conn, err := d.DialContext(ctx, network, net.JoinHostPort("127.0.0.1", port))
	if err == nil {
		return conn, nil
	}
	if conn, err := d.DialContext(ctx, network, net.JoinHostPort("::1", port)); err == nil {
		return conn, nil
	}
	return nil, err
}

func (t *Task) ask(r *Report, ended <-chan *Ended) {
	for i := range t.Questions {
		r.Answers = append(r.Answers, t.Questions[i].ask())
		select {
		case r.Ended = <-ended:
			return
		default:
		}
	}
}

func (q *Question) ask() Answer {
	ctx, cancel := context.WithTimeout(context.Background(), q.Within)
	defer cancel()
	var a Answer
	var err error
	switch {
	case q.HTTP != nil:
		err = q.HTTP.ask(ctx, &a)
	case q.TCP != nil:
		err = q.TCP.ask(ctx, &a)
	default:
		err = q.Program.run(ctx, &a)
	}
	switch {
	case err == nil:
	case errors.Is(err, context.DeadlineExceeded) || errors.Is(err, os.ErrDeadlineExceeded):
		a.Error = fmt.Sprintf("no answer within %s", q.Within)
	default:
		a.Error = reason(err)
	}
	return a
}

func (h *HTTP) ask(ctx context.Context, a *Answer) error {
	settings, err := trusting(h.Authorities)
	if err != nil {
		return err
	}
	client := http.Client{
		Transport:     &http.Transport{DialContext: dial, TLSClientConfig: settings, ForceAttemptHTTP2: true, DisableKeepAlives: true, DisableCompression: true},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	request, err := http.NewRequestWithContext(ctx, h.Method, h.URL, strings.NewReader(h.Body))
	if err != nil {
		return err
	}
	for name, value := range h.Headers {
		if http.CanonicalHeaderKey(name) == "Host" {
			request.Host = value
		}
		request.Header.Set(name, value)
	}
	response, err := client.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	a.Proto, a.Status, a.Headers = response.Proto, response.StatusCode, response.Header
	a.secured(response.TLS)
	a.Body, err = io.ReadAll(io.LimitReader(response.Body, maxAnswer+1))
	if len(a.Body) > maxAnswer {
		a.Body, a.Cut = a.Body[:maxAnswer], true
	}
	return err
}

func trusting(authorities []byte) (*tls.Config, error) {
	pool := x509.NewCertPool()
	if len(authorities) > 0 && !pool.AppendCertsFromPEM(authorities) {
		return nil, errors.New("the authority's certificate can't be read")
	}
	return &tls.Config{RootCAs: pool}, nil
}

func (a *Answer) secured(state *tls.ConnectionState) {
	if state != nil {
		a.TLS, a.Issuer = tls.VersionName(state.Version), state.PeerCertificates[0].Issuer.CommonName
	}
}

func (c *TCP) ask(ctx context.Context, a *Answer) error {
	conn, err := dial(ctx, "tcp", c.Address)
	if err != nil {
		return err
	}
	defer conn.Close()
	if deadline, set := ctx.Deadline(); set {
		if err := conn.SetDeadline(deadline); err != nil {
			return err
		}
	}
	if c.TLS {
		settings, err := trusting(c.Authorities)
		if err != nil {
			return err
		}
		if settings.ServerName, _, err = net.SplitHostPort(c.Address); err != nil {
			return err
		}
		secure := tls.Client(conn, settings)
		if err := secure.HandshakeContext(ctx); err != nil {
			return err
		}
		state := secure.ConnectionState()
		a.secured(&state)
		conn = secure
	}
	if _, err := io.WriteString(conn, c.Send); err != nil {
		return err
	}
	if c.Until == "" && c.Enough == "" {
		return nil
	}
	enough, err := regexp.Compile(c.Enough)
	if err != nil {
		return err
	}
	part := make([]byte, 16<<10)
	for {
		n, err := conn.Read(part)
		a.Body = append(a.Body, part[:n]...)
		if len(a.Body) > maxAnswer {
			a.Body, a.Cut = a.Body[:maxAnswer], true
			return nil
		}
		if bytes.Contains(a.Body, []byte(c.Until)) && enough.Match(a.Body) || errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

func (p *Program) run(ctx context.Context, a *Answer) error {
	var out, complaints tail
	c := exec.CommandContext(ctx, p.Argv[0], p.Argv[1:]...)
	c.Env, c.Dir, c.Stdin = p.Env, p.Dir, strings.NewReader(p.Input)
	c.Stdout, c.Stderr = &out, &complaints
	c.WaitDelay = time.Second
	err := c.Run()
	a.Body, a.Stderr = out.bytes(), complaints.bytes()
	if c.ProcessState != nil {
		a.Ended = endOf(c.ProcessState)
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if _, ran := errors.AsType[*exec.ExitError](err); ran || errors.Is(err, exec.ErrWaitDelay) {
		return nil
	}
	return err
}

// do sends the signal and waits.
func (s *Stop) do(server *os.Process, ended <-chan *Ended) *Stopped {
	r := &Stopped{Ignored: !handles(server.Pid, s.Signal)}
	start := time.Now()
	_ = server.Signal(s.Signal)
	select {
	case r.Ended = <-ended:
	case <-time.After(s.Within):
		r.Killed = true
		_ = server.Kill()
		r.Ended = <-ended
	}
	r.Took = time.Since(start)
	return r
}

// handles reports whether a process has a handler of its own for a signal: SigCgt of
// proc_pid_status(5). One that waits for signals (sigwait, signalfd) blocks them instead.
func handles(pid int, signal syscall.Signal) bool {
	if signal == syscall.SIGKILL || signal == syscall.SIGSTOP {
		return true
	}
	data, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/status")
	if err != nil {
		return true // it is gone
	}
	for line := range strings.Lines(string(data)) {
		name, value, _ := strings.Cut(line, ":")
		if name != "SigCgt" && name != "SigBlk" {
			continue
		}
		if set, err := strconv.ParseUint(strings.TrimSpace(value), 16, 64); err == nil && set&(1<<(signal-1)) != 0 {
			return true
		}
	}
	return false
}

// tail keeps the last of what is written to it.
type tail struct {
	mu   sync.Mutex
	data []byte
}

func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.data = append(t.data, p...)
	if extra := len(t.data) - maxOutput; extra > maxOutput {
		t.data = append(t.data[:0], t.data[extra:]...)
	}
	return len(p), nil
}

func (t *tail) bytes() []byte {
	t.mu.Lock()
	defer t.mu.Unlock()
	return bytes.Clone(t.data[max(0, len(t.data)-maxOutput):])
}
