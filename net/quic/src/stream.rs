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

mod outbox;
mod produce;
mod read;

use std::net::IpAddr;
use std::time::Instant;

use bytes::Bytes;
use engine_api::{GroupAsk, GroupRequest, Request, Response};
use net_wire::{ClientMessage, Code, Message, MessageReader, Refusal, WireError, encode};
use quinn_proto::{Connection, ReadError, VarInt};

use crate::budget::Around;
use crate::config::{PROGRESS_BYTES, STALL_TIMEOUT, STREAM_ANSWER_BYTES_MAX};
use crate::stream::outbox::{Outbox, Sent};
use crate::stream::produce::ProduceWork;
use crate::stream::read::ReadWork;

/// What to do with a stream after it was driven.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    Waits,
    /// For the connection's budget or the end of a pause: drive it again then.
    Held,
    Over,
}

#[derive(Debug)]
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
    /// While a message, or what the stream is for, is incomplete and it is the client's turn.
    deadline: Option<Instant>,
    deadline_from_bytes: u64,
    outbox: Outbox,
}

#[derive(Debug)]
enum Work {
    Fresh,
    Produce(ProduceWork),
    Read(ReadWork),
    One { correlation: u64, key: u64 },
    Over,
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
            outbox: Outbox::default(),
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
            self.send_answers(around);
            self.flush(quic, around);
            // After the flush: what it has sent makes room for a push.
            if let Work::Read(work) = &mut self.work {
                is_held |= work.fetch_next(around, self.outbox.bytes());
            }
            if !(was_full && self.receives) {
                break;
            }
            // Answers that have been sent make room for requests, unless a pause has begun since.
            if let Err(stopped) = self.takes_messages(around) {
                is_held |= matches!(stopped, Stop::Full { held: true });
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
                if work.is_full() || self.outbox.bytes() >= STREAM_ANSWER_BYTES_MAX {
                    reach::mark!("quic.stream_full");
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
        let remote = quic.remote_address().ip();
        let mut receiver = quic.recv_stream(around.id);
        let Ok(mut chunks) = receiver.read(true) else {
            return Some(Stop::Reset);
        };
        Some(loop {
            if self.reader.is_between_messages()
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
                    // Holding a message back half way could stop the rest of it, and of all others, at QUIC's
                    // window for the connection. So what is too much is given up.
                    if !self.account_partial(around) {
                        reach::mark!("quic.too_many_partial_bytes");
                        break Stop::TooMuch;
                    }
                }
                Ok(Some(message)) => {
                    self.account_partial(around);
                    self.deadline = None;
                    around.desk.counters.messages_in += 1;
                    let correlation = message.correlation;
                    if let Err(error) = self.on_message(around, remote, message) {
                        break Stop::Violation { correlation, error };
                    }
                }
                Err(error) => break Stop::Violation { correlation: 0, error },
            }
        })
    }

    fn account_partial(&mut self, around: &mut Around<'_>) -> bool {
        let before = std::mem::replace(&mut self.partial_bytes, self.reader.buffered_bytes());
        before == self.partial_bytes || around.account_partial(before, self.partial_bytes)
    }

    fn on_read_stopped(&mut self, quic: &mut Connection, around: &mut Around<'_>, stopped: Stop) {
        match stopped {
            Stop::Blocked => self.arm_deadline(around),
            // Our turn, not the client's.
            Stop::Full { .. } => self.deadline = None,
            Stop::Ended => match self.reader.end() {
                Ok(()) => self.on_ended(),
                Err(error) => {
                    reach::mark!("quic.stream_ended_mid_message");
                    self.refuse(quic, around, 0, &error.refusal());
                }
            },
            Stop::TooMuch => {
                let refusal = Refusal {
                    code: Code::TooMany,
                    cause: "too many bytes of unfinished messages at once".into(),
                    remedy: "retry later, with smaller batches or fewer streams at a time".into(),
                };
                self.refuse(quic, around, 0, &refusal);
            }
            Stop::Reset => {
                reach::mark!("quic.stream_reset_mid_message", !self.reader.is_between_messages());
                reach::mark!("quic.stream_reset", self.reader.is_between_messages());
                self.leave(quic, around, Code::Done);
            }
            Stop::Violation { correlation, error } => {
                reach::mark!("quic.protocol_broken");
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
        reach::mark!("quic.stream_stalled");
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

    fn on_message(
        &mut self,
        around: &mut Around<'_>,
        remote: IpAddr,
        message: Message,
    ) -> Result<(), WireError> {
        let Message { kind, correlation, .. } = message;
        let unexpected = |why| Err(WireError::Unexpected { kind, why });
        match (&mut self.work, message.into_client()?) {
            (Work::Fresh, ClientMessage::OpenProduce(partition)) => {
                self.work = Work::Produce(ProduceWork::new(partition));
                Ok(())
            }
            (Work::Produce(work), ClientMessage::Produce { acks, bulk }) => {
                work.on_produce(around, correlation, acks, bulk);
                Ok(())
            }
            (Work::Fresh, ClientMessage::OpenRead(open)) => {
                self.work = Work::Read(ReadWork::open(around, correlation, &open));
                Ok(())
            }
            (Work::Fresh, ClientMessage::Request(mut request)) => {
                name_host(&mut request, remote);
                self.work = Work::One { correlation, key: around.ask(0, 0, request) };
                Ok(())
            }
            (Work::Fresh, ClientMessage::Produce { .. }) => unexpected("OpenProduce comes first on a stream"),
            (Work::Produce(_), _) => unexpected("a produce stream carries Produce messages only"),
            (Work::Read(_) | Work::One { .. } | Work::Over, _) => {
                unexpected("this stream's one request has been sent already")
            }
        }
    }

    /// The answer to one of this stream's requests.
    pub(crate) fn on_response(
        &mut self,
        quic: &mut Connection,
        around: &mut Around<'_>,
        sequence: u64,
        response: Response,
    ) {
        match (&mut self.work, response) {
            (Work::Produce(work), Response::Produce(result)) => work.on_response(around, sequence, result),
            (Work::Read(work), Response::Fetch(result)) => {
                if let Err(last) = work.on_response(around, &mut self.outbox, result) {
                    self.end_with(quic, around, last);
                }
            }
            (Work::One { correlation, .. }, response) => {
                let answer = encode::response(*correlation, &response);
                around.answered(0);
                self.end_with(quic, around, answer);
            }
            (Work::Fresh | Work::Produce(_) | Work::Read(_) | Work::Over, response) => {
                panic!("the broker answers what was asked, not with {response:?}")
            }
        }
    }

    /// The last message on this stream; no more is read from it.
    fn end_with(&mut self, quic: &mut Connection, around: &mut Around<'_>, message: Bytes) {
        self.work = Work::Over;
        self.outbox.push(around, message);
        self.outbox.finish();
        self.stop_receiving(quic, around, Code::Done);
    }

    fn send_answers(&mut self, around: &mut Around<'_>) {
        if let Work::Produce(work) = &mut self.work
            && work.send_answers(around, &mut self.outbox)
        {
            self.work = Work::Over;
            self.outbox.finish();
        }
    }

    fn flush(&mut self, quic: &mut Connection, around: &mut Around<'_>) {
        if !self.sends {
            return;
        }
        match self.outbox.flush(around, &mut quic.send_stream(around.id)) {
            Sent::Open => {}
            Sent::Finished => self.sends = false,
            Sent::Refused => {
                reach::mark!("quic.answer_not_wanted");
                self.leave(quic, around, Code::Done);
            }
        }
    }

    /// The client has no more to say.
    fn on_ended(&mut self) {
        self.receives = false;
        self.deadline = None;
        match &mut self.work {
            Work::Fresh => {
                self.work = Work::Over;
                self.outbox.finish();
            }
            Work::Produce(work) => work.end(None),
            Work::Read(_) | Work::One { .. } | Work::Over => {}
        }
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
            Work::Produce(work) => work.end(Some(last_words)),
            Work::Fresh | Work::Read(_) | Work::One { .. } => {
                self.cancel(around);
                self.end_with(quic, around, last_words);
            }
            // Our last message has been said; there is nothing to add to it.
            Work::Over => {}
        }
    }

    /// The client does not want our side of the stream any more, or has taken back its own.
    pub(crate) fn leave(&mut self, quic: &mut Connection, around: &mut Around<'_>, code: Code) {
        self.stop_receiving(quic, around, code);
        self.abandon(around);
        if std::mem::take(&mut self.sends) {
            // An error says that it has ended already.
            let _ = quic.send_stream(around.id).reset(number(code));
        }
    }

    /// Gives up what was asked and what was to be said.
    pub(crate) fn abandon(&mut self, around: &mut Around<'_>) {
        self.cancel(around);
        self.reader = MessageReader::new(0);
        self.account_partial(around);
        self.outbox.clear(around);
    }

    fn stop_receiving(&mut self, quic: &mut Connection, around: &mut Around<'_>, code: Code) {
        self.deadline = None;
        self.chunk = Bytes::new();
        self.reader = MessageReader::new(0);
        self.account_partial(around);
        if std::mem::take(&mut self.receives) {
            // An error says that it has ended already.
            let _ = quic.recv_stream(around.id).stop(number(code));
        }
    }

    fn cancel(&mut self, around: &mut Around<'_>) {
        match std::mem::replace(&mut self.work, Work::Over) {
            Work::Produce(work) => work.cancel(around),
            Work::Read(work) => work.cancel(around),
            Work::One { key, .. } => around.cancel(key, 0),
            Work::Fresh | Work::Over => {}
        }
    }
}

fn number(code: Code) -> VarInt {
    VarInt::from_u32(code.number().into())
}

/// Where a group's member is, its connection tells best. As Kafka prints it.
fn name_host(request: &mut Request, remote: IpAddr) {
    if let Request::Group(GroupRequest { ask: GroupAsk::Join(join), .. }) = request {
        join.client_host = format!("/{remote}");
    }
}
