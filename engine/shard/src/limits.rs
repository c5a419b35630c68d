//! The shard's bounds, each with its reason.

use std::time::Duration;

/// Requests held per partition until its log is open, and per core.
pub(crate) const HELD_PER_PARTITION_MAX: usize = 64;
pub(crate) const HELD_MAX: usize = 4096;
/// Changes of metadata that wait to be decided on or to be applied on every core.
pub(crate) const CHANGES_MAX: usize = 10_000;
/// Records of one batch, whatever its header claims: offsets given away must not outgrow 2^63.
pub(crate) const BATCH_RECORDS_MAX: u32 = 1_000_000;
/// One fetch's answer, whatever is asked: it is held in memory until it has left.
pub(crate) const FETCH_BYTES_MAX: u32 = 8 << 20;
/// Disk reads under way per partition, those included whose askers are gone.
pub(crate) const READS_PER_PARTITION_MAX: usize = 1024;
/// What a read from disk takes, whatever is asked: less is not read at a time, nor more.
pub(crate) const READ_BYTES_MIN: usize = 128 << 10;
pub(crate) const READ_BYTES_MAX: usize = 1 << 20;
/// A fetch that may not wait for ever waits this long for memory.
pub(crate) const MEMORY_WAIT_MAX: Duration = Duration::from_secs(5);
/// Produces that wait for the disk, per partition. New batches take memory and end there; repeated ones do not.
pub(crate) const PRODUCES_WAITING_MAX: usize = 65_536;
/// Deletes of records that wait for the disk, per partition.
pub(crate) const DELETES_WAITING_MAX: usize = 1024;
/// Producers remembered per partition, 120 to 230 bytes each; the longest silent ones are forgotten first.
pub(crate) const PRODUCERS_MAX: usize = 4096;
/// Producers remembered by all partitions of a core above which no more is remembered of each than a Kafka client
/// needs: up to there it may be a KiB, 10 MB in all.
pub(crate) const PRODUCERS_ROOMY_MAX: usize = 10_000;
/// Producers remembered by all partitions of a core: 24 to 46 MB. Beyond it a partition that hears of a new one
/// forgets old ones of its own.
pub(crate) const PRODUCERS_PER_CORE_MAX: usize = 200_000;
/// Remembered by each partition even then.
pub(crate) const PRODUCERS_MIN: usize = 16;
/// A producer silent for longer is forgotten, as in Kafka (`producer.id.expiration.ms`).
pub(crate) const PRODUCER_SILENCE_MAX: Duration = Duration::from_secs(24 * 3600);
/// Producer ids taken from metadata at a time: one write per so many new producers.
pub(crate) const PRODUCER_IDS_BLOCK: u32 = 1000;
/// Troubled partitions that one core tells the others of.
pub(crate) const TROUBLED_MAX: usize = 1000;

/// One piece of the offsets topic while it is read in.
pub(crate) const LOAD_READ_BYTES: usize = 1 << 20;
/// Records of groups on their way to the disk, per partition: each belongs to a request that waits, or to a timeout.
pub(crate) const STORES_WAITING_MAX: usize = 65_536;
/// Requests about groups that wait, of all coordinators of a core: members that join or sync, commits.
pub(crate) const GROUP_ASKS_MAX: usize = 65_536;
/// Coordinators are told the time so often.
pub(crate) const GROUPS_TICK: Duration = Duration::from_millis(100);
/// Between two measurements of every committed offset's lag.
pub(crate) const LAG_INTERVAL: Duration = Duration::from_secs(5);
/// Committed offsets measured in one interval; the next one goes on behind them.
pub(crate) const LAGS_PER_ROUND_MAX: usize = 20_000;
/// Asked in one tick of the coordinators, and of other cores at the same time.
pub(crate) const LAGS_PER_TICK_MAX: usize = 1_000;
/// An answer of another core that has not come by then is not waited for.
pub(crate) const LAG_ANSWER_MAX: Duration = Duration::from_secs(10);
/// Committed offsets that are told at once, so that whoever asks does not keep a core from its work.
pub(crate) const GROUP_OFFSETS_MAX: usize = 100_000;
/// Groups, and topics of groups, whose figures are told.
pub(crate) const GROUP_FIGURES_MAX: usize = 1_000;

/// Every partition is looked at once in so many ticks: retention and checkpoints by time need no more.
pub(crate) const TICKS_PER_ROUND: usize = 100;
/// Partitions whose caches are shortened in one turn.
pub(crate) const SHRINKS_PER_TURN: usize = 64;
/// Removed logs being swept off the disk at the same time.
pub(crate) const SWEEPS_MAX: usize = 4;

/// What a broker's `metadata_snapshot_bytes` is.
pub const METADATA_SNAPSHOT_BYTES: usize = 4 << 20;
/// A snapshot goes into the metadata log in pieces of this part of `metadata_snapshot_bytes`.
pub(crate) const SNAPSHOT_PARTS: usize = 4;
/// Segments of the metadata log, in `metadata_snapshot_bytes`.
pub(crate) const META_SEGMENT_SNAPSHOTS: usize = 2;
pub(crate) const META_READ_BYTES: usize = 1 << 20;

/// A compaction remembers keys in an eighth of the memory for frames: so many bytes each, since a table has up to twice
/// as many places as entries; at least so many keys, and at most so many, since it is made in one go.
pub(crate) const COMPACTION_KEY_BYTES: usize = 56;
pub(crate) const COMPACTION_KEYS_MIN: usize = 1000;
pub(crate) const COMPACTION_KEYS_MAX: usize = 4_000_000;
