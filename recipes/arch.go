package recipes

import "github.com/tarn-build/tarn/pkg/apk"

// gnuTriplet is what configure scripts call a machine; libc is gnu or musl.
func gnuTriplet(arch apk.Arch, libc string) string {
	switch arch {
	case "x86_64":
		return "x86_64-pc-linux-" + libc
	case "x86":
		return "i486-pc-linux-" + libc
	case "armhf":
		return "arm-unknown-linux-" + libc + "eabihf"
	case "armv7":
		return "armv7l-unknown-linux-" + libc + "eabihf"
	case "ppc64le":
		return "powerpc64le-unknown-linux-" + libc
	case "s390x":
		return "s390x-ibm-linux-" + libc
	default:
		return string(arch) + "-unknown-linux-" + libc
	}
}

// rustTriplet is what rustc calls a machine; libc is gnu or musl.
func rustTriplet(arch apk.Arch, libc string) string {
	switch arch {
	case "x86":
		return "i686-unknown-linux-" + libc
	case "armhf":
		return "armv6-unknown-linux-" + libc + "eabihf"
	case "armv7":
		return "armv7-unknown-linux-" + libc + "eabihf"
	case "ppc64le":
		return "powerpc64le-unknown-linux-" + libc
	default:
		return string(arch) + "-unknown-linux-" + libc
	}
}
