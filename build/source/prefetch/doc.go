// Package prefetch fetches what a language's package manager downloads: Go's modules,
// npm's packages, cargo's crates, pip's wheels.
//
//	Step.Prefetch --Run (the one sandbox with a network)--> raw --Normalise--> tree, a tar of the store
//	tree + NAME.lock.json --Place--> work folder, with the variables that make a build use it
//
// Each package manager asks where this machine's settings say (Settings), and runs
// none of the scripts of what it fetches. The tree that is left names no registry, no
// time and no password: it is one more source, and its digest stands in the lock
// beside the recipe. The package knows nothing of plans.
package prefetch
