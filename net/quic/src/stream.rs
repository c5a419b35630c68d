//! One stream: what it is for is said by its first message.
//!
//! ```text
//! fresh --OpenProduce--> produce: Produce, Produce, ...      answers in the order of the requests
//!       --OpenRead-----> read: Fetch, push, Fetch, push, ... until either side ends it
//!       --any other----> one request, one answer
//! ```
//! What must hold:
//! - a produce stream is read only while fewer than a bounded number and amount of its produces are unanswered
//!   or their answers unsent;
//! - a read stream asks for more only while less than its send buffer is unsent, so a reader that stops
//!   reading costs that and one push;
//! - whoever leaves has what was asked for him cancelled, once.
//!
//! A client that breaks the protocol is told why (`Refused`), after the answers it is still owed; then our side
//! of the stream is finished and its side stopped with the code. The connection goes on.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use bytes::Bytes;
use engine_api::{
    Acks, Fetch, FetchError, Fetched, PartitionId, Produce, ProduceError, Produced, Request, Response,
};
use net_wire::{
    ClientMessage, Code, Message, MessageReader, OpenRead, ReadOpened, Refusal, WireError, encode,
    take_produced_frame,
};
use quinn_proto::{Connection, ReadError, StreamId, VarInt, WriteError};
use storage_frame::{BatchView, Codec, Encoding, Frame, Offset};

use crate::config::{
    CONNECTION_PARTIAL_BYTES_MAX, CONNECTION_REQUEST_BYTES_MAX, CONNECTION_REQUESTS_MAX,
    CONNECTION_SEND_BUFFERS, PROGRESS_BYTES, PUSH_BYTES_CROWDED, PUSH_BYTES_DEFAULT,
    SERVER_PARTIAL_BYTES_MAX, STALL_TIMEOUT, STREAM_ANSWER_BYTES_MAX, STREAM_PRODUCE_BYTES_MAX,
    STREAM_PRODUCES_MAX,
};
use crate::server::{Ask, Desk};
use crate::slots::Slot;

/// What the streams of one connection use up together.
#[derive(Debug, Default)]
pub(crate) struct Budget {
    pub(crate) requests: usize,
    pub(crate) request_bytes: usize,
    pub(crate) unsent_bytes: usize,
    /// Memory of messages that are not whole yet.
    pub(crate) partial_bytes: usize,
    /// Not after the earliest deadline of a stream.
    pub(crate) sweep_at: Option<Instant>,
}

impl Budget {
    pub(crate) fn takes_requests(&self, desk: &Desk) -> bool {
        !desk.paused
            && self.requests < CONNECTION_REQUESTS_MAX
            && self.request_bytes < CONNECTION_REQUEST_BYTES_MAX
    }

    fn is_crowded(&self, desk: &Desk) -> bool {
        self.unsent_bytes >= CONNECTION_SEND_BUFFERS * desk.send_buffer_bytes
    }
}

/// What a stream acts on.
pub(crate) struct Around<'a> {
    pub(crate) id: StreamId,
    pub(crate) peer: usize,
    pub(crate) now: Instant,
    pub(crate) budget: &'a mut Budget,
    pub(crate) desk: &'a mut Desk,
}

impl Around<'_> {
    fn ask(&mut self, sequence: u64, bytes: usize, request: Request) -> u64 {
        let key = self.desk.slots.insert(Slot { peer: self.peer, stream: self.id, sequence });
        self.budget.requests += 1;
        self.budget.request_bytes += bytes;
        self.desk.asks.push_back(Ask::Request { key, request });
        key
    }
}

/// What to do with a stream after it was driven.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    Waits,
    /// For the connection's budget or the end of a pause: drive it again then.
    Held,
    Over,
}

pub(crate) struct Stream {
    /// Queued to be driven.
    pub(crate) is_dirty: bool,
    /// Queued for when there is room in the budget.
    pub(crate) is_held: bool,
    work: Work,
    reader: MessageReader,
    /// Read from QUIC and not yet by the reader; part of one datagram.
    chunk: Bytes,
    read_bytes: u64,
    receives: bool,
    sends: bool,
    /// Of the message under way, as accounted for in the budgets.
    partial_bytes: usize,
    /// While a message, or what the stream is for, is incomplete and the client's turn.
    deadline: Option<Instant>,
    deadline_from_bytes: u64,
    /// Answers to produces, gathered so that one turn's are one chunk; they follow `out`.
    answers: Vec<u8>,
    out: VecDeque<Bytes>,
    /// Of both.
    out_bytes: usize,
    finish_when_sent: bool,
}

enum Work {
    Fresh,
    Produce(ProduceWork),
    Read(ReadWork),
    One { correlation: u64, key: Option<u64> },
    Over,
}

struct ProduceWork {
    partition: PartitionId,
    /// Of the first in `pending`.
    first_sequence: u64,
    pending: VecDeque<Pending>,
    pending_bytes: usize,
    /// No more requests come; `last_words` follow the last answer.
    is_ending: bool,
    last_words: Option<Bytes>,
}

struct Pending {
    correlation: u64,
    acks: Acks,
    bytes: usize,
    state: Answer,
}

enum Answer {
    Awaited { key: u64 },
    Given(Result<Produced, ProduceError>),
}

struct ReadWork {
    correlation: u64,
    partition: PartitionId,
    next: Offset,
    bytes_max: u32,
    is_opened: bool,
    fetch: Option<u64>,
}

/// Why reading stopped.
enum Stop {
    Blocked,
    /// Our own bounds; `held`: the connection's.
    Full {
        held: bool,
    },
    /// More messages are under way than there is memory for.
    TooMuch,
    Ended,
    Reset,
    Violation {
        correlation: u64,
        error: WireError,
    },
}

impl Stream {
    pub(crate) fn new(message_bytes_max: usize) -> Self {
        Self {
            is_dirty: false,
            is_held: false,
            work: Work::Fresh,
            reader: MessageReader::new(message_bytes_max),
            chunk: Bytes::new(),
            read_bytes: 0,
            receives: true,
            sends: true,
            partial_bytes: 0,
            deadline: None,
            deadline_from_bytes: 0,
            answers: Vec::new(),
            out: VecDeque::new(),
            out_bytes: 0,
            finish_when_sent: false,
        }
    }

    /// Reads what may be read, asks what may be asked, sends what may be sent.
    pub(crate) fn drive(&mut self, quic: &mut Connection, around: &mut Around<'_>) -> Fate {
        let mut is_held = false;
        loop {
            let stopped = self.read(quic, around);
            let was_full = matches!(stopped, Some(Stop::Full { .. }));
            is_held |= matches!(stopped, Some(Stop::Full { held: true }));
            if let Some(stopped) = stopped {
                self.on_read_stopped(quic, around, stopped);
            }
            self.flush(quic, around);
            // After the flush: what it has sent makes room for a push.
            is_held |= self.fetch_next(around);
            // Answers that have been sent make room for requests.
            if !(was_full && self.receives && self.takes_messages(around).is_ok()) {
                break;
            }
        }
        if !self.receives && !self.sends {
            assert!(matches!(self.work, Work::Over), "a stream that is over waits for nothing");
            Fate::Over
        } else if is_held {
            Fate::Held
        } else {
            Fate::Waits
        }
    }

    /// `Err`: not now.
    fn takes_messages(&self, around: &Around<'_>) -> Result<(), Stop> {
        match &self.work {
            Work::Produce(work) => {
                if work.pending.len() >= STREAM_PRODUCES_MAX
                    || work.pending_bytes >= STREAM_PRODUCE_BYTES_MAX
                    || self.out_bytes >= STREAM_ANSWER_BYTES_MAX
                {
                    return Err(Stop::Full { held: false });
                }
            }
            Work::Fresh => {}
            // Nothing but the end of the stream is expected.
            Work::Read(_) | Work::One { .. } | Work::Over => return Ok(()),
        }
        if around.budget.takes_requests(around.desk) { Ok(()) } else { Err(Stop::Full { held: true }) }
    }

    /// `None`: there is no side to read from.
    fn read(&mut self, quic: &mut Connection, around: &mut Around<'_>) -> Option<Stop> {
        if !self.receives {
            return None;
        }
        let mut receiver = quic.recv_stream(around.id);
        let Ok(mut chunks) = receiver.read(true) else {
            return Some(Stop::Reset);
        };
        Some(loop {
            if self.reader.is_between_messages()
                && !matches!(self.work, Work::Over)
                && let Err(full) = self.takes_messages(around)
            {
                break full;
            }
            if self.chunk.is_empty() {
                match chunks.next(usize::MAX) {
                    Ok(Some(chunk)) => {
                        self.read_bytes += chunk.bytes.len() as u64;
                        self.chunk = chunk.bytes;
                    }
                    Ok(None) => break Stop::Ended,
                    Err(ReadError::Blocked) => break Stop::Blocked,
                    Err(ReadError::Reset(_)) => break Stop::Reset,
                }
            }
            match self.reader.read(&mut self.chunk) {
                Ok(None) => {
                    if !self.account_partial(around) {
                        break Stop::TooMuch;
                    }
                }
                Ok(Some(message)) => {
                    self.give_partial(around);
                    self.deadline = None;
                    around.desk.counters.messages_in += 1;
                    let correlation = message.correlation;
                    if let Err(error) = self.on_message(around, message) {
                        break Stop::Violation { correlation, error };
                    }
                }
                Err(error) => break Stop::Violation { correlation: 0, error },
            }
        })
    }

    /// Holding a message back half way could stop the rest of it, and of all others, at QUIC's window for the
    /// connection. So what is too much is given up. `false`: this is.
    fn account_partial(&mut self, around: &mut Around<'_>) -> bool {
        let partial_bytes = self.reader.buffered_bytes();
        if partial_bytes != self.partial_bytes {
            self.give_partial(around);
            self.partial_bytes = partial_bytes;
            around.budget.partial_bytes += partial_bytes;
            around.desk.partial_bytes += partial_bytes;
        }
        let bytes_max = around.desk.message_bytes_max;
        around.budget.partial_bytes <= CONNECTION_PARTIAL_BYTES_MAX.max(bytes_max)
            && around.desk.partial_bytes <= SERVER_PARTIAL_BYTES_MAX.max(bytes_max)
    }

    fn give_partial(&mut self, around: &mut Around<'_>) {
        let partial_bytes = std::mem::take(&mut self.partial_bytes);
        around.budget.partial_bytes -= partial_bytes;
        around.desk.partial_bytes -= partial_bytes;
    }

    fn on_read_stopped(&mut self, quic: &mut Connection, around: &mut Around<'_>, stopped: Stop) {
        match stopped {
            Stop::Blocked => self.arm_deadline(around),
            // Our turn, not the client's.
            Stop::Full { .. } => self.deadline = None,
            Stop::Ended => match self.reader.end() {
                Ok(()) => self.on_ended(around),
                Err(error) => self.refuse(quic, around, 0, &error.refusal()),
            },
            Stop::TooMuch => {
                let refusal = Refusal {
                    code: Code::TooMany,
                    cause: "too many bytes of unfinished messages at once".into(),
                    remedy: "retry later, with smaller batches or fewer streams at a time".into(),
                };
                self.refuse(quic, around, 0, &refusal);
            }
            Stop::Reset => self.leave(quic, around, Code::Done),
            Stop::Violation { correlation, error } => {
                self.refuse(quic, around, correlation, &error.refusal())
            }
        }
    }

    fn arm_deadline(&mut self, around: &mut Around<'_>) {
        if self.reader.is_between_messages() && !matches!(self.work, Work::Fresh) {
            self.deadline = None;
            return;
        }
        let got_on = self.read_bytes - self.deadline_from_bytes >= PROGRESS_BYTES;
        if self.deadline.is_none() || got_on {
            let deadline = around.now + STALL_TIMEOUT;
            self.deadline = Some(deadline);
            self.deadline_from_bytes = self.read_bytes;
            around.budget.sweep_at = Some(around.budget.sweep_at.map_or(deadline, |at| at.min(deadline)));
        }
    }

    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.deadline
    }

    /// The deadline is over.
    pub(crate) fn on_stalled(&mut self, quic: &mut Connection, around: &mut Around<'_>) {
        let refusal = Refusal {
            code: Code::TooSlow,
            cause: format!(
                "stream stalled: no whole message, and less than {PROGRESS_BYTES} bytes of one, in {} s",
                STALL_TIMEOUT.as_secs()
            ),
            remedy: "open streams when there is something to send, and send whole messages".into(),
        };
        self.refuse(quic, around, 0, &refusal);
    }

    fn on_message(&mut self, around: &mut Around<'_>, message: Message) -> Result<(), WireError> {
        let Message { kind, correlation, .. } = message;
        let unexpected = |why| Err(WireError::Unexpected { kind, why });
        match (&mut self.work, message.into_client()?) {
            (Work::Fresh, ClientMessage::OpenProduce(partition)) => {
                self.work = Work::Produce(ProduceWork {
                    partition,
                    first_sequence: 0,
                    pending: VecDeque::new(),
                    pending_bytes: 0,
                    is_ending: false,
                    last_words: None,
                });
                Ok(())
            }
            (Work::Produce(_), ClientMessage::Produce { acks, bulk }) => {
                self.on_produce(around, correlation, acks, bulk);
                Ok(())
            }
            (Work::Fresh, ClientMessage::OpenRead(open)) => {
                self.on_open_read(around, correlation, open);
                Ok(())
            }
            (Work::Fresh, ClientMessage::Request(request)) => {
                let key = around.ask(0, 0, request);
                self.work = Work::One { correlation, key: Some(key) };
                Ok(())
            }
            (Work::Fresh, ClientMessage::Produce { .. }) => unexpected("OpenProduce comes first on a stream"),
            (Work::Produce(_), _) => unexpected("a produce stream carries Produce messages only"),
            (Work::Read(_) | Work::One { .. } | Work::Over, _) => {
                unexpected("this stream's one request has been sent already")
            }
        }
    }

    fn on_produce(&mut self, around: &mut Around<'_>, correlation: u64, acks: Acks, bulk: Bytes) {
        let Work::Produce(work) = &mut self.work else { unreachable!("matched by the caller") };
        let bytes = bulk.len();
        let state = match check_frame(bulk) {
            Ok(frame) => {
                let sequence = work.first_sequence + work.pending.len() as u64;
                let produce = Produce { partition: work.partition, acks, frame };
                Answer::Awaited { key: around.ask(sequence, bytes, Request::Produce(produce)) }
            }
            Err(why) => {
                around.desk.counters.client_error("bad_frame");
                Answer::Given(Err(ProduceError::Invalid { why }))
            }
        };
        work.pending_bytes += bytes;
        work.pending.push_back(Pending { correlation, acks, bytes, state });
        self.send_answers(around);
    }

    /// Moves the answers that are next in order to the send queue, and the last words after the last of them.
    fn send_answers(&mut self, around: &mut Around<'_>) {
        while let Work::Produce(work) = &mut self.work {
            match work.pending.front() {
                Some(Pending { state: Answer::Awaited { .. }, .. }) => return,
                Some(Pending { state: Answer::Given(result), correlation, acks, bytes }) => {
                    let before = self.answers.len();
                    match acks {
                        Acks::None => {}
                        Acks::Leader | Acks::All => {
                            let answers = std::mem::take(&mut self.answers);
                            self.answers = encode::produced_onto(answers, *correlation, result);
                        }
                    }
                    work.pending_bytes -= bytes;
                    work.first_sequence += 1;
                    work.pending.pop_front();
                    let answer_bytes = self.answers.len() - before;
                    if answer_bytes > 0 {
                        self.count_out(around, answer_bytes);
                    }
                }
                None if work.is_ending => {
                    let last_words = work.last_words.take();
                    self.work = Work::Over;
                    self.finish_when_sent = true;
                    if let Some(last_words) = last_words {
                        self.send(around, last_words);
                    }
                }
                None => return,
            }
        }
    }

    fn on_open_read(&mut self, around: &mut Around<'_>, correlation: u64, open: OpenRead) {
        let bytes_max = if open.bytes_max == 0 { PUSH_BYTES_DEFAULT } else { open.bytes_max };
        let limit = u32::try_from(around.desk.send_buffer_bytes).unwrap_or(u32::MAX);
        let mut work = ReadWork {
            correlation,
            partition: open.partition,
            next: open.offset,
            bytes_max: bytes_max.min(limit),
            is_opened: false,
            fetch: None,
        };
        // Answered at once, so that the client learns whether its partition and offset exist.
        work.fetch = Some(around.ask(0, 0, Request::Fetch(work.fetch(0, Some(Duration::ZERO)))));
        self.work = Work::Read(work);
    }

    /// Asks for the next push, if it is time. `true`: it is, but for the connection's budget.
    fn fetch_next(&mut self, around: &mut Around<'_>) -> bool {
        let is_crowded = around.budget.is_crowded(around.desk);
        let unsent_max = if is_crowded { 1 } else { around.desk.send_buffer_bytes };
        let Work::Read(work) = &mut self.work else { return false };
        if work.fetch.is_some() || self.out_bytes >= unsent_max {
            return false;
        }
        if !around.budget.takes_requests(around.desk) {
            return true;
        }
        let mut fetch = work.fetch(1, None);
        if is_crowded {
            fetch.bytes_max = fetch.bytes_max.min(PUSH_BYTES_CROWDED);
        }
        work.fetch = Some(around.ask(0, 0, Request::Fetch(fetch)));
        false
    }

    /// The answer to one of this stream's requests.
    pub(crate) fn on_response(
        &mut self,
        quic: &mut Connection,
        around: &mut Around<'_>,
        sequence: u64,
        response: Response,
    ) {
        around.budget.requests -= 1;
        match (&mut self.work, response) {
            (Work::Produce(work), Response::Produce(result)) => {
                let index =
                    usize::try_from(sequence - work.first_sequence).expect("at most STREAM_PRODUCES_MAX");
                let pending = &mut work.pending[index];
                around.budget.request_bytes -= pending.bytes;
                pending.state = Answer::Given(result);
                self.send_answers(around);
            }
            (Work::Read(work), Response::Fetch(result)) => {
                work.fetch = None;
                match result {
                    Ok(fetched) => self.on_fetched(around, &fetched),
                    Err(error) => self.on_fetch_failed(quic, around, &error),
                }
            }
            (Work::One { correlation, .. }, response) => {
                let answer = encode::response(*correlation, &response);
                self.end_with(quic, around, answer);
            }
            (Work::Fresh | Work::Produce(_) | Work::Read(_) | Work::Over, response) => {
                panic!("the broker answers what was asked, not with {response:?}")
            }
        }
    }

    fn on_fetched(&mut self, around: &mut Around<'_>, fetched: &Fetched) {
        let Work::Read(work) = &mut self.work else { unreachable!("matched by the caller") };
        let correlation = work.correlation;
        let is_first = !std::mem::replace(&mut work.is_opened, true);
        if let Some(last) = fetched.frames.last() {
            work.next = last.header().end_offset();
        }
        if is_first {
            let opened = ReadOpened { log_start: fetched.log_start, high_watermark: fetched.high_watermark };
            self.send(around, encode::read_opened(correlation, &opened));
        }
        if !fetched.frames.is_empty() {
            let mut chunks = Vec::new();
            let bytes = encode::frames(correlation, fetched, &mut chunks);
            self.out.extend(chunks);
            self.count_out(around, bytes);
        }
    }

    fn on_fetch_failed(&mut self, quic: &mut Connection, around: &mut Around<'_>, error: &FetchError) {
        let Work::Read(work) = &self.work else { unreachable!("matched by the caller") };
        let answer = encode::read_failed(work.correlation, error);
        self.end_with(quic, around, answer);
    }

    /// The last message on this stream; no more is read from it.
    fn end_with(&mut self, quic: &mut Connection, around: &mut Around<'_>, message: Bytes) {
        self.work = Work::Over;
        self.send(around, message);
        self.finish_when_sent = true;
        self.stop_receiving(quic, around, Code::Done);
    }

    fn send(&mut self, around: &mut Around<'_>, message: Bytes) {
        let bytes = message.len();
        self.queue_answers();
        self.out.push_back(message);
        self.count_out(around, bytes);
    }

    fn count_out(&mut self, around: &mut Around<'_>, bytes: usize) {
        self.out_bytes += bytes;
        around.budget.unsent_bytes += bytes;
        around.desk.counters.messages_out += 1;
    }

    fn queue_answers(&mut self) {
        if !self.answers.is_empty() {
            self.out.push_back(std::mem::take(&mut self.answers).into());
        }
    }

    /// Hands to QUIC what it takes.
    fn flush(&mut self, quic: &mut Connection, around: &mut Around<'_>) {
        if !self.sends {
            return;
        }
        self.queue_answers();
        let mut sender = quic.send_stream(around.id);
        while !self.out.is_empty() {
            let (chunks, _) = self.out.as_mut_slices();
            match sender.write_chunks(chunks) {
                Ok(written) => {
                    self.out.drain(..written.chunks);
                    self.out_bytes -= written.bytes;
                    around.budget.unsent_bytes -= written.bytes;
                }
                Err(WriteError::Blocked) => return,
                Err(WriteError::Stopped(_) | WriteError::ClosedStream) => {
                    self.leave(quic, around, Code::Done);
                    return;
                }
            }
        }
        if self.finish_when_sent {
            // The only error is a stop by the client, after which nothing is left to do either.
            let _ = sender.finish();
            self.sends = false;
        }
    }

    /// The client has no more to say.
    fn on_ended(&mut self, around: &mut Around<'_>) {
        self.receives = false;
        self.deadline = None;
        match &mut self.work {
            Work::Fresh => {
                self.work = Work::Over;
                self.finish_when_sent = true;
            }
            Work::Produce(work) => {
                work.is_ending = true;
                self.send_answers(around);
            }
            Work::Read(_) | Work::One { .. } | Work::Over => {}
        }
    }

    /// The client does not want our side of the stream any more, or has taken back its own.
    pub(crate) fn leave(&mut self, quic: &mut Connection, around: &mut Around<'_>, code: Code) {
        self.cancel(around);
        self.stop_receiving(quic, around, code);
        self.drop_unsent(around);
        if std::mem::take(&mut self.sends) {
            // An error says that it has ended already.
            let _ = quic.send_stream(around.id).reset(number(code));
        }
    }

    /// The connection is gone.
    pub(crate) fn abandon(&mut self, around: &mut Around<'_>) {
        self.cancel(around);
        self.give_partial(around);
        self.drop_unsent(around);
    }

    /// Tells the client what it did wrong, after the answers it is owed.
    fn refuse(
        &mut self,
        quic: &mut Connection,
        around: &mut Around<'_>,
        correlation: u64,
        refusal: &Refusal,
    ) {
        around.desk.counters.client_error(refusal.code.name());
        let last_words = encode::refused(correlation, refusal);
        self.stop_receiving(quic, around, refusal.code);
        match &mut self.work {
            Work::Produce(work) => {
                work.is_ending = true;
                work.last_words = Some(last_words);
                self.send_answers(around);
            }
            Work::Fresh | Work::Read(_) | Work::One { .. } => {
                self.cancel(around);
                self.end_with(quic, around, last_words);
            }
            // Our last message has been said; there is nothing to add to it.
            Work::Over => {}
        }
    }

    fn stop_receiving(&mut self, quic: &mut Connection, around: &mut Around<'_>, code: Code) {
        self.give_partial(around);
        self.deadline = None;
        self.chunk = Bytes::new();
        self.reader = MessageReader::new(0);
        if std::mem::take(&mut self.receives) {
            // An error says that it has ended already.
            let _ = quic.recv_stream(around.id).stop(number(code));
        }
    }

    fn cancel(&mut self, around: &mut Around<'_>) {
        let mut cancel = |key, bytes| {
            around.desk.slots.remove(key).expect("a key that waits has a slot");
            around.desk.asks.push_back(Ask::Cancel { key });
            around.budget.requests -= 1;
            around.budget.request_bytes -= bytes;
        };
        match std::mem::replace(&mut self.work, Work::Over) {
            Work::Produce(work) => {
                for pending in work.pending {
                    if let Answer::Awaited { key } = pending.state {
                        cancel(key, pending.bytes);
                    }
                }
            }
            Work::Read(ReadWork { fetch: Some(key), .. }) | Work::One { key: Some(key), .. } => {
                cancel(key, 0)
            }
            Work::Fresh | Work::Read(_) | Work::One { .. } | Work::Over => {}
        }
    }

    fn drop_unsent(&mut self, around: &mut Around<'_>) {
        self.out.clear();
        self.answers.clear();
        around.budget.unsent_bytes -= std::mem::take(&mut self.out_bytes);
    }
}

impl ReadWork {
    fn fetch(&self, bytes_min: u32, wait_max: Option<Duration>) -> Fetch {
        Fetch { partition: self.partition, offset: self.next, bytes_max: self.bytes_max, bytes_min, wait_max }
    }
}

fn number(code: Code) -> VarInt {
    VarInt::from_u32(code.number().into())
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

impl std::fmt::Debug for Stream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let work = match &self.work {
            Work::Fresh => "fresh",
            Work::Produce(_) => "produce",
            Work::Read(_) => "read",
            Work::One { .. } => "one",
            Work::Over => "over",
        };
        f.debug_struct("Stream")
            .field("work", &work)
            .field("out_bytes", &self.out_bytes)
            .finish_non_exhaustive()
    }
}
