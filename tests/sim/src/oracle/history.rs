//! Small histories for the oracles' tests: one topic `orders` of two partitions, one client, one lane; each fact a
//! second after the one before. Value `n` carries the time 1000 + `n`.

use std::time::Duration;

use engine_api::{Durability, PartitionId, TopicId};
use engine_shard::Level;
use storage_frame::{LogId, Offset, TimestampMs};
use storage_log::SegmentId;
use tests_disk::{FaultKind, Zone};

use super::Oracle;
use crate::fact::{At, BatchId, ClientId, Fact, FrameFact, Seen, TopicFacts, TopicPromise};
use crate::value::Value;

pub(super) const TOPIC: TopicId = TopicId(7);
pub(super) const PARTITION: PartitionId = PartitionId { topic: TOPIC, index: 0 };
pub(super) const LOG: LogId = LogId(3);
pub(super) const FRAME_BYTES: u32 = 1000;

pub(super) fn plain() -> TopicPromise {
    TopicPromise { write_caching: false, retention_ms: None, retention_bytes: None, append_time: false }
}

pub(super) fn caching() -> TopicPromise {
    TopicPromise { write_caching: true, ..plain() }
}

pub(super) fn value(number: u64) -> Value {
    Value { client: 1, lane: 1, number, bytes: 20 }
}

pub(super) fn time_of(number: u64) -> TimestampMs {
    TimestampMs(1000 + number as i64)
}

pub(super) struct History {
    oracle: Box<dyn Oracle>,
    pub(super) now: Duration,
    life: u32,
    failure: Option<String>,
}

impl History {
    /// A node in its first life.
    pub(super) fn new(oracle: impl Oracle + 'static) -> Self {
        let mut history = Self { oracle: Box::new(oracle), now: Duration::ZERO, life: 0, failure: None };
        history.fact(Fact::Began { life: 0, cores: 1 });
        history
    }

    pub(super) fn fact(&mut self, fact: Fact) -> &mut Self {
        self.now += Duration::from_secs(1);
        if self.failure.is_none() {
            let wall = TimestampMs(1_000_000 + self.now.as_millis() as i64);
            let at = At { time: self.now, wall, fact };
            self.failure = self.oracle.hear(&at).err().map(|violation| violation.0);
        }
        self
    }

    fn end(&mut self) -> Option<String> {
        self.failure.take().or_else(|| self.oracle.end().err().map(|violation| violation.0))
    }

    #[track_caller]
    pub(super) fn passes(&mut self) {
        assert_eq!(self.end(), None);
    }

    #[track_caller]
    pub(super) fn fails_with(&mut self, part: &str) {
        let failure = self.end().expect("it fails");
        assert!(failure.contains(part), "{failure:?} does not say {part:?}");
    }

    pub(super) fn topic(&mut self, promise: TopicPromise) -> &mut Self {
        let logs = vec![LOG, LogId(4)];
        self.fact(Fact::Topic(TopicFacts { id: TOPIC, name: "orders".to_owned(), logs, promise }))
    }

    pub(super) fn sent(&mut self, batch: u64, numbers: &[u64]) -> &mut Self {
        self.send(batch, numbers, true)
    }

    pub(super) fn send(&mut self, batch: u64, numbers: &[u64], idempotent: bool) -> &mut Self {
        let records = numbers.iter().map(|number| (value(*number), time_of(*number))).collect();
        self.fact(Fact::Sent { batch: BatchId(batch), to: PARTITION, records, idempotent })
    }

    pub(super) fn acked(&mut self, batch: u64, base: u64) -> &mut Self {
        self.acked_as(batch, base, Durability::LeaderDisk)
    }

    pub(super) fn acked_as(&mut self, batch: u64, base: u64, durability: Durability) -> &mut Self {
        let (batch, base_offset) = (BatchId(batch), Offset(base));
        self.fact(Fact::Acked { batch, base_offset, durability, duplicate: false })
    }

    pub(super) fn refused(&mut self, batch: u64) -> &mut Self {
        self.fact(Fact::Refused { batch: BatchId(batch), why: "no space".to_owned() })
    }

    pub(super) fn doubtful(&mut self, batch: u64) -> &mut Self {
        self.fact(Fact::Doubtful { batch: BatchId(batch) })
    }

    /// Values `numbers`, from `asked` on; asked just before.
    pub(super) fn read(&mut self, asked: u64, high_watermark: u64, numbers: &[u64]) -> &mut Self {
        self.seen(asked, high_watermark, seen(asked, numbers))
    }

    pub(super) fn seen(&mut self, asked: u64, high_watermark: u64, records: Vec<Seen>) -> &mut Self {
        let asked_at = self.now + Duration::from_millis(500);
        self.read_of(asked_at, asked, (0, high_watermark), records)
    }

    pub(super) fn read_of(
        &mut self,
        asked_at: Duration,
        asked: u64,
        (log_start, high_watermark): (u64, u64),
        records: Vec<Seen>,
    ) -> &mut Self {
        self.fact(Fact::Read {
            by: ClientId(9),
            from: PARTITION,
            asked_at,
            asked: Offset(asked),
            log_start: Offset(log_start),
            high_watermark: Offset(high_watermark),
            records,
        })
    }

    /// All of the partition: values `numbers` from `log_start` on.
    pub(super) fn audit(&mut self, log_start: u64, numbers: &[u64]) -> &mut Self {
        self.fact(Fact::Audit {
            partition: PARTITION,
            log_start: Offset(log_start),
            high_watermark: Offset(log_start + numbers.len() as u64),
            records: seen(log_start, numbers),
        })
    }

    pub(super) fn delete_asked(&mut self, before: u64) -> &mut Self {
        self.fact(Fact::DeleteAsked { partition: PARTITION, before: Offset(before) })
    }

    /// A frame of values whose largest is `number`.
    pub(super) fn written(&mut self, segment: u32, base: u64, end: u64) -> &mut Self {
        let frame = FrameFact {
            base_offset: Offset(base),
            end_offset: Offset(end),
            max_timestamp: time_of(end - 1),
            bytes: FRAME_BYTES,
        };
        self.fact(Fact::Written { log: LOG, segment: SegmentId(segment), frames: vec![frame] })
    }

    pub(super) fn crash(&mut self) -> &mut Self {
        self.fact(Fact::Crashed { life: self.life });
        self.begin()
    }

    pub(super) fn stop(&mut self) -> &mut Self {
        self.fact(Fact::Stopped { life: self.life });
        self.begin()
    }

    fn begin(&mut self) -> &mut Self {
        self.life += 1;
        self.fact(Fact::Began { life: self.life, cores: 1 })
    }

    pub(super) fn injected(&mut self, kind: FaultKind, zone: Zone) -> &mut Self {
        let beyond_promise = kind.promise(zone) == tests_disk::Promise::Noticed;
        let what = format!("{kind:?} in {zone:?}");
        self.fact(Fact::Injected { log: Some(LOG), kind: Some((kind, zone)), beyond_promise, what })
    }

    pub(super) fn error(&mut self, name: &'static str) -> &mut Self {
        self.event(Level::Error, name)
    }

    pub(super) fn event(&mut self, level: Level, name: &'static str) -> &mut Self {
        let fields = format!("topic=orders partition=0 log={LOG} why=eio");
        self.fact(Fact::Event { life: self.life, core: 0, level, name, fields })
    }
}

pub(super) fn seen(from: u64, numbers: &[u64]) -> Vec<Seen> {
    let one = |(index, number): (usize, &u64)| Seen {
        offset: Offset(from + index as u64),
        value: Some(value(*number)),
        timestamp: time_of(*number),
    };
    numbers.iter().enumerate().map(one).collect()
}
