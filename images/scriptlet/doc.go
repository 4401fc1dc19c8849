// Package scriptlet does to a tree what the script of a package would do to a root
// file system, without running it.
//
// A script is read by the grammar of the shell, and each command that it comes to is
// looked up in a table of what the composer knows how to do by itself: users and
// groups, folders, links, modes and owners, small files, alternatives, and steps that
// the composer makes in any case, such as the cache of the loader of libraries. What a
// condition asks of the file system is asked of the tree. A command that is not in the
// table is no reason to run anything: the script is Unhandled, with the line.
//
// No program is started and no file of this machine is looked at. What it gives
// follows from script and tree alone, so that it is the same each time.
package scriptlet
