# `make up` and `make test` are all a fresh machine needs; both set it up first.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
export PATH := $(CURDIR)/.tools/bin:$(PATH):$(HOME)/.cargo/bin

# Profile of what runs: release, or dev to reuse what the tests have compiled.
PROFILE ?= release
# Configuration of the machine that `make up` starts.
CONFIG ?= config/hybrid.toml
# Name and tag of the images.
IMAGE_PREFIX ?= hybrid-llm
IMAGE_TAG ?= local

SERVICES := request-coordinator model-manager-suite remote-api-adapter local-model-pool vram-optimizer observability-hub metrics-forwarder
TARGET := $(or $(CARGO_TARGET_DIR),target)
BINARIES := $(TARGET)/$(if $(filter dev,$(PROFILE)),debug,$(PROFILE))
# The tests' selection of features, so that the dev profile compiles llama.cpp and everything else once.
BUILD := cargo build --locked $(if $(filter dev,$(PROFILE)),--workspace --all-targets,--profile $(PROFILE))

.PHONY: help setup up test fuzz lint fmt fmt-check clippy check-config proto bench images test-compose clean-state

help: ## Show this
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | expand -t 16

setup: ## Install what building and running need
	@scripts/setup.sh

up: setup ## Build and start everything on this machine (PROFILE, CONFIG); Ctrl-C stops it
	$(BUILD)
	$(BINARIES)/hybridctl up --config $(CONFIG)

test: ## Format check, lints, configuration checks, all tests, a minute of fuzzing
	@scripts/setup.sh --test
	@scripts/test.sh

fuzz: ## Fuzz every decoder, FUZZ_SECONDS (60) in all
	@scripts/setup.sh --test
	@scripts/fuzz.sh

lint: fmt-check clippy check-config ## Format check, clippy, shell scripts, bus and compose files

fmt: ## Format the code
	cargo fmt --all

fmt-check:
	cargo fmt --all --check

clippy:
	cargo clippy --workspace --all-targets --locked -- -D warnings

check-config:
	@scripts/check-config.sh

proto: ## Generate the messages from proto/ again
	UPDATE_GENERATED=1 cargo test --locked -p proto

bench: setup ## Measure the system beside the floor of its design, the adapter beside a bare proxy, the engine beside llama-server
	cargo build --locked --release
	cargo run --locked --release -p bench
	@scripts/llama-server.sh
	cargo run --locked --release -p bench -- engine
	cargo bench --locked -p domain
	cargo bench --locked -p observability-hub --bench month

images: setup ## Pack the binaries of this host into images (PROFILE, IMAGE_PREFIX, IMAGE_TAG, BASE)
	$(BUILD)
	@scripts/make-secrets.sh
	@scripts/pack-image.sh .tools/bin/nats-server $(IMAGE_PREFIX)/nats:$(IMAGE_TAG) docker/nats.Dockerfile
	@for service in $(SERVICES); do \
	  scripts/pack-image.sh $(BINARIES)/$$service $(IMAGE_PREFIX)/$$service:$(IMAGE_TAG); \
	done

test-compose: ## Start both machines' compose files side by side, ask both, take them down
	@$(MAKE) --no-print-directory images PROFILE=dev IMAGE_TAG=test
	@IMAGE_PREFIX=$(IMAGE_PREFIX) IMAGE_TAG=test tests/compose/run.sh

clean-state: ## Forget everything the services have kept on this machine
	rm -rf state
