//! The topic that groups' state is kept in: what it is like, and that it is nobody's but the broker's.
//!
//! A group's partition follows from the number of partitions, and a coordinator trusts what it reads: so clients may
//! read the topic and nothing else.

use engine_api::{CreateTopic, OFFSETS_TOPIC, Request, Response, TopicError};

pub(crate) const RESERVED: &str = "it is the broker's own, for consumer groups";

/// What is said of the topic whatever a node's defaults are: acknowledged is durable, and nothing is forgotten but what
/// has been overtaken.
const CONFIGS: [(&str, &str); 8] = [
    ("cleanup.policy", "compact"),
    // One piece of what a coordinator stores: a generation with all its members. More is refused, see
    // `GroupError::TooLarge`.
    ("max.message.bytes", "8388608"),
    ("message.timestamp.type", "CreateTime"),
    ("min.insync.replicas", "1"),
    ("retention.bytes", "-1"),
    ("retention.ms", "-1"),
    ("segment.bytes", "16777216"),
    ("write.caching", "false"),
];

pub(crate) fn topic(partitions: u32) -> CreateTopic {
    CreateTopic {
        name: OFFSETS_TOPIC.to_owned(),
        partitions: Some(partitions),
        replicas: None,
        configs: CONFIGS.map(|(key, value)| (key.to_owned(), value.to_owned())).to_vec(),
    }
}

/// The answer to a client that wants to change the topic.
pub(crate) fn protect(request: &Request) -> Option<Response> {
    let (name, answer): (&String, fn(TopicError) -> Response) = if let Request::CreateTopic(create) = request
    {
        (&create.name, |error| Response::CreateTopic(Err(error)))
    } else if let Request::AlterTopic(alter) = request {
        (&alter.name, |error| Response::AlterTopic(Err(error)))
    } else if let Request::DeleteTopic(delete) = request {
        (&delete.name, |error| Response::DeleteTopic(Err(error)))
    } else {
        return None;
    };
    if name != OFFSETS_TOPIC {
        return None;
    }
    reach::mark!("shard.offsets_topic_protected");
    Some(answer(TopicError::Name { name: name.clone(), why: RESERVED.to_owned() }))
}
