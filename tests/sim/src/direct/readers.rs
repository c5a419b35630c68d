//! Readers: each follows one partition by fetches, now and then waits for data, jumps, or moves to another.

use std::time::Duration;

use engine_api::{Fetch, FetchError, Fetched, PartitionId, Request};
use storage_frame::Offset;

use super::{Asked, Direct, READERS_FROM, records_of};
use crate::fact::{ClientId, Fact};

#[derive(Debug)]
pub(super) struct Readers {
    readers: Vec<Reader>,
}

#[derive(Debug, Default)]
struct Reader {
    of: Option<PartitionId>,
    next: Offset,
    is_fetching: bool,
    wait_max: Option<Duration>,
}

impl Readers {
    pub(super) fn new(count: usize) -> Self {
        Self { readers: (0..count).map(|_| Reader::default()).collect() }
    }

    /// `None`: for ever.
    pub(super) fn may_wait_for(&self, reader: usize) -> Option<Duration> {
        self.readers[reader].wait_max
    }

    pub(super) fn on_lost(&mut self, reader: usize) {
        self.readers[reader].is_fetching = false;
    }
}

impl Direct {
    pub fn fetch(&mut self) {
        let idle: Vec<usize> =
            (0..self.readers.readers.len()).filter(|nth| !self.readers.readers[*nth].is_fetching).collect();
        if idle.is_empty() {
            return;
        }
        let nth = *self.dice.pick(&idle);
        if self.readers.readers[nth].of.is_none() || self.dice.one_in(30) {
            let Some((_, partition)) = self.any_partition() else { return };
            self.readers.readers[nth] = Reader { of: Some(partition), ..Reader::default() };
        }
        let bytes_max = [1, 4000, 100_000, 1 << 20][self.dice.below(4) as usize];
        let (bytes_min, wait_max) = match self.dice.below(6) {
            0 => (1, None),
            1 => (50_000, Some(Duration::from_millis(self.dice.below(3000)))),
            2 => (1, Some(Duration::from_millis(self.dice.below(500)))),
            _ => (0, Some(Duration::ZERO)),
        };
        let reader = &mut self.readers.readers[nth];
        reader.is_fetching = true;
        reader.wait_max = wait_max;
        let fetch = Fetch {
            partition: reader.of.expect("chosen"),
            offset: reader.next,
            bytes_max,
            bytes_min,
            wait_max,
            reader: None,
        };
        self.ask(Asked::Fetch { reader: nth }, Request::Fetch(fetch));
    }

    /// A reader goes elsewhere in its partition: beginning, somewhere before, beyond the end.
    pub fn jump(&mut self) {
        let nth = self.dice.below(self.readers.readers.len() as u64) as usize;
        let next = self.readers.readers.get(nth).map_or(Offset(0), |reader| reader.next);
        let target = match self.dice.below(4) {
            0 => Offset(0),
            1 => Offset(next.0 + self.dice.below(20)),
            _ => Offset(self.dice.below(next.0 + 1)),
        };
        if let Some(reader) = self.readers.readers.get_mut(nth)
            && !reader.is_fetching
        {
            reader.next = target;
        }
    }

    pub(super) fn on_fetched(&mut self, nth: usize, asked_at: Duration, answer: Result<Fetched, FetchError>) {
        let by = ClientId(READERS_FROM + nth as u32);
        let reader = &mut self.readers.readers[nth];
        reader.is_fetching = false;
        let from = reader.of.expect("it fetched");
        let asked = reader.next;
        match answer {
            Ok(fetched) => {
                if let Some(last) = fetched.frames.last() {
                    reader.next = last.header().end_offset();
                    self.time_heard = last.header().max_timestamp;
                }
                self.wishes.facts.push(read_fact(by, from, asked, asked_at, &fetched));
            }
            Err(error) => {
                if let FetchError::OffsetOutOfRange { log_start, .. } = &error {
                    reader.next = *log_start;
                }
                if error == FetchError::UnknownPartition {
                    reader.of = None;
                }
                self.wishes.facts.push(refused_fact(by, from, asked, asked_at, &error));
            }
        }
    }
}

fn read_fact(by: ClientId, from: PartitionId, asked: Offset, asked_at: Duration, fetched: &Fetched) -> Fact {
    match records_of(&fetched.frames) {
        Ok(records) => Fact::Read {
            by,
            from,
            asked,
            asked_at,
            log_start: fetched.log_start,
            high_watermark: fetched.high_watermark,
            records,
        },
        Err(why) => Fact::Unreadable { by, from, asked, why },
    }
}

fn refused_fact(
    by: ClientId,
    from: PartitionId,
    asked: Offset,
    asked_at: Duration,
    error: &FetchError,
) -> Fact {
    let name = match error {
        FetchError::UnknownPartition => "UnknownPartition",
        FetchError::NotLeader => "NotLeader",
        FetchError::OffsetOutOfRange { .. } => "OffsetOutOfRange",
        FetchError::Damaged { .. } => "Damaged",
        FetchError::StorageFailed { .. } => "StorageFailed",
        FetchError::Overloaded => "Overloaded",
        FetchError::ShuttingDown => "ShuttingDown",
    };
    Fact::ReadRefused { by, from, asked, asked_at, error: name, why: error.to_string() }
}
