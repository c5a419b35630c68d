//! engine/turn: the way from core to core, and a request that another core sent, in its turns.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use engine_api::{CoreId, PartitionId, ReplySlot, Request, Response, TopicId};
use engine_shard::{Input, Shard};
use engine_turn::{CoreLogic, LINK_MESSAGES_MAX, Link, Message, Want};
use storage_frame::{Now, TimestampMs};
use tests_disk::{Faults, ModelDisk};

use super::{kafka, quic};
use crate::batches::Shape;
use crate::case::{Case, Step};
use crate::meter::Meter;
use crate::node::{self, CORE, Source, create_topic};

/// Another core, which asks.
const ASKER: CoreId = CoreId(1);

const RECORD: Shape = Shape::one(100);
const BATCH: Shape = Shape::new(1 << 10, 16 << 10);

pub(super) const CASES: &[Case] = &[
    Case { name: "turn/hop of 1 message", records: 0, warm_up: 10, steps: 100, prepare: || hop(1) },
    Case { name: "turn/hop of 64 messages", records: 0, warm_up: 10, steps: 100, prepare: || hop(64) },
    Case {
        name: "turn/produce 100 B for another core",
        records: 1,
        warm_up: 50,
        steps: 100,
        prepare: || produce(RECORD),
    },
    Case {
        name: "turn/produce 16 KiB for another core",
        records: 16,
        warm_up: 50,
        steps: 100,
        prepare: || produce(BATCH),
    },
    Case { name: "turn/idle turn", records: 0, warm_up: 10, steps: 100, prepare: idle },
];

/// From outbox to inbox, without the lock and the doorbell around the link.
fn hop(count: u64) -> Step {
    let mut source = Source::new(BATCH.archived(), PartitionId { topic: TopicId(7), index: 0 });
    let mut link = Link::new(LINK_MESSAGES_MAX);
    let (mut outbox, mut inbox) = (VecDeque::new(), VecDeque::new());
    Box::new(move |meter| {
        inbox.clear();
        for key in 0..count {
            let slot = ReplySlot { core: ASKER, key };
            outbox.push_back(Message::Request { slot, request: source.next() });
        }
        let refused = meter.count(|| {
            link.offer(&mut outbox);
            link.take(&mut inbox)
        });
        assert!(!refused && inbox.len() as u64 == count);
    })
}

struct Rig {
    logic: CoreLogic,
    disk: ModelDisk,
    now: Now,
    at: Instant,
    wants: Vec<Want>,
    keys: u64,
}

impl Rig {
    fn started() -> (Self, TopicId) {
        let now = Now { mono: Duration::from_secs(1), wall: TimestampMs(1_700_000_000_000) };
        let shard = Shard::new(node::config(), now);
        let servers = (quic::server(), net_kafka::Server::new(kafka::config()));
        let mut rig = Self {
            logic: CoreLogic::new(CORE, 2, shard, servers.0, servers.1),
            disk: ModelDisk::new(1, Faults::default()),
            now,
            at: Instant::now(),
            wants: Vec::new(),
            keys: 0,
        };
        rig.settle(&mut Meter::default());
        let response = rig.ask(&mut Meter::default(), create_topic(1));
        let Response::CreateTopic(Ok(topic)) = response else { panic!("{response:?}") };
        (rig, topic.id)
    }

    fn ask(&mut self, meter: &mut Meter, request: Request) -> Response {
        self.keys += 1;
        let slot = ReplySlot { core: ASKER, key: self.keys };
        self.logic.inbox().push_back(Message::Request { slot, request });
        self.settle(meter);
        let answer = self.logic.outbox(ASKER).pop_front();
        let Some(Message::Reply { response, .. }) = answer else { panic!("{answer:?}") };
        response
    }

    /// Turns and what the disk answers to them.
    fn settle(&mut self, meter: &mut Meter) {
        loop {
            let more = meter.count(|| self.logic.turn(self.now, self.at, &mut self.wants));
            let wants = std::mem::take(&mut self.wants);
            let is_quiet = wants.is_empty() && !more;
            self.now.mono += Duration::from_micros(100);
            self.at += Duration::from_micros(100);
            for want in wants {
                if let Want::Disk { log, op, what } = want {
                    self.disk.submit(CORE.0, log, op, what);
                    let result = self.disk.complete(log, op);
                    meter.count(|| self.logic.note(Input::Disk { log, op, result }));
                }
            }
            if is_quiet {
                return;
            }
        }
    }
}

/// To be seen beside the same produce through the shard alone.
fn produce(shape: Shape) -> Step {
    let (mut rig, topic) = Rig::started();
    let mut source = Source::new(shape.archived(), PartitionId { topic, index: 0 });
    Box::new(move |meter| {
        let response = rig.ask(meter, source.next());
        assert!(matches!(response, Response::Produce(Ok(_))), "{response:?}");
    })
}

/// Nothing has happened.
fn idle() -> Step {
    let (mut rig, _) = Rig::started();
    Box::new(move |meter| rig.settle(meter))
}
