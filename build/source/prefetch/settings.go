package prefetch

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/BurntSushi/toml"

	"github.com/tarn-build/tarn/pkg/sandbox"
)

// Settings are what this machine's package managers know of registries: where they are,
// by which proxy, who may ask, and whom to trust. They exist in the fetch sandbox alone.
type Settings struct {
	Env   map[string]string // variables
	Files map[string][]byte // by path below the home folder of the fetch sandbox
	Binds []sandbox.Bind    // the certificates
	// Secrets are values that nobody shall read in a log, a tree or a message.
	Secrets []string
}

// certificates is where the machine's certificates stand in the fetch sandbox.
const certificates = "/run/prefetch/certificates.pem"

// passed are the variables that count, by the tool that reads them: "" is everybody's.
var passed = map[string]*regexp.Regexp{
	"":      regexp.MustCompile(`^((?i:https?|all|no)_(?i:proxy))$`),
	"go":    regexp.MustCompile(`^(GOPROXY|GONOPROXY|GOSUMDB|GONOSUMDB|GONOSUMCHECK|GOPRIVATE|GOINSECURE|GOVCS|GOAUTH)$`),
	"npm":   regexp.MustCompile(`^(?i)npm_config_(registry|@.*:registry|//.*|https?[-_]?proxy|proxy|noproxy|strict_ssl|fetch_.*|maxsockets)$`),
	"pip":   regexp.MustCompile(`^PIP_(INDEX_URL|EXTRA_INDEX_URL|TRUSTED_HOST|PROXY|DEFAULT_TIMEOUT|TIMEOUT|RETRIES)$`),
	"cargo": regexp.MustCompile(`^CARGO_(REGISTRY_(TOKEN|DEFAULT|INDEX)|REGISTRIES_.*|SOURCE_.*|HTTP_(PROXY|TIMEOUT|MULTIPLEXING|CHECK_REVOKE)|NET_(RETRY|GIT_FETCH_WITH_CLI))$`),
}

// tools are the programs that a script may run, and that settings are for.
var tools = map[string]*regexp.Regexp{
	"go":    regexp.MustCompile(`(^|[\s;&|(])go\s`),
	"npm":   regexp.MustCompile(`(^|[\s;&|(])"?\$?(npm|pnpm|npx|program)"?\s`),
	"pip":   regexp.MustCompile(`(^|[\s;&|(])(pip3?|python3?)\s`),
	"cargo": regexp.MustCompile(`(^|[\s;&|(])cargo\s`),
}

// ToolsOf lists the package managers that a script runs, sorted.
func ToolsOf(script string) (names []string) {
	for name, pattern := range tools {
		if pattern.MatchString(script) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// MachineSettings reads the settings of the named package managers, and of netrc: from
// the environment and from the files that they themselves read. Each is given no other's.
func MachineSettings(names []string) (*Settings, error) {
	s := &Settings{Env: map[string]string{}, Files: map[string][]byte{}}
	for _, variable := range os.Environ() {
		name, value, _ := strings.Cut(variable, "=")
		for tool, pattern := range passed {
			if value != "" && (tool == "" || slices.Contains(names, tool)) && pattern.MatchString(name) {
				s.Env[name] = value
				s.secretsIn(name, value)
			}
		}
	}
	home, _ := os.UserHomeDir() // without one there are no files in it
	for _, name := range names {
		read := map[string]func(*Settings, string) error{"go": (*Settings).readGo, "npm": (*Settings).readNPM, "pip": (*Settings).readPip, "cargo": (*Settings).readCargo}[name]
		if read == nil {
			continue
		}
		if err := read(s, home); err != nil {
			return nil, fmt.Errorf("settings of %s: %w", name, err)
		}
	}
	if err := s.readNetrc(home); err != nil {
		return nil, err
	}
	s.trust()
	return s, nil
}

// trust shows the sandbox the certificates that this machine believes.
func (s *Settings) trust() {
	for _, name := range []string{os.Getenv("SSL_CERT_FILE"), "/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem", "/etc/ssl/ca-bundle.pem"} {
		if info, err := os.Stat(name); name == "" || err != nil || !info.Mode().IsRegular() {
			continue
		}
		real, err := filepath.EvalSymlinks(name)
		if err != nil {
			continue
		}
		s.Binds = append(s.Binds, sandbox.Bind{Source: real, Path: certificates})
		for _, variable := range []string{"SSL_CERT_FILE", "NODE_EXTRA_CA_CERTS", "CARGO_HTTP_CAINFO", "PIP_CERT", "REQUESTS_CA_BUNDLE", "GIT_SSL_CAINFO", "CURL_CA_BUNDLE", "npm_config_cafile"} {
			s.Env[variable] = certificates
		}
		return
	}
}

// hide adds a secret. Words of a letter or two would take every text apart.
func (s *Settings) hide(value string) {
	if value = strings.Trim(strings.TrimSpace(value), `"'`); len(value) >= 4 && !slices.Contains(s.Secrets, value) {
		s.Secrets = append(s.Secrets, value)
	}
	if plain, err := url.PathUnescape(value); err == nil && plain != value {
		s.hide(plain)
	}
}

var (
	address     = regexp.MustCompile(`[a-zA-Z][a-zA-Z0-9+.-]*://[^/\s"'@]+@`)
	encodedName = regexp.MustCompile(`_(auth|password)$`)
	secretName  = regexp.MustCompile(`(?i)(token|passw|_auth$|_auth\b|secret|credential|key$)`)
)

// secretsIn finds the secrets of a setting: what is called like one, and passwords in
// addresses.
func (s *Settings) secretsIn(name, value string) {
	if secretName.MatchString(name) {
		s.hide(value)
	}
	// npm writes passwords, and names with passwords, in Base64.
	if plain, err := base64.StdEncoding.DecodeString(value); err == nil && encodedName.MatchString(name) && utf8.Valid(plain) {
		password := string(plain)
		if _, after, both := strings.Cut(password, ":"); both && strings.HasSuffix(name, "_auth") {
			password = after
		}
		s.hide(password)
	}
	for _, found := range address.FindAllString(value, -1) {
		_, login, _ := strings.Cut(strings.TrimSuffix(found, "@"), "://")
		user, password, both := strings.Cut(login, ":")
		if !both {
			password = user // a token in the place of a user
		}
		s.hide(password)
	}
}

// readFile reads a small file of settings; nil when it is not there.
func readFile(name string) ([]byte, error) {
	f, err := os.Open(name)
	if errors.Is(err, fs.ErrNotExist) || name == "" {
		return nil, nil
	} else if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() || info.Size() > 1<<20 {
		return nil, fmt.Errorf("%s is no file of at most 1 MiB", name)
	}
	return os.ReadFile(name)
}

// lines gives KEY=VALUE of a file; comments begin with # or ;.
func lines(data []byte, each func(key, value string)) {
	for scan := bufio.NewScanner(bytes.NewReader(data)); scan.Scan(); {
		line := strings.TrimSpace(scan.Text())
		if line == "" || line[0] == '#' || line[0] == ';' {
			continue
		}
		key, value, _ := strings.Cut(line, "=")
		each(strings.TrimSpace(key), strings.TrimSpace(value))
	}
}

// readGo takes what go env -w wrote.
func (s *Settings) readGo(string) error {
	name := os.Getenv("GOENV")
	if name == "" {
		dir, err := os.UserConfigDir()
		if err != nil {
			return nil
		}
		name = filepath.Join(dir, "go", "env")
	}
	if name == "off" {
		return nil
	}
	data, err := readFile(name)
	lines(data, func(key, value string) {
		if _, set := s.Env[key]; !set && passed["go"].MatchString(key) {
			s.Env[key] = value
			s.secretsIn(key, value)
		}
	})
	return err
}

// npmKey are the settings of npm that say where registries are and who asks.
var npmKey = regexp.MustCompile(`^(registry|@[^:]+:registry|//.*|proxy|https-proxy|http-proxy|noproxy|strict-ssl|ca(\[\])?|cert|key|always-auth|_auth|_authToken|_password|username|email|fetch-.*|maxsockets)$`)

// npmVariable is a variable of the environment in a setting of npm.
var npmVariable = regexp.MustCompile(`\$\{([^}]+)\}`)

// readNPM takes the global settings and the user's, with what they take from the environment.
func (s *Settings) readNPM(home string) error {
	user := os.Getenv("NPM_CONFIG_USERCONFIG")
	if user == "" {
		user = os.Getenv("npm_config_userconfig")
	}
	if user == "" && home != "" {
		user = filepath.Join(home, ".npmrc")
	}
	var b bytes.Buffer
	registry := ""
	for _, name := range []string{"/etc/npmrc", "/usr/etc/npmrc", "/usr/local/etc/npmrc", os.Getenv("NPM_CONFIG_GLOBALCONFIG"), user} {
		data, err := readFile(name)
		if err != nil {
			return err
		}
		lines(data, func(key, value string) {
			value = npmVariable.ReplaceAllStringFunc(value, func(v string) string { return os.Getenv(v[2 : len(v)-1]) })
			if npmKey.MatchString(key) {
				fmt.Fprintf(&b, "%s=%s\n", key, value)
				s.secretsIn(key, value)
			}
			if key == "registry" {
				registry = value
			}
		})
	}
	// A source may come with an .npmrc of its own, which counts before the user's, but after
	// variables. Those whose names are none to a shell would not pass one.
	for _, name := range slices.Sorted(maps.Keys(s.Env)) {
		switch value, key := s.Env[name], strings.TrimPrefix(strings.ToLower(name), "npm_config_"); {
		case key == "registry":
			registry = ""
		case len(key) < len(name) && strings.ContainsAny(key, "@/:"):
			delete(s.Env, name)
			fmt.Fprintf(&b, "%s=%s\n", name[len("npm_config_"):], value)
		}
	}
	if registry != "" {
		s.Env["npm_config_registry"] = registry
	}
	if b.Len() > 0 {
		s.Files[".npmrc"] = b.Bytes()
	}
	return nil
}

// pipKeys are the settings of pip that say where indexes are.
var pipKeys = []string{"index-url", "extra-index-url", "trusted-host", "proxy", "timeout", "retries"}

// readPip takes the settings of pip's files, the later before the earlier.
func (s *Settings) readPip(home string) error {
	settings := map[string]string{}
	names := []string{"/etc/xdg/pip/pip.conf", "/etc/pip.conf"}
	if home != "" {
		names = append(names, filepath.Join(home, ".pip", "pip.conf"))
	}
	if dir, err := os.UserConfigDir(); err == nil {
		names = append(names, filepath.Join(dir, "pip", "pip.conf"))
	}
	for _, name := range append(names, os.Getenv("PIP_CONFIG_FILE")) {
		data, err := readFile(name)
		if err != nil {
			return err
		}
		section, last := "", ""
		for scan := bufio.NewScanner(bytes.NewReader(data)); scan.Scan(); {
			line := scan.Text()
			text := strings.TrimSpace(line)
			switch {
			case text == "" || text[0] == '#' || text[0] == ';':
			case text[0] == '[':
				section, last = strings.Trim(text, "[]"), ""
			case section != "global" && section != "download" && section != "install":
			case last != "" && (line[0] == ' ' || line[0] == '\t'):
				settings[last] += "\n    " + text
			default:
				last = ""
				key, value, found := strings.Cut(text, "=")
				if key = strings.ReplaceAll(strings.TrimSpace(key), "_", "-"); found && slices.Contains(pipKeys, key) {
					last, settings[key] = key, strings.TrimSpace(value)
				}
			}
		}
	}
	var b strings.Builder
	for _, key := range pipKeys {
		if value, set := settings[key]; set {
			if b.Len() == 0 {
				b.WriteString("[global]\n")
			}
			fmt.Fprintf(&b, "%s = %s\n", key, value)
			s.secretsIn(key, value)
		}
	}
	if b.Len() > 0 {
		s.Files[".config/pip/pip.conf"] = []byte(b.String())
	}
	return nil
}

// cargoTables are the settings of cargo that say where registries are. Programs that give
// credentials are none: nothing of this machine runs in the fetch sandbox.
var cargoTables = []string{"source", "registries", "registry", "http", "net"}

func (s *Settings) readCargo(home string) error {
	dir := os.Getenv("CARGO_HOME")
	if dir == "" && home != "" {
		dir = filepath.Join(home, ".cargo")
	}
	if dir == "" {
		return nil
	}
	for _, file := range []struct {
		names []string
		to    string
	}{{[]string{"config.toml", "config"}, ".cargo/config.toml"}, {[]string{"credentials.toml", "credentials"}, ".cargo/credentials.toml"}} {
		for _, name := range file.names {
			data, err := readFile(filepath.Join(dir, name))
			if err != nil {
				return err
			}
			if data == nil {
				continue
			}
			var all map[string]any
			if err := toml.Unmarshal(data, &all); err != nil {
				return fmt.Errorf("%s: it is no TOML", name) // its text may hold secrets
			}
			kept := map[string]any{}
			for _, key := range cargoTables {
				if v, there := all[key]; there {
					kept[key] = s.cargoTable(key, v)
				}
			}
			var b bytes.Buffer
			if err := toml.NewEncoder(&b).Encode(kept); err != nil {
				return fmt.Errorf("%s: it cannot be written again", name)
			}
			s.Files[file.to] = b.Bytes()
			break
		}
	}
	return nil
}

// cargoTable leaves out what names a program or a file, and notes secrets.
func (s *Settings) cargoTable(name string, v any) any {
	switch v := v.(type) {
	case map[string]any:
		kept := map[string]any{}
		for key, inner := range v {
			if strings.Contains(key, "credential-") || key == "cainfo" {
				continue
			}
			kept[key] = s.cargoTable(key, inner)
		}
		return kept
	case string:
		s.secretsIn(name, v)
	}
	return v
}

// readNetrc takes the passwords of hosts.
func (s *Settings) readNetrc(home string) error {
	name := os.Getenv("NETRC")
	if name == "" && home != "" {
		name = filepath.Join(home, ".netrc")
	}
	data, err := readFile(name)
	if err != nil {
		return fmt.Errorf("read netrc: %w", err)
	}
	if data == nil {
		return nil
	}
	s.Files[".netrc"] = data
	words := strings.Fields(string(data))
	for i, word := range words {
		if i > 0 && words[i-1] == "password" {
			s.hide(word)
		}
	}
	return nil
}
