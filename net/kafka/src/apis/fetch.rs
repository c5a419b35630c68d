//! Fetch: from one partition or many, with limits, waiting until there is enough.
//!
//! ```text
//! wanted partitions -> one ask each, answered at once, some at a time -> enough? answer
//!                                                     -> else one waiting ask each, until enough has come or time is over
//! ```
//! What is read is bounded by the answer's limit and a batch of each partition that is asked at a time: beyond the limit
//! a partition is asked for its state alone, and what comes with that is dropped.
//! A single partition is asked to wait at once. When the fetch is answered, asks that still wait are cancelled.
//! What is not known here: where frames come from. Their payloads are sent as they are; see `response`.

use std::time::{Duration, Instant};

use bytes::Bytes;
use engine_api::{Fetch, FetchError, Fetched, PartitionId, ReaderId, Request, Response};
use kafka_protocol::ResponseError;
use kafka_protocol::messages::FetchRequest;
use storage_frame::{Frame, Offset};

use crate::api::{ASKS_MAX, Outcome, Pending};
use crate::codec::Malformed;
use crate::context::Context;
use crate::errors::fetch_error;
use crate::lookup::{NONE, find_partition, offset_number};

pub(crate) mod conversions;
pub(crate) mod response;
pub(crate) mod session;

use session::{Asked, Scope};

/// `fetch.max.bytes`: of an answer, whatever the client says; one batch of any size fits always.
const RESPONSE_BYTES_MAX: usize = 16 << 20;
/// Of a partition among so many that their limits together are above the answer's, at least.
const SHARE_BYTES_MIN: usize = 128 << 10;
/// Partitions asked at a time for what is there.
const WAVE: usize = 64;
/// Longer waits are cut: clients ask again.
const WAIT_MAX: Duration = Duration::from_secs(60);

pub(crate) fn start(context: &mut Context<'_>, body: Bytes) -> Result<Outcome, Malformed> {
    let request: FetchRequest = context.decode(body)?;
    let limits = Limits::of(context, &request);
    let scope = match session::open(context, request) {
        Ok(scope) => scope,
        Err(error) => return Ok(response::refuse(context, error)),
    };
    let targets: Vec<Target> = scope.asked.iter().map(|asked| Target::new(context, asked)).collect();
    if targets.len() > ASKS_MAX {
        return Err(Malformed::new(format!("{} partitions", targets.len())));
    }
    let has_error = targets.iter().any(|target| target.partition.is_err());
    let reader = ReaderId::of_client(&context.head.client_id, context.client_host());
    let mut fetch =
        Reading { scope, targets, limits, reader, is_waiting: false, open: 0, begun: 0, bytes: 0, has_error };
    Ok(match fetch.begin(context) {
        Some(outcome) => outcome,
        None => Outcome::Wait(Box::new(fetch)),
    })
}

#[derive(Debug, Clone, Copy)]
struct Limits {
    bytes_min: usize,
    bytes_max: usize,
    deadline: Instant,
    /// Aborted transactions are told of (as none) where the client asks for committed records.
    committed_only: bool,
}

impl Limits {
    fn of(context: &Context<'_>, request: &FetchRequest) -> Self {
        let bytes_max = usize::try_from(request.max_bytes).unwrap_or(0).min(RESPONSE_BYTES_MAX);
        let wait = Duration::from_millis(u64::try_from(request.max_wait_ms).unwrap_or(0)).min(WAIT_MAX);
        Self {
            bytes_min: usize::try_from(request.min_bytes).unwrap_or(0).min(bytes_max),
            bytes_max,
            deadline: context.now + wait,
            committed_only: request.isolation_level == 1,
        }
    }
}

/// A partition and what has been read of it.
#[derive(Debug)]
pub(crate) struct Target {
    partition: Result<PartitionId, ResponseError>,
    offset: Offset,
    bytes_max: usize,
    high_watermark: i64,
    log_start: i64,
    frames: Vec<Frame>,
    bytes: usize,
}

impl Target {
    fn new(context: &Context<'_>, asked: &Asked) -> Self {
        let offset = u64::try_from(asked.offset).map_err(|_| ResponseError::OffsetOutOfRange);
        let found = find_partition(context, &asked.topic, asked.partition, asked.epoch);
        let partition = found.and_then(|(partition, _)| offset.map(|_| partition));
        Self {
            partition,
            offset: Offset(offset.unwrap_or(0)),
            bytes_max: usize::try_from(asked.bytes_max).unwrap_or(0),
            high_watermark: NONE,
            log_start: NONE,
            frames: Vec::new(),
            bytes: 0,
        }
    }

    fn note(&mut self, result: Result<Fetched, FetchError>) {
        match result {
            Ok(fetched) => {
                self.high_watermark = offset_number(fetched.high_watermark);
                self.log_start = offset_number(fetched.log_start);
                for frame in fetched.frames {
                    self.bytes += frame.payload().len();
                    self.offset = frame.header().end_offset();
                    self.frames.push(frame);
                }
            }
            // What has been read before is good.
            Err(_) if !self.frames.is_empty() => {}
            Err(error) => {
                if let FetchError::OffsetOutOfRange { log_start, high_watermark, .. } = &error {
                    self.high_watermark = offset_number(*high_watermark);
                    self.log_start = offset_number(*log_start);
                }
                self.partition = Err(fetch_error(&error));
            }
        }
    }
}

/// See the module.
struct Reading {
    scope: Scope,
    targets: Vec<Target>,
    limits: Limits,
    reader: ReaderId,
    /// Asks wait for records; before, they are answered with what is there.
    is_waiting: bool,
    open: usize,
    /// Partitions that were asked for what is there.
    begun: usize,
    /// Read of all partitions.
    bytes: usize,
    has_error: bool,
}

impl Reading {
    fn begin(&mut self, context: &mut Context<'_>) -> Option<Outcome> {
        let is_single = self.targets.len() == 1;
        self.is_waiting = is_single;
        if is_single {
            return self.ask_all(context, self.limits.bytes_min);
        }
        self.ask_more(context);
        if self.open == 0 { Some(self.answer(context)) } else { None }
    }

    /// In the order in which the answer is filled.
    fn ask_more(&mut self, context: &mut Context<'_>) {
        let count = self.targets.len();
        while self.open < WAVE && self.begun < count {
            self.ask(context, (self.begun + self.scope.turn % count) % count, 0);
            self.begun += 1;
        }
    }

    fn ask_all(&mut self, context: &mut Context<'_>, bytes_min: usize) -> Option<Outcome> {
        for tag in 0..self.targets.len() {
            self.ask(context, tag, bytes_min);
        }
        // Nobody has room, or everybody an error: more cannot come.
        if self.open == 0 { Some(self.answer(context)) } else { None }
    }

    /// Asks for what may follow what is there.
    fn ask(&mut self, context: &mut Context<'_>, tag: usize, bytes_min: usize) {
        let is_wide = self.is_waiting && self.targets.len() > WAVE;
        let share_min = if is_wide { 0 } else { SHARE_BYTES_MIN };
        let share = (self.limits.bytes_max / self.targets.len()).max(share_min);
        let target = &mut self.targets[tag];
        let Ok(partition) = target.partition else { return };
        let room = target.bytes_max.min(share).saturating_sub(target.bytes);
        if room == 0 && !target.frames.is_empty() {
            return;
        }
        let number = |bytes: usize| u32::try_from(bytes).unwrap_or(u32::MAX);
        let wait = self.limits.deadline.saturating_duration_since(context.now);
        self.open += 1;
        let request = Fetch {
            partition,
            offset: target.offset,
            bytes_max: number(room.max(1)),
            bytes_min: number(bytes_min),
            wait_max: Some(wait),
            reader: Some(self.reader),
        };
        context.ask(tag, Request::Fetch(request));
    }

    fn is_enough(&self) -> bool {
        self.has_error || self.bytes >= self.limits.bytes_min
    }

    fn answer(&mut self, context: &mut Context<'_>) -> Outcome {
        response::encode(context, &mut self.scope, &self.targets, &self.limits)
    }
}

impl Pending for Reading {
    fn held_bytes(&self) -> usize {
        let wanted = self.targets.iter().map(|target| target.bytes_max).fold(0, usize::saturating_add);
        wanted.min(self.limits.bytes_max)
    }

    /// Once it waits it has an ask open for each partition. Kafka's brokers take one request of a connection at a time.
    fn is_wide(&self) -> bool {
        self.targets.len() > WAVE
    }

    fn answered(&mut self, context: &mut Context<'_>, tag: usize, response: Response) -> Option<Outcome> {
        let Response::Fetch(mut result) = response else { return Some(Outcome::unexpected(&response)) };
        self.open -= 1;
        if self.bytes > 0
            && self.bytes >= self.limits.bytes_max
            && let Ok(fetched) = &mut result
        {
            fetched.frames.clear();
        }
        let bytes_before = self.targets[tag].bytes;
        self.targets[tag].note(result);
        self.bytes += self.targets[tag].bytes - bytes_before;
        self.has_error |= self.targets[tag].partition.is_err();
        if !self.is_waiting {
            self.ask_more(context);
        }
        let is_done = self.is_enough() || context.now >= self.limits.deadline || self.targets.len() == 1;
        if !self.is_waiting {
            return match self.open {
                0 if is_done => Some(self.answer(context)),
                0 => {
                    self.is_waiting = true;
                    self.ask_all(context, 1)
                }
                _ => None,
            };
        }
        // Who has waited in vain has waited to the end.
        if !is_done && self.targets[tag].bytes > bytes_before {
            self.ask(context, tag, 1);
        }
        if is_done || self.open == 0 { Some(self.answer(context)) } else { None }
    }
}
