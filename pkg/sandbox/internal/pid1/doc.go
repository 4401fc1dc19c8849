// Package pid1 is the first process of a sandbox, whichever backend made it, and the
// parent's end of it. It has no power: it starts the commands that the parent asks for,
// adopts and ends what they leave, and watches the limits that nobody else does.
//
//	parent: Box ── command + 3 descriptors ──▶ Serve: fork, exec, wait
//	            ◀────── exit status ──────────
package pid1
