// Package scaffold writes the first recipe of a source by looking into it.
//
//	tree + Origin --Look--> Project --Recipe--> the recipe's text
//
// It knows what build systems, files of metadata and licences look like. It runs nothing
// of the source and fetches nothing: the tree is given, and nobody vouches for it.
package scaffold
