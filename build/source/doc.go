// Package source is the one door for bytes from outside: what a script's fetch
// and git-checkout steps name is put into the store, checked against its digest,
// before any sandbox starts.
//
//	Script --Of--> Source, Git --Fetch, Checkout--> blobs of the store --Unpack--> work folder
//
// The store is asked first, then upstream's addresses in their order, then the
// mirrors, by digest; git repositories by commit. Where a step asks for upstream's
// signature, that is checked by keys that lie beside the recipe. Secrets for fetching (HTTP_AUTH, netrc) are used here and go
// nowhere else. It knows nothing of sandboxes, plans or packages.
package source
