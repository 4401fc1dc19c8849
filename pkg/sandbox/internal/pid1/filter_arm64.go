package pid1

import "golang.org/x/sys/unix"

const (
	auditArch = unix.AUDIT_ARCH_AARCH64
	x32Bit    = 0 // there is none
)

// refusedHere are calls that only this machine has.
var refusedHere []uint32
