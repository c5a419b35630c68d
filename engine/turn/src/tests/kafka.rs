//! Kafka's clients through whole turns: whose bytes lie where, and that an end waits for their answers.

use std::io::IoSlice;
use std::net::SocketAddr;
use std::ops::Range;

use bytes::BufMut;
use net_kafka::ConnId;

use super::node::Node;
use super::*;

/// A connection to one core, with a socket in the test's hands.
struct Kafka {
    core: usize,
    id: ConnId,
}

impl Kafka {
    fn connect(node: &mut Node, core: usize) -> Self {
        let address: SocketAddr = "127.0.0.1:9092".parse().unwrap();
        let id = node.cores[core].kafka_mut().open(node.at, address, address).unwrap();
        Self { core, id }
    }

    /// As the door does: what is sent comes to lie in the server's buffer. Returns where.
    fn send(&self, node: &mut Node, request: &[u8]) -> Range<usize> {
        let kafka = node.cores[self.core].kafka_mut();
        let buffer = kafka.reserve(self.id).unwrap();
        assert!(buffer.capacity() - buffer.len() >= request.len(), "one read takes it");
        let begin = buffer.as_ptr() as usize + buffer.len();
        buffer.put_slice(request);
        kafka.received(node.at, self.id);
        begin..begin + request.len()
    }

    /// Where the chunks lie that are to be sent now, and what they say.
    fn outgoing(&self, node: &mut Node) -> Vec<(Range<usize>, Vec<u8>)> {
        while node.cores[self.core].poll_kafka_ready(node.at).is_some() {}
        let mut slices = [IoSlice::new(&[]); 16];
        let filled = node.cores[self.core].kafka().outgoing(self.id, &mut slices);
        let chunk = |slice: &IoSlice<'_>| {
            (slice.as_ptr() as usize..slice.as_ptr() as usize + slice.len(), slice.to_vec())
        };
        let chunks: Vec<_> = slices[..filled].iter().map(chunk).collect();
        let bytes = chunks.iter().map(|(_, bytes)| bytes.len()).sum();
        node.cores[self.core].kafka_mut().sent(node.at, self.id, bytes);
        chunks
    }
}

/// With the head that goes before it.
fn request(key: i16, version: i16, body: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    bytes.put_i32(4 + 4 + 2 + 1 + body.len() as i32);
    bytes.put_i16(key);
    bytes.put_i16(version);
    bytes.put_i32(7);
    bytes.put_i16(1);
    bytes.put_slice(b"t");
    bytes.put_slice(body);
    bytes
}

fn put_string(bytes: &mut Vec<u8>, text: &str) {
    bytes.put_i16(text.len() as i16);
    bytes.put_slice(text.as_bytes());
}

/// A batch of one record without compression, its value `value_bytes` long.
fn batch(value_bytes: usize) -> Vec<u8> {
    let put_varint = |bytes: &mut Vec<u8>, value: i64| {
        let mut rest = (value << 1) as u64;
        while rest >= 0x80 {
            bytes.push(rest as u8 | 0x80);
            rest >>= 7;
        }
        bytes.push(rest as u8);
    };
    let mut record = vec![0, 0, 0];
    record.push(1); // a key of -1 bytes: none
    put_varint(&mut record, value_bytes as i64);
    record.extend(vec![0x5a; value_bytes]);
    record.push(0); // headers
    let mut checked = Vec::new();
    checked.put_i16(0); // attributes
    checked.put_i32(0); // last offset delta
    checked.put_i64(1_700_000_000_000);
    checked.put_i64(1_700_000_000_000);
    checked.put_i64(-1); // producer
    checked.put_i16(-1);
    checked.put_i32(-1);
    checked.put_i32(1);
    put_varint(&mut checked, record.len() as i64);
    checked.extend(record);
    let mut bytes = Vec::new();
    bytes.put_i64(0);
    bytes.put_i32(4 + 1 + 4 + checked.len() as i32);
    bytes.put_i32(-1); // leader epoch
    bytes.put_i8(2);
    bytes.put_u32(crc_fast::checksum(crc_fast::CrcAlgorithm::Crc32Iscsi, &checked) as u32);
    bytes.extend(checked);
    bytes
}

fn produce(topic: &str, index: u32, batch: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    body.put_i16(-1); // transactional id
    body.put_i16(-1); // acks: all
    body.put_i32(1000);
    body.put_i32(1);
    put_string(&mut body, topic);
    body.put_i32(1);
    body.put_u32(index);
    body.put_i32(batch.len() as i32);
    body.extend(batch);
    request(0, 3, &body)
}

fn fetch(topic: &str, index: u32, wait_ms: i32) -> Vec<u8> {
    let mut body = Vec::new();
    body.put_i32(-1); // replica
    body.put_i32(wait_ms);
    body.put_i32(1);
    body.put_i32(1 << 20);
    body.put_i8(0);
    body.put_i32(1);
    put_string(&mut body, topic);
    body.put_i32(1);
    body.put_u32(index);
    body.put_i64(0);
    body.put_i32(1 << 20);
    request(1, 4, &body)
}

/// From the buffer a socket was read into, through the shard of another core and its cache, to what a socket is
/// given: the records lie where they came to lie first.
#[test]
fn records_are_never_copied_between_the_socket_they_come_from_and_those_they_go_to() {
    const VALUE_BYTES: usize = 3000;
    let mut node = Node::start(2, LINK_MESSAGES_MAX);
    let topic = node.create_topic(2);
    for owner in 0..2 {
        let index = partition_of(&topic, owner).index;
        let writer = Kafka::connect(&mut node, 0);
        let came = writer.send(&mut node, &produce("orders", index, &batch(VALUE_BYTES)));
        node.run(SOON);
        let answer = writer.outgoing(&mut node);
        assert!(!answer.is_empty(), "written and answered");

        let reader = Kafka::connect(&mut node, 1);
        reader.send(&mut node, &fetch("orders", index, 0));
        node.run(SOON);
        let chunks = reader.outgoing(&mut node);
        let is_record = |bytes: &[u8]| bytes.iter().filter(|byte| **byte == 0x5a).count() >= VALUE_BYTES;
        let (lies, _) = chunks.iter().find(|(_, bytes)| is_record(bytes)).expect("it is served in one piece");
        assert!(came.start <= lies.start && lies.end <= came.end, "{lies:x?} in {came:x?}");
        // What was written anew: the answer's own words and the batch's header.
        let others: usize = chunks.iter().map(|(_, bytes)| bytes.len()).sum::<usize>() - lies.len();
        assert!(others < 200, "{others} bytes around it");
    }
}

#[test]
fn both_protocols_are_answered_in_one_turn() {
    let mut node = Node::start(2, LINK_MESSAGES_MAX);
    let topic = node.create_topic(2);
    let native = node.connect(0);
    let kafka = Kafka::connect(&mut node, 0);
    let partition = partition_of(&topic, 1);
    let id = node.clients[native].produce(partition, &frames(10));
    for _ in 0..3 {
        kafka.send(&mut node, &produce("orders", partition.index, &batch(10)));
    }
    node.run(SOON);
    assert_eq!(stored(node.clients[native].received(id)).len(), 10);
    let answered: usize = kafka.outgoing(&mut node).iter().map(|(_, bytes)| bytes.len()).sum();
    assert!(answered >= 3 * 30, "{answered} bytes");
    assert_nothing_open(&node);
}

/// A fetch waits for records, a write for the disk, when the node is told to stop: both are answered, then the
/// connection is to be closed, and the core's end waits for that.
#[test]
fn an_end_waits_until_kafka_s_clients_have_their_answers() {
    let mut node = Node::start(1, LINK_MESSAGES_MAX);
    node.create_topic(1);
    let [writer, reader] = [Kafka::connect(&mut node, 0), Kafka::connect(&mut node, 0)];
    reader.send(&mut node, &fetch("orders", 0, 10_000));
    node.disk_waits = true;
    writer.send(&mut node, &produce("orders", 0, &batch(10)));
    node.run(SOON);
    node.cores[0].stop();
    node.run(SOON);
    assert!(writer.outgoing(&mut node).is_empty(), "not durable yet");
    node.disk_waits = false;
    node.run(SOON);
    assert!(node.stopped[0]);
    let at = node.at;
    node.cores[0].all_stopped(at);
    node.run(SOON);
    assert!(!node.cores[0].is_ended(), "answers are still to be sent");
    for client in [writer, reader] {
        assert!(!client.outgoing(&mut node).is_empty());
        assert!(node.cores[0].kafka().is_closing(client.id));
        node.cores[0].kafka_mut().ended(at, client.id);
    }
    node.pump();
    assert!(node.cores[0].is_ended());
}
