// Package images is stage 4: image files become images.
//
//	image.yaml --Load--> Spec --(repo.Set.Resolve)--> packages --Compose--> Image
//
// It knows apko's image language, what an image holds besides the files of its
// packages, layers, and the OCI layout. It knows nothing of recipes and builds: a
// repository stands between them. Nothing of a package is ever run while an image
// is composed: no script, no trigger, no shell.
package images
