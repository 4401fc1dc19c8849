//go:build !amd64

package main

var interfaces = map[string]func() error{}
