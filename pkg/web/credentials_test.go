package web

import (
	"strings"
	"testing"
)

func FuzzCredentials(f *testing.F) {
	f.Add("machine a login b password c\nmacdef x\nmachine y\n\nmachine http://d:1/x login e password f")
	f.Fuzz(func(t *testing.T, text string) {
		c := new(Credentials)
		if c.ReadNetrc(strings.NewReader(text)) != nil {
			return
		}
		if _, _, found := c.For(""); found {
			t.Error("somebody is known at no host")
		}
	})
}
