//! What a handler sees of the broker while it works on one request.

use std::fmt::{self, Display};
use std::net::SocketAddr;
use std::time::Instant;

use bytes::Bytes;
use engine_api::{Catalog, Request, Response};
use kafka_protocol::messages::ApiKey;
use kafka_protocol::protocol::{Decodable, Encodable};

use crate::api::{ASKS_MAX, Outcome, Pending};
use crate::apis::fetch::conversions::Conversions;
use crate::apis::fetch::session::{Session, Sessions};
use crate::codec::{Malformed, RequestHead, encode_reply};
use crate::config::ServerConfig;
use crate::desk::Desk;

/// Who has connected to what.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Peer {
    pub(crate) remote: SocketAddr,
    pub(crate) local: SocketAddr,
}

/// See the module.
pub(crate) struct Context<'a> {
    pub(crate) now: Instant,
    pub(crate) catalog: &'a dyn Catalog,
    pub(crate) config: &'a ServerConfig,
    pub(crate) peer: Peer,
    pub(crate) key: ApiKey,
    pub(crate) head: &'a RequestHead,
    /// What the connection reads (KIP-227).
    pub(crate) session: &'a mut Option<Session>,
    pub(crate) sessions: &'a mut Sessions,
    pub(crate) conversions: &'a mut Conversions,
    /// Asked for during this call: a tag and the request.
    pub(crate) asked: Vec<(usize, Request)>,
}

impl<'a> Context<'a> {
    pub(crate) fn new(
        now: Instant,
        catalog: &'a dyn Catalog,
        desk: &'a mut Desk,
        peer: Peer,
        key: ApiKey,
        head: &'a RequestHead,
        session: &'a mut Option<Session>,
    ) -> Self {
        let Desk { config, sessions, conversions, .. } = desk;
        Self { now, catalog, config, peer, key, head, session, sessions, conversions, asked: Vec::new() }
    }

    /// # Errors
    /// [`Malformed`]: closes the connection.
    pub(crate) fn decode<R: Decodable>(&self, mut body: Bytes) -> Result<R, Malformed> {
        R::decode(&mut body, self.head.version).map_err(|error| Malformed::new(error.to_string()))
    }

    /// Encodes at the request's version.
    pub(crate) fn reply<R: Encodable>(&self, response: &R) -> Outcome {
        encode_reply(self.key, self.head, self.head.version, response).into()
    }

    /// Its answer goes to [`Pending::answered`] with `tag`.
    pub(crate) fn ask(&mut self, tag: usize, request: Request) {
        self.asked.push((tag, request));
    }

    /// Asks all of `requests` at once; `then` gets their answers in the order of the requests.
    pub(crate) fn gather(
        &mut self,
        requests: Vec<Request>,
        then: impl FnOnce(&mut Context<'_>, Vec<Response>) -> Outcome + Send + 'static,
    ) -> Outcome {
        if requests.is_empty() {
            return then(self, Vec::new());
        }
        if requests.len() > ASKS_MAX {
            return Outcome::Close("request_too_wide", format!("{} parts", requests.len()));
        }
        let answers = requests.iter().map(|_| None).collect();
        let missing = requests.len();
        for (tag, request) in requests.into_iter().enumerate() {
            self.ask(tag, request);
        }
        Outcome::Wait(Box::new(Gather { answers, missing, then: Some(then) }))
    }

    /// The address clients are told of this broker.
    pub(crate) fn own_address(&self) -> (String, u16) {
        self.config
            .advertise
            .clone()
            .unwrap_or_else(|| (self.peer.local.ip().to_canonical().to_string(), self.peer.local.port()))
    }

    /// `/127.0.0.1`, as Kafka prints a client.
    pub(crate) fn client_host(&self) -> impl Display + use<> {
        let host = self.peer.remote.ip().to_canonical();
        fmt::from_fn(move |f| write!(f, "/{host}"))
    }
}

struct Gather<F> {
    answers: Vec<Option<Response>>,
    missing: usize,
    then: Option<F>,
}

impl<F> Pending for Gather<F>
where
    F: FnOnce(&mut Context<'_>, Vec<Response>) -> Outcome + Send,
{
    fn answered(&mut self, context: &mut Context<'_>, tag: usize, response: Response) -> Option<Outcome> {
        assert!(self.answers[tag].is_none(), "an ask is answered once");
        self.answers[tag] = Some(response);
        self.missing -= 1;
        if self.missing > 0 {
            return None;
        }
        let answers = std::mem::take(&mut self.answers).into_iter().flatten().collect();
        let then = self.then.take().expect("the last answer comes once");
        Some(then(context, answers))
    }
}
