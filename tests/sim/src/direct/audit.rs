//! Reading everything at the end, from each partition's start to its high watermark, and looking it up by time.

use std::collections::BTreeMap;
use std::time::Duration;

use engine_api::{Fetch, FetchError, Fetched, PartitionId, Request};
use storage_frame::{Offset, TimestampMs};

use super::{AUDITOR, Asked, Direct, records_of};
use crate::fact::{Fact, Seen};

#[derive(Debug, Default)]
pub(super) struct Audit {
    partitions: BTreeMap<PartitionId, Page>,
}

#[derive(Debug, Default)]
struct Page {
    next: Offset,
    log_start: Offset,
    high_watermark: Offset,
    records: Vec<Seen>,
    is_asked: bool,
    is_done: bool,
    is_known: bool,
}

/// Times a partition is looked up by.
const TIMES: u64 = 6;

impl Audit {
    pub(super) fn on_lost(&mut self, partition: PartitionId) {
        if let Some(page) = self.partitions.get_mut(&partition) {
            page.is_asked = false;
        }
    }
}

impl Direct {
    pub fn begin_audit(&mut self) {
        let partitions = self.alive().flat_map(|topic| {
            (0..topic.logs.len() as u32).map(|index| PartitionId { topic: topic.id, index })
        });
        self.audit.partitions = partitions.map(|partition| (partition, Page::default())).collect();
        self.audit_on();
    }

    #[must_use]
    pub fn is_audited(&self) -> bool {
        self.audit.partitions.values().all(|page| page.is_done) && self.pending.is_empty()
    }

    /// Asks for the next page of every partition that waits for none.
    pub fn audit_on(&mut self) {
        let waiting = self.audit.partitions.iter().filter(|(_, page)| !page.is_asked && !page.is_done);
        let waiting: Vec<(PartitionId, Offset)> =
            waiting.map(|(partition, page)| (*partition, page.next)).collect();
        for (partition, offset) in waiting {
            self.audit.partitions.get_mut(&partition).expect("listed").is_asked = true;
            let fetch = Fetch {
                partition,
                offset,
                bytes_max: 1 << 20,
                bytes_min: 0,
                wait_max: Some(Duration::ZERO),
                reader: None,
            };
            self.ask(Asked::Audit { partition }, Request::Fetch(fetch));
        }
    }

    pub(super) fn on_audited(
        &mut self,
        partition: PartitionId,
        asked_at: Duration,
        answer: Result<Fetched, FetchError>,
    ) {
        let page = self.audit.partitions.get_mut(&partition).expect("an audited partition");
        page.is_asked = false;
        let asked = page.next;
        match answer {
            Ok(fetched) => match records_of(&fetched.frames) {
                Ok(records) => {
                    page.log_start = fetched.log_start;
                    page.high_watermark = fetched.high_watermark;
                    page.is_known = true;
                    page.records.extend(records.into_iter().filter(|seen| seen.offset >= asked));
                    match fetched.frames.last() {
                        Some(last) => page.next = last.header().end_offset(),
                        None => self.end_page(partition),
                    }
                }
                Err(why) => {
                    page.is_done = true;
                    self.wishes.facts.push(Fact::Unreadable { by: AUDITOR, from: partition, asked, why });
                }
            },
            Err(FetchError::OffsetOutOfRange { log_start, .. }) if log_start > page.next => {
                page.next = log_start;
                page.records.clear();
            }
            Err(FetchError::NotLeader | FetchError::Overloaded) => {}
            Err(error) => {
                page.is_done = true;
                let seen = std::mem::take(&mut page.records);
                let (log_start, high_watermark) = (page.log_start, page.high_watermark);
                if page.is_known {
                    // What could be read before it is held to its word all the same.
                    self.wishes.facts.push(Fact::Read {
                        by: AUDITOR,
                        from: partition,
                        asked: log_start,
                        asked_at,
                        log_start,
                        high_watermark,
                        records: seen,
                    });
                }
                self.wishes.facts.push(Fact::AuditRefused { partition, why: error.to_string() });
            }
        }
    }

    fn end_page(&mut self, partition: PartitionId) {
        let page = self.audit.partitions.get_mut(&partition).expect("an audited partition");
        page.is_done = true;
        let records = std::mem::take(&mut page.records);
        let fact = Fact::Audit {
            partition,
            log_start: page.log_start,
            high_watermark: page.high_watermark,
            records: records.clone(),
        };
        let mut times: Vec<TimestampMs> = Vec::new();
        if !records.is_empty() {
            for _ in 0..TIMES {
                let seen = self.dice.pick(&records);
                times.push(TimestampMs(seen.timestamp.0 + self.dice.below(3) as i64 - 1));
            }
        }
        self.wishes.facts.push(fact);
        self.find_many(partition, &times);
    }
}
