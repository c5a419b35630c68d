//! Which APIs are served, and the frame their handlers fit into.
//!
//! A row of the table is an [`Api`]: key, name, the versions served, the shape of its request, and the function that
//! begins one. `groups` and `admin` bring rows of their own (`groups::APIS`, `admin::APIS`). Every row is advertised
//! by `ApiVersions`; nothing else is. Before the function is called the body has been walked by its shape, so
//! decoding it makes no more room than its bytes deserve.
//!
//! ```text
//! fn start(context: &mut Context<'_>, body: Bytes) -> Result<Outcome, Malformed> {
//!     let request: HeartbeatRequest = context.decode(body)?;          // Malformed closes the connection
//!     let ask = Request::Group(...);
//!     Ok(context.gather(vec![ask], move |context, answers| {          // answers in the order of the asks
//!         let response = HeartbeatResponse::default().with_error_code(...);
//!         context.reply(&response)                                    // or context.gather(...) again
//!     }))
//! }
//! ```
//! - What can be answered at once is: `Ok(context.reply(&response))`. An empty `gather` calls its function at once.
//! - [`Context`] has the catalog, the settings, who asks (`peer`, `head.client_id`), the version (`head.version`) and
//!   the time. Topics are looked up in the catalog; everything else is asked for.
//! - `reply` encodes at the request's version. A field that this version lacks must be left at its default: else the
//!   connection is closed, counted as `answer_not_encodable`; the test of all versions finds it.
//! - Who needs more than questions and answers (fetches that wait for one of many) implements [`Pending`].
//! - Asks leave in the order of a connection's requests, answers too; a request that waits holds up the answers
//!   behind it, not the asks. When the connection ends, asks still open are cancelled.
//! - A request may have [`ASKS_MAX`] asks open; more close the connection.

use bytes::Bytes;
use engine_api::Response;
use kafka_protocol::messages::ApiKey;

use crate::apis::{api_versions, fetch, init_producer, leader_epoch, list_offsets, metadata, produce};
use crate::codec::{Malformed, Reply};
use crate::context::Context;
use crate::walk::Shape;
use crate::{admin, groups, shapes};

/// Asks a request may have open.
pub(crate) const ASKS_MAX: usize = 20_000;

/// Begins a request whose body has been walked.
pub(crate) type Start = fn(&mut Context<'_>, Bytes) -> Result<Outcome, Malformed>;

/// An API that is served.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Api {
    pub(crate) key: ApiKey,
    pub(crate) name: &'static str,
    /// Served.
    pub(crate) version_min: i16,
    pub(crate) version_max: i16,
    /// At most `version_min`; less where clients ask for what they do not use.
    pub(crate) advertised_min: i16,
    pub(crate) shape: Shape,
    pub(crate) start: Start,
}

impl Api {
    pub(crate) const fn new(
        key: ApiKey,
        name: &'static str,
        version_min: i16,
        version_max: i16,
        shape: Shape,
        start: Start,
    ) -> Self {
        Self { key, name, version_min, version_max, advertised_min: version_min, shape, start }
    }

    const fn advertised_from(mut self, version: i16) -> Self {
        self.advertised_min = version;
        self
    }

    pub(crate) fn serves(&self, version: i16) -> bool {
        (self.version_min..=self.version_max).contains(&version)
    }

    /// Compact lengths and tagged fields.
    pub(crate) fn is_flexible(&self, version: i16) -> bool {
        self.key.request_header_version(version) >= 2
    }
}

/// What became of a request.
pub(crate) enum Outcome {
    Reply(Reply),
    /// Done, and nothing is sent.
    Silence,
    Wait(Box<dyn Pending>),
    /// The connection ends: a name to count it by, and what there is to say.
    Close(&'static str, String),
}

/// A request in flight.
pub(crate) trait Pending: Send {
    /// What it may come to hold, if that is much: no more requests are taken as if it were held.
    fn held_bytes(&self) -> usize {
        0
    }

    /// Takes as much as a connection may have for itself: no more requests are taken while it is open.
    fn is_wide(&self) -> bool {
        false
    }

    /// The answer to the ask that was made with `tag`. `None`: not done yet. When it is done, asks still open are
    /// cancelled.
    fn answered(&mut self, context: &mut Context<'_>, tag: usize, response: Response) -> Option<Outcome>;
}

const OWN: &[Api] = &[
    // Clients of before librdkafka 2.11 do not compress when less than all versions are advertised.
    Api::new(ApiKey::Produce, "Produce", 3, 11, shapes::PRODUCE, produce::start).advertised_from(0),
    Api::new(ApiKey::Fetch, "Fetch", 4, 12, shapes::FETCH, fetch::start),
    Api::new(ApiKey::ListOffsets, "ListOffsets", 1, 7, shapes::LIST_OFFSETS, list_offsets::start),
    Api::new(ApiKey::Metadata, "Metadata", 0, 12, shapes::METADATA, metadata::start),
    Api::new(ApiKey::ApiVersions, "ApiVersions", 0, 4, shapes::API_VERSIONS, api_versions::start),
    Api::new(ApiKey::InitProducerId, "InitProducerId", 0, 4, shapes::INIT_PRODUCER_ID, init_producer::start),
    Api::new(
        ApiKey::OffsetForLeaderEpoch,
        "OffsetForLeaderEpoch",
        2,
        4,
        shapes::OFFSET_FOR_LEADER_EPOCH,
        leader_epoch::start,
    ),
];

/// Every row.
pub(crate) fn all() -> impl Iterator<Item = &'static Api> {
    OWN.iter().chain(groups::APIS).chain(admin::APIS)
}

/// The rows by key.
#[derive(Debug)]
pub(crate) struct ApiTable {
    rows: Vec<&'static Api>,
    /// Index into `rows` by key.
    by_key: Vec<Option<usize>>,
}

impl ApiTable {
    pub(crate) fn new() -> Self {
        let rows: Vec<&Api> = all().collect();
        let mut by_key = vec![None; 128];
        for (index, api) in rows.iter().enumerate() {
            let place: &mut Option<usize> = &mut by_key[api.key as usize];
            assert!(place.is_none(), "{} is served twice", api.name);
            *place = Some(index);
        }
        Self { rows, by_key }
    }

    /// The row and its index.
    pub(crate) fn find(&self, key: i16) -> Option<(usize, &'static Api)> {
        let index = (*self.by_key.get(usize::try_from(key).ok()?)?)?;
        Some((index, self.rows[index]))
    }

    pub(crate) fn rows(&self) -> &[&'static Api] {
        &self.rows
    }
}
