package tests

import (
	"bytes"
	"cmp"
	"context"
	"debug/elf"
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/kballard/go-shellquote"
	"golang.org/x/sys/unix"

	"github.com/tarn-build/tarn/images"
	"github.com/tarn-build/tarn/pkg/rootfs"
	"github.com/tarn-build/tarn/pkg/sandbox/service"
)

func (r *Runner) service(ctx context.Context, root *Root, t *images.Tests, s *images.TestService, result *Result) error {
	mounts, authorities, err := withCertificate(s.Mounts, s.Certificate)
	if err != nil {
		return err
	}
	set, err := r.prepare(root, surroundings{s.Environment, s.WorkDir, s.User, mounts, t.Writable})
	if err != nil {
		return err
	}
	defer set.release()
	argv, err := root.serviceWords(s)
	if err != nil {
		return err
	}
	if len(argv) == 0 {
		result.fail("the image has neither entrypoint nor cmd")
		return nil
	}
	failure := Failure{Command: argv}
	program, err := set.find(root, argv[0])
	if err != nil {
		failure.Text = err.Error()
		result.Failures = append(result.Failures, failure)
		return nil
	}
	task, missing, err := set.task(root, s, append([]string{program}, argv[1:]...), authorities)
	if err != nil {
		return err
	}
	if missing != nil {
		result.Failures = append(result.Failures, *missing)
		return nil
	}
	binds, err := service.Binds()
	if err != nil {
		return err
	}
	set.spec.Binds = append(set.spec.Binds, binds...)
	box, err := r.Backend.Open(ctx, set.spec)
	if err != nil {
		return err
	}
	defer box.Close()
	report, err := service.Run(ctx, box, *task)
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if err != nil {
		failure.Text = err.Error()
		result.Failures = append(result.Failures, failure)
		return nil
	}
	judgement{s, task, report, result, argv, startOf(root, program)}.judge()
	return nil
}

// serviceWords are the program and arguments of a service.
func (root *Root) serviceWords(s *images.TestService) ([]string, error) {
	if s.Run != "" {
		return shellquote.Split(s.Run)
	}
	if s.Cmd != "" {
		own, err := shellquote.Split(s.Cmd)
		return slices.Concat(root.Config.Entrypoint, own), err
	}
	return slices.Concat(root.Config.Entrypoint, root.Config.Cmd), nil
}

// task is what a service's test asks for. What is asked of a program that is not there is
// a failure.
func (set *setting) task(root *Root, s *images.TestService, argv []string, authorities []byte) (*service.Task, *Failure, error) {
	t := &service.Task{
		Argv: argv, Env: set.env, Dir: set.dir, Within: cmp.Or(s.Within, listenTime),
		Stop: service.Stop{Within: cmp.Or(s.Stop.Within, stopTime), Signal: unix.SIGTERM},
	}
	if name := cmp.Or(s.Stop.Signal, root.Config.StopSignal); name != "" {
		if t.Stop.Signal = images.StopSignal(name); t.Stop.Signal == 0 {
			return nil, nil, fmt.Errorf("the image's stop signal %q is none", name)
		}
	}
	add := func(address string) {
		if address != "" && !slices.Contains(t.Listens, address) {
			t.Listens = append(t.Listens, address)
		}
	}
	for _, text := range s.Listens {
		address, err := images.LoopbackAddress(text)
		if err != nil {
			return nil, nil, err
		}
		add(address)
	}
	for i := range s.Ask {
		q := &s.Ask[i]
		address, err := q.Address()
		if err != nil {
			return nil, nil, err
		}
		if !q.Refused || q.Trusts != "" {
			add(address)
		}
		trusted, err := root.trusted(q, authorities)
		if err != nil {
			return nil, nil, err
		}
		question := service.Question{Within: cmp.Or(q.Within, answerTime)}
		switch {
		case q.Get != "":
			question.HTTP = &service.HTTP{Method: cmp.Or(q.Method, http.MethodGet), URL: q.Get, Headers: q.Headers, Body: q.Send, Authorities: trusted}
		case q.TCP != "":
			question.TCP = &service.TCP{Address: address, TLS: q.TLS, Authorities: trusted, Send: q.Send, Until: q.Receive, Enough: q.Matches}
		default:
			words, err := shellquote.Split(q.Run)
			if err != nil {
				return nil, nil, err
			}
			program, err := set.find(root, words[0])
			if err != nil {
				return nil, &Failure{Text: err.Error(), Command: words}, nil
			}
			question.Program = &service.Program{Argv: append([]string{program}, words[1:]...), Env: set.env, Dir: set.dir, Input: q.Input}
		}
		t.Questions = append(t.Questions, question)
	}
	return t, nil, nil
}

// trusted are the certificates that are believed when a question is asked.
func (root *Root) trusted(q *images.TestQuestion, own []byte) ([]byte, error) {
	if q.Trusts != "image" {
		return own, nil
	}
	n, found := root.Tree.Stat(bundle)
	if !found {
		return nil, &unfitError{"the image has no bundle of certificates to trust: /" + bundle}
	}
	return content(n)
}

// bundle is where an image's certificates stand.
const bundle = "etc/ssl/certs/ca-certificates.crt"

// judgement holds what was seen of a service against what should have been.
type judgement struct {
	test   *images.TestService
	task   *service.Task
	report *service.Report
	result *Result
	argv   []string
	start  func(reason string) string
}

// wrong adds a failure of the service itself; the first one tells what it printed.
func (j judgement) wrong(ended *service.Ended, format string, args ...any) {
	f := Failure{Text: fmt.Sprintf(format, args...)}
	if !slices.ContainsFunc(j.result.Failures, func(f Failure) bool { return f.Command != nil }) {
		f.Command, f.Output = j.argv, string(j.report.Output)
		if ended != nil {
			f.Ended = ended.String()
		}
	}
	j.result.Failures = append(j.result.Failures, f)
}

func (j judgement) judge() {
	r := j.report
	switch {
	case r.Failed != "":
		j.wrong(nil, "%s", j.start(r.Failed))
		return
	case r.Ended != nil && len(r.Silent) > 0:
		j.wrong(r.Ended, "it ended before it listened on %s: %s", strings.Join(r.Silent, ", "), r.Ended)
	case len(r.Silent) > 0:
		j.wrong(nil, "it did not listen on %s within %s", strings.Join(r.Silent, ", "), j.task.Within)
	}
	for i := range r.Answers {
		j.answer(&j.test.Ask[i], &r.Answers[i])
	}
	if asked := len(r.Answers); r.Ended != nil && len(r.Silent) == 0 {
		if asked == 0 {
			j.wrong(r.Ended, "it ended by itself: %s", r.Ended)
		} else {
			j.wrong(r.Ended, "it ended when it was asked (%s): %s", question(&j.test.Ask[asked-1]), r.Ended)
		}
	}
	if !strings.Contains(string(r.Output), j.test.Output) {
		j.wrong(nil, "%q is not in what it printed", j.test.Output)
	}
	s := r.Stopped
	if s == nil {
		return
	}
	name := unix.SignalName(j.task.Stop.Signal)
	switch {
	case s.Killed:
		j.wrong(s.Ended, "it did not end within %s of %s", j.task.Stop.Within, name)
	case s.Ignored:
		j.wrong(s.Ended, "it has no handler for %s: as the first process of a container it would not get the signal, and be killed", name)
	case j.test.Stop.Status != nil && s.Ended.Status != *j.test.Stop.Status:
		j.wrong(s.Ended, "%s: %s, want exit status %d", name, s.Ended, *j.test.Stop.Status)
	}
}

// question is a question as users read it.
func question(q *images.TestQuestion) string {
	switch {
	case q.Get != "":
		return cmp.Or(q.Method, http.MethodGet) + " " + q.Get
	case q.TCP != "":
		return "tcp " + q.TCP
	}
	return q.Run
}

func (j judgement) answer(q *images.TestQuestion, a *service.Answer) {
	seen := Answer{Question: question(q), Proto: a.Proto, Status: a.Status, TLS: a.TLS, Bytes: len(a.Body)}
	if server := a.Headers["Server"]; len(server) > 0 {
		seen.Server = server[0]
	}
	if a.Ended != nil {
		seen.Status = a.Ended.Status
	}
	j.result.Answers = append(j.result.Answers, seen)
	told := false
	wrong := func(format string, args ...any) {
		f := Failure{Text: question(q) + ": " + fmt.Sprintf(format, args...)}
		if !told {
			f.Output, f.Stderr = string(a.Body), string(a.Stderr)
			told = true
		}
		j.result.Failures = append(j.result.Failures, f)
	}
	// The client repeats the question in its errors.
	_, reason, repeated := strings.Cut(a.Error, fmt.Sprintf("%q: ", q.Get))
	if !repeated {
		reason = a.Error
	}
	switch {
	case q.Refused && a.Error == "":
		wrong("it was answered, and has to be refused")
		return
	case q.Refused:
		j.result.Answers[len(j.result.Answers)-1].Refused = reason
		if !regexp.MustCompile(q.Matches).MatchString(reason) {
			wrong("it was refused (%s), and the reason does not match %s", reason, q.Matches)
		}
		return
	case a.Error != "":
		wrong("%s", reason)
		return
	}
	all := string(a.Body) + string(a.Stderr)
	switch {
	case q.Get != "":
		if want := valueOr(q.Status, http.StatusOK); a.Status != want {
			wrong("status %d, want %d", a.Status, want)
		}
		for _, name := range sortedKeys(q.Answers) {
			got := strings.Join(a.Headers[http.CanonicalHeaderKey(name)], ", ")
			if !strings.Contains(got, q.Answers[name]) {
				wrong("%s is %q, want %q in it", http.CanonicalHeaderKey(name), got, q.Answers[name])
			}
		}
		if !strings.Contains(all, q.Body) {
			wrong("%q is not in the answer", q.Body)
		}
	case q.TCP != "":
		if !strings.Contains(all, q.Receive) {
			wrong("%q did not come back", q.Receive)
		}
	default:
		if want := valueOr(q.Status, 0); a.Ended.Status != want {
			wrong("%s, want exit status %d", a.Ended, want)
		}
		if !bytes.Contains(a.Body, []byte(q.Stdout)) {
			wrong("%q is not in its output", q.Stdout)
		}
		if !bytes.Contains(a.Stderr, []byte(q.Stderr)) {
			wrong("%q is not in its complaints", q.Stderr)
		}
	}
	if !regexp.MustCompile(q.Matches).MatchString(all) {
		wrong("what came does not match %s", q.Matches)
	}
}

func valueOr(v *int, otherwise int) int {
	if v == nil {
		return otherwise
	}
	return *v
}

func sortedKeys(m map[string]string) []string {
	var keys []string
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

// startOf says why a program could not be started, in words that help.
func startOf(root *Root, program string) func(reason string) string {
	return func(reason string) string {
		if reason == unix.ENOENT.Error() {
			if text := missingLoader(root, program); text != "" {
				return text
			}
		}
		return "start " + program + ": " + reason
	}
}

// missingLoader says that a program that is there needs a loader that is not.
func missingLoader(root *Root, program string) string {
	n, found := root.Tree.Stat(program)
	if !found {
		return ""
	}
	loader := interpreter(n)
	if loader == "" {
		return ""
	}
	if _, found := root.Tree.Stat(loader); found {
		return ""
	}
	return fmt.Sprintf("%s needs %s, which is not in the image", program, loader)
}

// interpreter is what the kernel starts a program with: the loader of an ELF file, or what
// stands behind #!.
func interpreter(n *rootfs.Node) string {
	data, err := content(n)
	if err != nil {
		return ""
	}
	if line, is := bytes.CutPrefix(data, []byte("#!")); is {
		line, _, _ = bytes.Cut(line, []byte("\n"))
		name, _, _ := strings.Cut(strings.TrimSpace(string(line)), " ")
		return name
	}
	file, err := elf.NewFile(bytes.NewReader(data))
	if err != nil {
		return ""
	}
	defer file.Close()
	for _, p := range file.Progs {
		if p.Type != elf.PT_INTERP || p.Filesz > 4096 {
			continue
		}
		name := make([]byte, p.Filesz)
		if _, err := p.ReadAt(name, 0); err == nil {
			return strings.TrimRight(string(name), "\x00")
		}
	}
	return ""
}

// certificateTime is how long a certificate of a test holds.
const certificateTime = time.Hour
