package main

import "github.com/tarn-build/tarn/repo"

// knownIndex gives what the store knows of an index file; nil where it has to be read.
func (a *app) knownIndex(data []byte) *repo.Known {
	ws, err := a.workspace()
	if err != nil {
		ws = defaultWorkspace(".")
	}
	st, err := a.store(ws)
	if err != nil {
		return nil
	}
	return repo.OpenKnown(st, data)
}
