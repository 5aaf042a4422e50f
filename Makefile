# amqp_cdc: build, install, test, demo. `make help` lists what there is.

# The PostgreSQL to build for and install into.
ifndef PG_CONFIG
PG_CONFIG := $(shell [ -x /usr/bin/pg_config ] && echo /usr/bin/pg_config || command -v pg_config || echo /usr/bin/pg_config)
endif
# On a machine without one, setup installs this version.
PG_MAJOR = $(or $(shell $(PG_CONFIG) --version 2>/dev/null | sed -n 's/^PostgreSQL \([0-9]*\).*/\1/p'),15)
FEATURES = --features pg$(PG_MAJOR)
# The clients of another language that tests run need Debian's Python.
export PYTHON ?= /usr/bin/python3
export PG_CONFIG
# Where pgrx finds the headers.
export PGRX_PG_CONFIG_PATH = $(PG_CONFIG)

# What install copies, and where to. DESTDIR is for who makes packages.
LIBRARY = $(or $(CARGO_TARGET_DIR),target)/release/libamqp_cdc.so
LIBRARIES = $(DESTDIR)$(shell $(PG_CONFIG) --pkglibdir)
EXTENSIONS = $(DESTDIR)$(shell $(PG_CONFIG) --sharedir)/extension
SUDO ?= $(if $(filter-out 0,$(shell id -u)),sudo)

.PHONY: help setup setup-demo build install copy test check advisories demo chaos order ha fuzz bench bench-quick bench-capture clean

help: ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 16

setup: ## install what is missing on Debian (compilers, PostgreSQL, RabbitMQ, clients for tests), saying what and why; FOR=build, check, demo, bench or ha: what these need
	@scripts/setup $(FOR)

setup-demo:
	@scripts/setup demo

build: ## compile the extension (release); says what is missing, and installs none of it
	@scripts/setup --check build
	cargo library $(FEATURES)

install: build copy ## build, and copy into the PostgreSQL of PG_CONFIG (SUDO= if you need no sudo for that)

# The library goes to its place by a rename: a server that runs has the old one mapped.
copy:
	$(SUDO) install -d "$(LIBRARIES)" "$(EXTENSIONS)"
	$(SUDO) install -m 755 "$(LIBRARY)" "$(LIBRARIES)/amqp_cdc.so.new"
	$(SUDO) mv -f "$(LIBRARIES)/amqp_cdc.so.new" "$(LIBRARIES)/amqp_cdc.so"
	$(SUDO) install -m 644 amqp_cdc.control sql/amqp_cdc--*.sql "$(EXTENSIONS)"

# Tests mostly wait for what servers do: two of them for each core.
test: export RUST_TEST_THREADS ?= $(shell echo $$((2 * $$(getconf _NPROCESSORS_ONLN))))
test: setup ## unit and end-to-end tests, against throwaway servers; installs what is missing, and the extension
	@$(MAKE) --no-print-directory install
	cargo test --release --workspace --no-default-features $(FEATURES)

# Of the crates of others: licences and origin of all, versions of those that go into the library. That needs no network
# once they are fetched. Fuzz targets are looked at without the fuzzer, which takes a while to compile.
check: ## formatting, lints with warnings denied, what src/lib.rs says of how the source is built, what deny.toml says of the crates of others, that fuzz targets compile
	@scripts/setup --check check
	cargo fmt --all --check
	cargo run --quiet --release --package pg_test --bin house
	cargo fetch --locked --quiet
	cargo deny --offline --locked --workspace check licenses sources
	cargo deny --offline --locked --exclude-dev check bans
	CUSTOM_LIBFUZZER_PATH=none/libnone.a cargo check --quiet --locked --manifest-path fuzz/Cargo.toml \
		--target-dir $(or $(CARGO_TARGET_DIR),target)/fuzz
	cargo lint $(FEATURES) -- -D warnings

# Not a part of check: what is published tomorrow would make a tree red that nobody has changed.
advisories: ## whether anything is known against the crates of others; needs the network
	@scripts/setup --check check
	cargo deny --locked --workspace check advisories

demo: setup-demo ## throwaway servers, a blog schema, changes and the messages they make; installs what is missing
	@$(MAKE) --no-print-directory install
	cargo run --release --package pg_test --bin demo

chaos: install ## random changes under random faults, and what must be true then; SECONDS=600 SEED=7 (default 60, random), TLS=1: over TLS; STANDBY=1: with a standby that is promoted now and then, SYNCHRONOUS=1: and that commits wait for; RECORD=1: docs/guarantees.md gets the table
	@scripts/setup --check demo
	cargo run --release --package pg_test --bin chaos -- \
		$(if $(SECONDS),--seconds $(SECONDS)) $(if $(SEED),--seed $(SEED)) $(if $(TLS),--tls) \
		$(if $(STANDBY),--standby) $(if $(SYNCHRONOUS),--synchronous) \
		$(if $(RECORD),--record docs/guarantees.md)

order: install ## random transactions whose triggers and functions write, held against test_decoding; SECONDS=600 SEED=7, or one of the worlds of a seed: WORLD=3
	@scripts/setup --check demo
	cargo run --release --package pg_test --bin order -- \
		$(if $(SECONDS),--seconds $(SECONDS)) $(if $(SEED),--seed $(SEED)) $(if $(WORLD),--world $(WORLD))

ha: install ## a RabbitMQ cluster of three nodes, and a PostgreSQL cluster of Patroni's, whose nodes fail under load, and what must be true then; SEED=7, ONLY=broker or patroni; RECORD=1: docs/guarantees.md gets the tables; ONLY=broker needs root
	@scripts/setup --check ha
	cargo build --release --package pg_test --bin ha
	$(SUDO) env PG_CONFIG="$(PG_CONFIG)" $(or $(CARGO_TARGET_DIR),target)/release/ha $(if $(ONLY),--only $(ONLY)) \
		$(if $(SEED),--seed $(SEED)) $(if $(RECORD),--record docs/guarantees.md)

FUZZ_SECONDS ?= 60
FUZZ_TARGETS ?= event event_layouts transactions row_layout array numeric jsonb amqp_frames amqp_session tls
fuzz: ## fuzz what decodes the WAL and the values in it, and what a broker sends, FUZZ_SECONDS (60) for each of FUZZ_TARGETS
	command -v cargo-fuzz >/dev/null || cargo install cargo-fuzz --locked
	for target in $(FUZZ_TARGETS); do \
		cargo fuzz run --sanitizer none $$target -- -max_total_time=$(FUZZ_SECONDS) || exit 1; done

bench: install ## from commit to queue, beside what a user would otherwise run; writes docs/benchmarks.md and docs/bench.svg; 35 minutes, or ONLY=latency
	@scripts/setup --check demo
	cargo run --release --package pg_test --bin bench -- --record docs/benchmarks.md \
		$(if $(ONLY),--only $(ONLY),--plot docs/bench.svg)

bench-quick: install ## the same, everything smaller, for daily use, and only printed; about 2 minutes, or ONLY=latency
	@scripts/setup --check demo
	cargo run --release --package pg_test --bin bench -- --quick $(if $(ONLY),--only $(ONLY))

bench-capture: install ## what a captured change and a message of one's own cost their writer; writes docs/benchmarks.md; ROWS=100000 ROUNDS=5 PGBENCH_SECONDS=30 (30 minutes), or ONLY=capture or messages
	@scripts/setup --check bench
	cargo run --release --package pg_test --bin bench_capture -- --record docs/benchmarks.md \
		$(if $(ROWS),--rows $(ROWS)) $(if $(ROUNDS),--rounds $(ROUNDS)) \
		$(if $(PGBENCH_SECONDS),--pgbench-seconds $(PGBENCH_SECONDS)) $(if $(ONLY),--only $(ONLY))

clean: ## remove what was built
	cargo clean
