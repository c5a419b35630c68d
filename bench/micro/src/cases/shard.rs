//! engine/shard: produces with the disk's answers, fetches from memory, ticks; with one partition and with 10,000.

use engine_api::{Fetch, PartitionId, Request, Response};
use storage_frame::{Frame, Offset};

use crate::batches::Shape;
use crate::case::{Case, Step};
use crate::meter::Meter;
use crate::node::{Node, Source};

const MANY: u32 = 10_000;
/// Of the many, those that are produced to and read in turn: the others only make everything that is kept for each
/// partition as large as it is. Coprime steps spread them.
const BUSY: u32 = 400;
const SPREAD: u32 = 7919;

const RECORD: Shape = Shape::one(100);
const BATCH: Shape = Shape::new(1 << 10, 16 << 10);

pub(super) const CASES: &[Case] = &[
    one("shard/produce 100 B", 1, || produce(RECORD, 1, 1)),
    one("shard/produce 16 KiB", 16, || produce(BATCH, 1, 1)),
    many("shard/produce 100 B, 10,000 partitions", 1, || produce(RECORD, MANY, BUSY)),
    many("shard/produce 16 KiB, 10,000 partitions", 16, || produce(BATCH, MANY, BUSY)),
    one("shard/produce 16 KiB to a waiting reader", 16, produce_to_reader),
    one("shard/fetch 16 KiB", 16, || fetch(1, 1)),
    many("shard/fetch 16 KiB, 10,000 partitions", 16, || fetch(MANY, BUSY)),
    one("shard/tick", 0, || tick(1)),
    one("shard/tick, 10,000 partitions", 0, || tick(MANY)),
];

const fn one(name: &'static str, records: u32, prepare: fn() -> Step) -> Case {
    Case { name, records, warm_up: 50, steps: 100, prepare }
}

/// Every busy partition has had its first batches, which take room on the disk, before counting.
const fn many(name: &'static str, records: u32, prepare: fn() -> Step) -> Case {
    Case { name, records, warm_up: 3 * BUSY, steps: BUSY, prepare }
}

fn sources(node: &(Node, engine_api::TopicId), shape: Shape, partitions: u32, busy: u32) -> Vec<Source> {
    let frame = shape.archived();
    let source = |nth: u32| {
        let index = nth * SPREAD % partitions;
        Source::new(frame.clone(), PartitionId { topic: node.1, index })
    };
    (0..busy).map(source).collect()
}

fn produce(shape: Shape, partitions: u32, busy: u32) -> Step {
    let node = Node::with_partitions(partitions);
    let mut sources = sources(&node, shape, partitions, busy);
    let mut node = node.0;
    let mut turns = (0..sources.len()).cycle();
    Box::new(move |meter| {
        let nth = turns.next().expect("endless");
        node.ask(meter, sources[nth].next());
        let response = node.replies.pop();
        assert!(matches!(response, Some(Response::Produce(Ok(_)))), "{response:?}");
    })
}

fn fetched(response: Option<Response>) -> Vec<Frame> {
    let Some(Response::Fetch(Ok(fetched))) = response else { panic!("{response:?}") };
    fetched.frames
}

/// The reader asks again before the next batch, as one who follows the end does.
fn produce_to_reader() -> Step {
    let node = Node::with_partitions(1);
    let mut source = sources(&node, BATCH, 1, 1).remove(0);
    let (mut node, topic) = node;
    let partition = PartitionId { topic, index: 0 };
    let mut end = Offset::ZERO;
    Box::new(move |meter| {
        let fetch =
            Fetch { partition, offset: end, bytes_max: 1 << 20, bytes_min: 1, wait_max: None, reader: None };
        node.ask(meter, Request::Fetch(fetch));
        assert!(node.replies.is_empty(), "it waits");
        node.ask(meter, source.next());
        assert_eq!(node.replies.len(), 2);
        for response in node.replies.drain(..) {
            if matches!(response, Response::Fetch(_)) {
                end = fetched(Some(response))[0].header().end_offset();
            }
        }
    })
}

/// Of what is in memory, answered at once.
fn fetch(partitions: u32, busy: u32) -> Step {
    let node = Node::with_partitions(partitions);
    let mut sources = sources(&node, BATCH, partitions, busy);
    let (mut node, topic) = node;
    for source in &mut sources {
        node.ask(&mut Meter::default(), source.next());
    }
    node.replies.clear();
    let mut turns = (0..busy).map(move |nth| nth * SPREAD % partitions).cycle();
    Box::new(move |meter| {
        let partition = PartitionId { topic, index: turns.next().expect("endless") };
        let fetch = Fetch {
            partition,
            offset: Offset(0),
            bytes_max: 1 << 20,
            bytes_min: 1,
            wait_max: None,
            reader: None,
        };
        node.ask(meter, Request::Fetch(fetch));
        assert_eq!(fetched(node.replies.pop()).len(), 1);
    })
}

/// While nothing happens.
fn tick(partitions: u32) -> Step {
    let (mut node, _) = Node::with_partitions(partitions);
    Box::new(move |meter| node.tick(meter))
}
