//! Every record that was acknowledged is there once, whole, and in order.
//!
//! Each reader of a whole topic has a checker; it is told of every record in the order its partition gave it. Records
//! whose outcome is unknown may be there or not.

use std::collections::{BTreeMap, HashMap};

use serde::{Deserialize, Serialize};

use crate::payload::{Stamp, is_whole, stamp};
use crate::seen::Seen;

#[derive(Debug)]
pub(crate) struct Checker {
    run: u32,
    /// By producer.
    seen: BTreeMap<u32, Seen>,
    /// Highest sequence so far, by partition and producer.
    last: HashMap<(u32, u16), u64>,
    faults: Faults,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Faults {
    doubled: u64,
    reordered: u64,
    damaged: u64,
    foreign: u64,
}

/// What was found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verdict {
    /// Different records of this run.
    pub checked: u64,
    /// Acknowledged, and not there.
    pub lost: u64,
    /// There again.
    pub doubled: u64,
    /// Behind a later record of the same producer in the same partition.
    pub reordered: u64,
    /// Not the bytes that were sent.
    pub damaged: u64,
    /// Of another run or program.
    pub foreign: u64,
    /// Of the first that are lost, as `producer/sequence`.
    pub first_lost: Vec<String>,
}

const FIRST_LOST: usize = 5;

impl Checker {
    pub(crate) fn new(run: u32) -> Checker {
        Checker { run, seen: BTreeMap::new(), last: HashMap::new(), faults: Faults::default() }
    }

    pub(crate) fn read(&mut self, partition: u32, value: &[u8]) {
        // First, since what others send has no checksum of ours. One of this run whose stamp is damaged is lost.
        let Some(Stamp { producer, sequence, .. }) = stamp(value).filter(|stamp| stamp.run == self.run)
        else {
            self.faults.foreign += 1;
            return;
        };
        if !is_whole(value) {
            self.faults.damaged += 1;
            return;
        }
        if !self.seen.entry(u32::from(producer)).or_default().insert(sequence) {
            self.faults.doubled += 1;
            return;
        }
        let last = self.last.entry((partition, producer)).or_insert(sequence);
        if *last > sequence {
            self.faults.reordered += 1;
        } else {
            *last = sequence;
        }
    }

    /// Different records of this run.
    pub(crate) fn count(&self) -> u64 {
        self.seen.values().map(Seen::count).sum()
    }

    /// `acknowledged` is by producer.
    pub(crate) fn verdict(&self, acknowledged: &BTreeMap<u32, Seen>) -> Verdict {
        let none = Seen::default();
        let lost = acknowledged.iter().flat_map(|(producer, acknowledged)| {
            let seen = self.seen.get(producer).unwrap_or(&none);
            acknowledged.without(seen).map(move |sequence| format!("{producer}/{sequence}"))
        });
        let first_lost: Vec<String> = lost.clone().take(FIRST_LOST).collect();
        let Faults { doubled, reordered, damaged, foreign } = self.faults;
        Verdict {
            checked: self.count(),
            lost: lost.count() as u64,
            doubled,
            reordered,
            damaged,
            foreign,
            first_lost,
        }
    }
}

impl Verdict {
    /// Records of others are no fault: a topic may be shared.
    pub fn is_good(&self) -> bool {
        self.lost == 0 && self.doubled == 0 && self.reordered == 0 && self.damaged == 0
    }

    pub(crate) fn add(&mut self, other: &Verdict) {
        self.checked += other.checked;
        self.lost += other.lost;
        self.doubled += other.doubled;
        self.reordered += other.reordered;
        self.damaged += other.damaged;
        self.foreign += other.foreign;
        self.first_lost.extend_from_slice(&other.first_lost);
        self.first_lost.truncate(FIRST_LOST);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::LazyLock;
    use std::time::Duration;

    use super::{Checker, Verdict};
    use crate::payload::{Filler, Noise, Stamp};
    use crate::seen::Seen;

    const RUN: u32 = 77;
    static NOISE: LazyLock<Noise> = LazyLock::new(|| Noise::new(1));

    fn value(producer: u16, sequence: u64) -> Vec<u8> {
        value_of(RUN, producer, sequence)
    }

    fn value_of(run: u32, producer: u16, sequence: u64) -> Vec<u8> {
        let mut value = Vec::new();
        Filler::new(NOISE.clone(), 1, 1.0, true).append(
            Stamp { due: Duration::ZERO, run, producer, sequence },
            100,
            &mut value,
        );
        value
    }

    /// Of two producers' records 0 to 9 in one partition each, all of them acknowledged.
    fn check(change: impl FnOnce(&mut Vec<(u32, Vec<u8>)>)) -> Verdict {
        let mut all = Vec::new();
        let mut acknowledged = BTreeMap::<u32, Seen>::new();
        for sequence in 0..10 {
            for producer in 0..2 {
                all.push((u32::from(producer), value(producer, sequence)));
                acknowledged.entry(u32::from(producer)).or_default().insert(sequence);
            }
        }
        change(&mut all);
        let mut checker = Checker::new(RUN);
        all.iter().for_each(|(partition, value)| checker.read(*partition, value));
        checker.verdict(&acknowledged)
    }

    #[test]
    fn what_was_acknowledged_and_is_there_is_good() {
        let verdict = check(|_| {});
        assert_eq!(verdict.checked, 20);
        assert!(verdict.is_good());
        // Sent, never acknowledged, and there all the same.
        assert!(check(|all| all.push((0, value(0, 10)))).is_good());
    }

    #[test]
    fn a_lost_record_is_found_and_named() {
        let verdict = check(|all| _ = all.remove(5));
        assert_eq!((verdict.lost, verdict.first_lost.as_slice()), (1, &["1/2".to_owned()][..]));
        assert!(!verdict.is_good());
    }

    #[test]
    fn a_doubled_record_is_found() {
        let verdict = check(|all| all.push(all[3].clone()));
        assert_eq!((verdict.doubled, verdict.reordered, verdict.lost), (1, 0, 0));
        assert!(!verdict.is_good());
    }

    #[test]
    fn a_record_behind_a_later_one_is_found() {
        let verdict = check(|all| all.swap(2, 6));
        assert_eq!((verdict.reordered, verdict.lost, verdict.doubled), (2, 0, 0));
        assert!(!verdict.is_good());
        // Between partitions there is no order.
        assert!(check(|all| all.swap(2, 3)).is_good());
    }

    #[test]
    fn a_damaged_record_is_found_and_is_lost_too() {
        let verdict = check(|all| all[4].1[60] ^= 1);
        assert_eq!((verdict.damaged, verdict.lost), (1, 1));
        assert!(!verdict.is_good());
    }

    #[test]
    fn records_of_others_are_counted_and_are_no_fault() {
        let verdict = check(|all| {
            all.push((0, value_of(RUN + 1, 0, 3)));
            all.push((0, b"short".to_vec()));
            all.push((0, b"no stamp, and no checksum, and longer than either".to_vec()));
        });
        assert_eq!((verdict.foreign, verdict.damaged), (3, 0));
        assert!(verdict.is_good());
    }

    #[test]
    fn a_record_whose_stamp_is_damaged_is_lost() {
        let verdict = check(|all| all[4].1[9] ^= 1);
        assert_eq!((verdict.foreign, verdict.lost), (1, 1));
        assert!(!verdict.is_good());
    }
}
