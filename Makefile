# make        lists the targets
SHELL := /bin/sh
GO ?= go
TOOLS := .tools
# The linter is built with the module's own Go, so that it understands the module.
GOLANGCI_LINT_VERSION := v2.15.0
VERSION := $(patsubst v%,%,$(shell git describe --tags --always --dirty 2>/dev/null || echo unknown))
COMMON := github.com/prometheus/common/version
LDFLAGS := -X $(COMMON).Version=$(VERSION) -X $(COMMON).Revision=$(shell git rev-parse HEAD 2>/dev/null) \
	-X $(COMMON).BuildDate=$(shell TZ=UTC0 git log -1 --date=format-local:%Y-%m-%dT%H:%M:%SZ --format=%cd 2>/dev/null)
FUZZTIME ?= 10m
SOAK ?= 1h
GOVULNCHECK_VERSION := v1.9.0
# go test would look at every package once more: lint does, at more of it. Nobody debugs the binaries.
UNVETTED := -vet=off -ldflags "-s -w"
# Most tests wait for the programs that they start more than they compute. What takes longest begins first.
SIDE_BY_SIDE := -p 4 -parallel 4 ./test/browser ./test ./internal/fleet

# What is compiled without the race detector is compiled like a release, so that Go's cache holds it once.
lint unit test-plain: export CGO_ENABLED := 0
lint unit test-plain: export GOFLAGS := $(GOFLAGS) -trimpath

.PHONY: help build release demo fleet-demo unit test test-race test-plain docs pictures lint fuzz soak chaos bench bench-verdicts simulation traces llama-cpp

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "%-16s%s\n", $$1, $$2}' Makefile

build: ## build ./quant-exporter
	$(GO) build -trimpath -ldflags '$(LDFLAGS)' -o quant-exporter .

release: ## make archives, packages, sums and lists of modules in dist; publishes nothing
	$(GO) run ./scripts/release -out dist

demo: ## run a real cycle on the bundled model (fetches llama.cpp's tools if they are missing)
	@echo "Compiling quant-exporter. The first time, this takes 2 to 4 minutes without a word."
	@$(MAKE) --no-print-directory build
	@tools=$$(scripts/get-llama-cpp $(TOOLS)/llama.cpp) && \
	env -u QUANT_THRESHOLD -u DRY_RUN -u MODEL_DIR ./quant-exporter run --config.file examples/demo.yml \
		--llamacpp.dir "$$tools" --storage.path data/demo --work.dir data/work --model examples/models/kjv-4m-f16.gguf \
		--target Q8_0 --target Q6_K --target Q4_K_M --target Q3_K_M --target Q2_K; \
	status=$$?; case $$status in 0 | 3 | 4) ;; *) exit $$status ;; esac; \
	echo "That was a real decision on a tiny model. Next, on models of your own:"; \
	echo "  ./quant-exporter run --model-dir FOLDER --dry-run        # estimates, at once"; \
	echo "  ./quant-exporter --model-dir FOLDER --config.check       # what would run when"; \
	echo "  ./quant-exporter --model-dir FOLDER                      # serve: http://localhost:10180"; \
	echo "README.md goes on from there, under Serve."

fleet-demo: build ## run a coordinator and two workers here, with the bundled model (needs redis-server)
	@tools=$$(scripts/get-llama-cpp $(TOOLS)/llama.cpp) && LLAMA_CPP_DIR="$$tools" scripts/fleet-demo

# The packages below test hold the built program, so that all of their tests would skip; test/house does not.
unit: ## the tests that run no other program and need nothing installed: under 30 s from a warm build cache
	$(GO) test -short $(UNVETTED) $$($(GO) list ./... | grep -v -e '/test$$' -e /test/browser -e /test/e2e)

test: lint ## lint, then run all tests, those with the real llama.cpp last
	@$(MAKE) --no-print-directory --jobs=2 test-race test-plain

test-race:
	$(GO) test -race $(UNVETTED) -timeout 30m $(SIDE_BY_SIDE) $$($(GO) list ./... | grep -v /test/e2e)
	@tools=$$(scripts/get-llama-cpp $(TOOLS)/llama.cpp) && \
	LLAMA_CPP_DIR="$$tools" $(GO) test -race -count=1 -timeout 30m ./test/e2e/...

# These compute more than they wait, and take the time that the others leave.
test-plain:
	nice -n 19 $(GO) test $(UNVETTED) -timeout 30m $$(git grep --untracked -l '^//go:build !race' -- '*_test.go' | xargs -n 1 dirname | sort -u | sed 's|^|./|')
	cd test/deploy && nice -n 19 $(GO) vet ./... && nice -n 19 $(GO) test -count=1 ./...

docs: ## write the generated tables of the documentation
	$(GO) test -run '^TestDocs$$' ./docs -update

pictures: ## make the pictures of the README anew, from cycles of the real llama.cpp
	PICTURES=long $(GO) test -count=1 -timeout 1h -run '^TestLiveProgressToTheDecision$$' ./test/browser
	cp test-output/browser/real-status-1400.png docs/status.png
	cp test-output/browser/real-cycle-1400.png docs/cycle.png

lint: $(TOOLS)/golangci-lint-$(GOLANGCI_LINT_VERSION) ## gofmt, go vet, golangci-lint, govulncheck
	@unformatted=$$("$$($(GO) env GOROOT)/bin/gofmt" -l $$(git ls-files '*.go')); test -z "$$unformatted" || { echo "gofmt -w these: $$unformatted"; exit 1; }
	$(GO) vet ./...
	$(GO) run ./scripts/vet-from-source darwin/arm64
	./$< run
	@GO="$(GO)" scripts/check-vulnerabilities $(GOVULNCHECK_VERSION)

$(TOOLS)/golangci-lint-$(GOLANGCI_LINT_VERSION):
	GOBIN="$(CURDIR)/$(TOOLS)" $(GO) install github.com/golangci/golangci-lint/v2/cmd/golangci-lint@$(GOLANGCI_LINT_VERSION)
	mv $(TOOLS)/golangci-lint $@

fuzz: ## run every fuzz target for FUZZTIME (10m); KEEP=20 keeps as many of the inputs that it finds
	@GO="$(GO)" scripts/fuzz $(FUZZTIME) $(KEEP)

soak: ## 500 models in 50 entries for SOAK (1h) with scrapes, reloads and kills: nothing grows, nothing is late
	SOAK=$(SOAK) $(GO) test -count=1 -timeout 3h -v -run '^TestSoak$$' ./test

chaos: ## kill exporter and Redis, freeze, cut off: 10,000 events by the relay, 100 by the whole exporter; kill that 208 times, the store 100, 1,000 publications, hosts of a fleet 60; 25 power losses each on ext4 and XFS, as root
	$(GO) test -race -count=1 -timeout 1h -v -run '^TestKilledAtAnyMoment$$' ./internal/store -args -kills 100
	$(GO) test -race -count=1 -timeout 1h -v -run '^TestKilledPublishing$$' ./internal/publish -args -kills 1000
	$(GO) test -race -count=1 -timeout 1h -v -run '^TestPowerLoss$$' ./internal/publish ./internal/store -args -losses 25
	$(GO) test -race -count=1 -timeout 1h -v -run '^TestChaos$$' ./internal/a2a -args -chaos-events 10000
	$(GO) test -race -count=1 -timeout 1h -v -run '^TestChaos$$' ./internal/fleet -args -chaos-kills 60
	CHAOS=long $(GO) test -race -count=1 -timeout 1h -v -run '^(TestChaos|TestKilledAtAnyMoment)$$' ./test

bench: build ## Go benchmarks, whole cycles beside the same tools by hand, the exporter beside others (see BENCHMARKS.md)
	$(GO) test -run '^$$' -bench . -benchmem ./...
	@tools=$$(scripts/get-llama-cpp $(TOOLS)/llama.cpp) && \
	$(GO) run ./scripts/bench-cycle -tools "$$tools" && \
	$(GO) run ./scripts/bench-exporter -tools "$$tools" && \
	$(GO) run ./scripts/bench-fleet -tools "$$tools"

bench-verdicts: ## count right and wrong verdicts of real cycles: hours, on a host that does nothing else
	@tools=$$(scripts/get-llama-cpp $(TOOLS)/llama.cpp) && \
	$(GO) run ./scripts/bench-verdicts -tools "$$tools" -noise 48 -neighbour && \
	$(GO) run ./scripts/bench-verdicts -tools "$$tools" -cycles 100 -neighbour -process-every 10 && \
	$(GO) run ./scripts/bench-verdicts -tools "$$tools" -cycles 100 -neighbour -factor 1.0989 -process-every 10 && \
	$(GO) run ./scripts/bench-verdicts -tools "$$tools" -cycles 100 -neighbour -factor 1.1765 -process-every 10

simulation: ## simulate the error rates of verdicts, as a Markdown table
	@mkdir -p test-output
	$(GO) test ./internal/verdict -count=1 -run TestErrorRates -args -table "$(CURDIR)/test-output/error-rates.md"
	@cat test-output/error-rates.md

traces: ## record anew the noise of this host that the simulation uses
	$(GO) run ./scripts/record-traces

llama-cpp: ## fetch llama.cpp's tools into .tools, if they are not on PATH
	@scripts/get-llama-cpp $(TOOLS)/llama.cpp
