package build

import (
	"maps"
	"slices"

	"github.com/tarn-build/tarn/recipes"
)

// commandPath is what every step finds commands by, whatever its recipe says, as in melange.
const commandPath = "/usr/local/sbin:/usr/local/bin:/usr/bin:/usr/sbin:/sbin:/bin"

// baseEnvironment is what steps find in their environment unless the recipe says
// otherwise. It is melange's, and TAR_OPTIONS: steps run as user 0 of a sandbox with
// no power over owners, where GNU tar would give up on the owners in an archive.
func baseEnvironment(s *recipes.Script) map[string]string {
	env := map[string]string{
		"HOME":               "/home/build",
		"GOPATH":             "/home/build/.cache/go",
		"GOMODCACHE":         "/var/cache/melange/gomodcache",
		"UV_CACHE_DIR":       "/var/cache/melange/uv",
		"PIP_CACHE_DIR":      "/var/cache/melange/pip",
		"COMPOSER_CACHE_DIR": "/var/cache/melange/composer",
		"npm_config_cache":   "/var/cache/melange/npm",
		"TAR_OPTIONS":        "--no-same-owner",
	}
	overlay(env, s.Environment.Given)
	overlay(env, s.Environment.Env)
	return env
}

// overlay sets variables. One that is empty takes no default away, as in melange.
func overlay(env, over map[string]string) {
	for name, value := range over {
		if value != "" || env[name] == "" {
			env[name] = value
		}
	}
}

// environment is what one step finds: NAME=value, sorted.
func (r *runner) environment(s recipes.Step) []string {
	env := maps.Clone(r.env)
	env["PATH"] = commandPath
	maps.Copy(env, s.Env)
	list := make([]string, 0, len(env))
	for _, name := range slices.Sorted(maps.Keys(env)) {
		list = append(list, name+"="+env[name])
	}
	return list
}
