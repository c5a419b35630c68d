//! What clients on the real SDK did and learned, as plain values.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use engine_api::{
    Acks, AlterTopic, ClusterDescription, CreateTopic, Durability, FoundOffset, Place, TopicDescription,
    TopicId,
};
use millstream_client::{ReadError, Start};
use storage_frame::{Offset, TimestampMs};

use crate::fact::ClientId;
use crate::net::Net;
use crate::value::Value;

/// A topic by its name, and by its id where the client had asked for it before. The topic may have been made anew
/// since: then the id is that of the earlier one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Named {
    pub name: String,
    pub id: Option<TopicId>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct ReadRecord {
    pub offset: Offset,
    pub timestamp: TimestampMs,
    pub key: Option<Vec<u8>>,
    pub value: Option<Vec<u8>>,
}

/// Where a record is that has no acknowledgement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stored {
    No,
    Unknown,
}

/// A request of an administrator.
#[derive(Debug, Clone, PartialEq)]
pub enum AdminAsk {
    Create(CreateTopic),
    Alter(AlterTopic),
    Delete(Named),
    Describe { name: String },
    List,
    Cluster,
    Find { topic: Named, partition: u32, place: Place },
    DeleteRecords { topic: Named, partition: u32, before: Offset },
}

/// What became of it.
#[derive(Debug, Clone, PartialEq)]
pub enum AdminAnswer {
    /// The topic as it is then.
    Topic(TopicDescription),
    Topics(Vec<TopicDescription>),
    Cluster(ClusterDescription),
    Found(FoundOffset),
    /// A topic was deleted.
    Deleted,
    /// The log begins here now.
    LogStart(Offset),
    /// Nothing was changed.
    Refused(String),
    /// There is no such topic, or for a creation there is one already.
    AsItIs(String),
    Unknown(String),
}

#[derive(Debug, Clone, PartialEq)]
pub enum SdkNote {
    /// The producer took a record. `record` numbers it among all of the run's.
    Sent {
        record: u64,
        topic: Named,
        partition: u32,
        key: Option<Vec<u8>>,
        value: Value,
        timestamp: TimestampMs,
        acks: Acks,
        /// The SDK promises order within `value.lane` and no duplicates.
        idempotent: bool,
    },
    /// `offset` and `durability` are absent for [`Acks::None`].
    Delivered {
        record: u64,
        partition: u32,
        offset: Option<Offset>,
        timestamp: TimestampMs,
        durability: Option<Durability>,
        duplicate: bool,
    },
    DeliveryFailed {
        record: u64,
        stored: Stored,
        why: String,
    },
    /// `send` did not take a record: nothing of it was sent.
    NotTaken {
        topic: Named,
        why: String,
    },
    ReaderOpened {
        reader: u32,
        topic: Named,
        start: Start,
        until_end: bool,
    },
    /// The records of one batch from the first that the reader had not read.
    ReadBatch {
        reader: u32,
        topic: Named,
        partition: u32,
        log_start: Offset,
        high_watermark: Offset,
        next_offset: Offset,
        records: Vec<ReadRecord>,
    },
    /// Also when it could not be opened. `Ok`: everything asked for was read.
    ReaderEnded {
        reader: u32,
        result: Result<(), ReadError>,
    },
    /// The client gave it up.
    ReaderDropped {
        reader: u32,
    },
    AdminAsked {
        ask: u64,
        what: AdminAsk,
    },
    AdminAnswered {
        ask: u64,
        answer: AdminAnswer,
    },
    /// The SDK broke a promise that no broker can break for it: fails the run.
    Wrong {
        what: String,
    },
    ConnectFailed {
        why: String,
    },
    Connected,
    /// Its machine died with everything on it.
    Died,
    /// Nothing else comes from this client.
    Ended,
}

/// A note with its place in virtual time.
#[derive(Debug, Clone, PartialEq)]
pub struct Noted {
    pub at: Duration,
    pub client: ClientId,
    pub note: SdkNote,
}

/// Where clients put their notes, until they are taken.
#[derive(Debug, Clone)]
pub struct Journal {
    net: Net,
    shared: Arc<Mutex<Shared>>,
}

#[derive(Debug, Default)]
struct Shared {
    notes: Vec<Noted>,
    next_number: u64,
}

impl Journal {
    #[must_use]
    pub fn new(net: &Net) -> Self {
        Self { net: net.clone(), shared: Arc::default() }
    }

    pub fn note(&self, client: ClientId, note: SdkNote) {
        let noted = Noted { at: self.net.now(), client, note };
        self.lock().notes.push(noted);
    }

    /// What was noted since the last call, in order.
    #[must_use]
    pub fn take(&self) -> Vec<Noted> {
        std::mem::take(&mut self.lock().notes)
    }

    /// A number that no other note has.
    pub(super) fn number(&self) -> u64 {
        let mut shared = self.lock();
        shared.next_number += 1;
        shared.next_number
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
