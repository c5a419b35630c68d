//! What must be refused, and change nothing: what no well-behaved client asks.

use engine_api::{
    Acks, AlterTopic, CreateTopic, DeleteRecords, DeleteTopic, DescribeTopics, Fetch, FindOffset,
    PartitionId, Place, Produce, ProduceError, Produced, Request, Response, TopicId,
};
use storage_frame::{Offset, Producer};

use super::lanes::seal;
use super::{Asked, Direct, PRODUCER};
use crate::fact::{BatchId, Fact};
use crate::value::Value;

impl Direct {
    pub fn be_rude(&mut self) {
        match self.dice.below(8) {
            0..4 => self.produce_rudely(),
            _ => {
                let (what, request) = self.draw_rude();
                self.ask(Asked::Rude { what }, request);
            }
        }
    }

    fn draw_rude(&mut self) -> (&'static str, Request) {
        let nowhere = PartitionId { topic: TopicId(1 + u128::from(self.dice.roll())), index: 0 };
        let somewhere = self.any_partition().map_or(nowhere, |(_, partition)| partition);
        let beyond = PartitionId { index: 1_000_000, ..somewhere };
        let gone = || "no-such-topic".to_owned();
        match self.dice.below(9) {
            0 => {
                let fetch = Fetch {
                    partition: nowhere,
                    offset: Offset(0),
                    bytes_max: 1,
                    bytes_min: 0,
                    wait_max: None,
                    reader: None,
                };
                ("fetch from nowhere", Request::Fetch(fetch))
            }
            1 => {
                let fetch = Fetch {
                    partition: somewhere,
                    offset: Offset(1 << 60),
                    bytes_max: u32::MAX,
                    bytes_min: u32::MAX,
                    wait_max: None,
                    reader: None,
                };
                ("fetch beyond the end", Request::Fetch(fetch))
            }
            2 => {
                let find = FindOffset { partition: beyond, place: Place::End };
                ("find in a partition there is not", Request::FindOffset(find))
            }
            3 => {
                let delete = DeleteRecords { partition: somewhere, before: Offset(1 << 60) };
                ("delete beyond the end", Request::DeleteRecords(delete))
            }
            4 => {
                let create = CreateTopic {
                    name: "not/a/name".to_owned(),
                    partitions: Some(1),
                    replicas: None,
                    configs: Vec::new(),
                };
                ("create a topic with no name", Request::CreateTopic(create))
            }
            5 => {
                let create = CreateTopic {
                    name: "too-many".to_owned(),
                    partitions: Some(u32::MAX),
                    replicas: Some(3),
                    configs: vec![("no.such.key".to_owned(), "x".to_owned())],
                };
                ("create a topic that cannot be", Request::CreateTopic(create))
            }
            6 => {
                let alter =
                    AlterTopic { name: gone(), partitions: Some(2), configs: Vec::new(), based_on: None };
                ("alter a topic there is not", Request::AlterTopic(alter))
            }
            7 => {
                ("delete a topic there is not", Request::DeleteTopic(DeleteTopic { name: gone(), id: None }))
            }
            _ => {
                let describe = DescribeTopics { names: vec![gone()] };
                ("describe a topic there is not", Request::DescribeTopics(describe))
            }
        }
    }

    /// A batch that is refused: too large, nowhere, or in the name of a producer there is not.
    fn produce_rudely(&mut self) {
        let Some((_, somewhere)) = self.any_partition() else { return };
        self.next_lane += 1;
        let wall = self.moment.wall;
        let mut value = Value { client: PRODUCER.0, lane: self.next_lane, number: 0, bytes: 64 };
        let mut to = somewhere;
        let mut producer = None;
        match self.dice.below(4) {
            // Above the default max.message.bytes.
            0 => value.bytes = 1_100_000,
            1 => to.index = 1_000_000,
            2 => to.topic = TopicId(to.topic.0 ^ 1),
            _ => producer = Some(self.rude_producer()),
        }
        let records = vec![(value, wall)];
        let frame = seal(&records, producer);
        let batch = self.next_batch();
        self.wishes.facts.push(Fact::Sent { batch, to, records, idempotent: false });
        let produce = Produce { partition: to, acks: Acks::All, frame };
        self.ask(Asked::RudeProduce { batch }, Request::Produce(produce));
    }

    /// One that has no order in what it sends. May be taken: a producer nobody knows may start anywhere, and one of a
    /// newer epoch fences the older. No sequence is sent twice, or it would be a duplicate of other records.
    fn rude_producer(&mut self) -> Producer {
        let id = u64::MAX - self.dice.below(3);
        let epoch = (self.next_lane % 60_000) as u16;
        match self.dice.below(3) {
            0 => Producer { id, epoch, base_sequence: 0 },
            1 => Producer { id, epoch, base_sequence: self.next_lane },
            _ => Producer { id, epoch: epoch / 2, base_sequence: 1_000_000 + self.next_lane },
        }
    }

    pub(super) fn on_rude(&mut self, batch: BatchId, answer: Result<Produced, ProduceError>) {
        self.on_plain(batch, answer);
    }
}

/// Was it refused?
pub(super) fn check(what: &'static str, response: &Response) -> Result<(), String> {
    let is_refused = match response {
        Response::Produce(answer) => answer.is_err(),
        Response::Fetch(answer) => answer.is_err(),
        Response::FindOffset(answer) => answer.is_err(),
        Response::DeleteRecords(answer) => answer.is_err(),
        Response::CreateTopic(answer) | Response::AlterTopic(answer) => answer.is_err(),
        Response::DeleteTopic(answer) => answer.is_err(),
        Response::DescribeTopics(answer) => answer.is_err(),
        Response::Group(answer) => answer.is_err(),
        Response::ListGroups(answer) => answer.is_err(),
        Response::MeasureLag(answer) => answer.is_err(),
        Response::CheckTopic(answer) => answer.is_err(),
        Response::DescribeLogs(answer) => answer.is_err(),
        Response::DescribeCluster(_) | Response::InitProducer(_) => false,
    };
    if is_refused {
        Ok(())
    } else {
        Err(format!("a request that must be refused ({what}) was answered by {response:?}"))
    }
}
