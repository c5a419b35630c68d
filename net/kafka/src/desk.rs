//! What the connections of a core share.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use engine_api::Ask;

use crate::api::ApiTable;
use crate::apis::fetch::conversions::Conversions;
use crate::apis::fetch::session::Sessions;
use crate::config::{EVENTS_MAX, EVENTS_PER_S, ServerConfig};
use crate::slots::Slots;

pub(crate) struct Desk {
    pub(crate) config: ServerConfig,
    pub(crate) apis: ApiTable,
    pub(crate) slots: Slots,
    pub(crate) asks: VecDeque<Ask>,
    pub(crate) paused: bool,
    /// Room given to requests that have not arrived.
    pub(crate) granted_bytes: usize,
    pub(crate) sessions: Sessions,
    pub(crate) conversions: Conversions,
    pub(crate) counters: Counters,
    pub(crate) events: Events,
}

impl Desk {
    pub(crate) fn new(config: ServerConfig) -> Self {
        let apis = ApiTable::new();
        let counters = Counters { requests: vec![0; apis.rows().len()], ..Counters::default() };
        Self {
            config,
            apis,
            slots: Slots::default(),
            asks: VecDeque::new(),
            paused: false,
            granted_bytes: 0,
            sessions: Sessions::default(),
            conversions: Conversions::default(),
            counters,
            events: Events::default(),
        }
    }
}

#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) connections_opened: u64,
    pub(crate) connections_refused: u64,
    pub(crate) bytes_in: u64,
    pub(crate) bytes_out: u64,
    /// By row of the table of APIs.
    pub(crate) requests: Vec<u64>,
    pub(crate) client_errors: BTreeMap<&'static str, u64>,
}

impl Counters {
    pub(crate) fn client_error(&mut self, reason: &'static str) {
        *self.client_errors.entry(reason).or_default() += 1;
    }
}

/// An event's name and fields.
pub(crate) type Event = (&'static str, Vec<(&'static str, String)>);

/// What is to be logged: a few per second, the rest is only counted.
#[derive(Debug, Default)]
pub(crate) struct Events {
    queue: VecDeque<Event>,
    second_began: Option<Instant>,
    in_second: u32,
    dropped: u64,
}

impl Events {
    pub(crate) fn push(&mut self, now: Instant, name: &'static str, mut fields: Vec<(&'static str, String)>) {
        let is_new_second = self
            .second_began
            .is_none_or(|began| now.saturating_duration_since(began) >= Duration::from_secs(1));
        if is_new_second {
            self.second_began = Some(now);
            self.in_second = 0;
        }
        if self.in_second >= EVENTS_PER_S || self.queue.len() >= EVENTS_MAX {
            self.dropped += 1;
            return;
        }
        self.in_second += 1;
        if self.dropped > 0 {
            fields.push(("events_dropped_before", std::mem::take(&mut self.dropped).to_string()));
        }
        self.queue.push_back((name, fields));
    }

    pub(crate) fn poll(&mut self) -> Option<Event> {
        self.queue.pop_front()
    }
}
