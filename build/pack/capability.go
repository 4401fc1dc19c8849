package pack

import (
	"encoding/binary"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// CapabilityAttribute is the extended attribute that holds a file's capabilities.
const CapabilityAttribute = "security.capability"

// capabilityBits are the numbers of the capabilities that a recipe may give to a file
// (linux/capability.h).
var capabilityBits = map[string]uint{
	"cap_net_bind_service": 10, "cap_net_admin": 12, "cap_net_raw": 13, "cap_ipc_lock": 14, "cap_sys_admin": 21,
}

// FileCapability writes capabilities as the kernel reads them from a file, revision 3
// for the root of the first user namespace (struct vfs_ns_cap_data). The keys of add
// are capabilities with commas between them, its values flags as in setcap: "+ep".
func FileCapability(add map[string]string) (string, error) {
	const revision3, effective = 0x03000000, 1
	magic := uint32(revision3)
	var permitted, inheritable uint32
	for _, names := range slices.Sorted(maps.Keys(add)) {
		flags := add[names]
		if strings.Trim(flags, "+=eip") != "" || !strings.ContainsAny(flags, "eip") {
			return "", fmt.Errorf("%q are no capability flags", flags)
		}
		for name := range strings.SplitSeq(names, ",") {
			bit, known := capabilityBits[strings.ToLower(strings.TrimSpace(name))]
			if !known {
				return "", fmt.Errorf("%q is no capability that a file may have", name)
			}
			if strings.Contains(flags, "e") {
				magic |= effective
			}
			if strings.Contains(flags, "p") {
				permitted |= 1 << bit
			}
			if strings.Contains(flags, "i") {
				inheritable |= 1 << bit
			}
		}
	}
	var b []byte
	for _, word := range []uint32{magic, permitted, inheritable, 0, 0, 0} {
		b = binary.LittleEndian.AppendUint32(b, word)
	}
	return string(b), nil
}
