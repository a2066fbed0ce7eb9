# `make` alone lists what there is.
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
MAKEFLAGS += --no-print-directory
.DEFAULT_GOAL := help
.PHONY: help demo test soak lint docs bench image

COUNT ?= 10

# What runs a second time with functions inside gaugefn's own process: the heart of it, and all that can.
END_TO_END := test(/^(idioms|changes|stopping)::/)
BOTH_WAYS := test(/^(admin|changes|delivery|deployment|faults|idioms|local|python_errors|restarts|stopping|watch)::/)

# Where rustup put cargo, also in shells that read no profile.
export PATH := $(PATH):$(HOME)/.cargo/bin

help: ## list the targets
	@sed -n 's/^\([a-z]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 8

# standard output carries the result lines and nothing else
demo: ## COUNT=10 live metrics of this machine through the example function
	@{ scripts/setup --build && cargo build --release --locked --bin gaugefn; } >&2
	@exec "$${CARGO_TARGET_DIR:-target}/release/gaugefn" dev examples/vm_metrics.py --count $(COUNT) --every 1s

test: ## all tests, a few minutes
	scripts/setup
	cargo nextest run --workspace --locked
	GAUGEFN_TEST_ISOLATION=inline cargo nextest run --locked --test it -E '$(END_TO_END)'
	cargo test --workspace --locked --doc

soak: ## the same tests at full length on the release binary, then image and benchmark
	scripts/setup
	GAUGEFN_TIER=soak cargo nextest run --profile soak --release --workspace --locked
	GAUGEFN_TIER=soak GAUGEFN_TEST_ISOLATION=inline cargo nextest run --profile soak --release --locked --test it -E '$(BOTH_WAYS)'
	scripts/image
	scripts/image --run
	scripts/bench

lint: ## formatting, clippy, rustdoc, generated docs, shell scripts
	scripts/lint

docs: ## write the generated pages of docs/
	scripts/docs

bench: ## compare with the Python loops of benches/peers
	scripts/bench

image: ## build the container image
	scripts/image
