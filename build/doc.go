// Package build is stage 2: plans become packages, and packages are tested.
//
//	Plan --Builder.Build--> packages, unsigned, in the store
//
// It holds no private key: signing is the repository's, outside every sandbox.
package build
