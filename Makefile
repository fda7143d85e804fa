# Everything a person needs: `make demo` shows the ledger at work, `make test` passes the tests.
# RocksDB is compiled once per machine by `make setup`; plain `cargo build` works without it and compiles RocksDB itself.

CACHE ?= $(HOME)/.cache/proofline
export CARGO_TARGET_DIR ?= $(CURDIR)/target
ROCKSDB := $(CACHE)/rocksdb/current
export ROCKSDB_LIB_DIR = $(ROCKSDB)/lib
export ROCKSDB_INCLUDE_DIR = $(ROCKSDB)/include
export ROCKSDB_STATIC = 1

.PHONY: help setup build demo test check fmt clippy wasm bench bench-core jepsen fuzz

help: ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: ## install what is missing and compile RocksDB once for this machine
	@PROOFLINE_CACHE=$(CACHE) .ci/setup.sh

build: setup ## build every program
	cargo build --workspace --bins

demo: build ## three nodes, an agent incident, proofs verified offline, a forgery rejected
	$(CARGO_TARGET_DIR)/debug/proofline-cluster demo

test: setup ## all tests: pure ones first, then real clusters
	cargo build --workspace --bins --tests
	cargo test --workspace --no-fail-fast

fmt: ## check the formatting
	cargo fmt --all --check

clippy: setup ## lint everything, warnings are errors
	cargo clippy --workspace --all-targets -- -D warnings

wasm: setup ## compile the verifier for browsers: no files, no clock, no threads
	cargo build --package proofline-verifier --lib --no-default-features --target wasm32-unknown-unknown

check: fmt clippy wasm test ## what CI runs: format, lints, the verifier for browsers, tests

jepsen: build ## break a cluster of real processes for five minutes, needs root (SEED=1)
	$(CARGO_TARGET_DIR)/debug/proofline-jepsen run --for 5m --seed $(or $(SEED),1)

fuzz: ## fuzz what the verifier reads, a minute for each of four targets (FUZZ_SECONDS=60); the compiler's sanitizers are unlocked for it
	command -v cargo-fuzz > /dev/null || CARGO_TARGET_DIR= cargo install --locked cargo-fuzz
	cd verifier && for form in answer evidence files texts; do \
		mkdir -p $(CARGO_TARGET_DIR)/fuzz/$$form && \
		RUSTC_BOOTSTRAP=1 cargo fuzz run --target-dir $(CARGO_TARGET_DIR)/fuzz/build $$form $(CARGO_TARGET_DIR)/fuzz/$$form $(CURDIR)/verifier/vectors \
			-- -max_total_time=$(or $(FUZZ_SECONDS),60) -max_len=200000 || exit 1; done

bench-core: setup ## micro-benchmarks of the core: apply, trees, proofs, verification
	cargo bench --workspace --bench core

bench: ## measure beside etcd and PostgreSQL (under 15 minutes), write bench-results.json
	@PROOFLINE_CACHE=$(CACHE) .ci/setup.sh bench
	cargo build --workspace --release --bin proofline-bench --bin proofline-node
	$(CARGO_TARGET_DIR)/release/proofline-bench run
