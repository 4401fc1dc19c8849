package diag

import "slices"

// Policy moves rules from the severity that they have by themselves. The zero value
// moves none. A rule that stands in several of the lists has the severity of the first.
type Policy struct {
	Require []string `yaml:"require"` // their findings are errors
	Warn    []string `yaml:"warn"`    // their findings are warnings
	Off     []string `yaml:"off"`     // they are not looked for
}

// Severity is what the policy makes of a rule that is as severe as said by itself.
func (p Policy) Severity(rule string, by Severity) Severity {
	switch {
	case slices.Contains(p.Require, rule):
		return Error
	case slices.Contains(p.Warn, rule):
		return Warning
	case slices.Contains(p.Off, rule):
		return Off
	}
	return by
}

// Over is the policy where it says something of a rule, and under where it does not.
func (p Policy) Over(under Policy) Policy {
	rest := func(names []string) []string {
		return slices.DeleteFunc(slices.Clone(names), func(rule string) bool {
			return slices.Contains(p.Require, rule) || slices.Contains(p.Warn, rule) || slices.Contains(p.Off, rule)
		})
	}
	return Policy{
		Require: append(rest(under.Require), p.Require...),
		Warn:    append(rest(under.Warn), p.Warn...),
		Off:     append(rest(under.Off), p.Off...),
	}
}
