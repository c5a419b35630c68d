//! The task of one lane: does what the lane says, tells it what happened.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use engine_api::{Acks, ProduceError, Request, Response, TopicError};
use net_wire::{ServerMessage, encode};
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::Core;
use crate::rpc::{Messages, RequestError, StreamError, unexpected};
use crate::shared::{Lease, REFRESH_SPAN};
use crate::state::batch::Sending;
use crate::state::lane::{AfterAnswer, Link, Step};
use crate::state::outcome::{DeliveryError, Trouble};

/// A produce stream. Dropping it resets it.
struct Stream {
    send: quinn::SendStream,
    answers: Messages,
    /// Written before anything else is.
    outbox: Vec<Bytes>,
    /// The front of `outbox` that is written already.
    written_count: usize,
    correlation: u64,
    /// Dropped after the stream is reset.
    _lease: Lease,
}

impl Drop for Stream {
    fn drop(&mut self) {
        let done = quinn::VarInt::from_u32(u32::from(net_wire::Code::Done.number()));
        // Either half may have ended by itself, which is as good.
        let _ = self.send.reset(done);
        self.answers.stop();
    }
}

/// A stream that nothing was sent on for so long is given back: a broker has only so many.
const STREAM_IDLE: Duration = Duration::from_secs(10);
/// For what was written without acknowledgement to arrive when the producer is closed.
const LINGER_UNACKNOWLEDGED: Duration = Duration::from_secs(5);

impl Stream {
    fn is_written(&self) -> bool {
        self.written_count == self.outbox.len()
    }
}

/// Something slow that the lane waits for.
enum Done {
    Connected(Result<Box<Stream>, NoStream>),
    Identified(Result<u64, Trouble>),
}

enum NoStream {
    Trouble(Trouble),
    /// The topic or the partition does not exist any more.
    Gone,
}

type Doing = Pin<Box<dyn Future<Output = Done> + Send>>;

/// What woke the task.
enum Event {
    Woken,
    Idle,
    Done(Done),
    Answer(Result<Option<ServerMessage>, StreamError>),
    Written(Result<(), StreamError>),
    Closed,
}

struct Driver {
    core: Arc<Core>,
    lane: usize,
    closed: watch::Receiver<bool>,
    stream: Option<Box<Stream>>,
    doing: Option<Doing>,
    /// Metadata from before this is known to be wrong.
    newer_than: Option<Instant>,
}

impl Drop for Driver {
    /// However the task ends (its runtime may have been dropped), nobody waits for it.
    fn drop(&mut self) {
        self.core.with(|state| {
            let (lane, ledger) = state.accumulator.lane(self.lane);
            lane.fail_all(ledger, |sent| DeliveryError::Closed { sent });
            state.running_count -= 1;
        });
        self.core.changed.notify_waiters();
    }
}

pub(super) async fn drive(core: Arc<Core>, lane: usize, wake: Arc<Notify>) {
    let closed = core.shared.closed();
    let mut driver = Driver { core, lane, closed, stream: None, doing: None, newer_than: None };
    while let Some(until) = driver.work() {
        let event = driver.wait(&wake, until).await;
        driver.on_event(event);
    }
    if let (Acks::None, Some(stream)) = (driver.core.acks, &mut driver.stream)
        && stream.is_written()
        && stream.send.finish().is_ok()
    {
        // Resolves once the broker has it all, or the connection is over.
        let _ = timeout(LINGER_UNACKNOWLEDGED, stream.send.stopped()).await;
    }
}

impl Driver {
    /// Does what can be done at once; then until when to wait. `None`: the lane is over.
    fn work(&mut self) -> Option<Option<Duration>> {
        loop {
            let link = match &self.stream {
                _ if self.doing.is_some() => Link::Busy,
                None => Link::Down,
                Some(stream) if stream.is_written() => Link::Ready,
                Some(_) => Link::Busy,
            };
            let now = self.core.now();
            let step = self.core.with(|state| state.accumulator.next_step(self.lane, now, link))?;
            match step {
                Step::Wait(until) => return Some(until),
                Step::Abandon => {
                    self.stream = None;
                    self.doing = None;
                }
                Step::Connect => {
                    self.doing = Some(Box::pin(connect(Arc::clone(&self.core), self.lane, self.newer_than)))
                }
                Step::Identify => self.doing = Some(Box::pin(identify(Arc::clone(&self.core)))),
                Step::Send(sending) => self.send(sending),
            }
        }
    }

    fn send(&mut self, sending: Sending) {
        let (frame, builder) = sending.seal(self.core.compression);
        self.core.with(|state| {
            let (lane, _) = state.accumulator.lane(self.lane);
            lane.put_back(frame.clone());
            if let Some(builder) = builder {
                state.accumulator.supply().return_builder(builder);
            }
        });
        let stream = self.stream.as_mut().expect("sending needs a stream");
        stream.correlation += 1;
        encode::produce(stream.correlation, self.core.acks, &frame, &mut stream.outbox);
    }

    async fn wait(&mut self, wake: &Notify, until: Option<Duration>) -> Event {
        let until = until.map(|until| self.core.started + until);
        let has_stream = self.stream.is_some();
        let timer = async {
            match until {
                Some(until) => sleep_until(until).await,
                // Only an empty lane waits for nothing.
                None if has_stream => {
                    sleep(STREAM_IDLE).await;
                    return Event::Idle;
                }
                None => std::future::pending().await,
            }
            Event::Woken
        };
        let Self { stream, doing, closed, .. } = self;
        let doing = async {
            match doing {
                Some(doing) => doing.await,
                None => std::future::pending().await,
            }
        };
        let on_stream = async {
            let Some(stream) = stream else { return std::future::pending().await };
            if stream.is_written() {
                return Event::Answer(stream.answers.next().await);
            }
            let Stream { send, answers, outbox, written_count, .. } = &mut **stream;
            tokio::select! {
                // Answers first: they make room and may end the stream.
                biased;
                answer = answers.next() => Event::Answer(answer),
                written = send.write_chunks(&mut outbox[*written_count..]) => Event::Written(
                    written.map_err(StreamError::lost).map(|written| *written_count += written.chunks),
                ),
            }
        };
        tokio::select! {
            event = on_stream => event,
            done = doing => Event::Done(done),
            () = wake.notified() => Event::Woken,
            event = timer => event,
            _ = closed.wait_for(|closed| *closed) => Event::Closed,
        }
    }

    fn on_event(&mut self, event: Event) {
        match event {
            Event::Woken => {}
            Event::Idle => self.stream = None,
            Event::Closed => self.core.close(),
            Event::Written(Ok(())) => self.on_written(),
            Event::Written(Err(error)) => {
                // The broker's own words, if there are any, are in what it sent.
                self.on_stream_lost(error);
            }
            Event::Answer(answer) => self.on_answer(answer),
            Event::Done(Done::Identified(Ok(id))) => {
                self.doing = None;
                self.core.with(|state| state.accumulator.on_identity(self.lane, id));
            }
            Event::Done(Done::Identified(Err(trouble))) => {
                self.doing = None;
                self.on_trouble(trouble);
            }
            Event::Done(Done::Connected(Ok(stream))) => {
                self.doing = None;
                self.stream = Some(stream);
            }
            Event::Done(Done::Connected(Err(NoStream::Trouble(trouble)))) => {
                self.doing = None;
                // The leader may be elsewhere by now.
                self.newer_than = Some(Instant::now());
                self.on_trouble(trouble);
            }
            Event::Done(Done::Connected(Err(NoStream::Gone))) => {
                self.doing = None;
                self.core.with(|state| state.accumulator.on_topic_gone(self.lane));
                self.core.wake_all();
            }
        }
    }

    fn on_written(&mut self) {
        let stream = self.stream.as_mut().expect("it was written to");
        if !stream.is_written() {
            return;
        }
        stream.outbox.clear();
        stream.written_count = 0;
        if self.core.acks == Acks::None && stream.correlation > 0 {
            self.core.with(|state| {
                let (lane, ledger) = state.accumulator.lane(self.lane);
                lane.on_written_unacknowledged(ledger);
            });
        }
    }

    fn on_answer(&mut self, answer: Result<Option<ServerMessage>, StreamError>) {
        let answer = match answer {
            Ok(Some(ServerMessage::Produced(answer))) => answer,
            Ok(Some(_)) => return self.on_stream_lost(unexpected("not the answer to a produce request")),
            Ok(None) => return self.on_stream_lost(StreamError::lost("the broker ended the stream")),
            Err(error) => return self.on_stream_lost(error),
        };
        if let Err(ProduceError::UnknownPartition | ProduceError::NotLeader) = &answer {
            self.newer_than = Some(Instant::now().checked_sub(REFRESH_SPAN).unwrap_or_else(Instant::now));
        }
        let now = self.core.now();
        let after = self.core.with(|state| {
            let (lane, ledger) = state.accumulator.lane(self.lane);
            let after = lane.on_answer(now, answer, ledger);
            if let Ok(AfterAnswer::Fatal(error)) = &after {
                state.accumulator.fence(error.clone());
            }
            after
        });
        match after {
            Ok(AfterAnswer::Continue) => {}
            Ok(AfterAnswer::Abandon | AfterAnswer::Refresh) => self.stream = None,
            Ok(AfterAnswer::Fatal(_)) => {
                self.stream = None;
                self.core.wake_all();
            }
            Err(_) => self.on_stream_lost(unexpected("an answer to nothing")),
        }
    }

    fn on_stream_lost(&mut self, error: StreamError) {
        self.stream = None;
        let now = self.core.now();
        let trouble = Trouble::Disconnected(error.to_string().into());
        self.core.with(|state| {
            let (lane, ledger) = state.accumulator.lane(self.lane);
            lane.on_disconnected(now, trouble, ledger);
        });
    }

    fn on_trouble(&mut self, trouble: Trouble) {
        let now = self.core.now();
        // An id is asked for with or without a stream; without one it is simplest to begin anew.
        self.stream = None;
        self.core.with(|state| {
            let (lane, ledger) = state.accumulator.lane(self.lane);
            lane.on_disconnected(now, trouble, ledger);
        });
    }
}

async fn connect(core: Arc<Core>, lane: usize, newer_than: Option<Instant>) -> Done {
    let (topic, partition) = core.with(|state| {
        let (lane, _) = state.accumulator.lane(lane);
        (Arc::clone(&lane.topic), lane.partition)
    });
    let unreachable = |why: String| NoStream::Trouble(Trouble::Unreachable(why.into()));
    let connecting = async {
        let info = match core.shared.topic(&topic, newer_than).await {
            Ok(info) => info,
            Err(RequestError::Refused(TopicError::Unknown { .. })) => return Err(NoStream::Gone),
            Err(error) => return Err(unreachable(error.to_string())),
        };
        if partition >= info.partitions_count() {
            return Err(NoStream::Gone);
        }
        let link = core.shared.produce_link(&info, partition).await;
        let (connection, lease) = link.map_err(|error| unreachable(error.to_string()))?;
        let after = core.shared.config.connect_timeout;
        let opened = timeout(after, connection.open_bi()).await;
        let opened =
            opened.map_err(|_| unreachable(format!("the broker allows no other stream for {after:?}")))?;
        let (send, recv) = opened.map_err(|error| unreachable(error.to_string()))?;
        Ok(Box::new(Stream {
            send,
            answers: Messages::new(recv),
            outbox: vec![encode::open_produce(&info.partition(partition))],
            written_count: 0,
            correlation: 0,
            _lease: lease,
        }))
    };
    Done::Connected(connecting.await)
}

async fn identify(core: Arc<Core>) -> Done {
    let answer = core.shared.ask_any::<engine_api::InitProducerError>(&Request::InitProducer).await;
    Done::Identified(match answer {
        Ok(Response::InitProducer(Ok(id))) => Ok(id),
        Ok(Response::InitProducer(Err(error))) => Err(Trouble::Unreachable(error.to_string().into())),
        Ok(_) => Err(Trouble::Unreachable("the broker answered something else".into())),
        Err(error) => Err(Trouble::Unreachable(error.to_string().into())),
    })
}
