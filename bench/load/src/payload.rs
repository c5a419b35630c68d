//! What is in a record: a stamp, then noise.
//!
//! ```text
//! 0  due       u64  nanoseconds of the run's clock
//! 8  run       u32  whose record it is
//! 12 check     u32  CRC-32C of everything else, 0 when records are not checked
//! 16 producer  u16
//! 18 sequence  u48  of the producer's records
//! 24 noise
//! ```
//! Little-endian. Noise is taken from one stretch of random bytes, each record from where the last one ended: nothing
//! repeats within a batch, so compression finds nothing. With a ratio above 1, the end of each record is zeros.

use std::sync::Arc;
use std::time::Duration;

use crate::dice::Dice;

pub(crate) const STAMP_BYTES: usize = 24;
/// Above any batch: a codec's window sees no stretch twice.
const NOISE_BYTES: usize = 4 << 20;
const CHECK_AT: std::ops::Range<usize> = 12..16;

/// What a record says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stamp {
    pub(crate) due: Duration,
    pub(crate) run: u32,
    pub(crate) producer: u16,
    pub(crate) sequence: u64,
}

/// That all producers of a run take from, each from a place of its own on.
#[derive(Debug, Clone)]
pub(crate) struct Noise(Arc<[u8]>);

impl Noise {
    pub(crate) fn new(seed: u64) -> Noise {
        let mut dice = Dice::new(seed);
        Noise((0..NOISE_BYTES / 8).flat_map(|_| dice.roll().to_le_bytes()).collect())
    }
}

/// Makes values.
#[derive(Debug, Clone)]
pub(crate) struct Filler {
    noise: Noise,
    at: usize,
    /// Of a value, the share that is noise.
    noise_share: f64,
    checked: bool,
}

impl Filler {
    /// `seed` says where in the noise it begins. `compress_ratio` is what a good codec makes of it: 1 for nothing, 4
    /// for a quarter.
    pub(crate) fn new(noise: Noise, seed: u64, compress_ratio: f64, checked: bool) -> Filler {
        assert!(compress_ratio >= 1.0, "a codec never makes more of it");
        let at = Dice::new(seed).below(NOISE_BYTES as u64) as usize;
        Filler { noise, at, noise_share: 1.0 / compress_ratio, checked }
    }

    /// Appends a value of `bytes` bytes, at least [`STAMP_BYTES`].
    pub(crate) fn append(&mut self, stamp: Stamp, bytes: usize, into: &mut Vec<u8>) {
        let from = into.len();
        into.extend_from_slice(&nanoseconds(stamp.due).to_le_bytes());
        into.extend_from_slice(&stamp.run.to_le_bytes());
        into.extend_from_slice(&[0; 4]);
        let origin = stamp.sequence << 16 | u64::from(stamp.producer);
        into.extend_from_slice(&origin.to_le_bytes());
        let noise_bytes = ((bytes as f64 * self.noise_share) as usize).saturating_sub(STAMP_BYTES);
        self.append_noise(noise_bytes.min(bytes - STAMP_BYTES), into);
        into.resize(from + bytes, 0);
        if self.checked {
            let check = check(&into[from..]);
            into[from..][CHECK_AT].copy_from_slice(&check.to_le_bytes());
        }
    }

    fn append_noise(&mut self, mut bytes: usize, into: &mut Vec<u8>) {
        while bytes > 0 {
            let part = bytes.min(NOISE_BYTES - self.at);
            into.extend_from_slice(&self.noise.0[self.at..self.at + part]);
            self.at = (self.at + part) % NOISE_BYTES;
            bytes -= part;
        }
    }
}

/// Nothing for a value of somebody else's.
pub(crate) fn stamp(value: &[u8]) -> Option<Stamp> {
    let stamp = value.get(..STAMP_BYTES)?;
    let word = |at: usize| u64::from_le_bytes(stamp[at..at + 8].try_into().expect("eight bytes"));
    let run = u32::from_le_bytes(stamp[8..12].try_into().expect("four bytes"));
    let origin = word(16);
    Some(Stamp {
        due: Duration::from_nanos(word(0)),
        run,
        producer: (origin & 0xFFFF) as u16,
        sequence: origin >> 16,
    })
}

/// Every byte is what it was when it was made. `value` has a stamp.
pub(crate) fn is_whole(value: &[u8]) -> bool {
    value.get(CHECK_AT).is_some_and(|stored| check(value).to_le_bytes() == stored)
}

fn check(value: &[u8]) -> u32 {
    let mut digest = crc_fast::Digest::new(crc_fast::CrcAlgorithm::Crc32Iscsi);
    digest.update(&value[..CHECK_AT.start]);
    digest.update(&value[CHECK_AT.end..]);
    digest.finalize() as u32
}

fn nanoseconds(due: Duration) -> u64 {
    u64::try_from(due.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Filler, NOISE_BYTES, Noise, STAMP_BYTES, Stamp, is_whole, stamp};

    const STAMP: Stamp =
        Stamp { due: Duration::from_micros(7), run: 9, producer: 65_535, sequence: (1 << 48) - 1 };

    fn values(ratio: f64, checked: bool, bytes: usize, count: usize) -> Vec<u8> {
        let mut filler = Filler::new(Noise::new(1), 1, ratio, checked);
        let mut all = Vec::new();
        (0..count).for_each(|_| filler.append(STAMP, bytes, &mut all));
        all
    }

    #[test]
    fn a_stamp_is_read_back() {
        for bytes in [STAMP_BYTES, 100, 10_240] {
            let value = values(1.0, true, bytes, 1);
            assert_eq!(value.len(), bytes);
            assert_eq!(stamp(&value), Some(STAMP));
            assert!(is_whole(&value));
        }
        assert_eq!(stamp(b"short"), None);
    }

    #[test]
    fn every_damaged_byte_is_noticed() {
        let value = values(1.0, true, 100, 1);
        for at in 0..value.len() {
            let mut damaged = value.clone();
            damaged[at] ^= 0x10;
            assert!(!is_whole(&damaged), "byte {at}");
        }
        assert!(!is_whole(&value[..99]));
    }

    #[test]
    fn noise_does_not_repeat_within_a_batch_and_goes_round_after() {
        let all = values(1.0, false, 1000, NOISE_BYTES / (1000 - STAMP_BYTES) + 2);
        let noise: Vec<&[u8]> = all.chunks(1000).map(|value| &value[STAMP_BYTES..STAMP_BYTES + 16]).collect();
        let mut sorted = noise.clone();
        sorted.sort_unstable();
        sorted.dedup();
        assert!(sorted.len() >= noise.len() - 1);
    }

    #[test]
    fn producers_share_the_noise_and_begin_at_different_places() {
        let noise = Noise::new(1);
        let value = |seed| {
            let mut value = Vec::new();
            Filler::new(noise.clone(), seed, 1.0, false).append(STAMP, 1000, &mut value);
            value
        };
        assert_eq!(value(1), value(1));
        assert_ne!(value(1), value(2));
    }

    #[test]
    fn a_ratio_leaves_its_share_of_noise() {
        let value = values(4.0, false, 1000, 1);
        assert!(value[250..].iter().all(|byte| *byte == 0));
        assert!(value[STAMP_BYTES..250].iter().filter(|byte| **byte != 0).count() > 200);
        assert_eq!(values(4.0, false, STAMP_BYTES, 1).len(), STAMP_BYTES);
    }
}
