package registry

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/docker/cli/cli/config"
	"github.com/docker/cli/cli/config/configfile"
	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"

	"github.com/tarn-build/tarn/pkg/host"
)

// keychain finds who this is at a registry, where docker, podman and skopeo keep it: in
// $DOCKER_CONFIG/config.json, else ~/.docker/config.json; then in $REGISTRY_AUTH_FILE,
// else containers/auth.json below $XDG_RUNTIME_DIR or $XDG_CONFIG_HOME. The first of
// them that knows the registry counts. A credential helper that such a file names is
// run by package host.
//
// go-containerregistry's own keychain reads one of the files only and starts helpers by
// itself, past that list.
type keychain struct{}

var _ authn.ContextKeychain = keychain{}

func (k keychain) Resolve(of authn.Resource) (authn.Authenticator, error) {
	return k.ResolveContext(context.Background(), of)
}

func (keychain) ResolveContext(ctx context.Context, of authn.Resource) (authn.Authenticator, error) {
	for _, file := range configFiles() {
		c, err := readConfig(file)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		found, err := lookUp(ctx, c, of)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
		if found != nil {
			return authn.FromConfig(*found), nil
		}
	}
	return authn.Anonymous, nil
}

// configFiles are where credentials may lie, the first asked first.
func configFiles() []string {
	var files []string
	home, _ := os.UserHomeDir()
	below := func(dir string, parts ...string) {
		if dir != "" {
			files = append(files, filepath.Join(append([]string{dir}, parts...)...))
		}
	}
	if dir := os.Getenv("DOCKER_CONFIG"); dir != "" {
		below(dir, "config.json")
	} else {
		below(home, ".docker", "config.json")
	}
	if file := os.Getenv("REGISTRY_AUTH_FILE"); file != "" {
		return append(files, file)
	}
	below(os.Getenv("XDG_RUNTIME_DIR"), "containers", "auth.json")
	if dir := os.Getenv("XDG_CONFIG_HOME"); dir != "" {
		below(dir, "containers", "auth.json")
	} else {
		below(home, ".config", "containers", "auth.json")
	}
	return files
}

func readConfig(file string) (*configfile.ConfigFile, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	c, err := config.LoadFromReader(f)
	if err != nil {
		// The parser's words may quote a password.
		return nil, fmt.Errorf("%s: malformed credentials", file)
	}
	return c, nil
}

// lookUp finds the entry for a repository: the longest of host/a/b, host/a and host that
// the file names, as containers-auth.json(5) has it.
func lookUp(ctx context.Context, c *configfile.ConfigFile, of authn.Resource) (*authn.AuthConfig, error) {
	registry := of.RegistryStr()
	keys := []string{}
	for key := of.String(); key != registry && strings.Contains(key, "/"); key = key[:strings.LastIndexByte(key, '/')] {
		keys = append(keys, key)
	}
	keys = append(keys, registry)
	if registry == name.DefaultRegistry {
		keys = append(keys, authn.DefaultAuthKey, "docker.io")
	} else {
		keys = append(keys, "https://"+registry, "https://"+registry+"/v1/", "https://"+registry+"/v2/")
	}
	for _, key := range keys {
		helper := c.CredentialHelpers[key]
		if helper == "" && (key == registry || key == authn.DefaultAuthKey) {
			helper = c.CredentialsStore
		}
		if helper != "" {
			found, err := ask(ctx, helper, key)
			if err != nil || found != nil {
				return found, err
			}
		}
		if a, found := c.AuthConfigs[key]; found && (a.Username != "" || a.Password != "" || a.Auth != "" || a.IdentityToken != "" || a.RegistryToken != "") {
			return &authn.AuthConfig{Username: a.Username, Password: a.Password, Auth: a.Auth, IdentityToken: a.IdentityToken, RegistryToken: a.RegistryToken}, nil
		}
	}
	return nil, nil
}

// ask asks a credential helper. One that knows nothing of the registry is no mistake.
func ask(ctx context.Context, helper, registry string) (*authn.AuthConfig, error) {
	out, err := host.Credential(ctx, helper, registry)
	if err != nil || out == nil {
		return nil, err
	}
	var answer struct{ Username, Secret string }
	if err := json.Unmarshal(out, &answer); err != nil {
		return nil, fmt.Errorf("credential helper %s: its answer is malformed", helper)
	}
	switch {
	case answer.Secret == "":
		return nil, nil
	case answer.Username == "<token>":
		return &authn.AuthConfig{IdentityToken: answer.Secret}, nil
	}
	return &authn.AuthConfig{Username: answer.Username, Password: answer.Secret}, nil
}
