# make run     builds and starts a broker on 127.0.0.1:9092, data in ./millstream-data
# make test    everything a change must pass; needs Rust, a C compiler and make
# make bench   the targets with this machine's figures, in ten minutes (bench/README.md)
# make bench-check                 instructions of the rooms' inside against the last landing's (bench/micro/README.md)
# make bench-history [TARGETS=F]   counts them as a new line of bench/history; F: other figures, a JSON object
# make bench-peers [PEERS=nats,redis ROUNDS=5 ...]   the same load on NATS, Redis and RabbitMQ, pair by pair (bench/peers/README.md)
# make soak    the long forms of the process tests
# make sim SEEDS=2000               the simulator, SEEDS seeds over all scenarios
# make sim-replay SCENARIO= SEED=   one seed again [TRACE=story|facts|everything OFF=a,b ACTIONS=n]
# make sim-shrink SCENARIO= SEED=   a failing seed made smaller
# make sim-mutants [MUTANT=a,b]     known bugs, planted one at a time: how many seeds find each
# make kafka-test                  real Kafka clients against the broker (tests/kafka/README.md)
# make fuzz    each fuzz target for FUZZ_SECONDS; needs rustup's nightly (tests/fuzz/README.md)
# make asan    the rooms with unsafe or rkyv underneath, with AddressSanitizer; make miri: the frame; nightly too
SHELL = /bin/sh
CARGO ?= cargo
CARGO_DENY_VERSION = 0.20.2
LOG = target/test.log

# Seeds of `make sim`, which are fresh ones, and of `make test`, which are the same each time: it fails for what was
# changed, not for what is found anew.
SEEDS = 2000
SIM_TEST_SEEDS = 1800
TRACE = story
# What one node promises to bear; `make sim` tries what is beyond it too.
SIM_PROMISED = mixed,crashes,retention,compaction,caching,pressure,crowd,bulk,errors,clients,groups,kafka
# tokio draws some orders by itself: with this cfg it takes a seed. A directory of its own, since flags differ.
SIM_BUILD = RUSTFLAGS='--cfg tokio_unstable' CARGO_TARGET_DIR=target/sim $(CARGO) build --locked --profile sim -p millstream-tests-sim
SIM = target/sim/sim/millstream-sim

.PHONY: run build test bench bench-peers peers-table soak fmt lint deny doc tests tools kafka-test sim sim-test sim-build sim-replay sim-shrink sim-mutants fuzz asan miri bench-check bench-history micro-build

run: build
	exec target/release/millstream serve

build:
	$(CARGO) build --release --locked -p millstream-engine-cli

test: tools fmt lint deny tests peers-table kafka-test sim-test doc
	@awk -f tests/count.awk $(LOG)

tools:
	@command -v cc >/dev/null || { echo 'a C compiler is needed (cc): install gcc or clang' >&2; exit 1; }
	@command -v mkfs.ext4 >/dev/null && command -v fsfreeze >/dev/null || { command -v apt-get >/dev/null && [ "$$(id -u)" = 0 ] && apt-get install -y -q e2fsprogs util-linux; } || echo 'mkfs.ext4, fsfreeze or mount missing (e2fsprogs, util-linux): tests of full and stalled disks are skipped' >&2
	@missing=; command -v kcat >/dev/null || missing="$$missing kcat"; command -v node >/dev/null || missing="$$missing nodejs"; \
	command -v npm >/dev/null || missing="$$missing npm"; python3 -c 'import ensurepip' 2>/dev/null || missing="$$missing python3-venv"; \
	[ -z "$$missing" ] || { command -v apt-get >/dev/null && [ "$$(id -u)" = 0 ] && apt-get update -q && apt-get install -y -q $$missing; } \
	|| { echo "the Kafka clients under test need$$missing" >&2; exit 1; }
	@$(CARGO) fmt --version >/dev/null 2>&1 || rustup component add rustfmt
	@$(CARGO) clippy --version >/dev/null 2>&1 || rustup component add clippy
	@$(CARGO) deny --version >/dev/null 2>&1 || $(CARGO) install --locked cargo-deny@$(CARGO_DENY_VERSION)

fmt:
	$(CARGO) fmt --all --check

lint:
	$(CARGO) clippy --locked --workspace --all-targets -- -D warnings
	$(CARGO) clippy --locked -p millstream-bench-load --all-targets --features $(PEER_DRIVERS) -- -D warnings

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

# The binaries are those of `tests`: the same words, since what is asked for decides on features, and so on what is built anew.
kafka-test:
	$(CARGO) build --locked --workspace --bins --tests
	tests/kafka/run.py

doc:
	RUSTDOCFLAGS='-D warnings' $(CARGO) doc --locked --no-deps -p millstream-client

bench: build
	bench/run

LANDINGS = bench/history/landings.jsonl
TARGETS =
MICRO = target/micro/millstream-micro
micro-build:
	@command -v valgrind >/dev/null || { command -v apt-get >/dev/null && [ "$$(id -u)" = 0 ] && apt-get update -q && apt-get install -y -q valgrind; } || { echo 'valgrind is needed' >&2; exit 1; }
	$(CARGO) build --locked --profile micro -p millstream-bench-micro

bench-check: micro-build
	$(MICRO) check $(LANDINGS)

bench-history: micro-build
	$(MICRO) append $(LANDINGS) --date "$$(date -u +%F)" --commit "$$(git rev-parse --short=12 HEAD)" --rustc "$$(rustc -V)" $(if $(TARGETS),--targets $(TARGETS))

# The scripts install nothing themselves; here, as root, what is missing of Debian's is.
PEER_DRIVERS = nats,rabbitmq,redis
PEERS = nats,nats-sync,redis,rabbitmq,rabbitmq-sync
ROUNDS = 5
PEER_SECONDS = 4
SCENARIOS =
bench-peers:
	@command -v nats-server >/dev/null && command -v redis-server >/dev/null && [ -x /usr/lib/rabbitmq/bin/rabbitmq-server ] || { command -v apt-get >/dev/null && [ "$$(id -u)" = 0 ] && apt-get update -q && apt-get install -y -q --no-install-recommends nats-server redis-server rabbitmq-server; } || echo 'peers that are missing are left out' >&2
	$(CARGO) build --release --locked -p millstream-engine-cli --features $(PEER_DRIVERS)
	bench/peers/run.py --peers $(PEERS) --rounds $(ROUNDS) --seconds $(PEER_SECONDS) $(if $(SCENARIOS),--scenarios '$(SCENARIOS)')

peers-table:
	cd bench/peers && python3 -B -m unittest -q
	cd bench && python3 -B -m unittest -q test_run

soak: build
	MILLSTREAM_BIN=target/release/millstream MILLSTREAM_SOAK=1 $(CARGO) test --locked -p millstream-tests-process -- --test-threads 1

sim-build:
	$(SIM_BUILD)

sim: sim-build
	$(SIM) run --seeds $(SEEDS) --reach

sim-test: sim-build
	$(SIM) run --from 1 --seeds $(SIM_TEST_SEEDS) --scenario $(SIM_PROMISED)

sim-replay: sim-build
	$(SIM) replay --scenario $(SCENARIO) --seed $(SEED) --trace $(TRACE) $(if $(OFF),--off $(OFF)) $(if $(ACTIONS),--actions $(ACTIONS))

sim-shrink: sim-build
	$(SIM) shrink --scenario $(SCENARIO) --seed $(SEED)

sim-mutants:
	python3 tests/sim/mutants/run.py $(if $(MUTANT),--only $(MUTANT)) --seeds $(SEEDS)

FUZZ_SECONDS = 300
FUZZ_TARGETS =
fuzz:
	tests/fuzz/run $(FUZZ_SECONDS) $(FUZZ_TARGETS)

ASAN_ROOMS = storage-frame storage-log storage-ring storage-disk net-wire net-quic net-sockets engine-shard bench-disk
asan:
	RUSTFLAGS=-Zsanitizer=address ASAN_OPTIONS=detect_leaks=0 CARGO_TARGET_DIR=target/asan $(CARGO) +nightly test --locked \
		--target $$(rustc -vV | sed -n 's/^host: //p') --tests $(addprefix -p millstream-,$(ASAN_ROOMS))

# rkyv's relative pointers are not for Stacked Borrows.
miri:
	PROPTEST_CASES=8 MIRIFLAGS='-Zmiri-disable-isolation -Zmiri-tree-borrows' CARGO_TARGET_DIR=target/miri \
		$(CARGO) +nightly miri test --locked -p millstream-storage-frame --lib
