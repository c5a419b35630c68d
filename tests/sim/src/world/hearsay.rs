//! What clients on the SDK note, told as facts.
//!
//! Their topics are those the world made for them. A reader on the SDK goes on where it stopped, through every loss
//! of its connection: that is checked here, since the oracles see batches one by one.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use engine_api::{PartitionId, TopicId};
use millstream_client::ReadError;
use storage_frame::Offset;

use super::World;
use crate::direct::SHARED;
use crate::fact::{BatchId, ClientId, Fact, Seen, TopicFacts};
use crate::sdk::{AdminAnswer, AdminAsk, Journal, Named, Noted, SdkNote, Stored};
use crate::trace::Detail;
use crate::value::Value;

pub(super) struct Hearsay {
    journal: Journal,
    heard: VecDeque<Noted>,
    topics: BTreeMap<String, TopicId>,
    /// Topics whose end no crash takes back; of others, and of those nobody has described yet, it may.
    plain: BTreeSet<TopicId>,
    readers: BTreeMap<(ClientId, u32), Duration>,
    /// Where each reader of a partition is.
    places: BTreeMap<(ClientId, u32, PartitionId), Offset>,
    sent: BTreeMap<u64, PartitionId>,
    asked: BTreeMap<u64, (Duration, AdminAsk)>,
}

impl Hearsay {
    pub(super) fn new(journal: Journal) -> Self {
        Self {
            journal,
            heard: VecDeque::new(),
            topics: BTreeMap::new(),
            plain: BTreeSet::new(),
            readers: BTreeMap::new(),
            places: BTreeMap::new(),
            sent: BTreeMap::new(),
            asked: BTreeMap::new(),
        }
    }

    pub(super) fn journal(&self) -> Journal {
        self.journal.clone()
    }

    pub(super) fn learn(&mut self, topic: &TopicFacts) {
        self.topics.insert(topic.name.clone(), topic.id);
        if !topic.promise.write_caching {
            self.plain.insert(topic.id);
        }
    }

    /// A reader that has read nothing that is lost ends only for reasons of its own.
    fn check_end(&self, client: ClientId, reader: u32, error: &ReadError) -> Result<(), String> {
        let is_wrong = match error {
            ReadError::NotContiguous { .. } | ReadError::BadBatch { .. } => true,
            ReadError::OffsetOutOfRange { partition, asked, high_watermark, .. } => {
                let mine = self.places.keys().filter(|(of, number, _)| (*of, *number) == (client, reader));
                let has_read = mine
                    .clone()
                    .any(|(_, _, from)| from.index == *partition && self.plain.contains(&from.topic));
                has_read && asked > high_watermark
            }
            ReadError::UnknownTopic { .. }
            | ReadError::PartitionOutOfRange { .. }
            | ReadError::Diverged { .. }
            | ReadError::Damaged { .. }
            | ReadError::Unavailable { .. }
            | ReadError::Metadata(_)
            | ReadError::FindOffset { .. }
            | ReadError::Closed => false,
        };
        if is_wrong { Err(format!("reader {reader} of client {} ended: {error}", client.0)) } else { Ok(()) }
    }

    /// Of a topic that the world made. The client may have heard of it before whoever had asked for it.
    fn partition(&self, topic: &Named, index: u32) -> Option<PartitionId> {
        let known = self.topics.get(&topic.name).copied();
        let known = known.or_else(|| topic.id.filter(|_| topic.name.starts_with(SHARED)));
        Some(PartitionId { topic: known?, index })
    }

    /// # Errors
    /// A promise that the SDK broke by itself.
    fn facts(&mut self, noted: Noted) -> Result<Option<Fact>, String> {
        let Noted { at, client, note } = noted;
        Ok(match note {
            SdkNote::Sent { record, topic, partition, value, timestamp, idempotent, .. } => {
                self.partition(&topic, partition).map(|to| {
                    self.sent.insert(record, to);
                    let batch = BatchId::of_sdk(record);
                    Fact::Sent { batch, to, records: vec![(value, timestamp)], idempotent }
                })
            }
            SdkNote::Delivered { record, offset, durability, duplicate, .. } => {
                let batch = BatchId::of_sdk(record);
                self.sent.get(&record).map(|_| match (offset, durability) {
                    (Some(base_offset), Some(durability)) => {
                        Fact::Acked { batch, base_offset, durability, duplicate }
                    }
                    _ => Fact::Doubtful { batch },
                })
            }
            SdkNote::DeliveryFailed { record, stored, why } => {
                let batch = BatchId::of_sdk(record);
                self.sent.get(&record).map(|_| match stored {
                    Stored::No => Fact::Refused { batch, why },
                    Stored::Unknown => Fact::Doubtful { batch },
                })
            }
            SdkNote::ReaderOpened { reader, .. } => {
                self.readers.insert((client, reader), at);
                None
            }
            SdkNote::ReadBatch {
                reader,
                topic,
                partition,
                log_start,
                high_watermark,
                next_offset,
                records,
            } => {
                let Some(from) = self.partition(&topic, partition) else { return Ok(None) };
                let Some(asked) = records.first().map(|record| record.offset) else { return Ok(None) };
                if let Some(place) = self.places.insert((client, reader, from), next_offset)
                    && place != asked
                {
                    return Err(format!(
                        "reader {reader} of client {} stood at {place} of {}/{partition} and was given {asked}",
                        client.0, topic.name
                    ));
                }
                let asked_at = self.readers.get(&(client, reader)).copied().unwrap_or(Duration::ZERO);
                let seen = |record: crate::sdk::ReadRecord| Seen {
                    offset: record.offset,
                    value: record.value.as_deref().and_then(Value::decode),
                    timestamp: record.timestamp,
                };
                let records = records.into_iter().map(seen).collect();
                Some(Fact::Read { by: client, from, asked_at, asked, log_start, high_watermark, records })
            }
            SdkNote::AdminAsked { ask, what } => {
                let fact = if let AdminAsk::DeleteRecords { topic, partition, before } = &what {
                    let partition = self.partition(topic, *partition);
                    partition.map(|partition| Fact::DeleteAsked { partition, before: *before })
                } else {
                    None
                };
                self.asked.insert(ask, (at, what));
                fact
            }
            SdkNote::AdminAnswered { ask, answer } => self.answered(ask, answer),
            SdkNote::Wrong { what } => return Err(what),
            SdkNote::ReaderEnded { reader, result: Err(error) } => {
                self.check_end(client, reader, &error)?;
                None
            }
            SdkNote::NotTaken { .. }
            | SdkNote::ReaderEnded { .. }
            | SdkNote::ReaderDropped { .. }
            | SdkNote::ConnectFailed { .. }
            | SdkNote::Connected
            | SdkNote::Died
            | SdkNote::Ended => None,
        })
    }

    fn answered(&mut self, ask: u64, answer: AdminAnswer) -> Option<Fact> {
        let (asked_at, what) = self.asked.remove(&ask)?;
        match (what, answer) {
            (AdminAsk::DeleteRecords { topic, partition, before }, AdminAnswer::LogStart(_)) => {
                Some(Fact::Deleted { partition: self.partition(&topic, partition)?, before })
            }
            (AdminAsk::DeleteRecords { topic, partition, before }, AdminAnswer::Refused(why)) => {
                Some(Fact::DeleteRefused { partition: self.partition(&topic, partition)?, before, why })
            }
            (AdminAsk::Find { topic, partition, place }, AdminAnswer::Found(found)) => Some(Fact::Found {
                partition: self.partition(&topic, partition)?,
                asked_at,
                place,
                offset: found.offset,
                timestamp: found.timestamp,
                log_start: found.log_start,
                high_watermark: found.high_watermark,
            }),
            _ => None,
        }
    }
}

impl World {
    /// Tells what was noted before `until`.
    pub(super) fn hear_sdk(&mut self, until: Option<Duration>) {
        let new = self.hearsay.journal.take();
        self.hearsay.heard.extend(new);
        while let Some(noted) =
            self.hearsay.heard.pop_front_if(|noted| until.is_none_or(|until| noted.at < until))
        {
            self.now = self.now.max(noted.at);
            self.trace.set_now(self.now);
            self.trace.note(Detail::Facts, || format!("sdk client {}: {:?}", noted.client.0, noted.note));
            match self.hearsay.facts(noted) {
                Ok(Some(fact)) => self.tell(fact),
                Ok(None) => {}
                Err(what) => self.fail("sdk", what),
            }
        }
    }
}
