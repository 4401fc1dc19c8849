// Package redact keeps logins of addresses out of messages: passwords, and tokens, which many
// hosts take in the place of the user. It knows addresses and nothing of who has them.
package redact

import (
	"net/url"
	"regexp"
)

// hidden stands in messages where an address has a login.
const hidden = "xxxxx"

// Login is what an address holds before its host, but for the user git, which is
// everybody's: a password, or a token, which many hosts take in the place of the user or
// beside a password that everybody knows.
func Login(u *url.URL) *url.Userinfo {
	if u.User == nil || u.User.String() == "" || u.User.String() == "git" {
		return nil
	}
	return u.User
}

// Address is an address as messages show it: without a login.
func Address(address string) string {
	u, err := url.Parse(address)
	if err != nil {
		return "an address that cannot be read"
	}
	if Login(u) == nil {
		return address // as it was written: a template's braces are no part of an address
	}
	u.User = url.User(hidden)
	return u.String()
}

// login is one in an address in the midst of a text.
var login = regexp.MustCompile(`(://)([^/\s"'?#]*)@`)

// Text is a text whose addresses have no logins.
func Text(text string) string {
	return login.ReplaceAllStringFunc(text, func(found string) string {
		if found == "://git@" {
			return found
		}
		return "://" + hidden + "@"
	})
}
