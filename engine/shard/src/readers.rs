//! Who has fetched from a partition lately, and up to where: a coordinator asks, to tell members that read from members
//! that do nothing.
//!
//! Noted by the partition's own core with each fetch; nobody is told unless he asks. Only the latest readers are kept;
//! one that was forgotten is taken to have read when the last of those did: never earlier than it has.

use std::time::Duration;

use engine_api::{LastRead, ReaderId};
use storage_frame::Offset;

/// More read one partition at the same time rarely.
const READERS_MAX: usize = 16;

#[derive(Debug, Default)]
pub(crate) struct Readers {
    seen: Vec<Seen>,
    forgotten_at: Option<Duration>,
}

#[derive(Debug)]
struct Seen {
    reader: ReaderId,
    at: Duration,
    next: Offset,
}

impl Readers {
    pub(crate) fn note(&mut self, now: Duration, reader: ReaderId, next: Offset) {
        if let Some(seen) = self.seen.iter_mut().find(|seen| seen.reader == reader) {
            (seen.at, seen.next) = (now, next);
            return;
        }
        if self.seen.len() == READERS_MAX {
            let oldest = (0..READERS_MAX).min_by_key(|place| self.seen[*place].at).expect("there are some");
            let forgotten = self.seen.swap_remove(oldest);
            self.forgotten_at = self.forgotten_at.max(Some(forgotten.at));
        }
        self.seen.push(Seen { reader, at: now, next });
    }

    pub(crate) fn find(&self, now: Duration, reader: ReaderId) -> Option<LastRead> {
        let seen = self.seen.iter().find(|seen| seen.reader == reader);
        let known = seen.map(|seen| (seen.at, seen.next));
        let (at, next) = known.or(self.forgotten_at.map(|at| (at, Offset::ZERO)))?;
        Some(LastRead { ago: now.saturating_sub(at), next })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn a_reader_is_found_with_its_last_fetch() {
        let mut readers = Readers::default();
        assert_eq!(readers.find(seconds(9), ReaderId(1)), None);
        readers.note(seconds(1), ReaderId(1), Offset(5));
        readers.note(seconds(2), ReaderId(2), Offset(50));
        readers.note(seconds(3), ReaderId(1), Offset(7));
        let one = LastRead { ago: seconds(6), next: Offset(7) };
        assert_eq!(readers.find(seconds(9), ReaderId(1)), Some(one));
        assert_eq!(readers.find(seconds(9), ReaderId(3)), None);
    }

    #[test]
    fn a_forgotten_reader_is_not_said_to_have_been_away_for_longer_than_it_has() {
        let mut readers = Readers::default();
        for reader in 0..20 {
            readers.note(seconds(reader), ReaderId(reader), Offset(reader));
        }
        assert_eq!(readers.seen.len(), READERS_MAX);
        let forgotten = LastRead { ago: seconds(30 - 3), next: Offset::ZERO };
        assert_eq!(readers.find(seconds(30), ReaderId(0)), Some(forgotten));
        assert_eq!(readers.find(seconds(30), ReaderId(19)).unwrap().ago, seconds(11));
    }
}
