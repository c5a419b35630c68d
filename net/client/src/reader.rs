//! Reading a topic: one task per partition receives, checks and decompresses; the reader hands out batches.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use engine_api::{FetchError, Place, TopicError, TopicId};
use storage_frame::{Offset, TimestampMs};
use storage_recordbatch::{Record, Records, RecordsError};
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio::task::JoinSet;

use crate::admin::{PartitionError, ask_leader, passes_fetch};
use crate::rpc::RequestError;
use crate::shared::{Purpose, Shared};
use crate::state::outcome::Trouble;
use crate::state::position::{NotContiguous, ReadPosition};

mod follow;

/// What to read. Start from [`ReaderConfig::new`].
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct ReaderConfig {
    /// Its name.
    pub topic: String,
    /// Partitions from 0; `None`: all there are when the reader is opened. Those added later are not read: open
    /// another reader for them.
    pub partitions: Option<Vec<u32>>,
    /// Default [`Start::End`].
    pub start: Start,
    /// End once everything that was there when the reader was opened is read. Default false: wait for more.
    pub stop_at_end: bool,
    /// Bytes of batches received, decompressed and not yet taken, for each partition; a larger batch comes alone.
    /// When they are used up, QUIC's flow control stops the broker, at most 8 MiB later. Batches from Kafka's clients
    /// do not say how large they are, so one of them may be decompressed beside it. 64 KiB to 1 GiB, default 4 MiB.
    pub buffer_bytes_per_partition: usize,
    /// A batch of more than this when decompressed is refused. Default 64 MiB.
    pub plain_bytes_max: usize,
    /// How long a partition may be out of reach before the reader says so. Default 120 s.
    pub unavailable_timeout: Duration,
    /// Instead of `start`, in these partitions.
    pub(crate) starts: BTreeMap<u32, Offset>,
    /// Of which the reader is a member: the broker is told.
    pub(crate) group: Option<String>,
}

impl ReaderConfig {
    /// All partitions of `topic`, from the end.
    #[must_use]
    pub fn new(topic: impl Into<String>) -> Self {
        Self {
            topic: topic.into(),
            partitions: None,
            start: Start::End,
            stop_at_end: false,
            buffer_bytes_per_partition: 4 << 20,
            plain_bytes_max: storage_frame::FRAME_BYTES_MAX,
            unavailable_timeout: Duration::from_secs(120),
            starts: BTreeMap::new(),
            group: None,
        }
    }

    /// Replaces [`start`](Self::start).
    #[must_use]
    pub fn from(self, start: Start) -> Self {
        Self { start, ..self }
    }

    /// Reads these partitions only.
    #[must_use]
    pub fn partitions(self, partitions: impl IntoIterator<Item = u32>) -> Self {
        Self { partitions: Some(partitions.into_iter().collect()), ..self }
    }

    /// Sets [`stop_at_end`](Self::stop_at_end).
    #[must_use]
    pub fn until_end(self) -> Self {
        Self { stop_at_end: true, ..self }
    }
}

/// Where reading starts, in every partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// The first record that is still there.
    Beginning,
    /// What is produced after the reader was opened.
    End,
    /// This offset; from the log's start to its end, else [`ReadError::OffsetOutOfRange`].
    Offset(Offset),
    /// The first batch with a record at or after this time, without the batch's earlier records before it; the
    /// end when there is none.
    Timestamp(TimestampMs),
}

/// Why reading ended or did not begin. Nothing is skipped: what came before the error was without gaps.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[allow(missing_docs, reason = "fields and variants are named for what they hold")]
pub enum ReadError {
    /// There is no such topic, or it was deleted.
    #[error("topic '{topic}' does not exist")]
    UnknownTopic { topic: String },
    #[error("topic '{topic}' has partitions 0 to {}, not {partition}", partitions_count.saturating_sub(1))]
    PartitionOutOfRange { topic: String, partition: u32, partitions_count: u32 },
    /// The offset is below what retention has left, or past the end. Choose another place.
    #[error("partition {partition} holds offsets {log_start} to {high_watermark}, asked for {asked}")]
    OffsetOutOfRange { partition: u32, asked: Offset, log_start: Offset, high_watermark: Offset },
    /// The broker pushed what does not follow.
    #[error("partition {partition}: {source}")]
    NotContiguous { partition: u32, source: NotContiguous },
    /// The last record that was read is not the one that is there now: a crash of the broker lost records from its
    /// memory (`write.caching`), from some offset below `next` on, and others have their offsets.
    #[error(
        "partition {partition}: a crash of the broker lost records below offset {next} that had been read"
    )]
    Diverged { partition: u32, next: Offset },
    /// Stored data is damaged, as the broker says.
    #[error("partition {partition}: {source}")]
    Damaged { partition: u32, source: FetchError },
    /// A batch is damaged although its checksum is right: it was produced so. Or it is too large when decompressed.
    #[error("partition {partition}, batch at offset {base_offset}: {source}")]
    BadBatch { partition: u32, base_offset: Offset, source: RecordsError },
    /// No stream for that long. A new reader may go on from where this one was.
    #[error("partition {partition} out of reach for {after:?} (last: {last})")]
    Unavailable { partition: u32, after: Duration, last: Trouble },
    /// The topic could not be asked for.
    #[error("{0}")]
    Metadata(#[source] RequestError<TopicError>),
    /// A partition could not be asked for its offsets.
    #[error("partition {partition}: {source}")]
    FindOffset { partition: u32, source: RequestError<FetchError> },
    /// The client was closed.
    #[error("client is closed")]
    Closed,
}

/// One batch of records of one partition, read in place from the bytes received. Holds on to all of them: copy
/// what is to be kept for long.
#[derive(Debug)]
pub struct ReadBatch {
    topic: Arc<str>,
    partition: u32,
    high_watermark: Offset,
    log_start: Offset,
    /// Records before it were not asked for.
    first_index: u32,
    first_offset: Offset,
    records: Records,
    /// Given back when the batch is taken.
    permit: Option<OwnedSemaphorePermit>,
}

impl ReadBatch {
    /// Its name.
    #[must_use]
    pub fn topic(&self) -> &str {
        &self.topic
    }

    /// From 0.
    #[must_use]
    pub fn partition(&self) -> u32 {
        self.partition
    }

    /// Of the first record that [`records`](Self::records) gives.
    #[must_use]
    pub fn first_offset(&self) -> Offset {
        self.first_offset
    }

    /// Where to go on: above the last record, and above what compaction took after it.
    #[must_use]
    pub fn next_offset(&self) -> Offset {
        self.records.header().end_offset()
    }

    /// What could be read of the partition when the broker sent this. The reader has caught up when
    /// [`next_offset`](Self::next_offset) reaches it.
    #[must_use]
    pub fn high_watermark(&self) -> Offset {
        self.high_watermark
    }

    /// The first offset the partition held when the broker sent this.
    #[must_use]
    pub fn log_start(&self) -> Offset {
        self.log_start
    }

    /// At least 1.
    #[must_use]
    pub fn record_count(&self) -> u32 {
        self.records.record_count() - self.first_index
    }

    /// The records in offset order, borrowed from this batch. Offsets rise and need not follow each other: of a
    /// compacted topic, what is left.
    ///
    /// # Errors
    /// An item is an error when the batch was produced wrong; it is the last one.
    pub fn records(&self) -> impl Iterator<Item = Result<Record<'_>, RecordsError>> {
        self.records.iter().skip(self.first_index as usize)
    }
}

/// What a partition's task tells the reader.
#[derive(Debug)]
enum Item {
    Batch(Box<ReadBatch>),
    /// It ended.
    Ended(Result<(), ReadError>),
}

/// Reads a topic's partitions, each in order without gaps; between partitions there is no order.
///
/// Connections of its own, so that a reader that is not drained holds up nobody else. After a lost connection it
/// goes on where it was: nothing is lost or doubled. Dropping it ends it.
///
/// That holds for records on stable storage, which is where they are before they can be read, unless the topic has
/// `write.caching=true`: then a crash of the broker may lose records that were read and give their offsets to
/// others. A reader that goes on after that notices, and ends with [`ReadError::Diverged`], or with
/// [`ReadError::OffsetOutOfRange`] while there are fewer records than it had read. A new reader that starts at an
/// offset kept elsewhere ([`Start::Offset`]) cannot notice.
#[derive(Debug)]
pub struct Reader {
    shared: Arc<Shared>,
    purpose: Purpose,
    /// Bounded by the partitions' byte budgets.
    items: mpsc::UnboundedReceiver<Item>,
    running_count: usize,
    /// Dropping it ends the tasks.
    _tasks: JoinSet<()>,
}

/// Partitions asked for their offsets at once when a reader is opened.
const OPENING_MAX: usize = 64;
const BUFFER_BYTES: std::ops::RangeInclusive<usize> = (64 << 10)..=(1 << 30);

/// Where one partition starts and, with `stop_at_end`, ends.
#[derive(Debug, Clone, Copy)]
struct Journey {
    /// The topic that was meant when the reader was opened: offsets of another one mean other records.
    topic_id: TopicId,
    partition: u32,
    position: ReadPosition,
    /// Nothing was read, and what is wanted is what is left: the start may follow that of the log.
    start_moves: bool,
    stop: Option<Offset>,
}

impl Reader {
    pub(crate) async fn open(shared: Arc<Shared>, config: ReaderConfig) -> Result<Self, ReadError> {
        let purpose = shared.new_purpose();
        let mut opening = Opening { shared: Arc::clone(&shared), purpose, done: false };
        let (topic_id, partitions) = partitions(&shared, &config).await?;
        let mut places = Vec::with_capacity(partitions.len());
        let mut asking = JoinSet::new();
        let mut rest = partitions.into_iter();
        loop {
            while asking.len() < OPENING_MAX
                && let Some(partition) = rest.next()
            {
                asking.spawn(place(Arc::clone(&shared), config.clone(), topic_id, partition, purpose));
            }
            match asking.join_next().await {
                Some(Ok(place)) => places.push(place?),
                Some(Err(_)) => return Err(ReadError::Closed),
                None => break,
            }
        }
        let (sender, items) = mpsc::unbounded_channel();
        let mut tasks = JoinSet::new();
        let topic: Arc<str> = config.topic.as_str().into();
        let config = Arc::new(config);
        let running_count = places.len();
        for place in places {
            let follower = follow::Follower::new(
                Arc::clone(&shared),
                Arc::clone(&config),
                Arc::clone(&topic),
                purpose,
                place,
                sender.clone(),
            );
            tasks.spawn(follower.run());
        }
        opening.done = true;
        Ok(Self { shared, purpose, items, running_count, _tasks: tasks })
    }

    /// The next batch of any partition; `None` once every partition has ended
    /// ([`ReaderConfig::stop_at_end`]).
    ///
    /// # Errors
    /// [`ReadError`], once per partition that ends by it; the others go on if it is called again.
    /// # Cancel safety
    /// No batch is lost.
    pub async fn next(&mut self) -> Result<Option<ReadBatch>, ReadError> {
        while self.running_count > 0 {
            let item = tokio::select! {
                biased;
                item = self.items.recv() => item,
                () = self.shared.until_closed() => return Err(ReadError::Closed),
            };
            match item {
                Some(Item::Batch(mut batch)) => {
                    batch.permit = None;
                    return Ok(Some(*batch));
                }
                Some(Item::Ended(result)) => {
                    self.running_count -= 1;
                    result?;
                }
                // The tasks are gone without a word: their runtime is.
                None => return Err(ReadError::Closed),
            }
        }
        Ok(None)
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.shared.end_purpose(self.purpose);
    }
}

/// Lets go of a reader's connections if it is not opened in the end.
struct Opening {
    shared: Arc<Shared>,
    purpose: Purpose,
    done: bool,
}

impl Drop for Opening {
    fn drop(&mut self) {
        if !self.done {
            self.shared.end_purpose(self.purpose);
        }
    }
}

async fn partitions(shared: &Shared, config: &ReaderConfig) -> Result<(TopicId, Vec<u32>), ReadError> {
    assert!(
        BUFFER_BYTES.contains(&config.buffer_bytes_per_partition),
        "bounds of buffer_bytes_per_partition"
    );
    let topic = &config.topic;
    // Not from the cache: partitions may have been added, or the topic made anew.
    let info = shared.topic(topic, Some(tokio::time::Instant::now())).await;
    let info = info.map_err(|error| topic_error(topic, error))?;
    let Some(wanted) = &config.partitions else {
        return Ok((info.id, (0..info.partitions_count()).collect()));
    };
    let mut wanted = wanted.clone();
    wanted.sort_unstable();
    wanted.dedup();
    Ok((info.id, wanted))
}

fn topic_error(topic: &str, error: RequestError<TopicError>) -> ReadError {
    if let RequestError::Refused(TopicError::Unknown { .. }) = error {
        ReadError::UnknownTopic { topic: topic.into() }
    } else {
        ReadError::Metadata(error)
    }
}

async fn place(
    shared: Arc<Shared>,
    config: ReaderConfig,
    topic_id: TopicId,
    partition: u32,
    purpose: Purpose,
) -> Result<Journey, ReadError> {
    use engine_api::{FindOffset, Request, Response};

    let start = config.starts.get(&partition).map_or(config.start, |offset| Start::Offset(*offset));
    let place = match start {
        Start::Beginning => Place::Start,
        Start::End | Start::Offset(_) => Place::End,
        Start::Timestamp(timestamp) => Place::Timestamp(timestamp),
    };
    let request = |partition| Request::FindOffset(FindOffset { partition, place });
    let answer_of = |response| if let Response::FindOffset(result) = response { Some(result) } else { None };
    let found =
        ask_leader(&shared, &config.topic, partition, purpose, request, answer_of, passes_fetch).await;
    let found = found.map_err(|error| match error {
        PartitionError::Topic(error) => topic_error(&config.topic, error),
        PartitionError::OutOfRange { topic, partition, partitions_count } => {
            ReadError::PartitionOutOfRange { topic, partition, partitions_count }
        }
        PartitionError::Request(source) => ReadError::FindOffset { partition, source },
    })?;
    let (next, from_timestamp) = match start {
        Start::Beginning | Start::End => (found.offset, None),
        Start::Timestamp(timestamp) => (found.offset, Some(timestamp)),
        Start::Offset(asked) => {
            let (log_start, high_watermark) = (found.log_start, found.high_watermark);
            if asked < log_start || asked > high_watermark {
                return Err(ReadError::OffsetOutOfRange { partition, asked, log_start, high_watermark });
            }
            (asked, None)
        }
    };
    let stop = config.stop_at_end.then_some(found.high_watermark);
    let start_moves = match start {
        Start::Beginning | Start::Timestamp(_) => true,
        Start::End | Start::Offset(_) => false,
    };
    Ok(Journey { topic_id, partition, position: ReadPosition::new(next, from_timestamp), start_moves, stop })
}
