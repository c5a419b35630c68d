//! The rooms and the arrows between them, as `engine/ARCHITECTURE.md` draws them.

/// What a room may touch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Told everything: no files, sockets, clocks, threads, randomness.
    Pure,
    /// A way out of the house; on glommio.
    Door,
    /// On tokio or plain threads: what people and tests start.
    Shell,
}

#[derive(Debug, Clone, Copy)]
pub struct Room {
    pub path: &'static str,
    pub package: &'static str,
    pub kind: Kind,
    /// Packages of this house it may depend on.
    pub uses: &'static [&'static str],
}

const FRAME: &str = "millstream-storage-frame";
const RECORDBATCH: &str = "millstream-storage-recordbatch";
const LOG: &str = "millstream-storage-log";
const RING: &str = "millstream-storage-ring";
const DISK: &str = "millstream-storage-disk";
const WIRE: &str = "millstream-net-wire";
const QUIC: &str = "millstream-net-quic";
const KAFKA: &str = "millstream-net-kafka";
const SOCKETS: &str = "millstream-net-sockets";
const CLIENT: &str = "millstream-client";
const API: &str = "millstream-engine-api";
const META: &str = "millstream-engine-meta";
const GROUPS: &str = "millstream-engine-groups";
const SHARD: &str = "millstream-engine-shard";
const TURN: &str = "millstream-engine-turn";
const CORE: &str = "millstream-engine-core";
const BROKER: &str = "millstream-engine-broker";
const CLI: &str = "millstream-engine-cli";
const LOAD: &str = "millstream-bench-load";
const BENCH_DISK: &str = "millstream-bench-disk";
const MICRO: &str = "millstream-bench-micro";
const PROCESS: &str = "millstream-tests-process";
const KAFKA_CLIENTS: &str = "millstream-tests-kafka";
const MODEL_DISK: &str = "millstream-tests-disk";
const REACH: &str = "millstream-reach";
const FUZZ: &str = "millstream-tests-fuzz";
const SIM: &str = "millstream-tests-sim";
const TIDY: &str = "millstream-tests-tidy";

/// Left may use right, never back.
pub const ROOMS: &[Room] = &[
    Room { path: "storage/frame", package: FRAME, kind: Kind::Pure, uses: &[] },
    Room { path: "storage/recordbatch", package: RECORDBATCH, kind: Kind::Pure, uses: &[FRAME] },
    Room { path: "storage/log", package: LOG, kind: Kind::Pure, uses: &[FRAME] },
    Room { path: "storage/ring", package: RING, kind: Kind::Door, uses: &[] },
    Room { path: "storage/disk", package: DISK, kind: Kind::Door, uses: &[FRAME, LOG, RING] },
    Room { path: "engine/api", package: API, kind: Kind::Pure, uses: &[FRAME] },
    Room { path: "engine/meta", package: META, kind: Kind::Pure, uses: &[API, FRAME] },
    Room { path: "engine/groups", package: GROUPS, kind: Kind::Pure, uses: &[API, FRAME] },
    Room {
        path: "engine/shard",
        package: SHARD,
        kind: Kind::Pure,
        uses: &[API, META, GROUPS, FRAME, RECORDBATCH, LOG],
    },
    Room {
        path: "engine/turn",
        package: TURN,
        kind: Kind::Pure,
        uses: &[API, META, SHARD, FRAME, LOG, QUIC, KAFKA, WIRE],
    },
    Room {
        path: "engine/core",
        package: CORE,
        kind: Kind::Door,
        uses: &[API, META, SHARD, TURN, FRAME, LOG, RING, DISK, SOCKETS, QUIC, KAFKA, WIRE],
    },
    Room {
        path: "engine/broker",
        package: BROKER,
        kind: Kind::Shell,
        uses: &[API, META, GROUPS, SHARD, CORE, FRAME, LOG, DISK, QUIC, KAFKA, SOCKETS],
    },
    Room {
        path: "engine/cli",
        package: CLI,
        kind: Kind::Shell,
        uses: &[API, BROKER, FRAME, RECORDBATCH, LOG, CLIENT, LOAD, BENCH_DISK],
    },
    Room { path: "net/wire", package: WIRE, kind: Kind::Pure, uses: &[API, FRAME] },
    Room { path: "net/quic", package: QUIC, kind: Kind::Pure, uses: &[WIRE, API, FRAME] },
    Room { path: "net/kafka", package: KAFKA, kind: Kind::Pure, uses: &[API, FRAME, RECORDBATCH] },
    Room { path: "net/sockets", package: SOCKETS, kind: Kind::Door, uses: &[RING] },
    Room { path: "net/client", package: CLIENT, kind: Kind::Shell, uses: &[WIRE, API, FRAME, RECORDBATCH] },
    Room { path: "bench/load", package: LOAD, kind: Kind::Shell, uses: &[CLIENT, FRAME, BENCH_DISK] },
    Room { path: "bench/disk", package: BENCH_DISK, kind: Kind::Shell, uses: &[] },
    Room {
        path: "bench/micro",
        package: MICRO,
        kind: Kind::Shell,
        uses: &[API, SHARD, TURN, FRAME, RECORDBATCH, LOG, WIRE, QUIC, KAFKA, MODEL_DISK],
    },
    Room { path: "tests/disk", package: MODEL_DISK, kind: Kind::Pure, uses: &[FRAME, LOG] },
    Room { path: "tests/kafka", package: KAFKA_CLIENTS, kind: Kind::Shell, uses: &[CLIENT] },
    Room { path: "tests/process", package: PROCESS, kind: Kind::Shell, uses: &[CLIENT, WIRE, API, FRAME] },
    Room {
        path: "tests/fuzz",
        package: FUZZ,
        kind: Kind::Shell,
        uses: &[API, META, GROUPS, BROKER, CLI, FRAME, RECORDBATCH, LOG, WIRE, QUIC, KAFKA, CLIENT],
    },
    Room { path: "tests/reach", package: REACH, kind: Kind::Shell, uses: &[] },
    Room {
        path: "tests/sim",
        package: SIM,
        kind: Kind::Shell,
        uses: &[
            API,
            META,
            GROUPS,
            SHARD,
            TURN,
            FRAME,
            RECORDBATCH,
            LOG,
            QUIC,
            KAFKA,
            WIRE,
            CLIENT,
            MODEL_DISK,
        ],
    },
    Room { path: "tests/tidy", package: TIDY, kind: Kind::Shell, uses: &[] },
];

/// What every room may use: nothing of it is left in a product's build.
pub const EVERYWHERE: &[&str] = &[REACH];

/// What tests and benches of every room may use: the stand-in for what its logic asks of the outside, and what the
/// disk is measured with.
pub const IN_TESTS: &[&str] = &[MODEL_DISK, BENCH_DISK];

/// Rooms that may name tokio.
pub const ON_TOKIO: &[&str] =
    &["net/client", "engine/cli", "engine/broker", "bench/load", "tests/process", "tests/kafka", "tests/sim"];

/// Rooms that may hold `unsafe`, each block with its reason.
pub const UNSAFE: &[&str] = &["storage/ring", "storage/disk", "net/sockets", "bench/disk"];

/// Foreign packages a pure room may use: each computes and nothing else.
pub const PURE_PACKAGES: &[&str] = &[
    "ahash",
    "bytes",
    "crc-fast",
    "flate2",
    "hdrhistogram",
    "kafka-protocol",
    "lz4_flex",
    "quinn-proto",
    "ring",
    "rkyv",
    "rustls",
    "sha2",
    "slab",
    "snap",
    "strsim",
    "thiserror",
    "uuid",
    "zstd",
];

/// What may stand at the root, beside dotfiles.
pub const TOP_LEVEL: &[&str] = &[
    "Cargo.toml",
    "Cargo.lock",
    "README.md",
    "LICENSE",
    "Makefile",
    "CHANGELOG.md",
    "deny.toml",
    "engine",
    "net",
    "storage",
    "bench",
    "deploy",
    "tests",
];

/// Made by building and running, ignored by git.
pub const NOT_SOURCE: &[&str] = &["target", "millstream-data", ".git"];

/// The room a file belongs to.
pub fn room_of(path: &str) -> Option<&'static Room> {
    ROOMS.iter().find(|room| path.strip_prefix(room.path).is_some_and(|rest| rest.starts_with('/')))
}
