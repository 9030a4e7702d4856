# Copyright The o2image authors
# SPDX-License-Identifier: Apache-2.0

GO      ?= go
PREFIX  ?= /usr/local
DESTDIR ?=
SBINDIR ?= $(PREFIX)/sbin
MANDIR  ?= $(PREFIX)/share/man
DEMO    ?= plain-b1k
VOLUMES ?= S FRAG
BENCH   ?= -n 3

export PATH := $(PATH):/usr/sbin:/sbin

.PHONY: all build test lint demo corpus bench man install clean

all: build

build: ## bin/o2image, static
	CGO_ENABLED=0 $(GO) build -trimpath -o bin/o2image ./cmd/o2image

test: ## all tests; installs the C tools that they compare with
	tools/install-deps
	$(GO) test -timeout 30m ./...

lint: ## vet, gofumpt, staticcheck
	$(GO) vet ./...
	@out=$$($(GO) tool gofumpt -l .); [ -z "$$out" ] || { echo "gofumpt would change:" $$out; exit 1; }
	$(GO) tool staticcheck ./...
	staticcheck=$$($(GO) tool -n staticcheck) && cd bench && $(GO) vet ./... && "$$staticcheck" ./...

demo: build ## make images of a small volume, show what is in them
	tools/demo $(DEMO)

corpus: ## build the volumes of testdata/corpus anew
	tools/install-deps
	$(GO) run ./corpus build build/corpus
	$(GO) run ./corpus pack build/corpus testdata/corpus

bench: build ## compare with o2image 1.8.7; VOLUMES, see bench/README.md; as root
	tools/install-deps
	$(GO) -C bench test ./...
	$(GO) -C bench build -o ../build/bench/ .
	build/bench/bench $(BENCH) $(VOLUMES)

man: build ## the manual page
	bin/o2image man >man/o2image.8

install: build
	install -D -m 755 bin/o2image $(DESTDIR)$(SBINDIR)/o2image
	install -D -m 644 man/o2image.8 $(DESTDIR)$(MANDIR)/man8/o2image.8

clean:
	rm -rf bin build
