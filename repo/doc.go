// Package repo is stage 3: signed repositories of packages, and resolving names
// to the exact packages they hold.
//
//	packages --Publish--> Repository --Set.Resolve--> Lock
//
// It knows packages, indexes and keys, and nothing of recipes, builds or images.
package repo
