//! One partition's task: a read stream, found again after each loss, until the end or an error that stays.

use std::sync::Arc;

use engine_api::{FetchError, TopicError};
use net_wire::{Frames, OpenRead, ServerMessage, encode};
use storage_frame::{Encoding, Frame, Offset};
use storage_recordbatch::archived::codec::plain_bytes_claimed;
use storage_recordbatch::{Records, RecordsError};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::{Instant, sleep, timeout};

use super::{Item, Journey, ReadBatch, ReadError, ReaderConfig, topic_error};
use crate::rpc::{Messages, RequestError, StreamError, unexpected};
use crate::shared::{Purpose, Shared};
use crate::state::backoff::Backoff;
use crate::state::outcome::Trouble;
use crate::state::position::{Accepted, Refused};

pub(super) struct Follower {
    shared: Arc<Shared>,
    config: Arc<ReaderConfig>,
    topic: Arc<str>,
    purpose: Purpose,
    journey: Journey,
    items: mpsc::UnboundedSender<Item>,
    /// Bytes that may be handed over and not taken.
    budget: Arc<Semaphore>,
}

/// Why a stream ended.
enum Ended {
    /// Everything asked for was read, or nobody listens.
    Done,
    /// Try again.
    Lost(Trouble),
    Failed(ReadError),
}

impl From<ReadError> for Ended {
    fn from(error: ReadError) -> Self {
        Self::Failed(error)
    }
}

impl From<StreamError> for Ended {
    fn from(error: StreamError) -> Self {
        Self::Lost(Trouble::Disconnected(error.to_string().into()))
    }
}

impl Follower {
    pub(super) fn new(
        shared: Arc<Shared>,
        config: Arc<ReaderConfig>,
        topic: Arc<str>,
        purpose: Purpose,
        journey: Journey,
        items: mpsc::UnboundedSender<Item>,
    ) -> Self {
        let budget = Arc::new(Semaphore::new(config.buffer_bytes_per_partition));
        Self { shared, config, topic, purpose, journey, items, budget }
    }

    pub(super) async fn run(mut self) {
        let result = self.follow().await;
        // Nobody listens once the reader is dropped.
        let _ = self.items.send(Item::Ended(result));
    }

    async fn follow(&mut self) -> Result<(), ReadError> {
        let mut backoff = Backoff::new(self.shared.seed());
        let mut reached_at = Instant::now();
        let mut newer_than = None;
        loop {
            // Also when the log's start has moved past it.
            if self.is_at_stop() {
                return Ok(());
            }
            let before = self.journey.position.next();
            let ended = self.follow_stream(newer_than, &mut reached_at).await;
            let last = match ended {
                Ended::Done => return Ok(()),
                Ended::Failed(error) => return Err(error),
                Ended::Lost(last) => last,
            };
            if self.shared.is_closed() {
                return Err(ReadError::Closed);
            }
            if self.journey.position.next() > before {
                backoff.succeeded();
            }
            let after = self.config.unavailable_timeout;
            if reached_at.elapsed() >= after {
                return Err(ReadError::Unavailable { partition: self.journey.partition, after, last });
            }
            newer_than = Some(Instant::now());
            sleep(backoff.next_wait()).await;
        }
    }

    fn is_at_stop(&self) -> bool {
        self.journey.stop.is_some_and(|stop| self.journey.position.next() >= stop)
    }

    /// Opens a stream at the position and reads it to its end.
    async fn follow_stream(&mut self, newer_than: Option<Instant>, reached_at: &mut Instant) -> Ended {
        // Opening has a bound of its own: a stream that is opened and never answered is a lost one.
        let after = self.shared.config.request_timeout;
        let opened = timeout(after, self.open(newer_than)).await;
        let (_send, mut messages) = match opened {
            Ok(Ok(opened)) => opened,
            Ok(Err(ended)) => return ended,
            Err(_) => {
                return Ended::Lost(Trouble::Unreachable(format!("no answer within {after:?}").into()));
            }
        };
        *reached_at = Instant::now();
        self.journey.position.on_opened();
        let ended = loop {
            match messages.next().await {
                Ok(Some(ServerMessage::Frames(frames))) => {
                    *reached_at = Instant::now();
                    if let Err(ended) = self.on_frames(frames).await {
                        break ended;
                    }
                }
                Ok(Some(ServerMessage::ReadFailed(error))) => break self.on_failed(error),
                Ok(Some(_)) => break unexpected("not a message of a read stream").into(),
                Ok(None) => break StreamError::lost("the broker ended the stream").into(),
                Err(error) => break error.into(),
            }
        };
        // While it was open it was within reach, however long nothing was produced.
        *reached_at = Instant::now();
        messages.stop();
        ended
    }

    async fn open(&mut self, newer_than: Option<Instant>) -> Result<(quinn::SendStream, Messages), Ended> {
        let unreachable = |why: String| Ended::Lost(Trouble::Unreachable(why.into()));
        let partition = self.journey.partition;
        let info = match self.shared.topic(&self.topic, newer_than).await {
            Ok(info) => info,
            Err(error @ RequestError::Refused(TopicError::Unknown { .. })) => {
                return Err(topic_error(&self.topic, error).into());
            }
            Err(error) => return Err(unreachable(error.to_string())),
        };
        if info.id != self.journey.topic_id || partition >= info.partitions_count() {
            // Deleted, and made anew under its name: offsets mean other records there.
            return Err(ReadError::UnknownTopic { topic: self.topic.to_string() }.into());
        }
        let connection = self.shared.leader_link(&info, partition, self.purpose).await;
        let connection = connection.map_err(|error| unreachable(error.to_string()))?;
        let (mut send, recv) = connection.open_bi().await.map_err(StreamError::lost)?;
        let open = OpenRead {
            partition: info.partition(partition),
            offset: self.journey.position.opening(),
            bytes_max: 0,
            group: self.config.group.clone(),
        };
        send.write_chunk(encode::open_read(0, &open)).await.map_err(StreamError::lost)?;
        let mut messages = Messages::new(recv);
        match messages.next().await? {
            Some(ServerMessage::ReadOpened(opened)) => {
                let (asked, end) = (self.journey.position.next(), opened.high_watermark);
                if asked > end {
                    // The broker has lost what was read; it was asked for a record earlier.
                    let log_start = opened.log_start;
                    return Err(ReadError::OffsetOutOfRange {
                        partition,
                        asked,
                        log_start,
                        high_watermark: end,
                    }
                    .into());
                }
                Ok((send, messages))
            }
            Some(ServerMessage::ReadFailed(error)) => Err(self.on_failed(error)),
            Some(_) => Err(unexpected("not the answer to opening a read stream").into()),
            None => Err(StreamError::lost("the broker ended the stream").into()),
        }
    }

    fn on_failed(&mut self, error: FetchError) -> Ended {
        let partition = self.journey.partition;
        match error {
            FetchError::UnknownPartition
            | FetchError::NotLeader
            | FetchError::Overloaded
            | FetchError::ShuttingDown => Ended::Lost(Trouble::Unreachable(error.to_string().into())),
            FetchError::OffsetOutOfRange { log_start, high_watermark, .. } => {
                let position = &mut self.journey.position;
                let moved = || Ended::Lost(Trouble::Unreachable("the log's start has moved".into()));
                if position.opening() < log_start {
                    if self.journey.start_moves {
                        // Retention was faster than the opening of the stream.
                        position.on_start_moved(log_start);
                        return moved();
                    }
                    if position.on_trimmed(log_start) {
                        return moved();
                    }
                }
                let asked = position.next();
                ReadError::OffsetOutOfRange { partition, asked, log_start, high_watermark }.into()
            }
            FetchError::Damaged { .. } | FetchError::StorageFailed { .. } => {
                ReadError::Damaged { partition, source: error }.into()
            }
        }
    }

    async fn on_frames(&mut self, frames: Frames) -> Result<(), Ended> {
        let (log_start, high_watermark) = (frames.log_start, frames.high_watermark);
        // A frame damaged on the way is asked for again, with everything after it.
        let frames = frames.frames().map_err(StreamError::Protocol)?;
        for frame in frames {
            self.on_frame(&frame, log_start, high_watermark).await?;
            if self.is_at_stop() {
                return Err(Ended::Done);
            }
        }
        Ok(())
    }

    async fn on_frame(
        &mut self,
        frame: &Frame,
        log_start: Offset,
        high_watermark: Offset,
    ) -> Result<(), Ended> {
        let partition = self.journey.partition;
        let header = *frame.header();
        let base_offset = header.base_offset;
        let refused = |error| match error {
            Refused::NotContiguous(source) => ReadError::NotContiguous { partition, source },
            Refused::Diverged { next } => ReadError::Diverged { partition, next },
        };
        // Taken over only when the batch is handed over: a task that is dropped in between has read nothing.
        let mut position = self.journey.position;
        let accepted = position.on_frame(&header).map_err(refused)?;
        if accepted.skip_count >= header.record_count {
            // Read before, and still what it was.
            self.journey.position = position;
            return Ok(());
        }
        let claimed = match header.encoding {
            Encoding::Archived => plain_bytes_claimed(header.codec, frame.payload()),
            Encoding::KafkaV2 => frame.payload().len(),
        };
        let claimed = self.permits(claimed.min(self.config.plain_bytes_max));
        let mut permit = self.acquire(claimed).await;
        let bad_batch = |source| ReadError::BadBatch { partition, base_offset, source };
        let records = Records::open(frame, self.config.plain_bytes_max).map_err(bad_batch)?;
        // Only now it is known of Kafka's.
        let more = self.permits(records.plain_bytes()).saturating_sub(claimed);
        permit.merge(self.acquire(more).await);
        let first = first_record(&records, accepted).map_err(bad_batch)?;
        self.journey.position = position;
        self.journey.start_moves = false;
        let Some((first_index, first_offset)) = first else { return Ok(()) };
        let batch = ReadBatch {
            topic: Arc::clone(&self.topic),
            partition,
            high_watermark,
            log_start,
            first_index,
            first_offset,
            records,
            permit: Some(permit),
        };
        self.items.send(Item::Batch(Box::new(batch))).map_err(|_| Ended::Done)
    }

    /// A batch above the whole budget waits until everything else is taken.
    fn permits(&self, plain_bytes: usize) -> u32 {
        plain_bytes.clamp(1, self.config.buffer_bytes_per_partition) as u32
    }

    async fn acquire(&self, permits: u32) -> OwnedSemaphorePermit {
        let permit = Arc::clone(&self.budget).acquire_many_owned(permits).await;
        permit.expect("the budget is never closed")
    }
}

/// Index and offset of the first record that was asked for, if the batch has one.
fn first_record(records: &Records, accepted: Accepted) -> Result<Option<(u32, Offset)>, RecordsError> {
    if records.is_control() {
        return Ok(None);
    }
    let first_offset = records.header().base_offset.plus(accepted.skip_count);
    let from = accepted.from_timestamp;
    for (index, record) in records.iter().enumerate() {
        let record = record?;
        if record.offset >= first_offset && from.is_none_or(|from| record.timestamp >= from) {
            return Ok(Some((index as u32, record.offset)));
        }
    }
    Ok(None)
}
