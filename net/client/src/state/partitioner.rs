//! Which partition a record goes to.
//!
//! Keyed records: Kafka's murmur2, so that both protocols send a key to the same partition. Unkeyed records
//! stick to one partition until its batch has left or is full, then move on to the next: large batches and an
//! even spread at once.

const SEED: u32 = 0x9747_b28c;
const MIX: u32 = 0x5bd1_e995;

/// Kafka's variant of MurmurHash2, with its seed.
#[must_use]
pub fn murmur2(data: &[u8]) -> u32 {
    // Kafka's lengths are Java ints: keys above 4 GiB do not exist there, nor in a batch.
    let mut hash = SEED ^ data.len() as u32;
    let mut words = data.chunks_exact(4);
    for word in &mut words {
        let mut k = u32::from_le_bytes([word[0], word[1], word[2], word[3]]).wrapping_mul(MIX);
        k ^= k >> 24;
        hash = hash.wrapping_mul(MIX) ^ k.wrapping_mul(MIX);
    }
    let rest = words.remainder();
    if !rest.is_empty() {
        for (index, byte) in rest.iter().enumerate() {
            hash ^= u32::from(*byte) << (8 * index);
        }
        hash = hash.wrapping_mul(MIX);
    }
    hash ^= hash >> 13;
    hash = hash.wrapping_mul(MIX);
    hash ^ (hash >> 15)
}

/// The partition, from 0, that `key` belongs to among `partitions_count`, as Kafka's default partitioner says.
///
/// # Panics
/// When `partitions_count` is 0.
#[must_use]
pub fn partition_of_key(key: &[u8], partitions_count: u32) -> u32 {
    (murmur2(key) & 0x7fff_ffff) % partitions_count
}

/// Where unkeyed records of one topic go.
#[derive(Debug, Clone)]
pub(crate) struct Sticky {
    current: u32,
    /// A record went to the current partition.
    used: bool,
}

impl Sticky {
    /// `dice` spreads producers that start together over different partitions.
    pub(crate) fn new(dice: u64) -> Self {
        Self { current: (dice >> 33) as u32, used: false }
    }

    pub(crate) fn current(&self, partitions_count: u32) -> u32 {
        self.current % partitions_count
    }

    /// To be called once the current partition's batch is full or gone.
    pub(crate) fn advance(&mut self) {
        self.current = self.current.wrapping_add(1);
        self.used = false;
    }

    pub(crate) fn on_used(&mut self) {
        self.used = true;
    }

    pub(crate) fn is_used(&self) -> bool {
        self.used
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(key: &str, expect: i32) {
        assert_eq!(murmur2(key.as_bytes()) as i32, expect, "{key}");
    }

    #[test]
    fn murmur2_agrees_with_kafka() {
        check("21", -973_932_308);
        check("foobar", -790_332_482);
        check("a-little-bit-long-string", -985_981_536);
        check("a-little-bit-longer-string", -1_486_304_829);
        check("lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58_897_971);
        check("abc", 479_470_107);
    }

    #[test]
    fn negative_hashes_give_a_partition_in_range() {
        assert_eq!(partition_of_key(b"21", 100), ((-973_932_308i32) & 0x7fff_ffff) as u32 % 100);
        for count in 1..50 {
            assert!(partition_of_key(b"foobar", count) < count);
        }
    }

    #[test]
    fn sticky_visits_every_partition_in_turn() {
        let mut sticky = Sticky::new(0);
        let visited: Vec<u32> = (0..4)
            .map(|_| {
                let at = sticky.current(4);
                sticky.advance();
                at
            })
            .collect();
        assert_eq!(visited, [0, 1, 2, 3]);
    }
}
