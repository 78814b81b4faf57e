# make        lists the targets
SHELL := /bin/sh
GO ?= go
TOOLS := $(CURDIR)/.tools
# The linter is built with the module's own Go, so that it understands the module.
GOLANGCI_LINT_VERSION := v2.15.0
VERSION := $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)
COMMON := github.com/prometheus/common/version
LDFLAGS := -X $(COMMON).Version=$(VERSION) -X $(COMMON).Revision=$(shell git rev-parse HEAD 2>/dev/null) -X $(COMMON).Branch=$(shell git rev-parse --abbrev-ref HEAD 2>/dev/null)
FUZZTIME ?= 30s

.PHONY: help build demo test lint fuzz bench llama-cpp simulation

help: ## list the targets
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 14

build: ## build ./quant-exporter
	$(GO) build -trimpath -ldflags '$(LDFLAGS)' -o quant-exporter .

demo: build ## run a real cycle on the bundled model (fetches llama.cpp's tools if they are missing)
	@tools=$$(scripts/get-llama-cpp $(TOOLS)/llama.cpp) && \
	./quant-exporter run --llamacpp.dir "$${LLAMA_CPP_DIR:-$$tools}" --model examples/models/kjv-4m-f16.gguf \
		--target Q8_0 --target Q6_K --target Q4_K_M --target Q3_K_M --target Q2_K

test: lint ## lint, then run all tests, those with the real llama.cpp last
	$(GO) test -race $$($(GO) list ./... | grep -v /internal/e2e)
	@tools=$$(scripts/get-llama-cpp $(TOOLS)/llama.cpp) && \
	LLAMA_CPP_DIR="$${LLAMA_CPP_DIR:-$$tools}" $(GO) test -race -count=1 ./internal/e2e/...

lint: $(TOOLS)/golangci-lint-$(GOLANGCI_LINT_VERSION) ## gofmt, go vet, golangci-lint
	@unformatted=$$(gofmt -l .); test -z "$$unformatted" || { echo "gofmt -w these: $$unformatted"; exit 1; }
	$(GO) vet ./...
	GOOS=darwin $(GO) vet ./...
	$< run

$(TOOLS)/golangci-lint-$(GOLANGCI_LINT_VERSION):
	GOBIN=$(TOOLS) $(GO) install github.com/golangci/golangci-lint/v2/cmd/golangci-lint@$(GOLANGCI_LINT_VERSION)
	mv $(TOOLS)/golangci-lint $@

fuzz: ## run every fuzz target for FUZZTIME (30s)
	@for package in $$($(GO) list ./...); do \
		for target in $$($(GO) test -list '^Fuzz' $$package | grep ^Fuzz); do \
			echo "$$package $$target"; \
			$(GO) test -run '^$$' -fuzz "^$$target$$" -fuzztime $(FUZZTIME) $$package || exit 1; \
		done; \
	done

bench: build ## Go benchmarks, and whole cycles beside the same tools by hand (see BENCHMARKS.md)
	$(GO) test -run '^$$' -bench . -benchmem ./...
	@tools=$$(scripts/get-llama-cpp $(TOOLS)/llama.cpp) && $(GO) run ./scripts/bench-cycle -tools "$${LLAMA_CPP_DIR:-$$tools}"

llama-cpp: ## fetch llama.cpp's tools into .tools, if they are not on PATH
	@scripts/get-llama-cpp $(TOOLS)/llama.cpp
