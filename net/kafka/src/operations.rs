//! What a client may do, as bits by Kafka's numbers of operations (KIP-430). Nobody is kept from anything.

const READ: i32 = 1 << 3;
const WRITE: i32 = 1 << 4;
const CREATE: i32 = 1 << 5;
const DELETE: i32 = 1 << 6;
const ALTER: i32 = 1 << 7;
const DESCRIBE: i32 = 1 << 8;
const CLUSTER_ACTION: i32 = 1 << 9;
const DESCRIBE_CONFIGS: i32 = 1 << 10;
const ALTER_CONFIGS: i32 = 1 << 11;
const IDEMPOTENT_WRITE: i32 = 1 << 12;

/// Nobody has asked.
pub(crate) const NOT_SAID: i32 = i32::MIN;

pub(crate) const OF_CLUSTER: i32 =
    CREATE | ALTER | DESCRIBE | CLUSTER_ACTION | DESCRIBE_CONFIGS | ALTER_CONFIGS | IDEMPOTENT_WRITE;
pub(crate) const OF_TOPIC: i32 =
    READ | WRITE | CREATE | DELETE | ALTER | DESCRIBE | DESCRIBE_CONFIGS | ALTER_CONFIGS;
pub(crate) const OF_GROUP: i32 = READ | DELETE | DESCRIBE;

/// `operations`, if they were asked for.
pub(crate) fn told(asked: bool, operations: i32) -> i32 {
    if asked { operations } else { NOT_SAID }
}
