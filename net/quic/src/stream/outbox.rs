//! What one stream has to say and QUIC has not taken yet.

use std::collections::VecDeque;

use bytes::Bytes;
use engine_api::{Fetched, ProduceError, Produced};
use net_wire::encode;
use quinn_proto::{SendStream, WriteError};

use crate::budget::Around;

#[derive(Debug, Default)]
pub(super) struct Outbox {
    chunks: VecDeque<Bytes>,
    /// Answers to produces, gathered so that those of one turn are one chunk; they follow `chunks`.
    answers: Vec<u8>,
    /// Of both.
    bytes: usize,
    finishes: bool,
}

/// How far sending has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sent {
    /// More will be said, or taken by QUIC later.
    Open,
    /// Everything, and the end of the stream.
    Finished,
    /// The client does not want it.
    Refused,
}

impl Outbox {
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn push(&mut self, around: &mut Around<'_>, message: Bytes) {
        let bytes = message.len();
        self.close_answers();
        self.chunks.push_back(message);
        self.count(around, bytes);
    }

    pub(super) fn push_answer(
        &mut self,
        around: &mut Around<'_>,
        correlation: u64,
        result: &Result<Produced, ProduceError>,
    ) {
        let before = self.answers.len();
        self.answers = encode::produced_onto(std::mem::take(&mut self.answers), correlation, result);
        self.count(around, self.answers.len() - before);
    }

    pub(super) fn push_frames(&mut self, around: &mut Around<'_>, correlation: u64, fetched: &Fetched) {
        self.close_answers();
        let mut chunks = Vec::new();
        let bytes = encode::frames(correlation, fetched, &mut chunks);
        self.chunks.extend(chunks);
        self.count(around, bytes);
    }

    /// The stream ends after what has been pushed.
    pub(super) fn finish(&mut self) {
        self.finishes = true;
    }

    fn count(&mut self, around: &mut Around<'_>, bytes: usize) {
        self.bytes += bytes;
        around.budget.unsent_bytes += bytes;
        around.desk.counters.messages_out += 1;
    }

    fn close_answers(&mut self) {
        if !self.answers.is_empty() {
            self.chunks.push_back(std::mem::take(&mut self.answers).into());
        }
    }

    /// Hands over what `sender` takes.
    pub(super) fn flush(&mut self, around: &mut Around<'_>, sender: &mut SendStream<'_>) -> Sent {
        self.close_answers();
        while !self.chunks.is_empty() {
            let (chunks, _) = self.chunks.as_mut_slices();
            match sender.write_chunks(chunks) {
                Ok(written) => {
                    self.chunks.drain(..written.chunks);
                    self.bytes -= written.bytes;
                    around.budget.unsent_bytes -= written.bytes;
                }
                Err(WriteError::Blocked) => {
                    reach::mark!("quic.send_blocked");
                    return Sent::Open;
                }
                Err(WriteError::Stopped(_) | WriteError::ClosedStream) => return Sent::Refused,
            }
        }
        if !self.finishes {
            return Sent::Open;
        }
        // The only error is a stop by the client, after which nothing is left to do either.
        let _ = sender.finish();
        Sent::Finished
    }

    pub(super) fn clear(&mut self, around: &mut Around<'_>) {
        self.chunks.clear();
        self.answers.clear();
        around.budget.unsent_bytes -= std::mem::take(&mut self.bytes);
    }
}
