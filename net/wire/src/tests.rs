use std::time::Duration;

use bytes::{Bytes, BytesMut};
use engine_api::*;
use proptest::prelude::*;
use storage_frame::{BatchBuilder, Frame, LeaderEpoch, LogId, Offset, TimestampMs};

use crate::*;

mod groups;

use groups::{group_answer, group_error, group_request, lag, listing};

fn text() -> impl Strategy<Value = String> {
    prop_oneof![Just(String::new()), "[a-zA-Z0-9._-]{1,40}", "\\PC{0,30}"]
}

fn offset() -> impl Strategy<Value = Offset> {
    (0..=i64::MAX as u64).prop_map(Offset)
}

fn partition() -> impl Strategy<Value = PartitionId> {
    (any::<u128>(), any::<u32>()).prop_map(|(topic, index)| PartitionId { topic: TopicId(topic), index })
}

fn place() -> impl Strategy<Value = Place> {
    prop_oneof![
        Just(Place::Start),
        Just(Place::End),
        any::<i64>().prop_map(|ms| Place::Timestamp(TimestampMs(ms)))
    ]
}

fn some<T: std::fmt::Debug>(of: impl Strategy<Value = T>) -> impl Strategy<Value = Option<T>> {
    proptest::option::of(of)
}

fn list<T: std::fmt::Debug>(of: impl Strategy<Value = T>) -> impl Strategy<Value = Vec<T>> {
    proptest::collection::vec(of, 0..5)
}

fn request() -> impl Strategy<Value = Request> {
    prop_oneof![
        (partition(), place())
            .prop_map(|(partition, place)| Request::FindOffset(FindOffset { partition, place })),
        (partition(), offset())
            .prop_map(|(partition, before)| Request::DeleteRecords(DeleteRecords { partition, before })),
        (text(), some(any::<u32>()), some(any::<u32>()), list((text(), text()))).prop_map(
            |(name, partitions, replicas, configs)| Request::CreateTopic(CreateTopic {
                name,
                partitions,
                replicas,
                configs
            })
        ),
        (text(), some(any::<u32>()), list((text(), some(text()))), some(list((text(), text())))).prop_map(
            |(name, partitions, configs, based_on)| {
                Request::AlterTopic(AlterTopic { name, partitions, configs, based_on })
            }
        ),
        (text(), some(any::<u128>().prop_map(TopicId)))
            .prop_map(|(name, id)| Request::DeleteTopic(DeleteTopic { name, id })),
        list(text()).prop_map(|names| Request::DescribeTopics(DescribeTopics { names })),
        Just(Request::DescribeCluster),
        Just(Request::InitProducer),
        group_request().prop_map(Request::Group),
        any::<u8>().prop_map(|core| Request::ListGroups(ListGroups { core: CoreId(core) })),
        (partition(), offset(), some(any::<u64>().prop_map(ReaderId))).prop_map(
            |(partition, offset, reader)| Request::MeasureLag(MeasureLag { partition, offset, reader })
        ),
    ]
}

fn produced() -> impl Strategy<Value = Produced> {
    let durability = prop_oneof![
        Just(Durability::Accepted),
        Just(Durability::Memory),
        Just(Durability::LeaderDisk),
        Just(Durability::AllDisks)
    ];
    let append_time = some(any::<i64>().prop_map(TimestampMs));
    (offset(), any::<u32>(), durability, any::<bool>(), any::<[u32; 3]>(), append_time).prop_map(
        |(base_offset, epoch, durability, duplicate, [queue, disk, replicate], append_time)| Produced {
            append_time,
            base_offset,
            leader_epoch: LeaderEpoch(epoch),
            durability,
            duplicate,
            timings: StageTimings {
                queue: Duration::from_nanos(queue.into()),
                disk: Duration::from_nanos(disk.into()),
                replicate: Duration::from_nanos(replicate.into()),
            },
        },
    )
}

fn produce_error() -> impl Strategy<Value = ProduceError> {
    prop_oneof![
        Just(ProduceError::UnknownPartition),
        Just(ProduceError::NotLeader),
        any::<[u64; 2]>().prop_map(|[batch_bytes, batch_bytes_max]| ProduceError::TooLarge {
            batch_bytes,
            batch_bytes_max
        }),
        text().prop_map(|why| ProduceError::Invalid { why }),
        any::<(u64, u32, u32)>().prop_map(|(producer_id, sent, expected)| ProduceError::OutOfSequence {
            producer_id,
            sent,
            expected
        }),
        any::<(u64, u16, u16)>().prop_map(|(producer_id, sent, current)| ProduceError::ProducerFenced {
            producer_id,
            sent,
            current
        }),
        Just(ProduceError::NoSpace),
        Just(ProduceError::Overloaded),
        text().prop_map(|why| ProduceError::StorageFailed { why }),
        text().prop_map(|why| ProduceError::Damaged { why }),
        Just(ProduceError::ShuttingDown),
    ]
}

fn fetch_error() -> impl Strategy<Value = FetchError> {
    prop_oneof![
        Just(FetchError::UnknownPartition),
        Just(FetchError::NotLeader),
        (offset(), offset(), offset()).prop_map(|(asked, log_start, high_watermark)| {
            FetchError::OffsetOutOfRange { asked, log_start, high_watermark }
        }),
        text().prop_map(|why| FetchError::Damaged { why }),
        text().prop_map(|why| FetchError::StorageFailed { why }),
        Just(FetchError::Overloaded),
        Just(FetchError::ShuttingDown),
    ]
}

fn delete_records_error() -> impl Strategy<Value = DeleteRecordsError> {
    prop_oneof![
        Just(DeleteRecordsError::UnknownPartition),
        Just(DeleteRecordsError::NotLeader),
        (offset(), offset(), offset()).prop_map(|(asked, log_start, high_watermark)| {
            DeleteRecordsError::OffsetOutOfRange { asked, log_start, high_watermark }
        }),
        text().prop_map(|why| DeleteRecordsError::StorageFailed { why }),
        Just(DeleteRecordsError::ShuttingDown),
    ]
}

fn topic_error() -> impl Strategy<Value = TopicError> {
    prop_oneof![
        text().prop_map(|name| TopicError::Unknown { name }),
        text().prop_map(|name| TopicError::Exists { name }),
        (text(), text()).prop_map(|(name, why)| TopicError::Name { name, why }),
        text().prop_map(|why| TopicError::Partitions { why }),
        text().prop_map(|why| TopicError::Replicas { why }),
        text().prop_map(|why| TopicError::Config { why }),
        text().prop_map(|why| TopicError::StorageFailed { why }),
        Just(TopicError::NoSpace),
        text().prop_map(|name| TopicError::Changed { name }),
        Just(TopicError::NotReady),
        Just(TopicError::ShuttingDown),
    ]
}

fn init_producer_error() -> impl Strategy<Value = InitProducerError> {
    prop_oneof![
        text().prop_map(|why| InitProducerError::StorageFailed { why }),
        Just(InitProducerError::NoSpace),
        Just(InitProducerError::NotReady),
        Just(InitProducerError::ShuttingDown),
    ]
}

fn partition_description() -> impl Strategy<Value = PartitionDescription> {
    let nodes = || list(any::<u32>().prop_map(NodeId));
    (any::<(u32, u32, u32, u8, u64)>(), nodes(), nodes()).prop_map(
        |((index, leader, epoch, core, log), replicas, in_sync)| PartitionDescription {
            index,
            leader: NodeId(leader),
            leader_epoch: LeaderEpoch(epoch),
            core: CoreId(core),
            replicas,
            in_sync,
            log: LogId(log),
        },
    )
}

fn topic() -> impl Strategy<Value = TopicDescription> {
    let config = (text(), text(), any::<bool>()).prop_map(|(key, value, is_default)| ConfigEntry {
        key,
        value,
        is_default,
    });
    (text(), any::<u128>(), any::<u32>(), list(partition_description()), list(config)).prop_map(
        |(name, id, replicas, partitions, configs)| TopicDescription {
            name,
            id: TopicId(id),
            replicas,
            partitions,
            configs,
        },
    )
}

fn cluster() -> impl Strategy<Value = ClusterDescription> {
    let node = (any::<(u32, u8, u32, u32)>(), text()).prop_map(
        |((id, cores, partitions_led, incarnation), address)| NodeDescription {
            id: NodeId(id),
            address,
            cores,
            partitions_led,
            incarnation,
        },
    );
    let troubled = (text(), any::<u32>(), offset(), text())
        .prop_map(|(topic, index, end, why)| TroubledPartition { topic, index, end, why });
    (any::<(u128, u32, u32)>(), text(), list(node), list(troubled)).prop_map(
        |((cluster_id, topics_count, partitions_count), version, nodes, troubled)| ClusterDescription {
            cluster_id,
            version,
            nodes,
            topics_count,
            partitions_count,
            troubled,
        },
    )
}

fn or_error<T: std::fmt::Debug + Clone, E: std::fmt::Debug + Clone>(
    ok: impl Strategy<Value = T> + 'static,
    error: impl Strategy<Value = E> + 'static,
) -> impl Strategy<Value = Result<T, E>> {
    prop_oneof![ok.prop_map(Ok), error.prop_map(Err)]
}

fn response() -> impl Strategy<Value = Response> {
    let found = (offset(), some(any::<i64>()), offset(), offset()).prop_map(
        |(offset, timestamp, log_start, high_watermark)| FoundOffset {
            offset,
            timestamp: timestamp.map(TimestampMs),
            log_start,
            high_watermark,
        },
    );
    prop_oneof![
        or_error(found, fetch_error()).prop_map(Response::FindOffset),
        or_error(offset(), delete_records_error()).prop_map(Response::DeleteRecords),
        or_error(topic(), topic_error()).prop_map(Response::CreateTopic),
        or_error(topic(), topic_error()).prop_map(Response::AlterTopic),
        or_error(Just(()), topic_error()).prop_map(Response::DeleteTopic),
        or_error(list(topic()), topic_error()).prop_map(Response::DescribeTopics),
        cluster().prop_map(Response::DescribeCluster),
        or_error(any::<u64>(), init_producer_error()).prop_map(Response::InitProducer),
        or_error(group_answer(), group_error()).prop_map(Response::Group),
        or_error(list(listing()), group_error()).prop_map(Response::ListGroups),
        or_error(lag(), fetch_error()).prop_map(Response::MeasureLag),
    ]
}

fn frame() -> impl Strategy<Value = Frame> {
    (1usize..4, prop_oneof![0usize..700, 5_000usize..20_000], any::<u64>()).prop_map(
        |(records, value_bytes, base)| {
            let mut batch = BatchBuilder::new();
            for record in 0..records {
                let value = vec![record as u8; value_bytes];
                batch.push(TimestampMs(5), None, Some(&value), []).expect("room for a few records");
            }
            let mut frame = batch.seal(None);
            frame.assign(Offset(base >> 1), LeaderEpoch(3));
            frame
        },
    )
}

/// All messages in `bytes`, fed in chunks cut as `cuts` say.
fn read_all(bytes: &[u8], cuts: &[usize]) -> Result<Vec<Message>, WireError> {
    let mut reader = MessageReader::new(MESSAGE_BYTES_MAX);
    let mut messages = Vec::new();
    let mut rest = Bytes::copy_from_slice(bytes);
    let mut cuts = cuts.iter().copied().cycle();
    while !rest.is_empty() {
        let take = cuts.next().unwrap_or(usize::MAX).clamp(1, rest.len());
        let mut chunk = rest.split_to(take);
        while let Some(message) = reader.read(&mut chunk)? {
            messages.push(message);
        }
        assert!(chunk.is_empty());
    }
    reader.end()?;
    Ok(messages)
}

#[track_caller]
fn read_one(bytes: Bytes) -> Message {
    let mut messages = read_all(&bytes, &[]).expect("a whole message");
    assert_eq!(messages.len(), 1);
    messages.remove(0)
}

fn joined(chunks: Vec<Bytes>) -> Bytes {
    chunks
        .into_iter()
        .fold(BytesMut::new(), |mut all, chunk| {
            all.extend_from_slice(&chunk);
            all
        })
        .freeze()
}

proptest! {
    #[test]
    fn every_request_comes_back_as_it_was(request in request(), correlation: u64) {
        let message = read_one(encode::request(correlation, &request));
        prop_assert_eq!(message.correlation, correlation);
        prop_assert_eq!(message.into_client(), Ok(ClientMessage::Request(request)));
    }

    #[test]
    fn every_response_comes_back_as_it_was(response in response(), correlation: u64) {
        let message = read_one(encode::response(correlation, &response));
        prop_assert_eq!(message.correlation, correlation);
        prop_assert_eq!(message.into_server(), Ok(ServerMessage::Response(response)));
    }

    #[test]
    fn every_produce_answer_comes_back_as_it_was(result in or_error(produced(), produce_error())) {
        let message = read_one(encode::produced(7, &result));
        prop_assert_eq!(message.into_server(), Ok(ServerMessage::Produced(result)));
    }

    #[test]
    fn read_messages_come_back_as_they_were(
        partition in partition(), offset in offset(), bytes_max: u32, group in some(text()), error in fetch_error(),
    ) {
        let open = OpenRead { partition, offset, bytes_max, group };
        prop_assert_eq!(read_one(encode::open_read(1, &open)).into_client(), Ok(ClientMessage::OpenRead(open)));
        let opened = ReadOpened { log_start: Offset(1), high_watermark: offset };
        prop_assert_eq!(read_one(encode::read_opened(1, &opened)).into_server(), Ok(ServerMessage::ReadOpened(opened)));
        let failed = read_one(encode::read_failed(1, &error)).into_server();
        prop_assert_eq!(failed, Ok(ServerMessage::ReadFailed(error)));
        let opened = read_one(encode::open_produce(&partition)).into_client();
        prop_assert_eq!(opened, Ok(ClientMessage::OpenProduce(partition)));
    }

    #[test]
    fn refusals_come_back_as_they_were(code: u16, cause in text(), remedy in text()) {
        let refusal = Refusal { code: Code::from_number(code.into()), cause, remedy };
        prop_assert_eq!(read_one(encode::refused(2, &refusal)).into_server(), Ok(ServerMessage::Refused(refusal)));
    }

    #[test]
    fn frames_come_back_as_they_were(frames in proptest::collection::vec(frame(), 0..6)) {
        let fetched = Fetched { log_start: Offset(1), high_watermark: Offset(99), frames };
        let mut chunks = Vec::new();
        let bytes = encode::frames(9, &fetched, &mut chunks);
        let all = joined(chunks);
        prop_assert_eq!(all.len(), bytes);
        let Ok(ServerMessage::Frames(push)) = read_one(all).into_server() else { panic!("a push") };
        prop_assert_eq!((push.log_start, push.high_watermark), (Offset(1), Offset(99)));
        prop_assert_eq!(push.frames(), Ok(fetched.frames));
    }

    #[test]
    fn a_produced_frame_comes_back_as_it_was(frame in frame(), correlation: u64) {
        let mut chunks = Vec::new();
        encode::produce(correlation, Acks::Leader, &frame, &mut chunks);
        let message = read_one(joined(chunks));
        prop_assert_eq!(message.correlation, correlation);
        let Ok(ClientMessage::Produce { acks: Acks::Leader, bulk }) = message.into_client() else {
            panic!("a produce")
        };
        prop_assert_eq!(take_produced_frame(bulk), Ok(frame));
    }

    #[test]
    fn chunks_do_not_matter(
        requests in proptest::collection::vec(request(), 1..6),
        frames in proptest::collection::vec(frame(), 1..4),
        cuts in proptest::collection::vec(1usize..200, 1..20),
    ) {
        let mut chunks = Vec::new();
        for (n, frame) in frames.iter().enumerate() {
            encode::produce(n as u64, Acks::All, frame, &mut chunks);
        }
        chunks.extend(requests.iter().map(|r| encode::request(4, r)));
        let all = joined(chunks);
        let whole = read_all(&all, &[]);
        prop_assert_eq!(whole.as_ref().map(Vec::len), Ok(requests.len() + frames.len()));
        prop_assert_eq!(read_all(&all, &cuts), whole);
    }

    #[test]
    fn foreign_bytes_never_panic(
        bytes in proptest::collection::vec(any::<u8>(), 0..300),
        kind in 0..Kind::ALL.len(),
        meta_bytes in 0u16..80,
    ) {
        let _ = read_all(&bytes, &[3]);
        // A good header before them, to get past it.
        let kind = Kind::ALL[kind];
        let meta_bytes = if kind.has_bulk() { meta_bytes.min(bytes.len() as u16) } else { 0 };
        let header = MessageHeader { bytes: bytes.len() as u32, kind, meta_bytes, correlation: 1 };
        let message = read_one([&header.encode()[..], &bytes].concat().into());
        let _ = message.clone().into_client().map(|m| match m {
            ClientMessage::Produce { bulk, .. } => take_produced_frame(bulk).is_ok(),
            ClientMessage::OpenProduce(_) | ClientMessage::OpenRead(_) | ClientMessage::Request(_) => true,
        });
        let _ = message.into_server().map(|m| match m {
            ServerMessage::Frames(frames) => frames.frames().is_ok(),
            ServerMessage::Produced(_) | ServerMessage::ReadOpened(_) | ServerMessage::ReadFailed(_)
            | ServerMessage::Response(_) | ServerMessage::Refused(_) => true,
        });
    }

    #[test]
    fn damaged_messages_never_panic(response in response(), at: prop::sample::Index, to: u8) {
        let mut bytes = encode::response(4, &response).to_vec();
        let at = at.index(bytes.len());
        bytes[at] = to;
        let _ = read_all(&bytes, &[]).map(|messages| messages.into_iter().map(Message::into_server).count());
    }
}

#[test]
fn a_claimed_length_allocates_nothing() {
    let header = MessageHeader { bytes: 64 << 20, kind: Kind::Produce, meta_bytes: 1, correlation: 0 };
    let mut reader = MessageReader::new(MESSAGE_BYTES_MAX);
    let mut chunk = Bytes::copy_from_slice(&header.encode());
    assert_eq!(reader.read(&mut chunk), Ok(None));
    assert_eq!(reader.buffered_bytes(), 0);
    let mut arrived = 0;
    for _ in 0..200 {
        let mut chunk = Bytes::from(vec![0; 1200]);
        arrived += chunk.len();
        assert_eq!(reader.read(&mut chunk), Ok(None));
        assert!(
            reader.buffered_bytes() <= 32 * arrived + (4 << 10),
            "{} for {arrived}",
            reader.buffered_bytes()
        );
    }
}

#[test]
fn a_message_above_the_limit_is_refused_by_its_header() {
    let header = MessageHeader { bytes: 1000, kind: Kind::Produce, meta_bytes: 1, correlation: 0 };
    let mut reader = MessageReader::new(1000);
    let mut chunk = Bytes::copy_from_slice(&header.encode());
    let error = reader.read(&mut chunk).expect_err("too large");
    assert_eq!(error, WireError::TooLarge { bytes: 1016, bytes_max: 1000 });
    assert_eq!(error.refusal().code, Code::TooLarge);
    // And for ever: the next message's place is not known.
    assert_eq!(reader.read(&mut Bytes::from_static(b"x")), Err(error));
}

#[test]
fn another_version_is_refused_before_anything_else_is_read() {
    let mut head =
        MessageHeader { bytes: 0, kind: Kind::DescribeCluster, meta_bytes: 0, correlation: 0 }.encode();
    head[4] = 2;
    head[5] = 0x77;
    assert_eq!(MessageHeader::decode(&head), Err(WireError::Version { got: 2 }));
    head[4] = VERSION;
    assert_eq!(MessageHeader::decode(&head), Err(WireError::Kind { kind: 0x77 }));
}

#[test]
fn a_stream_that_ends_inside_a_message_is_truncated() {
    let whole = encode::request(1, &Request::DescribeTopics(DescribeTopics { names: vec!["orders".into()] }));
    assert_eq!(read_all(&whole[..whole.len() - 1], &[]), Err(WireError::Truncated { have: whole.len() - 1 }));
    assert_eq!(read_all(&whole[..5], &[]), Err(WireError::Truncated { have: 5 }));
}

#[test]
fn two_frames_in_one_produce_are_refused() {
    let mut batch = BatchBuilder::new();
    batch.push(TimestampMs(0), None, Some(b"v"), []).expect("room");
    let frame = batch.seal(None);
    let mut bulk = BytesMut::new();
    frame.write_to(storage_frame::Salt::NONE, &mut bulk);
    assert!(take_produced_frame(bulk.clone().freeze()).is_ok());
    frame.write_to(storage_frame::Salt::NONE, &mut bulk);
    assert_eq!(
        take_produced_frame(bulk.freeze()),
        Err(WireError::Malformed { kind: Kind::Produce, why: "more than one frame" })
    );
}

#[test]
fn a_name_of_megabytes_is_refused_before_the_broker_looks_at_it() {
    let name = "x".repeat(NAME_BYTES_MAX + 1);
    let message = read_one(encode::request(1, &Request::DeleteTopic(DeleteTopic { name, id: None })));
    assert_eq!(
        message.into_client(),
        Err(WireError::Malformed { kind: Kind::DeleteTopic, why: "a name is too long" })
    );
}

#[test]
fn messages_go_one_way() {
    let request = encode::request(1, &Request::DescribeCluster);
    assert!(matches!(read_one(request).into_server(), Err(WireError::Unexpected { .. })));
    let answer = encode::response(1, &Response::InitProducer(Ok(3)));
    assert!(matches!(read_one(answer).into_client(), Err(WireError::Unexpected { .. })));
}

#[test]
fn large_payloads_are_shared_not_copied() {
    let mut batch = BatchBuilder::new();
    batch.push(TimestampMs(0), None, Some(&[7; 50_000]), []).expect("room");
    let frame = batch.seal(None);
    let mut chunks = Vec::new();
    encode::produce(1, Acks::All, &frame, &mut chunks);
    assert!(chunks.iter().any(|chunk| chunk.as_ptr() == frame.payload().as_ptr()));
    // And on the other side frames share the message's one allocation.
    let Ok(ClientMessage::Produce { bulk, .. }) = read_one(joined(chunks)).into_client() else {
        panic!("a produce")
    };
    let place = bulk.as_ptr_range();
    let frame = take_produced_frame(bulk).expect("a frame");
    assert!(place.contains(&frame.payload().as_ptr()));
}

/// The format: a change here is a new version of the protocol.
#[test]
fn bytes_of_messages_are_fixed() {
    #[track_caller]
    fn check(bytes: &[u8], hex: &str) {
        let got: Vec<String> = bytes.iter().map(|b| format!("{b:02x}")).collect();
        assert_eq!(got.concat(), hex.replace([' ', '\n'], ""));
    }
    let partition = PartitionId { topic: TopicId(0x0102), index: 3 };
    check(
        &encode::open_produce(&partition),
        "14000000 01 01 0000 0000000000000000 02010000000000000000000000000000 03000000",
    );
    check(
        &encode::open_read(5, &OpenRead { partition, offset: Offset(7), bytes_max: 9, group: None }),
        "29000000 01 03 0000 0500000000000000 02010000000000000000000000000000 03000000 0700000000000000 09000000
         000000000000000000",
    );
    check(&encode::request(6, &Request::InitProducer), "00000000 01 0b 0000 0600000000000000");
    let produced = Produced {
        append_time: None,
        base_offset: Offset(1),
        leader_epoch: LeaderEpoch(2),
        durability: Durability::LeaderDisk,
        duplicate: true,
        timings: StageTimings {
            queue: Duration::from_nanos(3),
            disk: Duration::from_nanos(4),
            replicate: Duration::from_nanos(5),
        },
    };
    check(
        &encode::produced(7, &Ok(produced)),
        "2f000000 01 82 0000 0700000000000000 0100000000000000
         0300000000000000 0400000000000000 0500000000000000 02000000 02 01
         000000000000000000",
    );
}
