//! One client's connection: requests in Kafka's bytes, answers by the order they were asked in.
//!
//! It begins as every client's does, by asking for versions and for the cluster. When it is lost whoever holds it is
//! told what stays without an answer.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use kafka_protocol::messages::{
    ApiVersionsRequest, FindCoordinatorRequest, MetadataRequest, RequestHeader, ResponseHeader,
};
use kafka_protocol::protocol::{self, Decodable, Encodable, HeaderVersion, StrBytes};
use tests_disk::Dice;

use super::asked::{Asked, What};
use super::{Scene, versions};
use crate::fact::Fact;
use crate::net::{PipeId, Side};

/// Until a connection that was lost is made anew, at most.
const AGAIN_MS: u64 = 300;
/// For an answer, beside what a fetch may wait; then the connection is given up.
const PATIENCE: Duration = Duration::from_secs(20);
const SIZE_BYTES: usize = 4;
/// Of one read.
const READ_BYTES: u64 = 64 << 10;

#[derive(Debug)]
pub(super) struct Line {
    client: u32,
    group: Option<String>,
    pipe: Option<PipeId>,
    /// Counts all connections of the run.
    connection: u64,
    stage: Stage,
    out: BytesMut,
    inbox: BytesMut,
    asked: VecDeque<Asked>,
    correlation: i32,
    again_at: Duration,
    /// Takes nothing of what has arrived before.
    deaf_until: Duration,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Dialled,
    Greeting,
    Open,
}

/// What a connection brought.
#[derive(Debug)]
pub(super) enum News {
    Answer(Asked, Bytes),
    /// Nothing will come of these any more.
    Lost(Vec<Asked>),
}

impl Line {
    /// A member of a group looks for its coordinator, others for topics.
    pub(super) fn new(client: u32, group: Option<String>) -> Self {
        Self {
            client,
            group,
            pipe: None,
            connection: 0,
            stage: Stage::Dialled,
            out: BytesMut::new(),
            inbox: BytesMut::new(),
            asked: VecDeque::new(),
            correlation: 0,
            again_at: Duration::ZERO,
            deaf_until: Duration::ZERO,
        }
    }

    pub(super) fn is_on(&self, pipe: PipeId) -> bool {
        self.pipe == Some(pipe)
    }

    pub(super) fn is_open(&self) -> bool {
        self.pipe.is_some() && self.stage == Stage::Open
    }

    /// Not more than one in flight of what only one may be.
    pub(super) fn waits_for(&self, is_it: impl Fn(&What) -> bool) -> bool {
        self.asked.iter().any(|asked| is_it(&asked.what))
    }

    /// Takes nothing for a while.
    pub(super) fn be_deaf(&mut self, until: Duration) {
        self.deaf_until = until;
    }

    pub(super) fn calm_down(&mut self) {
        self.deaf_until = Duration::ZERO;
        self.again_at = Duration::ZERO;
    }

    /// Dials, writes what waits, gives up what takes too long.
    pub(super) fn step(&mut self, scene: &mut Scene<'_>, dice: &mut Dice) -> Option<News> {
        if self.pipe.is_none() {
            if self.again_at <= scene.now {
                self.dial(scene, dice);
            }
            return None;
        }
        let is_late = |asked: &Asked| asked.at.max(scene.calm_since) + asked.may_wait + PATIENCE < scene.now;
        if self.asked.front().is_some_and(is_late) {
            if scene.is_calm {
                let why = format!("client {} has no answer to {:?}", self.client, self.asked.front());
                scene.wishes.wrong.push(why);
            }
            return Some(self.drop_it(scene, dice));
        }
        self.pump(scene, dice)
    }

    fn dial(&mut self, scene: &mut Scene<'_>, dice: &mut Dice) {
        *scene.connections += 1;
        self.connection = *scene.connections;
        self.pipe = Some(scene.tcp.open(scene.now));
        self.stage = Stage::Dialled;
        self.correlation = dice.below(1000) as i32;
        let version = dice.between(0, 5) as i16;
        let software = StrBytes::from_static_str("sim");
        let request = ApiVersionsRequest::default();
        // Below version 3 nobody says who it is.
        let request = match version {
            0..3 => request,
            _ => request.with_client_software_name(software.clone()).with_client_software_version(software),
        };
        self.ask(scene, version, &request, Some(What::Versions));
    }

    fn greet(&mut self, scene: &mut Scene<'_>, dice: &mut Dice) {
        self.stage = Stage::Greeting;
        if let Some(group) = &self.group {
            let version = dice.between(0, 5) as i16;
            let request = FindCoordinatorRequest::default();
            let key = StrBytes::from_string(group.clone());
            let request = match version {
                4.. => request.with_coordinator_keys(vec![key]),
                _ => request.with_key(key),
            };
            self.ask(scene, version, &request, Some(What::Coordinator));
        } else {
            // Topics are there or not, and are not made by asking.
            let version = dice.between(4, 13) as i16;
            let request = MetadataRequest::default().with_topics(None).with_allow_auto_topic_creation(false);
            self.ask(scene, version, &request, Some(What::Metadata));
        }
    }

    /// Puts a request behind those that were asked before. Without `what` no answer is waited for.
    pub(super) fn ask<R: protocol::Request>(
        &mut self,
        scene: &mut Scene<'_>,
        version: i16,
        request: &R,
        what: Option<What>,
    ) {
        self.ask_patiently(scene, version, request, what, Duration::ZERO);
    }

    pub(super) fn ask_patiently<R: protocol::Request>(
        &mut self,
        scene: &mut Scene<'_>,
        version: i16,
        request: &R,
        what: Option<What>,
        may_wait: Duration,
    ) {
        self.correlation = self.correlation.wrapping_add(1);
        let (connection, correlation) = (self.connection, self.correlation);
        self.out.put_slice(&encode(self.client, version, correlation, request));
        scene.tell(Fact::KafkaAsked { connection, correlation, is_answered: what.is_some() });
        if let Some(what) = what {
            self.asked.push_back(Asked { correlation, version, what, at: scene.now, may_wait });
        }
    }

    fn pump(&mut self, scene: &mut Scene<'_>, dice: &mut Dice) -> Option<News> {
        let pipe = self.pipe?;
        match scene.tcp.write(scene.now, pipe, Side::Client, &self.out) {
            Some(taken) => self.out.advance(taken),
            None => return Some(self.drop_it(scene, dice)),
        }
        None
    }

    /// What has come since: call until there is nothing.
    pub(super) fn hear(&mut self, scene: &mut Scene<'_>, dice: &mut Dice) -> Option<News> {
        let pipe = self.pipe?;
        if scene.now < self.deaf_until {
            return None;
        }
        loop {
            if let Some(frame) = self.take_frame() {
                match self.answered(scene, dice, frame) {
                    Some(news) => return Some(news),
                    None => continue,
                }
            }
            let heard = scene.tcp.read(scene.now, pipe, Side::Client, dice.between(1, READ_BYTES) as usize);
            self.inbox.extend_from_slice(&heard.bytes);
            if heard.bytes.is_empty() {
                if heard.is_end {
                    return Some(self.drop_it(scene, dice));
                }
                return self.pump(scene, dice);
            }
        }
    }

    fn take_frame(&mut self) -> Option<Bytes> {
        let size = i32::from_be_bytes(*self.inbox.first_chunk::<SIZE_BYTES>()?);
        let bytes = SIZE_BYTES + usize::try_from(size).expect("a size is not below zero");
        if self.inbox.len() < bytes {
            return None;
        }
        let mut frame = self.inbox.split_to(bytes).freeze();
        frame.advance(SIZE_BYTES);
        Some(frame)
    }

    /// Whose turn it is. What a greeting is answered is looked at here.
    fn answered(&mut self, scene: &mut Scene<'_>, dice: &mut Dice, frame: Bytes) -> Option<News> {
        let correlation = frame.first_chunk::<4>().map_or(-1, |bytes| i32::from_be_bytes(*bytes));
        scene.tell(Fact::KafkaAnswered { connection: self.connection, correlation });
        // Another one is an oracle's.
        let asked = self.asked.pop_front().filter(|asked| asked.correlation == correlation)?;
        match &asked.what {
            What::Versions => {
                scene.check(versions::check(asked.version, frame));
                self.greet(scene, dice);
                None
            }
            What::Metadata => {
                scene.check(versions::check_metadata(asked.version, frame, scene.topics));
                self.stage = Stage::Open;
                None
            }
            What::Coordinator => match versions::check_coordinator(asked.version, frame) {
                Ok(true) => {
                    self.stage = Stage::Open;
                    None
                }
                Ok(false) => Some(self.drop_it(scene, dice)),
                Err(why) => {
                    scene.check(Err(why));
                    None
                }
            },
            _ => Some(News::Answer(asked, frame)),
        }
    }

    /// Hangs up, all at once or behind what was written.
    pub(super) fn drop_it(&mut self, scene: &mut Scene<'_>, dice: &mut Dice) -> News {
        if let Some(pipe) = self.pipe.take() {
            if dice.one_in(2) {
                scene.tcp.close(scene.now, pipe, Side::Client);
            } else {
                scene.tcp.abandon(scene.now, pipe, Side::Client);
            }
        }
        self.out.clear();
        self.inbox.clear();
        self.stage = Stage::Dialled;
        self.again_at = scene.now + Duration::from_millis(dice.below(AGAIN_MS));
        News::Lost(std::mem::take(&mut self.asked).into())
    }
}

/// A request as a client sends it, size and all.
fn encode<R: protocol::Request>(client: u32, version: i16, correlation: i32, request: &R) -> Bytes {
    let head = RequestHeader::default()
        .with_request_api_key(R::KEY)
        .with_request_api_version(version)
        .with_correlation_id(correlation)
        .with_client_id(Some(StrBytes::from_string(format!("client-{client}"))));
    let mut bytes = BytesMut::new();
    bytes.put_i32(0);
    head.encode(&mut bytes, R::header_version(version)).expect("a head");
    request.encode(&mut bytes, version).expect("can be said in this version");
    let size = i32::try_from(bytes.len() - SIZE_BYTES).expect("small");
    bytes[..SIZE_BYTES].copy_from_slice(&size.to_be_bytes());
    bytes.freeze()
}

/// # Errors
/// Bytes that are no answer to `R`.
pub(super) fn decode<R: protocol::Request>(version: i16, mut bytes: Bytes) -> Result<R::Response, String> {
    let wrong = |what: String| format!("an answer to API {} version {version}: {what}", R::KEY);
    ResponseHeader::decode(&mut bytes, R::Response::header_version(version))
        .map_err(|error| wrong(error.to_string()))?;
    let response = R::Response::decode(&mut bytes, version).map_err(|error| wrong(error.to_string()))?;
    if bytes.is_empty() { Ok(response) } else { Err(wrong(format!("{} bytes follow it", bytes.len()))) }
}
