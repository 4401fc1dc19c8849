module github.com/tarn-build/tarn

go 1.26.0

// Given.
require (
	github.com/ProtonMail/go-crypto v1.5.2
	github.com/google/go-containerregistry v0.22.1
	github.com/klauspost/compress v1.20.3
	github.com/spf13/cobra v1.10.2
	gopkg.in/yaml.v3 v3.0.1
)

// The sandbox.
require (
	github.com/moby/sys/capability v0.5.0
	github.com/opencontainers/runtime-spec v1.3.0
	golang.org/x/sys v0.50.0
)

// Formats.
require (
	github.com/BurntSushi/toml v1.5.0
	github.com/CycloneDX/cyclonedx-go v0.12.0
	github.com/bmatcuk/doublestar/v4 v4.10.4
	github.com/github/go-spdx/v2 v2.8.0
	github.com/google/licensecheck v0.3.1
	github.com/joho/godotenv v1.5.1
	github.com/kballard/go-shellquote v0.0.0-20180428030007-95032a82bc51
	github.com/klauspost/pgzip v1.2.6
	github.com/mikelolasagasti/xz v1.0.1
	github.com/package-url/packageurl-go v0.1.7
	github.com/pavlo-v-chernykh/keystore-go/v4 v4.5.0
	github.com/ulikunitz/xz v0.5.17
	github.com/youmark/pkcs8 v0.0.0-20240726163527-a2c0da244d78
	mvdan.cc/sh/v3 v3.14.1
)

// Registries, and what is signed beside images there.
require (
	github.com/docker/cli v29.7.2+incompatible
	github.com/secure-systems-lab/go-securesystemslib v0.11.0
)

// Signatures of upstream's.
require (
	aead.dev/minisign v0.3.0
	github.com/hiddeco/sshsig v0.2.0
	golang.org/x/crypto v0.59.0
)

// Files, locks, groups, the terminal.
require (
	github.com/gofrs/flock v0.13.1
	github.com/google/renameio/v2 v2.0.2
	github.com/lmittmann/tint v1.2.1
	golang.org/x/sync v0.25.0
	golang.org/x/term v0.48.0
)

// Tests.
require (
	github.com/google/go-cmp v0.7.0
	github.com/in-toto/attestation v1.2.0
	github.com/rogpeppe/go-internal v1.16.0
	github.com/santhosh-tekuri/jsonschema/v6 v6.0.3
	github.com/spdx/tools-golang v0.5.7
	golang.org/x/net v0.62.0
	google.golang.org/protobuf v1.36.11
)

require (
	github.com/spf13/pflag v1.0.10
	golang.org/x/mod v0.42.0
)

require (
	github.com/anchore/go-struct-converter v0.1.0 // indirect
	github.com/cloudflare/circl v1.6.3 // indirect
	github.com/docker/docker-credential-helpers v0.9.3 // indirect
	github.com/inconshreveable/mousetrap v1.1.0 // indirect
	github.com/opencontainers/go-digest v1.0.0 // indirect
	github.com/opencontainers/image-spec v1.1.1 // indirect
	github.com/sirupsen/logrus v1.9.4 // indirect
	golang.org/x/exp/typeparams v0.0.0-20231108232855-2478ac86f678 // indirect
	golang.org/x/text v0.44.0 // indirect
	golang.org/x/tools v0.52.0 // indirect
	gotest.tools/v3 v3.5.2 // indirect
	honnef.co/go/tools v0.8.2 // indirect
)

tool honnef.co/go/tools/cmd/staticcheck
