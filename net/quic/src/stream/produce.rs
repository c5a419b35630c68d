//! A produce stream: requests in order, answers in the same order.

use std::collections::VecDeque;

use bytes::Bytes;
use engine_api::{Acks, PartitionId, Produce, ProduceError, Produced, Request};
use net_wire::take_produced_frame;
use storage_frame::{BatchView, Codec, Encoding, Frame};

use crate::budget::Around;
use crate::config::{STREAM_PRODUCE_BYTES_MAX, STREAM_PRODUCES_MAX};
use crate::stream::outbox::Outbox;

#[derive(Debug)]
pub(super) struct ProduceWork {
    partition: PartitionId,
    /// Of the first in `pending`.
    first_sequence: u64,
    /// Not answered to the client, in the order of their requests.
    pending: VecDeque<Pending>,
    pending_bytes: usize,
    is_ending: bool,
    last_words: Option<Bytes>,
}

#[derive(Debug)]
struct Pending {
    correlation: u64,
    acks: Acks,
    bytes: usize,
    answer: Answer,
}

#[derive(Debug)]
enum Answer {
    Awaited { key: u64 },
    Given(Result<Produced, ProduceError>),
}

impl ProduceWork {
    pub(super) fn new(partition: PartitionId) -> Self {
        Self {
            partition,
            first_sequence: 0,
            pending: VecDeque::new(),
            pending_bytes: 0,
            is_ending: false,
            last_words: None,
        }
    }

    pub(super) fn is_full(&self) -> bool {
        self.pending.len() >= STREAM_PRODUCES_MAX || self.pending_bytes >= STREAM_PRODUCE_BYTES_MAX
    }

    pub(super) fn on_produce(&mut self, around: &mut Around<'_>, correlation: u64, acks: Acks, bulk: Bytes) {
        let bytes = bulk.len();
        let answer = match check_frame(bulk) {
            Ok(frame) => {
                let sequence = self.first_sequence + self.pending.len() as u64;
                let produce = Produce { partition: self.partition, acks, frame };
                Answer::Awaited { key: around.ask(sequence, bytes, Request::Produce(produce)) }
            }
            Err(why) => {
                reach::mark!("quic.bad_frame");
                around.desk.counters.client_error("bad_frame");
                Answer::Given(Err(ProduceError::Invalid { why }))
            }
        };
        self.pending_bytes += bytes;
        self.pending.push_back(Pending { correlation, acks, bytes, answer });
    }

    pub(super) fn on_response(
        &mut self,
        around: &mut Around<'_>,
        sequence: u64,
        result: Result<Produced, ProduceError>,
    ) {
        let index = usize::try_from(sequence - self.first_sequence).expect("at most STREAM_PRODUCES_MAX");
        let pending = &mut self.pending[index];
        around.answered(pending.bytes);
        pending.answer = Answer::Given(result);
    }

    /// No more requests come; `last_words` follow the last answer.
    pub(super) fn end(&mut self, last_words: Option<Bytes>) {
        reach::mark!("quic.stream_ended_with_produces_waiting", !self.pending.is_empty());
        self.is_ending = true;
        self.last_words = last_words;
    }

    /// Moves the answers that are next in order to `outbox`. `true`: nothing is left to be done.
    pub(super) fn send_answers(&mut self, around: &mut Around<'_>, outbox: &mut Outbox) -> bool {
        while let Some(Pending { answer: Answer::Given(result), correlation, acks, bytes }) =
            self.pending.front()
        {
            match acks {
                Acks::None => {}
                Acks::Leader | Acks::All => outbox.push_answer(around, *correlation, result),
            }
            self.pending_bytes -= bytes;
            self.first_sequence += 1;
            self.pending.pop_front();
        }
        let is_over = self.is_ending && self.pending.is_empty();
        if is_over && let Some(last_words) = self.last_words.take() {
            outbox.push(around, last_words);
        }
        is_over
    }

    pub(super) fn cancel(self, around: &mut Around<'_>) {
        for Pending { answer, bytes, .. } in self.pending {
            if let Answer::Awaited { key } = answer {
                reach::mark!("quic.produce_cancelled");
                around.cancel(key, bytes);
            }
        }
    }
}

/// What a producer may send; what only brokers may say in a frame is taken out or refused.
fn check_frame(bulk: Bytes) -> Result<Frame, String> {
    let mut frame = take_produced_frame(bulk).map_err(|error| error.to_string())?;
    if frame.header().encoding == Encoding::KafkaV2 {
        return Err("Kafka's record batches are taken on the Kafka port, archived ones here".into());
    }
    if frame.header().append_time {
        return Err("append time is the broker's to set (message.timestamp.type)".into());
    }
    if frame.header().codec == Codec::None {
        BatchView::open(&frame).map_err(|error| error.to_string())?;
    }
    frame.set_starts_write(false);
    Ok(frame)
}
