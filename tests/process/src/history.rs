//! What clients were told and what they saw, and what must hold between the two.
//!
//! - Everything acknowledged is readable at its offset with identical bytes, for as long as the log starts below it.
//! - Offsets are dense, and none gets a second meaning: a promise, a live reader and every later reading agree.
//! - A producer's records of one partition stand in the order in which it sent them, none twice, none that was
//!   refused, none that nobody sent.
//! - A reader gets what follows what it has got.
//!
//! A record whose outcome is unknown may be there or not. Values are told apart by their bytes: no two are equal.

use std::collections::{BTreeMap, HashMap};

use millstream_client::TopicId;

/// A topic made again has another id, and so another history.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    pub topic: TopicId,
    pub partition: u32,
}

/// What a producer was told of one record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Told {
    Stored(u64),
    Unknown,
    /// Nothing was stored.
    Refused,
}

#[derive(Debug, Default, Clone)]
pub struct History {
    partitions: BTreeMap<Place, Partition>,
    acked_count: usize,
}

#[derive(Debug, Default, Clone)]
struct Partition {
    sent: HashMap<Vec<u8>, Sent>,
    /// By producer.
    sent_counts: BTreeMap<u32, u64>,
    /// What is known to be at an offset, by a promise or by having been read.
    known: BTreeMap<u64, Vec<u8>>,
}

#[derive(Debug, Clone, Copy)]
struct Sent {
    producer: u32,
    number: u64,
    told: Option<Told>,
}

impl History {
    /// Before the record is given to the client.
    #[track_caller]
    pub fn sent(&mut self, place: Place, producer: u32, value: &[u8]) {
        let partition = self.partitions.entry(place).or_default();
        let count = partition.sent_counts.entry(producer).or_default();
        let before = partition.sent.insert(value.to_vec(), Sent { producer, number: *count, told: None });
        assert!(before.is_none(), "the test sends one value twice: {}", show(value));
        *count += 1;
    }

    #[track_caller]
    pub fn told(&mut self, place: Place, value: &[u8], told: Told) {
        let partition = self.partitions.get_mut(&place).expect("sent before");
        let sent = partition.sent.get_mut(value).expect("sent before");
        assert_eq!(sent.told.replace(told), None, "one record, two answers: {}", show(value));
        if let Told::Stored(offset) = told {
            self.acked_count += 1;
            partition.learn(place, offset, value);
        }
    }

    /// A reader got it there.
    #[track_caller]
    pub fn seen(&mut self, place: Place, offset: u64, value: &[u8]) {
        let partition = self.partitions.get_mut(&place).expect("somebody sent to it");
        partition.learn(place, offset, value);
        let sent = partition.sent.get(value);
        let sent = sent.unwrap_or_else(|| panic!("{place:?}, offset {offset}: nobody sent {}", show(value)));
        assert_ne!(sent.told, Some(Told::Refused), "{place:?}, offset {offset}: refused, and there");
    }

    /// Records that were acknowledged so far.
    pub fn acked_count(&self) -> usize {
        self.acked_count
    }

    /// Numbers below it are taken.
    pub fn producer_count(&self) -> u32 {
        let producers = self.partitions.values().flat_map(|partition| partition.sent_counts.keys());
        producers.max().map_or(0, |last| last + 1)
    }

    /// Below it everything was acknowledged or seen by somebody.
    pub fn known_end(&self, place: Place) -> u64 {
        let last = self.partitions.get(&place).and_then(|partition| partition.known.last_key_value());
        last.map_or(0, |(offset, _)| offset + 1)
    }

    /// All that a partition holds, from the start of its log to its end, as one reader got it that began when the
    /// history knew of `known_end`.
    #[track_caller]
    pub fn check_whole(&mut self, place: Place, known_end: u64, start: u64, values: &[Vec<u8>]) {
        self.check_from(place, start, values);
        let end = start + values.len() as u64;
        assert!(known_end <= end, "{place:?} ends at {end}; offset {} was promised", known_end - 1);
    }

    /// What could be read from `start` on before the broker said that the rest is damaged.
    #[track_caller]
    pub fn check_from(&mut self, place: Place, start: u64, values: &[Vec<u8>]) {
        for (at, value) in values.iter().enumerate() {
            self.seen(place, start + at as u64, value);
        }
        let Some(partition) = self.partitions.get(&place) else { return };
        let mut next: BTreeMap<u32, u64> = BTreeMap::new();
        for (at, value) in values.iter().enumerate() {
            let sent = &partition.sent[value];
            let next = next.entry(sent.producer).or_default();
            assert!(
                sent.number >= *next,
                "{place:?}, offset {}: producer {} repeats or overtakes itself: {}",
                start + at as u64,
                sent.producer,
                show(value)
            );
            *next = sent.number + 1;
        }
    }
}

impl Partition {
    #[track_caller]
    fn learn(&mut self, place: Place, offset: u64, value: &[u8]) {
        match self.known.get(&offset) {
            Some(known) => assert!(
                known == value,
                "{place:?}, offset {offset} meant {}, now {}",
                show(known),
                show(value)
            ),
            None => drop(self.known.insert(offset, value.to_vec())),
        }
    }
}

fn show(value: &[u8]) -> String {
    let head = String::from_utf8_lossy(&value[..value.len().min(40)]).into_owned();
    format!("'{head}' ({} bytes)", value.len())
}

#[cfg(test)]
mod tests {
    use std::panic::catch_unwind;

    use super::*;

    const PLACE: Place = Place { topic: TopicId(1), partition: 0 };

    fn values(names: &[&str]) -> Vec<Vec<u8>> {
        names.iter().map(|name| name.as_bytes().to_vec()).collect()
    }

    /// a and b stored at 0 and 1, c unknown, d refused.
    fn history() -> History {
        let mut history = History::default();
        for (name, told) in
            [("a", Told::Stored(0)), ("b", Told::Stored(1)), ("c", Told::Unknown), ("d", Told::Refused)]
        {
            history.sent(PLACE, 0, name.as_bytes());
            history.told(PLACE, name.as_bytes(), told);
        }
        history
    }

    #[test]
    fn what_is_unknown_may_be_there_or_not() {
        history().check_whole(PLACE, 2, 0, &values(&["a", "b"]));
        history().check_whole(PLACE, 2, 0, &values(&["a", "b", "c"]));
        history().check_whole(PLACE, 2, 1, &values(&["b", "c"]));
    }

    #[test]
    fn what_must_not_be_is_found() {
        let cases: [(&str, &[&str]); 6] = [
            ("lost", &["a"]),
            ("moved", &["b", "a"]),
            ("twice", &["a", "b", "c", "c"]),
            ("twice, the first acknowledged", &["a", "b", "a"]),
            ("refused", &["a", "b", "d"]),
            ("nobody's", &["a", "b", "x"]),
        ];
        for (what, read) in cases {
            let found = catch_unwind(|| history().check_whole(PLACE, 2, 0, &values(read)));
            assert!(found.is_err(), "{what}");
        }
    }

    #[test]
    fn a_second_meaning_is_found_between_readings() {
        let found = catch_unwind(|| {
            let mut history = history();
            history.sent(PLACE, 0, b"e");
            history.told(PLACE, b"e", Told::Unknown);
            history.check_whole(PLACE, 2, 0, &values(&["a", "b", "c"]));
            history.check_whole(PLACE, 2, 0, &values(&["a", "b", "e"]));
        });
        assert!(found.is_err());
    }

    #[test]
    fn overtaking_is_found() {
        let found = catch_unwind(|| {
            let mut history = history();
            history.sent(PLACE, 0, b"e");
            history.told(PLACE, b"e", Told::Unknown);
            history.check_whole(PLACE, 2, 0, &values(&["a", "b", "e", "c"]));
        });
        assert!(found.is_err());
    }
}
