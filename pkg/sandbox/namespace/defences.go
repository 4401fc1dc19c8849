package namespace

import "github.com/tarn-build/tarn/pkg/sandbox/internal/pid1"

// The defences that this backend puts up, besides those of its first process. A test of
// this package can leave one out, to show that it is the one that stops an attempt;
// no one else can: Backend.off is no field that another package reaches.
const (
	userNamespace     = "user namespace" // root's alone can do without
	networkNamespace  = "network namespace"
	ipcNamespace      = "ipc namespace"
	namespaceLimits   = "limits of namespaces" // user.max_*_namespaces = 0
	ownProc           = "own proc"
	coveredProc       = "covered proc"
	pivotRoot         = "pivot_root"
	noSuid            = "nosuid"
	noNewPrivileges   = "no new privileges"
	readOnlyLayers    = "read-only layers"
	noLinks           = "no links at mount points"
	closedDescriptors = pid1.ClosedDescriptors
)
