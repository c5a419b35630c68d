//! How much of anything there may be in one coordinator.

use std::time::Duration;

pub const GROUP_ID_BYTES_MAX: usize = 4096;
pub const GROUPS_MAX: usize = 100_000;
/// Names of protocols, of topics and instances.
pub const NAME_BYTES_MAX: usize = 4096;
/// Of one member: Kafka's clients offer two or three.
pub const PROTOCOLS_MAX: usize = 64;
/// What all members of a group say about themselves: it becomes one record.
pub const MEMBERS_BYTES_MAX: usize = 8 << 20;
/// Of one native member.
pub const TOPICS_MAX: usize = 256;
/// What one member says about itself, its assignment not counted.
pub const MEMBER_BYTES_MAX: usize = 1 << 20;
/// Groups, members with their assignments, ids handed out, and committed offsets, of all groups.
pub const BYTES_MAX: usize = 128 << 20;
/// Asked for and not stored yet.
pub const STORES_MAX: usize = 10_000;
/// Kept of each group.
pub const EVENTS_MAX: usize = 16;
/// A client's name is for showing, and the beginning of its member id: more of it is cut off.
pub use engine_api::CLIENT_BYTES_MAX;
/// In one [`Effect::Store`](crate::Effect::Store) of tombstones: about 100 KB.
pub(crate) const TOMBSTONES_AT_ONCE: usize = 1000;
/// Looked at for expired offsets in one tick.
pub(crate) const GROUPS_PER_TICK: usize = 1000;
/// From one look for expired offsets to the next, unless they are kept for so short a time that this is long.
pub(crate) const EXPIRY_EVERY_MAX: Duration = Duration::from_secs(600);
/// From one look at native groups' topics to the next.
pub(crate) const TOPICS_EVERY: Duration = Duration::from_secs(1);
/// What a map's entry costs beside its text.
pub(crate) const ENTRY_BYTES: usize = 128;
