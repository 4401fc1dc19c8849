# Nothing here that a plain go command could not do. `make` alone prints the list.

GO      ?= go
# Programs that tests use beside Go. As root they are installed; else they are named.
NEEDS   := git patch gcc g++ strip:binutils busybox:busybox-static skopeo:skopeo umoci:umoci podman:podman docker-registry:docker-registry xz:xz-utils zip:zip unzip:unzip uidmap:uidmap crun:crun runc:runc cpio bsdtar:libarchive-tools chromium:chromium
FUZZTIME ?= 20s
BIN     := .bin
OUT     := .out

export CGO_ENABLED := 0

.PHONY: help build check test corpus sandbox race demo reproduce nightly fuzz bench golden deps fmt clean needs tools

help: ## print this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

build: ## make the command, .bin/tarn
	@mkdir -p $(BIN)
	$(GO) build -trimpath -o $(BIN)/ ./cmd/...

check: ## gofmt, vet (amd64 and arm64), staticcheck; changes nothing
	@unformatted=$$(gofmt -l cmd build pkg recipes repo images); \
	  if [ -n "$$unformatted" ]; then echo "not formatted (make fmt):"; echo "$$unformatted"; exit 1; fi
	GOARCH=amd64 $(GO) vet ./...
	GOARCH=arm64 $(GO) vet ./...
	$(GO) tool staticcheck ./...

test: needs tools ## all tests
	$(GO) test -timeout 40m ./...

corpus: ## hold 1,702 recipes of others against what melange makes of them
	CI=true $(GO) test -count 1 -v -run 'TestCorpus|TestExamples' ./recipes ./cmd/tarn

sandbox: needs build ## the promises of sandboxes, by backend, as root and as an ordinary user: a table
	@.ci/sandbox

race: needs tools ## all tests with the race detector (needs a C compiler)
	CGO_ENABLED=1 $(GO) test -timeout 90m -race ./...

demo: build ## the main job: packages from source, images, nginx and redis served out of them
	@mkdir -p $(OUT)/demo
	$(BIN)/tarn build --json > $(OUT)/demo/built.json
	$(BIN)/tarn test --json > $(OUT)/demo/tested.json
	$(BIN)/tarn image build --json > $(OUT)/demo/composed.json
	$(BIN)/tarn image test --json > $(OUT)/demo/served.json
	@$(BIN)/demo -built $(OUT)/demo/built.json -tested $(OUT)/demo/tested.json -composed $(OUT)/demo/composed.json -served $(OUT)/demo/served.json

reproduce: build ## build all of it again: elsewhere, as another user, with other jobs; compare bytes
	.ci/reproduce

nightly: ## what takes longer than a push should
	$(MAKE) race fuzz bench reproduce
	TARN_SANDBOX_RECIPES=all $(MAKE) sandbox
	.ci/cgroup2

fuzz: ## each fuzz target for FUZZTIME
	@$(GO) list ./... | while read p; do \
	  for f in $$($(GO) test -list '^Fuzz' $$p | grep '^Fuzz'); do \
	    echo "$$p $$f"; $(GO) test -run '^$$' -fuzz "^$$f$$" -fuzztime $(FUZZTIME) -fuzzminimizetime 100x $$p || exit 1; \
	  done; done

bench: ## benchmarks, six runs, for benchstat
	$(GO) test -run '^$$' -bench . -benchmem -count 6 ./pkg/... ./cmd/... ./images/... ./recipes/... ./repo/...

golden: ## write golden files anew; read the diff
	UPDATE_GOLDEN=1 $(GO) test ./...

deps: ## who imports whom, and which modules
	@$(GO) list -f '{{.ImportPath}}: {{join .Imports " "}}' ./...
	@$(GO) list -m all

fmt: ## format the Go files
	gofmt -w cmd build pkg recipes repo images

clean: ## remove what was built here; the store stays
	rm -rf $(BIN) $(OUT)

needs:
	@.ci/needs $(NEEDS)

tools:
	@.ci/tools
