package images

import (
	"fmt"
	"net"
	"net/url"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/kballard/go-shellquote"
	"golang.org/x/sys/unix"

	"github.com/tarn-build/tarn/pkg/diag"
	"github.com/tarn-build/tarn/pkg/yamlread"
)

// Tests are what must be true of a composed image. They change nothing of the image,
// so they are no part of what it is known by. Package images/tests runs them.
type Tests struct {
	Here     yamlread.Place `yaml:",here" json:"-"`
	Files    []TestFile     `yaml:"files" json:"files,omitempty"`
	Absent   []string       `yaml:"absent" json:"absent,omitempty"`     // names of programs, or absolute paths
	Writable []string       `yaml:"writable" json:"writable,omitempty"` // folders that commands and services may write to, besides /tmp, /run and the image's volumes
	Commands []TestCommand  `yaml:"commands" json:"commands,omitempty"`
	Services []TestService  `yaml:"services" json:"services,omitempty"`
}

// TestFile is a path that the image must have.
type TestFile struct {
	Here     yamlread.Place `yaml:",here" json:"-"`
	Path     string         `yaml:"path,required" json:"path"`
	Type     string         `yaml:"type" json:"type,omitempty"` // file, directory or symlink; any when empty
	Mode     *uint32        `yaml:"mode" json:"mode,omitempty"` // with setuid, setgid and sticky bits
	Owner    string         `yaml:"owner" json:"owner,omitempty"`
	Target   string         `yaml:"target" json:"target,omitempty"`     // of a symbolic link
	Contains string         `yaml:"contains" json:"contains,omitempty"` // of a file's content
}

// TestCommand is a program that must work in the image.
type TestCommand struct {
	Here        yamlread.Place    `yaml:",here" json:"-"`
	Name        string            `yaml:"name" json:"name,omitempty"` // its words when empty
	Run         string            `yaml:"run,required" json:"run"`    // split like a shell splits words; no shell runs it
	Input       string            `yaml:"input" json:"input,omitempty"`
	Environment map[string]string `yaml:"environment" json:"environment,omitempty"`
	WorkDir     string            `yaml:"work-dir" json:"work-dir,omitempty"` // the image's when empty
	User        string            `yaml:"user" json:"user,omitempty"`         // the image's when empty
	Mounts      map[string]string `yaml:"mounts" json:"mounts,omitempty"`     // contents of files by their paths, for this test alone
	Status      int               `yaml:"status" json:"status,omitempty"`     // how it must exit
	Stdout      string            `yaml:"stdout" json:"stdout,omitempty"`     // what it must print
	Stderr      string            `yaml:"stderr" json:"stderr,omitempty"`
	Matches     string            `yaml:"matches" json:"matches,omitempty"` // a regular expression for all that it prints
	Within      time.Duration     `yaml:"within" json:"within,omitempty"`   // 1 minute when 0
}

// TestService is a program that must answer.
type TestService struct {
	Here        yamlread.Place    `yaml:",here" json:"-"`
	Name        string            `yaml:"name" json:"name,omitempty"` // its words when empty
	Run         string            `yaml:"run" json:"run,omitempty"`   // the image's entrypoint and cmd when neither is given
	Cmd         string            `yaml:"cmd" json:"cmd,omitempty"`   // in place of the image's cmd, behind its entrypoint
	Environment map[string]string `yaml:"environment" json:"environment,omitempty"`
	WorkDir     string            `yaml:"work-dir" json:"work-dir,omitempty"`
	User        string            `yaml:"user" json:"user,omitempty"`
	Mounts      map[string]string `yaml:"mounts" json:"mounts,omitempty"`
	Certificate *TestCertificate  `yaml:"certificate" json:"certificate,omitempty"`
	Listens     []string          `yaml:"listens" json:"listens,omitempty"` // ports or addresses that must take connections, besides those that are asked
	Within      time.Duration     `yaml:"within" json:"within,omitempty"`   // until it listens; 30 s when 0
	Ask         []TestQuestion    `yaml:"ask" json:"ask,omitempty"`         // in order
	Output      string            `yaml:"output" json:"output,omitempty"`   // what it must have printed in the end
	Stop        TestStop          `yaml:"stop" json:"stop,omitzero"`
}

// TestCertificate is a certificate for localhost that is made for one test, with an
// authority of its own, which what is asked over TLS must come from.
type TestCertificate struct {
	Here      yamlread.Place `yaml:",here" json:"-"`
	File      string         `yaml:"file,required" json:"file"` // where it stands, in PEM
	Key       string         `yaml:"key,required" json:"key"`
	Authority string         `yaml:"authority" json:"authority,omitempty"` // where the authority's certificate stands; nowhere when empty
}

// TestQuestion is one thing that a running service is asked. Exactly one of Get, TCP and Run
// is given.
type TestQuestion struct {
	Here    yamlread.Place    `yaml:",here" json:"-"`
	Get     string            `yaml:"get" json:"get,omitempty"`       // an address, e.g. http://localhost:8080/
	Method  string            `yaml:"method" json:"method,omitempty"` // GET when empty
	Headers map[string]string `yaml:"headers" json:"headers,omitempty"`
	Send    string            `yaml:"send" json:"send,omitempty"` // the body of a request, or what is sent over TCP

	TCP string `yaml:"tcp" json:"tcp,omitempty"` // a port or an address
	TLS bool   `yaml:"tls" json:"tls,omitempty"`

	Run   string `yaml:"run" json:"run,omitempty"` // a program of the image, beside the service
	Input string `yaml:"input" json:"input,omitempty"`

	Status  *int              `yaml:"status" json:"status,omitempty"`   // of HTTP (200 when not given) or of a program (0)
	Answers map[string]string `yaml:"answers" json:"answers,omitempty"` // what header fields of the answer must hold
	Body    string            `yaml:"body" json:"body,omitempty"`       // what the answer's body must hold
	Receive string            `yaml:"receive" json:"receive,omitempty"` // what must come over TCP
	Stdout  string            `yaml:"stdout" json:"stdout,omitempty"`   // what the program must print
	Stderr  string            `yaml:"stderr" json:"stderr,omitempty"`
	Matches string            `yaml:"matches" json:"matches,omitempty"` // a regular expression for body, what comes, or all that is printed
	Within  time.Duration     `yaml:"within" json:"within,omitempty"`   // 10 s when 0

	// Refused says that there must be no answer: nothing listens, or who asks is not let in.
	Refused bool `yaml:"refused" json:"refused,omitempty"`
	// Trusts says whose certificate is taken over TLS: "test", that of the test's
	// authority, which is the default, or "image", those of the image's own bundle.
	Trusts string `yaml:"trusts" json:"trusts,omitempty"`
}

// TestStop says how a service must end when a container is stopped.
type TestStop struct {
	Here   yamlread.Place `yaml:",here" json:"-"`
	Signal string         `yaml:"signal" json:"signal,omitempty"` // the image's stop-signal when empty, else SIGTERM
	Within time.Duration  `yaml:"within" json:"within,omitempty"` // 10 s when 0, after which a container is killed
	Status *int           `yaml:"status" json:"status,omitempty"` // any when not given
}

// Address is the address on loopback that a question goes to; "" for a program.
func (q *TestQuestion) Address() (string, error) {
	if q.TCP != "" {
		return LoopbackAddress(q.TCP)
	}
	if q.Get == "" {
		return "", nil
	}
	u, err := url.Parse(q.Get)
	if err != nil {
		return "", err
	}
	port := map[string]string{"http": "80", "https": "443"}[u.Scheme]
	if port == "" {
		return "", fmt.Errorf("address %q is neither http:// nor https://", q.Get)
	}
	if u.Port() != "" {
		port = u.Port()
	}
	return LoopbackAddress(net.JoinHostPort(u.Hostname(), port))
}

// Empty reports whether there is nothing to test.
func (t *Tests) Empty() bool {
	return t == nil || len(t.Files)+len(t.Absent)+len(t.Commands)+len(t.Services) == 0
}

// Title is what a test is called.
func (c *TestCommand) Title() string { return titled(c.Name, c.Run) }

// Title is what a test is called.
func (s *TestService) Title() string {
	switch {
	case s.Name != "":
		return s.Name
	case s.Run != "":
		return s.Run
	case s.Cmd != "":
		return "entrypoint " + s.Cmd
	}
	return "entrypoint"
}

func titled(name, words string) string {
	if name != "" {
		return name
	}
	return words
}

// mergeTests puts the tests of a file behind those of the file that it includes: those of
// the same name, and files of the same path, are the file's own. What must be absent is the
// file's own where it says so, for it may bring what the other must not have.
func mergeTests(base, top *Tests) *Tests {
	if base == nil || top == nil {
		if top == nil {
			return base
		}
		return top
	}
	m := *top
	m.Files = overlaid(base.Files, top.Files, func(f *TestFile) string { return path.Clean("/" + f.Path) })
	m.Commands = overlaid(base.Commands, top.Commands, (*TestCommand).Title)
	m.Services = overlaid(base.Services, top.Services, (*TestService).Title)
	m.Writable = slices.Concat(base.Writable, top.Writable)
	if !top.Here.Has("absent") {
		m.Absent = base.Absent
	}
	return &m
}

// overlaid is base with what has the same name in top replaced, and the rest of top behind it.
func overlaid[T any](base, top []T, name func(*T) string) []T {
	all := slices.Clone(base)
	for i := range top {
		at := slices.IndexFunc(all, func(one T) bool { return name(&one) == name(&top[i]) })
		if at < 0 {
			all = append(all, top[i])
		} else {
			all[at] = top[i]
		}
	}
	return all
}

var (
	testFileTypes = []string{"file", "directory", "symlink"}
	// testOwner is a user, or a user and a group, by name or number.
	testOwner = regexp.MustCompile(`^[a-zA-Z0-9_][a-zA-Z0-9_.-]*(:[a-zA-Z0-9_][a-zA-Z0-9_.-]*)?$`)
	// testUser is likewise.
	testUser = testOwner
	// headerName is a token of RFC 9110, 5.6.2.
	headerName = regexp.MustCompile("^[!#$%&'*+.^_`|~0-9A-Za-z-]+$")
)

func (l *loader) checkTests(s *Spec) {
	t := s.Tests
	if t == nil {
		return
	}
	for i := range t.Files {
		l.checkTestFile(&t.Files[i])
	}
	absent := t.Here.Value("absent")
	for i, name := range t.Absent {
		if name == "" || strings.ContainsRune(name, 0) || strings.Contains(name, "/") && !path.IsAbs(name) {
			l.add(absent.Item(i), "the name of a program, or an absolute path", "%q can be neither", name)
		}
	}
	l.checkInside(t.Here.Value("writable"), t.Writable)
	for i := range t.Commands {
		c := &t.Commands[i]
		l.checkWords(c.Here.Value("run"), c.Run)
		l.checkTestEnvironment(c.Here, c.Environment, c.WorkDir, c.User, c.Mounts)
		l.checkPattern(c.Here, c.Matches)
		l.checkDuration(c.Here, c.Within)
		l.checkStatus(c.Here, c.Status, 0, 255)
	}
	for i := range t.Services {
		l.checkTestService(s, &t.Services[i])
	}
}

func (l *loader) checkTestFile(f *TestFile) {
	if !path.IsAbs(f.Path) || strings.ContainsRune(f.Path, 0) {
		l.add(f.Here.Value("path"), "", "path %q is not absolute", f.Path)
	}
	if f.Type != "" && !slices.Contains(testFileTypes, f.Type) {
		l.add(f.Here.Value("type"), diag.DidYouMean(f.Type, testFileTypes), "unknown type of file %q", f.Type)
	}
	if f.Mode != nil && *f.Mode > 0o7777 {
		l.add(f.Here.Value("mode"), "write it in octal, e.g. 0o755", "mode %d of %q is more than 0o7777", *f.Mode, f.Path)
	}
	if f.Owner != "" && !testOwner.MatchString(f.Owner) {
		l.add(f.Here.Value("owner"), "a user, or USER:GROUP, by name or number", "%q is no owner", f.Owner)
	}
	if f.Target != "" && f.Type != "" && f.Type != "symlink" {
		l.add(f.Here.Key("target"), "", "only a symbolic link has a target")
	}
	if f.Contains != "" && f.Type != "" && f.Type != "file" {
		l.add(f.Here.Key("contains"), "", "only a file has contents")
	}
}

func (l *loader) checkTestService(s *Spec, t *TestService) {
	if t.Run != "" && t.Cmd != "" {
		l.add(t.Here.Key("cmd"), "", "a service has \"run\", or \"cmd\" behind the image's entrypoint, not both")
	}
	if t.Run != "" {
		l.checkWords(t.Here.Value("run"), t.Run)
	}
	if _, err := shellquote.Split(t.Cmd); err != nil {
		l.add(t.Here.Value("cmd"), "", "split cmd into words: %v", err)
	}
	if e := s.Entrypoint; t.Run == "" && s.Contents.BaseImage == nil && e.Command == "" && e.ShellFragment == "" && e.Type == "" && s.Cmd == "" && t.Cmd == "" {
		l.add(t.Here, "name the program by \"run\"", "the image has no entrypoint that could be started")
	}
	l.checkTestEnvironment(t.Here, t.Environment, t.WorkDir, t.User, t.Mounts)
	if c := t.Certificate; c != nil {
		for _, p := range []struct{ key, value string }{{"file", c.File}, {"key", c.Key}, {"authority", c.Authority}} {
			if p.value != "" && !goodMount(p.value) {
				l.add(c.Here.Value(p.key), "", "%q is not a clean absolute path", p.value)
			}
		}
	}
	listens := t.Here.Value("listens")
	for i, address := range t.Listens {
		if _, err := LoopbackAddress(address); err != nil {
			l.add(listens.Item(i), "", "%v", err)
		}
	}
	for i := range t.Ask {
		l.checkQuestion(t, &t.Ask[i])
	}
	l.checkDuration(t.Here, t.Within)
	l.checkDuration(t.Stop.Here, t.Stop.Within)
	if name := t.Stop.Signal; name != "" && unix.SignalNum(name) == 0 {
		l.add(t.Stop.Here.Value("signal"), "a name like SIGTERM or SIGQUIT", "unknown signal %q", name)
	}
	if t.Stop.Status != nil {
		l.checkStatus(t.Stop.Here, *t.Stop.Status, 0, 255)
	}
	if t.Stop.Signal == "" && realTimeSignal.MatchString(s.StopSignal) {
		l.add(s.Here.Value("stop-signal"), "a name like SIGTERM or SIGQUIT", "unknown signal %q", s.StopSignal)
	}
}

// questionKeys says which keys go with which kind of question.
var questionKeys = map[string][]string{
	"get": {"method", "headers", "send", "status", "answers", "body", "matches", "within", "refused", "trusts"},
	"tcp": {"tls", "send", "receive", "matches", "within", "refused", "trusts"},
	"run": {"input", "status", "stdout", "stderr", "matches", "within"},
}

func (l *loader) checkQuestion(t *TestService, q *TestQuestion) {
	var kinds []string
	for _, kind := range []string{"get", "tcp", "run"} {
		if q.Here.Has(kind) {
			kinds = append(kinds, kind)
		}
	}
	if len(kinds) != 1 {
		l.add(q.Here, "get: http://localhost:8080/, tcp: 6379, or run: a program", "a question has one of \"get\", \"tcp\" and \"run\"")
		return
	}
	for key := range q.Here.Keys() {
		if key != kinds[0] && !slices.Contains(questionKeys[kinds[0]], key) {
			l.add(q.Here.Key(key), "", "%q does not go with %q", key, kinds[0])
		}
	}
	secure := q.TLS
	switch {
	case q.Get != "":
		if _, err := q.Address(); err != nil {
			l.add(q.Here.Value("get"), "e.g. http://localhost:8080/", "%v", err)
		}
		secure = strings.HasPrefix(q.Get, "https:")
	case q.TCP != "":
		if _, err := q.Address(); err != nil {
			l.add(q.Here.Value("tcp"), "", "%v", err)
		}
		if q.Receive == "" && q.Matches == "" && q.Send != "" && !q.Refused {
			l.add(q.Here.Key("send"), "say what must come back: receive: or matches:", "nothing is expected for what is sent")
		}
	default:
		l.checkWords(q.Here.Value(kinds[0]), q.Run)
	}
	if q.Refused {
		for _, key := range []string{"status", "answers", "body", "receive"} {
			if q.Here.Has(key) {
				l.add(q.Here.Key(key), "\"matches\" holds the reason against a regular expression", "what is refused has no %q", key)
			}
		}
	}
	switch q.Trusts {
	case "", "test", "image":
	default:
		l.add(q.Here.Value("trusts"), diag.DidYouMean(q.Trusts, []string{"test", "image"}), "unknown trust %q", q.Trusts)
	}
	if q.Here.Has("trusts") && !secure {
		l.add(q.Here.Key("trusts"), "", "nothing is trusted where nothing is asked over TLS")
	}
	if secure && t.Certificate == nil && q.Trusts != "image" {
		l.add(q.Here, "certificate: {file: /etc/tls/tls.crt, key: /etc/tls/tls.key}", "what is asked over TLS needs a \"certificate\" of the service to be checked against")
	}
	if q.Method != "" && !headerName.MatchString(q.Method) {
		l.add(q.Here.Value("method"), "", "%q cannot be a method of HTTP", q.Method)
	}
	for _, key := range []string{"headers", "answers"} {
		fields := q.Headers
		if key == "answers" {
			fields = q.Answers
		}
		for name, value := range fields {
			if !headerName.MatchString(name) || strings.ContainsAny(value, "\r\n\x00") {
				l.add(q.Here.Value(key).Key(name), "", "%q cannot be a header field", name+": "+value)
			}
		}
	}
	if q.Status != nil {
		if q.Get != "" {
			l.checkStatus(q.Here, *q.Status, 100, 599)
		} else {
			l.checkStatus(q.Here, *q.Status, 0, 255)
		}
	}
	l.checkPattern(q.Here, q.Matches)
	l.checkDuration(q.Here, q.Within)
}

func (l *loader) checkTestEnvironment(here yamlread.Place, env map[string]string, workDir, user string, mounts map[string]string) {
	for name, value := range env {
		if !envName.MatchString(name) || strings.ContainsRune(value, 0) {
			l.add(here.Value("environment").Key(name), "", "%q cannot be a variable of the environment", name)
		}
	}
	if workDir != "" && !path.IsAbs(workDir) {
		l.add(here.Value("work-dir"), "", "work-dir %q is not an absolute path", workDir)
	}
	if user != "" && !testUser.MatchString(user) {
		l.add(here.Value("user"), "a user, or USER:GROUP, by name or number", "%q is no user", user)
	}
	for name := range mounts {
		if !goodMount(name) {
			l.add(here.Value("mounts").Key(name), "", "%q is not a clean absolute path outside /proc, /dev and /sys", name)
		}
	}
}

func (l *loader) checkInside(list yamlread.Place, folders []string) {
	for i, name := range folders {
		if !goodMount(name) {
			l.add(list.Item(i), "", "%q is not a clean absolute path outside /proc, /dev and /sys", name)
		}
	}
}

// goodMount reports whether something can be put at a path for a test.
func goodMount(name string) bool {
	if !path.IsAbs(name) || path.Clean(name) != name || name == "/" || strings.ContainsRune(name, 0) {
		return false
	}
	for _, own := range []string{"/proc", "/dev", "/sys"} {
		if name == own || strings.HasPrefix(name, own+"/") {
			return false
		}
	}
	return true
}

func (l *loader) checkWords(place yamlread.Place, text string) {
	words, err := shellquote.Split(text)
	switch {
	case err != nil:
		l.add(place, "", "split run into words: %v", err)
	case len(words) == 0:
		l.add(place, "", "run names no program")
	}
}

func (l *loader) checkPattern(here yamlread.Place, text string) {
	if _, err := regexp.Compile(text); err != nil {
		l.add(here.Value("matches"), "", "%s", strings.TrimPrefix(err.Error(), "error parsing regexp: "))
	}
}

func (l *loader) checkDuration(here yamlread.Place, d time.Duration) {
	if d < 0 {
		l.add(here.Value("within"), "", "a time of %s", d)
	}
}

func (l *loader) checkStatus(here yamlread.Place, status, least, most int) {
	if status < least || status > most {
		l.add(here.Value("status"), "", "status %d is not between %d and %d", status, least, most)
	}
}

// LoopbackAddress reads a port, or a host of loopback with a port: what a test of a service
// can ask. Other hosts cannot be reached from a sandbox.
func LoopbackAddress(text string) (string, error) {
	host, port := "localhost", text
	if strings.Contains(text, ":") {
		var err error
		if host, port, err = net.SplitHostPort(text); err != nil {
			return "", fmt.Errorf("address %q: want localhost:PORT", text)
		}
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
		return "", fmt.Errorf("address %q has no port: want localhost:PORT", text)
	}
	if ip := net.ParseIP(host); host != "localhost" && (ip == nil || !ip.IsLoopback()) {
		return "", fmt.Errorf("address %q: a test reaches localhost only", text)
	}
	return net.JoinHostPort(host, port), nil
}

// StopSignal gives the number of a signal as images name it (SIGTERM, TERM or 15), 0 for
// what is none.
func StopSignal(name string) unix.Signal {
	if n, err := strconv.Atoi(name); err == nil && n > 0 && n <= 64 {
		return unix.Signal(n)
	}
	name = strings.ToUpper(name)
	if !strings.HasPrefix(name, "SIG") {
		name = "SIG" + name
	}
	return unix.SignalNum(name)
}
