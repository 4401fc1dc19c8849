package web

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
)

// Credentials are users and passwords of hosts, for fetching only. They are in no
// message and no store. A nil *Credentials has none.
type Credentials struct {
	hosts map[string]login
	any   *login // of HTTP_AUTH with the realm *
}

type login struct{ user, password string }

// For gives the user and password for a host, without a port.
func (c *Credentials) For(host string) (user, password string, found bool) {
	if c == nil {
		return "", "", false
	}
	l, found := c.hosts[strings.ToLower(host)]
	return l.user, l.password, found
}

// Any gives the user and password that are named for no host (HTTP_AUTH with the realm
// *). See Client.AnyHost for who gets them.
func (c *Credentials) Any() (user, password string, found bool) {
	if c == nil || c.any == nil {
		return "", "", false
	}
	return c.any.user, c.any.password, true
}

// With are those of c and, for further hosts, those of other.
func (c *Credentials) With(other *Credentials) *Credentials {
	all := new(Credentials)
	for _, some := range []*Credentials{c, other} {
		if some == nil {
			continue
		}
		for host, l := range some.hosts {
			all.add(host, l.user, l.password)
		}
		if all.any == nil {
			all.any = some.any
		}
	}
	return all
}

// Len is how many hosts there are credentials of.
func (c *Credentials) Len() int {
	if c == nil {
		return 0
	}
	return len(c.hosts)
}

// String keeps secrets out of whatever prints the value.
func (c *Credentials) String() string {
	return fmt.Sprintf("credentials of %d hosts", c.Len())
}

// GoString keeps secrets out of whatever prints the value.
func (c *Credentials) GoString() string { return c.String() }

func (c *Credentials) add(host, user, password string) {
	if c.hosts == nil {
		c.hosts = map[string]login{}
	}
	host = strings.ToLower(host)
	if _, known := c.hosts[host]; !known && host != "" {
		c.hosts[host] = login{user, password}
	}
}

// LoadCredentials reads those of the environment: HTTP_AUTH, as apk and melange
// write it (basic:HOST:USER:PASSWORD, several separated by commas; the host * is
// whichever is asked, see Client.AnyHost), and the file that NETRC names, else
// ~/.netrc. What is named first counts.
func LoadCredentials() (*Credentials, error) {
	c := new(Credentials)
	for _, part := range strings.Split(os.Getenv("HTTP_AUTH"), ",") {
		if part = strings.TrimSpace(part); part == "" {
			continue
		}
		field := strings.SplitN(part, ":", 4)
		if len(field) != 4 || field[0] != "basic" || field[1] == "" {
			return nil, fmt.Errorf("environment variable HTTP_AUTH is not basic:HOST:USER:PASSWORD")
		}
		if field[1] == "*" {
			if c.any == nil {
				c.any = &login{field[2], field[3]}
			}
			continue
		}
		c.add(field[1], field[2], field[3])
	}
	file, named := os.LookupEnv("NETRC")
	if !named {
		home, err := os.UserHomeDir()
		if err != nil {
			return c, nil
		}
		file = filepath.Join(home, ".netrc")
	}
	f, err := os.Open(file)
	if err != nil {
		if named && file != "" {
			return nil, fmt.Errorf("read NETRC: %w", err)
		}
		return c, nil
	}
	defer f.Close()
	return c, c.ReadNetrc(f)
}

// ReadNetrc reads the words of a netrc file. "machine" in apt's files may be an
// address with a scheme and a path; its host counts. A default is not taken: what
// is fetched comes from many hosts.
func (c *Credentials) ReadNetrc(r io.Reader) error {
	scan := bufio.NewScanner(io.LimitReader(r, 1<<20))
	var host, user, password string
	flush := func() {
		if host != "" && user != "" {
			c.add(host, user, password)
		}
		host, user, password = "", "", ""
	}
	macro := false
	for scan.Scan() {
		line, _, _ := strings.Cut(scan.Text(), "#")
		if strings.TrimSpace(line) == "" {
			macro = false
			continue
		}
		if macro {
			continue
		}
		words := strings.Fields(line)
		for i := 0; i < len(words); i++ {
			var value string
			if i+1 < len(words) {
				value = words[i+1]
			}
			switch words[i] {
			case "machine":
				flush()
				host = netrcHost(value)
				i++
			case "default":
				flush()
			case "login":
				user = value
				i++
			case "password":
				password = value
				i++
			case "account":
				i++
			case "macdef":
				macro = true
				i = len(words)
			}
		}
	}
	flush()
	if err := scan.Err(); err != nil {
		return fmt.Errorf("read netrc: %v", err)
	}
	return nil
}

func netrcHost(machine string) string {
	if _, rest, found := strings.Cut(machine, "://"); found {
		machine = rest
	}
	machine, _, _ = strings.Cut(machine, "/")
	if i := strings.LastIndexByte(machine, ':'); i >= 0 {
		machine = machine[:i]
	}
	return machine
}
