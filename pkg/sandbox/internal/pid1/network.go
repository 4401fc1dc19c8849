package pid1

import (
	"os"
	"strconv"
	"strings"
)

// unrouted is how often something in this process's network namespace asked for an address
// that no route leads to. In one with loopback alone these are the tries to reach a
// network, whatever a program says of them. It is ipSystemStatsOutNoRoutes of RFC 4293,
// as the kernel writes it in proc_pid_net(5): snmp for IPv4, snmp6 for IPv6.
func unrouted() int {
	n := 0
	var names []string
	for line := range strings.Lines(read("/proc/net/snmp")) {
		f := strings.Fields(line)
		if len(f) == 0 || f[0] != "Ip:" {
			continue
		}
		if names == nil {
			names = f // the first of two lines has the names
			continue
		}
		for i, name := range names {
			if name == "OutNoRoutes" && i < len(f) {
				n += number(f[i])
			}
		}
	}
	for line := range strings.Lines(read("/proc/net/snmp6")) {
		if f := strings.Fields(line); len(f) == 2 && f[0] == "Ip6OutNoRoutes" {
			n += number(f[1])
		}
	}
	return n
}

func read(file string) string {
	data, err := os.ReadFile(file)
	if err != nil {
		return ""
	}
	return string(data)
}

func number(s string) int {
	n, _ := strconv.Atoi(s)
	return n
}
