package build

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"

	"github.com/tarn-build/tarn/build/environment"
	"github.com/tarn-build/tarn/build/pack"
	"github.com/tarn-build/tarn/pkg/sandbox"
	"github.com/tarn-build/tarn/recipes"
)

// giving are the capabilities by which commands give files to other users, and go on
// working with them.
var giving = []string{"CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FOWNER", "CAP_FSETID"}

// hasAccounts tells whether a recipe names users or groups, for which files may be.
func hasAccounts(a *recipes.Accounts) bool { return a != nil && len(a.Users)+len(a.Groups) > 0 }

// letGive lets the commands of a recipe with accounts give files away, where this machine
// lets the caller.
func (b *Builder) letGive(s *recipes.Script, spec *sandbox.Spec) {
	users, can := b.Sandbox.(sandbox.Users)
	if !hasAccounts(s.Environment.Accounts) || spec.UID != 0 || !can || !users.Several() {
		return
	}
	spec.Owners = true
	spec.Capabilities = append(spec.Capabilities, giving...)
}

// owners is what is known of files that other users of the sandbox have.
type owners struct {
	users sandbox.Users // nil where the caller sees it as the sandbox does, or there are none
	work  *work
	spec  sandbox.Spec
	list  []sandbox.Owned
	taken bool
}

func (b *Builder) ownersOf(w *work, spec sandbox.Spec) *owners {
	o := &owners{work: w, spec: spec}
	if spec.Owners && os.Geteuid() != 0 {
		o.users, _ = b.Sandbox.(sandbox.Users)
	}
	return o
}

// take makes all files the caller's, before something is done with them from outside.
func (o *owners) take(ctx context.Context) error {
	if o == nil || o.users == nil || o.taken {
		return nil
	}
	list, err := o.users.Take(ctx, o.work.dir, o.spec.UID, o.spec.GID)
	if err != nil {
		return err
	}
	o.list, o.taken = list, true
	return nil
}

// give makes them their owners' again, before a command runs.
func (o *owners) give(ctx context.Context) error {
	if o == nil || o.users == nil || !o.taken {
		return nil
	}
	if err := o.users.Give(ctx, o.work.dir, o.spec.UID, o.spec.GID, o.list); err != nil {
		return err
	}
	o.taken = false
	return nil
}

// final is whose the files are that are there now, by inode.
func (o *owners) final(ctx context.Context) (map[uint64]pack.Owner, error) {
	if o == nil || o.users == nil {
		return nil, nil
	}
	// Of those that were taken some are gone, and their numbers may be others' by now.
	if err := o.give(ctx); err != nil {
		return nil, err
	}
	if err := o.take(ctx); err != nil {
		return nil, err
	}
	byInode := map[uint64]pack.Owner{}
	for _, one := range o.list {
		byInode[one.Inode] = pack.Owner{UID: one.UID, GID: one.GID}
	}
	return byInode, nil
}

// declared are the owners that a recipe gives to paths, by number.
func declared(o *recipes.Output, env *environment.Environment) ([]pack.Declared, error) {
	var all []pack.Declared
	for _, one := range o.Owners {
		d := pack.Declared{Path: strings.Trim(one.Path, "/"), UID: -1, GID: -1, Recursive: one.Recursive}
		if one.User != "" {
			id, found := -1, false
			for _, u := range env.Users {
				if u.Name == one.User {
					id, found = u.UID, true
				}
			}
			var err error
			if d.UID, err = idOf("user", one.User, id, found); err != nil {
				return nil, err
			}
		}
		if one.Group != "" {
			id, found := -1, false
			for _, g := range env.Groups {
				if g.Name == one.Group {
					id, found = g.GID, true
				}
			}
			var err error
			if d.GID, err = idOf("group", one.Group, id, found); err != nil {
				return nil, err
			}
		}
		all = append(all, d)
	}
	return all, nil
}

// idOf is the number of a name that was found, or the number that it is.
func idOf(kind, name string, id int, found bool) (int, error) {
	if found {
		return id, nil
	}
	if n, err := strconv.ParseUint(name, 10, 31); err == nil {
		return int(n), nil
	}
	if name == "root" {
		return 0, nil
	}
	return 0, fmt.Errorf("owners: unknown %s %q\n  hint: declare it in environment.accounts, or name its number", kind, name)
}

// cannotGive is the way out for a step that wanted to give files away and could not.
func (r *runner) cannotGive() string {
	tail, command, given := r.log.tail(), r.log.command(), r.spec.Owners
	text := strings.Join(tail, "\n") + "\n" + command
	refused := strings.Contains(text, "Invalid argument") || strings.Contains(text, "Operation not permitted")
	if given || !refused || !strings.Contains(text, "chown") && !strings.Contains(text, "chgrp") && !strings.Contains(text, "ownership") && !strings.Contains(text, "owner") {
		return ""
	}
	const declare = "declare owners: package.owners: [{path: var/lib/x, user: NAME}]"
	if users, can := r.Sandbox.(sandbox.Users); can && users.Several() {
		return "commands may give files to the users of environment.accounts only where a recipe has some: add them there; or " + declare
	}
	return "an ordinary user's build can't give files to other users on this machine: tarn doctor tells what subordinate ids need; or " + declare
}
