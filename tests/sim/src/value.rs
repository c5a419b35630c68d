//! Values that say where they come from, so that a record read anywhere can be held against what was sent.
//!
//! ```text
//!  0  client u32     4  lane u32     8  number u64     16  bytes u32 (of all of it)     20  filler
//! ```
//! A lane is one client's ordered way into one partition; its numbers count up from 0. The filler grows from the
//! rest, so a value whose bytes are not those that were sent does not decode.

use std::fmt;

pub const VALUE_BYTES_MIN: u32 = 20;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Value {
    pub client: u32,
    pub lane: u32,
    pub number: u64,
    pub bytes: u32,
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "c{}/l{}#{}({}B)", self.client, self.lane, self.number, self.bytes)
    }
}

impl Value {
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        assert!(self.bytes >= VALUE_BYTES_MIN, "a value of {} bytes", self.bytes);
        let mut out = Vec::with_capacity(self.bytes as usize);
        out.extend_from_slice(&self.client.to_le_bytes());
        out.extend_from_slice(&self.lane.to_le_bytes());
        out.extend_from_slice(&self.number.to_le_bytes());
        out.extend_from_slice(&self.bytes.to_le_bytes());
        self.fill(|chunk| out.extend_from_slice(chunk));
        out
    }

    /// `None`: these are not the bytes of any value that was sent.
    #[must_use]
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let field = |at: usize| Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?));
        let value = Self {
            client: field(0)?,
            lane: field(4)?,
            number: u64::from(field(8)?) | u64::from(field(12)?) << 32,
            bytes: field(16)?,
        };
        if value.bytes as usize != bytes.len() {
            return None;
        }
        let mut rest = &bytes[VALUE_BYTES_MIN as usize..];
        let mut is_same = true;
        value.fill(|chunk| {
            let (here, behind) = rest.split_at(chunk.len());
            is_same &= here == chunk;
            rest = behind;
        });
        is_same.then_some(value)
    }

    fn fill(&self, mut chunk: impl FnMut(&[u8])) {
        let mut left = (self.bytes - VALUE_BYTES_MIN) as usize;
        let mut word = u64::from(self.client) << 32 ^ u64::from(self.lane) << 48 ^ self.number;
        while left > 0 {
            word = word.wrapping_add(0x9e37_79b9_7f4a_7c15).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            let take = left.min(8);
            chunk(&word.to_le_bytes()[..take]);
            left -= take;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_read_as_it_was_written_and_no_other_bytes_are() {
        for bytes in [20, 21, 27, 28, 1000] {
            let value = Value { client: 3, lane: 7, number: 1 << 33, bytes };
            let mut encoded = value.encode();
            assert_eq!(encoded.len(), bytes as usize);
            assert_eq!(Value::decode(&encoded), Some(value));
            assert_eq!(Value::decode(&encoded[1..]), None);
            if let Some(last) = encoded.last_mut() {
                *last ^= 1;
            }
            assert_ne!(Value::decode(&encoded), Some(value));
        }
        assert_eq!(Value::decode(b""), None);
    }
}
