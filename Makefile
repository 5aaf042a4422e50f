# amqp_cdc: build, install, test, demo. `make help` lists what there is.

# The PostgreSQL to build for and install into.
PG_CONFIG ?= $(firstword $(wildcard /usr/bin/pg_config) pg_config)
# On a machine without one, setup installs this version.
PG_MAJOR := $(or $(shell $(PG_CONFIG) --version 2>/dev/null | sed -n 's/^PostgreSQL \([0-9]*\).*/\1/p'),15)
FEATURES := --no-default-features --features pg$(PG_MAJOR)
# The AMQP client of another language that one test runs needs Debian's Python.
export PYTHON ?= /usr/bin/python3
export PG_CONFIG
# build.rs passes the flag that this is about, and to the extension's library alone.
export CARGO_PGRX_DISABLE_GC_SECTIONS_WORKAROUND = 1
SUDO := $(if $(filter-out 0,$(shell id -u)),--sudo,)

.PHONY: help setup build install test check demo chaos order fuzz bench bench-quick bench-capture clean

help: ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 16

setup: ## install what is missing on Debian (compilers, PostgreSQL, RabbitMQ, cargo-pgrx), saying what and why
	@scripts/setup

build: setup ## compile the extension (release)
	cargo build --release --lib $(FEATURES)

install: setup ## build and install into the PostgreSQL of PG_CONFIG
	cargo pgrx install --release --pg-config "$(PG_CONFIG)" $(FEATURES) $(SUDO)

# Tests mostly wait for what servers do: two of them for each core.
test: export RUST_TEST_THREADS ?= $(shell echo $$((2 * $$(getconf _NPROCESSORS_ONLN))))
test: install ## unit, in-server and end-to-end tests, against throwaway servers
	cargo test --release --workspace $(FEATURES)

check: setup ## formatting, lints with warnings denied, and what src/lib.rs says of how the source is built
	cargo fmt --all --check
	cargo run --quiet --release --package pg_test --bin house
	cargo clippy --release --workspace --all-targets $(FEATURES) -- -D warnings

demo: install ## throwaway servers, a blog schema, changes and the messages they make
	cargo run --release --package pg_test --bin demo

chaos: install ## random changes under random faults, and what must be true then; SECONDS=600 SEED=7 (default 60, random)
	cargo run --release --package pg_test --bin chaos -- \
		$(if $(SECONDS),--seconds $(SECONDS)) $(if $(SEED),--seed $(SEED))

order: install ## random transactions whose triggers and functions write, held against test_decoding; SECONDS=600 SEED=7, or one of the worlds of a seed: WORLD=3
	cargo run --release --package pg_test --bin order -- \
		$(if $(SECONDS),--seconds $(SECONDS)) $(if $(SEED),--seed $(SEED)) $(if $(WORLD),--world $(WORLD))

FUZZ_SECONDS ?= 60
fuzz: ## fuzz what decodes the WAL and what a broker sends, FUZZ_SECONDS (60) for each target
	command -v cargo-fuzz >/dev/null || cargo install cargo-fuzz --locked
	for target in event transactions amqp_frames amqp_session; do \
		cargo fuzz run --sanitizer none $$target -- -max_total_time=$(FUZZ_SECONDS) || exit 1; done

bench: install ## from commit to queue, beside what a user would otherwise run, and docs/bench.svg; 35 minutes, or ONLY=latency
	mkdir -p docs
	cargo run --release --package pg_test --bin bench -- $(if $(ONLY),--only $(ONLY),--plot docs/bench.svg)

bench-quick: install ## the same, everything smaller, for daily use; about 2 minutes, or ONLY=latency
	cargo run --release --package pg_test --bin bench -- --quick $(if $(ONLY),--only $(ONLY))

bench-capture: install ## what a captured change costs its writer; ROWS=100000 ROUNDS=5 PGBENCH_SECONDS=30 (20 minutes)
	@scripts/setup bench
	cargo run --release --package pg_test --bin bench_capture -- \
		$(if $(ROWS),--rows $(ROWS)) $(if $(ROUNDS),--rounds $(ROUNDS)) \
		$(if $(PGBENCH_SECONDS),--pgbench-seconds $(PGBENCH_SECONDS))

clean: ## remove what was built
	cargo clean
