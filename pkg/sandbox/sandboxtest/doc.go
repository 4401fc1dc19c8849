// Package sandboxtest holds what every sandbox backend promises, as tests. A
// backend's own test is
//
//	func TestPromises(t *testing.T) { sandboxtest.Run(t, namespace.Backend{}) }
//
// The roots that it makes hold one static program, probe, so no distribution is
// needed. Where a defence is tested, the same attempt is made outside too, when
// it can be, to show that it is the defence that stops it.
package sandboxtest
