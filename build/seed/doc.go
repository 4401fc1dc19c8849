// Package seed makes the package that the first compiler comes from: a few binary
// packages of Debian, named in a lock by version and SHA-256, laid out so that they
// stand beside musl's files and not in their place.
//
//	seed.lock.yaml --Open--> Seed --Fetch--> seed-toolchain.apk in the store
//
// A plan is complete before a byte is fetched: what the package provides, and what
// its bytes are called, the lock says alone. The package bears the origin
// repo.SeedOrigin, by which the composer refuses it.
//
// The package knows how Debian's files become one package. It knows nothing of
// recipes, plans and sandboxes.
package seed
