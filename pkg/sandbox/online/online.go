// Package online holds the permission to reach the machine's network from inside a
// sandbox. A Spec takes an *Access, and nothing else turns the network on; only who
// imports this package can make one. A test of the command keeps the list of those
// who may: what runs the steps of builds and tests is not on it.
package online

// Access is the permission. Nil is none, and so is the zero value.
type Access struct{ why string }

// Grant gives the permission, and says what for, e.g. "prefetch of hello".
func Grant(why string) *Access { return &Access{why} }

// Granted tells whether there is one.
func (a *Access) Granted() bool { return a != nil && a.why != "" }

// Why is what it was given for; "" without any.
func (a *Access) Why() string {
	if a == nil {
		return ""
	}
	return a.why
}
