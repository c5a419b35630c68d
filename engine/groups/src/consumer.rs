//! What Kafka's consumers mean by their bytes, read for descriptions and for the expiry of offsets, never needed to
//! serve them: metadata and assignments of protocol type `consumer` (ConsumerProtocolSubscription and
//! ConsumerProtocolAssignment, versions 0 to 3: later ones add fields at the end).

use crate::member::Owned;

pub(crate) const PROTOCOL_TYPE: &str = "consumer";

/// Partitions of one assignment; one is never asked for more than once.
const PARTITIONS_MAX: usize = 1_000_000;

/// Topics of a subscription.
pub(crate) fn topics(metadata: &[u8]) -> Option<Vec<String>> {
    let mut input = Input { left: metadata };
    input.version()?;
    let count = input.count(2)?;
    (0..count).map(|_| input.string()).collect()
}

/// Partitions of an assignment. Empty bytes are none.
pub(crate) fn owned(assignment: &[u8]) -> Option<Owned> {
    if assignment.is_empty() {
        return Some(Owned::new());
    }
    let mut input = Input { left: assignment };
    input.version()?;
    let topics_count = input.count(6)?;
    let mut owned = Owned::new();
    for _ in 0..topics_count {
        let topic = input.string()?;
        let count = input.count(4)?;
        let mut partitions = Vec::with_capacity(count);
        for _ in 0..count {
            partitions.push(u32::try_from(input.i32()?).ok()?);
        }
        owned.entry(topic).or_default().append(&mut partitions);
    }
    for partitions in owned.values_mut() {
        partitions.sort_unstable();
        partitions.dedup();
    }
    Some(owned)
}

struct Input<'a> {
    left: &'a [u8],
}

impl<'a> Input<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, left) = self.left.split_at_checked(count)?;
        self.left = left;
        Some(taken)
    }

    fn i16(&mut self) -> Option<i16> {
        Some(i16::from_be_bytes(self.take(2)?.try_into().ok()?))
    }

    fn i32(&mut self) -> Option<i32> {
        Some(i32::from_be_bytes(self.take(4)?.try_into().ok()?))
    }

    fn version(&mut self) -> Option<i16> {
        self.i16().filter(|version| *version >= 0)
    }

    /// Never more than what is left could hold.
    fn count(&mut self, bytes_each_min: usize) -> Option<usize> {
        let count = usize::try_from(self.i32()?).ok()?;
        (count <= PARTITIONS_MAX && count * bytes_each_min <= self.left.len()).then_some(count)
    }

    fn string(&mut self) -> Option<String> {
        let bytes_count = usize::try_from(self.i16()?).ok()?;
        Some(std::str::from_utf8(self.take(bytes_count)?).ok()?.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_java_clients_bytes_are_read() {
        // Version 3: topics [t], no user data, no owned partitions, generation -1, no rack.
        let metadata = b"\0\x03\0\0\0\x01\0\x01t\xff\xff\xff\xff\0\0\0\0\xff\xff\xff\xff\xff\xff";
        assert_eq!(topics(metadata), Some(vec!["t".to_owned()]));
        let assignment = b"\0\x01\0\0\0\x01\0\x01t\0\0\0\x02\0\0\0\x02\0\0\0\0\xff\xff\xff\xff";
        assert_eq!(owned(assignment), Some(Owned::from([("t".to_owned(), vec![0, 2])])));
        assert_eq!(owned(b""), Some(Owned::new()));
    }

    #[test]
    fn other_bytes_are_nobodys() {
        assert_eq!(topics(b""), None);
        assert_eq!(topics(b"\0\0\x7f\xff\xff\xff\0\0"), None);
        assert_eq!(owned(b"\0\0\0\0\0\x01\0\x01t\0\0\0\x01\xff\xff\xff\xff"), None);
    }
}
