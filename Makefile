# make run     builds and starts a broker on 127.0.0.1:9092, data in ./millstream-data
# make test    everything a change must pass; needs Rust, a C compiler and make
# make bench   the figures of this machine
# make soak    the long forms of the process tests
SHELL = /bin/sh
CARGO ?= cargo
CARGO_DENY_VERSION = 0.20.2
LOG = target/test.log

.PHONY: run build test bench soak fmt lint deny doc tests tools

run: build
	exec target/release/millstream serve

build:
	$(CARGO) build --release --locked -p millstream-engine-cli

test: tools fmt lint deny tests doc
	@awk -f tests/count.awk $(LOG)

tools:
	@command -v cc >/dev/null || { echo 'a C compiler is needed (cc): install gcc or clang' >&2; exit 1; }
	@command -v mkfs.ext4 >/dev/null && command -v fsfreeze >/dev/null || { command -v apt-get >/dev/null && [ "$$(id -u)" = 0 ] && apt-get install -y -q e2fsprogs util-linux; } || echo 'mkfs.ext4, fsfreeze or mount missing (e2fsprogs, util-linux): tests of full and stalled disks are skipped' >&2
	@$(CARGO) fmt --version >/dev/null 2>&1 || rustup component add rustfmt
	@$(CARGO) clippy --version >/dev/null 2>&1 || rustup component add clippy
	@$(CARGO) deny --version >/dev/null 2>&1 || $(CARGO) install --locked cargo-deny@$(CARGO_DENY_VERSION)

fmt:
	$(CARGO) fmt --all --check

lint:
	$(CARGO) clippy --locked --workspace --all-targets -- -D warnings

# Licences, bans and sources always; advisories when their database can be reached.
deny:
	$(CARGO) deny --locked check licenses bans sources
	@if timeout 60 $(CARGO) deny fetch db >/dev/null 2>&1; then $(CARGO) deny --locked check --disable-fetch advisories; \
	else echo 'advisories skipped: their database cannot be reached' >&2; fi

# One profile for all tests. The process tests run the binary of the same profile, built first.
tests:
	@mkdir -p target
	$(CARGO) build --locked --workspace --bins --tests
	@$(CARGO) test --locked --workspace --no-fail-fast >$(LOG) 2>&1; status=$$?; cat $(LOG); \
	if [ $$status -ne 0 ]; then awk -f tests/count.awk $(LOG); exit $$status; fi

doc:
	RUSTDOCFLAGS='-D warnings' $(CARGO) doc --locked --no-deps -p millstream-client

bench: build
	bench/run
	$(CARGO) bench --locked -p millstream-storage-disk --bench append

soak: build
	MILLSTREAM_BIN=target/release/millstream MILLSTREAM_SOAK=1 $(CARGO) test --locked -p millstream-tests-process -- --test-threads 1
