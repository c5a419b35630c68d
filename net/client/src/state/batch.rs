//! A batch on its way: its records, its verdict, and what it takes to send it again or in pieces.

use std::time::Duration;

use storage_frame::{BatchBuilder, BatchView, FRAME_BYTES_MAX, Frame, Producer};
use storage_recordbatch::archived::codec::{Compression, compress, decompress};

use super::ledger::Ledger;
use super::outcome::{DeliveryError, Stored, Verdict};
use super::record::{BATCH_OVERHEAD_BYTES, Record};

#[derive(Debug)]
pub(crate) enum Body {
    Open(BatchBuilder),
    Sealed(Frame),
    /// With whoever seals and writes it, without a lock.
    Away,
}

#[derive(Debug)]
pub(crate) struct Batch {
    /// Counts up over all lanes of the producer.
    pub(crate) number: u64,
    pub(crate) body: Body,
    pub(crate) verdict: Verdict,
    pub(crate) record_count: u32,
    pub(crate) charged_bytes: usize,
    pub(crate) opened_at: Duration,
    /// Given when it is first sent.
    pub(crate) sequence: Option<u32>,
    /// It was sent before without a definite answer, so it may be stored.
    pub(crate) doubtful: bool,
}

impl Batch {
    pub(crate) fn speak(&mut self, ledger: &mut Ledger, result: Result<Stored, DeliveryError>) {
        if !self.verdict.is_spoken() {
            self.verdict.speak(result);
            ledger.settle(self.number);
        }
    }

    pub(crate) fn finish(mut self, ledger: &mut Ledger, result: Result<Stored, DeliveryError>) {
        self.speak(ledger, result);
        ledger.release(self.charged_bytes);
    }

    pub(crate) fn is_sent(&self) -> bool {
        self.verdict.is_sent()
    }

    /// Its records again, in builders of at most `piece_bytes_max` bytes each, or of one record; with the bytes
    /// of each.
    pub(crate) fn pieces(&self, piece_bytes_max: usize) -> Vec<(BatchBuilder, usize)> {
        let Body::Sealed(frame) = &self.body else { unreachable!("it was on the wire") };
        let plain = decompress(frame.header().codec, frame.payload(), FRAME_BYTES_MAX).expect("sealed here");
        let view = BatchView::open_plain(*frame.header(), plain).expect("sealed here");
        let mut pieces: Vec<(BatchBuilder, usize)> = Vec::new();
        for record in view.records() {
            let record = record.expect("sealed here");
            let headers: Vec<_> = record.headers().collect();
            let as_sent = Record {
                key: record.key,
                value: record.value,
                headers,
                timestamp: Some(record.timestamp),
                ..Record::tombstone("")
            };
            let record_bytes = as_sent.batch_bytes();
            let push = |builder: &mut BatchBuilder| {
                let headers = as_sent.headers.iter().copied();
                builder.push(record.timestamp, as_sent.key, as_sent.value, headers)
            };
            if let Some((builder, bytes)) = pieces.last_mut()
                && *bytes + record_bytes <= piece_bytes_max
                // It may be too far in time from the piece's first record, though not from the batch's.
                && push(builder).is_ok()
            {
                *bytes += record_bytes;
                continue;
            }
            let mut builder = BatchBuilder::new();
            push(&mut builder).expect("it was in a batch before");
            pieces.push((builder, BATCH_OVERHEAD_BYTES + record_bytes));
        }
        pieces
    }
}

/// A batch to seal and write. Must come back by [`Lane::put_back`](super::lane::Lane::put_back) before anything else is told to the lane.
#[derive(Debug)]
pub(crate) struct Sending {
    pub(crate) body: Body,
    pub(crate) producer: Option<Producer>,
}

impl Sending {
    /// The expensive part, for outside of locks. The builder comes back empty, for another batch,
    /// unless it is a large one.
    pub(crate) fn seal(self, compression: Compression) -> (Frame, Option<BatchBuilder>) {
        match self.body {
            Body::Open(mut builder) => {
                let plain_bytes = builder.frame_bytes();
                let frame = builder.seal_with(self.producer, |plain| compress(compression, plain));
                (frame, (plain_bytes <= SPARE_BYTES_MAX).then_some(builder))
            }
            Body::Sealed(frame) if frame.header().producer == self.producer => (frame, None),
            Body::Sealed(frame) => {
                let mut header = *frame.header();
                header.producer = self.producer;
                (Frame::seal(header, frame.payload().clone()), None)
            }
            Body::Away => unreachable!("a batch is taken from the queue with its body"),
        }
    }
}

/// What new batches are made of, shared by the lanes of a producer.
#[derive(Debug, Default)]
pub(crate) struct Supply {
    pub(crate) next_number: u64,
    /// Empty ones that keep their memory.
    pub(crate) builders: Vec<BatchBuilder>,
}

const SPARE_BUILDERS_MAX: usize = 16;
/// Memory of a larger builder is not kept.
const SPARE_BYTES_MAX: usize = 1 << 20;

impl Supply {
    pub(crate) fn return_builder(&mut self, builder: BatchBuilder) {
        if self.builders.len() < SPARE_BUILDERS_MAX {
            self.builders.push(builder);
        }
    }
}
