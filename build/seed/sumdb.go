package seed

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/mod/module"
	"golang.org/x/mod/sumdb"
	"golang.org/x/mod/sumdb/note"

	"github.com/tarn-build/tarn/build/source"
	"github.com/tarn-build/tarn/pkg/host"
	"github.com/tarn-build/tarn/pkg/web"
)

// goSettings are the settings of this machine's Go that say where modules come from and
// who vouches for them: of the environment, or as go env tells.
func goSettings(ctx context.Context) (map[string]string, error) {
	names := []string{"GOPROXY", "GOSUMDB", "GONOSUMDB", "GOPRIVATE", "GOROOT"}
	values, err := host.GoEnv(ctx, names...)
	if err != nil {
		if values = (map[string]string{}); os.Getenv("GOPROXY") == "" {
			return nil, fmt.Errorf("GOPROXY is not set, and go env does not tell it: %w", err)
		}
		for _, name := range names {
			values[name] = os.Getenv(name)
		}
		values["GONOSUMDB"] = cmp.Or(values["GONOSUMDB"], values["GOPRIVATE"])
	}
	return values, nil
}

// databaseKey is the key of a database that GOSUMDB calls by its name alone, or "". The
// go command has it in its program, and does not tell it: it is read out of its source,
// which lies beside it.
func databaseKey(goroot, name string) (string, error) {
	if goroot == "" {
		return "", nil
	}
	file, err := parser.ParseFile(token.NewFileSet(), filepath.Join(goroot, "src/cmd/go/internal/modfetch/key.go"), nil, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil // of Go without its source
	} else if err != nil {
		return "", err
	}
	key := ""
	ast.Inspect(file, func(n ast.Node) bool {
		if pair, ok := n.(*ast.KeyValueExpr); ok && text(pair.Key) == name {
			key = text(pair.Value)
		}
		return true
	})
	return key, nil
}

// text is the value of a string in Go's source.
func text(e ast.Expr) string {
	if literal, ok := e.(*ast.BasicLit); ok && literal.Kind == token.STRING {
		if value, err := strconv.Unquote(literal.Value); err == nil {
			return value
		}
	}
	return ""
}

// SumError says that what a proxy serves is not what the checksum database vouches for,
// or that the database's own answer does not hold.
type SumError struct {
	Module   string // with its version
	Database string // its name
	Err      error
}

func (e *SumError) Error() string {
	return fmt.Sprintf("%s: the checksum database %s does not vouch for it: %v", e.Module, e.Database, e.Err)
}
func (e *SumError) Unwrap() error { return e.Err }

// database is the checksum database that vouches for modules. It asks it as the go command
// does (go.dev/ref/mod, "Checksum database"), but that it keeps nothing: what it learns of
// the database's tree it holds against itself alone.
type database struct {
	ctx     context.Context
	fetcher *source.Fetcher
	name    string
	key     string
	proxies string // as GOPROXY has them

	client *sumdb.Client

	find    sync.Once
	base    string // the address; of GOSUMDB, or found
	baseErr error

	mu     sync.Mutex
	latest []byte // the signed tree
	failed error  // the last question that had no answer
	wrong  string // what the client says of an answer that does not hold
}

// openDatabase gives the database that vouches for a module by this machine's settings. It
// is nil where they say that nobody does (GOSUMDB=off, GONOSUMDB, GOPRIVATE), with why. The
// go command itself insists on it for Go's own toolchains, which it runs unseen; a lock is
// read before it is used.
func openDatabase(ctx context.Context, f *source.Fetcher, settings map[string]string, of string) (d *database, why string, err error) {
	if p := settings["GOPROXY"]; strings.HasPrefix(p, "file://") && !strings.ContainsAny(p, ",|") {
		return nil, "GOPROXY is a folder", nil
	}
	if module.MatchPrefixPatterns(settings["GONOSUMDB"], of) {
		return nil, "GONOSUMDB or GOPRIVATE names it", nil
	}
	setting := settings["GOSUMDB"]
	if setting == "off" {
		return nil, "GOSUMDB=off", nil
	}
	field := strings.Fields(setting)
	if len(field) == 0 || len(field) > 2 {
		return nil, "", fmt.Errorf("GOSUMDB: %q is no name or key of a database, with its address or without", setting)
	}
	key := field[0]
	if !strings.Contains(key, "+") {
		known, err := databaseKey(settings["GOROOT"], key)
		if err != nil {
			return nil, "", fmt.Errorf("the keys that Go knows: %w", err)
		}
		if known == "" {
			return nil, "", fmt.Errorf("GOSUMDB: the key of %q is not known\n  hint: set GOSUMDB to NAME+HASH+KEY, as the database tells it, or to off", key)
		}
		key = known
	}
	verifier, err := note.NewVerifier(key)
	if err != nil {
		return nil, "", fmt.Errorf("GOSUMDB: %w", err)
	}
	name := verifier.Name()
	if u, err := url.Parse("https://" + name); err != nil || u.Host == "" || u.String() != "https://"+name || u.User != nil || u.RawQuery != "" || u.Fragment != "" || strings.HasSuffix(name, "/") {
		return nil, "", fmt.Errorf("GOSUMDB: %q is no name of a database: a host, with a path or without", name)
	}
	d = &database{ctx: ctx, fetcher: f, name: name, key: key, proxies: settings["GOPROXY"]}
	if len(field) == 2 {
		d.base = strings.TrimSuffix(field[1], "/")
	}
	d.client = sumdb.NewClient(d)
	return d, "", nil
}

// check asks whether the database has the sum of a version. Another one is a *SumError, as
// is an answer that is not the database's; one that cannot be had is a *source.Error.
func (d *database) check(of, version, sum string) error {
	d.failed = nil
	name := of + "@" + version
	lines, err := d.client.Lookup(of, version)
	switch {
	case d.wrong != "":
		return &SumError{name, d.name, errors.New(strings.TrimSpace(d.wrong))}
	case err != nil && d.failed != nil:
		return &source.Error{Name: name, Digest: sum, Tried: []source.Attempt{{From: "the checksum database " + d.name, Err: fmt.Errorf("%w\n  hint: GOSUMDB=off believes what proxies serve", d.failed)}}}
	case err != nil:
		// What it could not believe follows on further lines.
		text, _, _ := strings.Cut(strings.TrimPrefix(err.Error(), name+": "), "\n")
		return &SumError{name, d.name, errors.New(text)}
	}
	if want := of + " " + version + " " + sum; !slices.Contains(lines, want) {
		var told []string
		for _, line := range lines {
			told = append(told, strings.TrimPrefix(line, of+" "+version+" "))
		}
		return &SumError{name, d.name, &source.MismatchError{Algorithm: "h1", Want: cmp.Or(strings.Join(told, ", "), "nothing"), Got: sum}}
	}
	return nil
}

// locate finds how the database is reached: over the first proxy that says that it
// passes questions on, else at its own address.
func (d *database) locate() {
	if d.base != "" {
		return
	}
	for rest := d.proxies; rest != ""; {
		proxy, more := rest, ""
		anyway := false // go on after any error, and not only where there is nothing
		if i := strings.IndexAny(rest, ",|"); i >= 0 {
			proxy, more, anyway = rest[:i], rest[i+1:], rest[i] == '|'
		}
		proxy, rest = strings.TrimSuffix(strings.TrimSpace(proxy), "/"), more
		if proxy == "direct" || proxy == "off" {
			break
		}
		if proxy == "" || strings.HasPrefix(proxy, "file:") {
			continue
		}
		_, err := d.fetcher.Read(d.ctx, proxy+"/sumdb/"+d.name+"/supported")
		if err == nil {
			d.base = proxy + "/sumdb/" + d.name
			return
		}
		status, is := errors.AsType[*web.StatusError](err)
		if gone := is && (status.Code == http.StatusNotFound || status.Code == http.StatusGone); !gone && !anyway {
			d.baseErr = err
			return
		}
	}
	d.base = "https://" + d.name
}

// ReadRemote implements sumdb.ClientOps.
func (d *database) ReadRemote(path string) ([]byte, error) {
	d.find.Do(d.locate)
	data, err := []byte(nil), d.baseErr
	if err == nil {
		data, err = d.fetcher.Read(d.ctx, d.base+path)
	}
	if err != nil {
		d.mu.Lock()
		d.failed = err
		d.mu.Unlock()
	}
	return data, err
}

// ReadConfig implements sumdb.ClientOps.
func (d *database) ReadConfig(file string) ([]byte, error) {
	if file == "key" {
		return []byte(d.key), nil
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.latest, nil
}

// WriteConfig implements sumdb.ClientOps.
func (d *database) WriteConfig(_ string, before, after []byte) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if string(d.latest) != string(before) {
		return sumdb.ErrWriteConflict
	}
	d.latest = after
	return nil
}

// ReadCache implements sumdb.ClientOps: there is none.
func (d *database) ReadCache(string) ([]byte, error) { return nil, fs.ErrNotExist }

// WriteCache implements sumdb.ClientOps.
func (d *database) WriteCache(string, []byte) {}

// Log implements sumdb.ClientOps.
func (d *database) Log(string) {}

// SecurityError implements sumdb.ClientOps.
func (d *database) SecurityError(text string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.wrong = text
}
