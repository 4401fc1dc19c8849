// Package namespace is the sandbox that the kernel alone gives: namespaces, an
// overlay of read-only folders, a system call filter. It needs no daemon, no
// container engine and no setuid program, and works for root and for ordinary
// users. It knows commands and folders, and nothing of recipes or packages.
//
//	parent ──clone──▶ first stage: mounts, limits, gives up all power
//	                       └──exec──▶ second stage: PID 1, starts commands, reaps
//	                                       └──▶ command
//
// Both stages are the program itself, started again; therefore [Init] has to be
// the first thing that a program's main (and a test's TestMain) does. The second
// exec is what makes giving up power complete: it leaves no thread behind that
// still has some, and no descriptor and no byte of the parent's memory.
//
// README.md one folder up says what is defended against what.
package namespace
