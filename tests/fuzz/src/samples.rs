//! What the real writers make, cut to what each target takes: a corpus starts with it, and `make test` runs it, so
//! that a target never tests a format that nobody writes any more.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use engine_api::*;
use engine_meta::identity::Identity;
use engine_meta::{ClusterState, Command};
use net_wire::{Code, Kind, MessageReader, OpenRead, ReadOpened, Refusal, encode};
use storage_frame::{BatchBuilder, Frame, LeaderEpoch, LogId, Offset, Producer, Salt, TimestampMs};
use storage_log::{FileName, LogConfig, SegmentId};

use crate::disk::{Files, Running, config};

mod groups;
mod kafka;

/// Input of one target.
#[derive(Debug, Clone)]
pub struct Sample {
    pub target: &'static str,
    pub bytes: Vec<u8>,
}

/// All of them; the same ones at each call.
#[must_use]
pub fn samples() -> Vec<Sample> {
    let of = |target, all: Vec<Vec<u8>>| all.into_iter().map(move |bytes| Sample { target, bytes });
    let files = log_files();
    [
        of("assembler", streams()).collect::<Vec<_>>(),
        of("batch", batches()).collect(),
        of("checkpoint", vec![files[&FileName::Checkpoint].clone()]).collect(),
        of("command_line", lines(COMMAND_LINES)).collect(),
        of("decompress", compressed()).collect(),
        of("formats", formats()).collect(),
        of("frame", frames().iter().map(frame_input).collect()).collect(),
        of("group_record", groups::records()).collect(),
        of("identity", identities()).collect(),
        of("index", vec![files[&FileName::Index(SegmentId(1))].clone()]).collect(),
        of("kafka", kafka::kafka()).collect(),
        of("messages", messages().iter().map(|message| message_input(message)).collect()).collect(),
        of("messages", groups::messages().iter().map(|message| message_input(message)).collect()).collect(),
        of("metadata", metadata()).collect(),
        of("quic", quic()).collect(),
        of("recordbatch", record_batches()).collect(),
        of("recovery", recoveries(&files)).collect(),
        of("segment", segments(&files)).collect(),
        of("settings", settings()).collect(),
    ]
    .concat()
}

fn batch() -> BatchBuilder {
    let mut batch = BatchBuilder::new();
    let at = |ms: i64| TimestampMs(1_700_000_000_000 + ms);
    batch.push(at(0), Some(b"key"), Some(b"value"), []).expect("small");
    batch.push(at(5), None, Some(b""), [("name", Some(&b"x"[..])), ("none", None)]).expect("small");
    batch.push(at(-5), Some(b""), None, []).expect("small");
    batch.push(at(9), None, Some("all work and no play ".repeat(8).as_bytes()), []).expect("small");
    batch
}

fn frames() -> Vec<Frame> {
    let producer = Producer { id: 7, epoch: 2, base_sequence: 31 };
    let mut placed = batch().seal(Some(producer));
    placed.assign(Offset(1000), LeaderEpoch(3));
    placed.set_starts_write(true);
    let mut timed = batch().seal(None);
    timed.set_append_time(TimestampMs(1_700_000_000_000));
    vec![batch().seal(None), placed, timed, lz4()]
}

fn lz4() -> Frame {
    batch().seal_with(None, |plain| {
        let compressed = lz4_flex::block::compress(plain);
        (storage_frame::Codec::Lz4, Some([&(plain.len() as u32).to_le_bytes()[..], &compressed].concat()))
    })
}

fn frame_input(frame: &Frame) -> Vec<u8> {
    let salt = Salt(9);
    let mut out = BytesMut::from(&salt.0.to_le_bytes()[..]);
    frame.write_to(salt, &mut out);
    out.to_vec()
}

fn batches() -> Vec<Vec<u8>> {
    let mut one = BatchBuilder::new();
    one.push(TimestampMs(0), None, Some(b"v"), []).expect("small");
    let input = |flags: u8, frame: Frame| {
        let first = frame.header().first_timestamp.0.to_le_bytes();
        [&[flags][..], &first, frame.payload()].concat()
    };
    vec![input(0, batch().seal(None)), input(1, batch().seal(None)), input(0, one.seal(None))]
}

fn compressed() -> Vec<Vec<u8>> {
    let plain = batch().seal(None).payload().to_vec();
    let prefix = (plain.len() as u32).to_le_bytes();
    let lz4 = lz4_flex::block::compress(&plain);
    let zstd = zstd::bulk::compress(&plain, 3).expect("any bytes can be compressed");
    vec![
        [&[1][..], &prefix, &lz4].concat(),
        [&[2][..], &prefix, &zstd].concat(),
        [&[0x80][..], &plain].concat(),
    ]
}

fn record_batches() -> Vec<Vec<u8>> {
    use storage_recordbatch::{BatchBuilder, BatchFields, Compression, Records};
    let plain = Records::open(&batch().seal(None), 1 << 20).expect("our own");
    let codecs =
        [Compression::None, Compression::Gzip, Compression::Snappy, Compression::Lz4, Compression::Zstd];
    let of = |codec| {
        let mut builder = BatchBuilder::new();
        for (delta, record) in plain.iter().enumerate() {
            let record = record.expect("our own");
            let (key, value) = (record.key, record.value);
            builder.push(delta as u32, record.timestamp, key, value, record.headers()).expect("small");
        }
        let producer = Some(Producer { id: 7, epoch: 2, base_sequence: 31 });
        let fields = BatchFields { producer, ..BatchFields::UNASSIGNED };
        [&[0][..], &builder.seal(codec, &fields)].concat()
    };
    codecs.into_iter().map(of).collect()
}

/// A log that has rolled twice, closed in order.
fn log_files() -> Files {
    let small = LogConfig { segment_bytes: 256 << 10, ..config() };
    let mut running = Running::open(Files::new(), small);
    for nth in 0..20u8 {
        let mut batch = BatchBuilder::new();
        batch.push(TimestampMs(nth.into()), None, Some(&vec![nth; 30 << 10]), []).expect("room");
        let mut frame = batch.seal(None);
        frame.assign(running.log.staged_end(), LeaderEpoch(1));
        running.log.append(running.now(), frame);
        running.settle();
        running.tick(Duration::from_millis(300));
    }
    running.log.set_app_state(running.log.durable_end(), Bytes::from_static(b"state"));
    running.tick(Duration::from_secs(3));
    running.log.close();
    running.settle();
    running.tick(Duration::from_secs(3));
    running.files
}

/// Pieces as `segment` takes them: good frames, one that starts a write, then each kind of damage.
fn segments(files: &Files) -> Vec<Vec<u8>> {
    let good: &[u8] = &[0, 0, 3, 5, 1, 2, 3, 4, 5, 2, 0x80, 0x81, 9, 8, 8, 8, 8, 8, 8, 8, 8, 8];
    let damages: [&[u8]; 7] = [
        &[],
        &[3, 1, 2, 7, 7],
        &[4, 3, 1, 2, 7, 7],
        &[5, 1, 2, 7, 7],
        &[6, 4, 0, 1, 2, 3, 4],
        &[7, 3, 2, 0, 1, 2, 6, 6],
        &[8, 0x60, 0x10, 3],
    ];
    let mut all: Vec<_> = damages.iter().map(|damage| [&[8], good, damage, good].concat()).collect();
    let file = &files[&FileName::Segment(SegmentId(1))];
    let first_frame = [&file[..512], &file[4096..4096 + 256]].concat();
    all.push(first_frame);
    all
}

/// A log of one segment, before and after it was closed; with its checkpoint, without it, beside another's.
fn recoveries(rolled: &Files) -> Vec<Vec<u8>> {
    let mut running = Running::open(Files::new(), config());
    let mut lives = Vec::new();
    for nth in 0..4u8 {
        let mut frame = batch().seal(None);
        frame.assign(running.log.staged_end(), LeaderEpoch(u32::from(nth) / 2 + 1));
        running.log.append(running.now(), frame);
        running.settle();
        if nth == 1 {
            running.log.set_app_state(running.log.durable_end(), Bytes::from_static(b"state"));
            running.tick(Duration::from_secs(3));
        }
        lives.push(running.files.clone());
    }
    running.log.close();
    running.tick(Duration::from_secs(3));
    lives.push(running.files);
    let mut all: Vec<_> = lives.iter().map(|files| recovery(files, 0x1d)).collect();
    all.push(recovery(&lives[3], 0x11));
    all.push(recovery(rolled, 0x3d));
    all.push([recovery(&lives[3], 0x1e), segments(rolled)[1].clone()].concat());
    all
}

fn recovery(files: &Files, plan: u8) -> Vec<u8> {
    let piece = |bytes: &[u8]| [&(bytes.len() as u16).to_le_bytes()[..], bytes].concat();
    let small = |name| piece(files.get(&name).map_or(&[], Vec::as_slice));
    let file = &files[&FileName::Segment(SegmentId(1))];
    let frames = file[4096..].chunks(16).take(128).collect::<Vec<_>>().concat();
    let end = frames.iter().rposition(|byte| *byte != 0).map_or(0, |at| at + 1);
    [
        vec![plan],
        small(FileName::Checkpoint),
        small(FileName::Index(SegmentId(1))),
        piece(&file[..64]),
        frames[..if plan & 1 == 0 { 0 } else { end }].to_vec(),
    ]
    .concat()
}

fn partition() -> PartitionId {
    PartitionId { topic: TopicId(0x77), index: 1 }
}

fn described() -> TopicDescription {
    let node = NodeId(1);
    TopicDescription {
        name: "orders".to_owned(),
        id: TopicId(5),
        replicas: 1,
        partitions: vec![PartitionDescription {
            index: 0,
            leader: node,
            leader_epoch: LeaderEpoch(2),
            core: CoreId(1),
            replicas: vec![node],
            in_sync: vec![node],
            log: LogId(9),
        }],
        configs: vec![ConfigEntry { key: "flush.ms".to_owned(), value: "100".to_owned(), is_default: true }],
    }
}

/// One of each kind.
fn messages() -> Vec<Vec<u8>> {
    let topic = || "orders".to_owned();
    let set = || vec![("retention.ms".to_owned(), "86400000".to_owned())];
    let reset = vec![("flush.ms".to_owned(), None), ("segment.ms".to_owned(), Some("5".to_owned()))];
    let requests = [
        Request::FindOffset(FindOffset { partition: partition(), place: Place::Timestamp(TimestampMs(5)) }),
        Request::DeleteRecords(DeleteRecords { partition: partition(), before: Offset(4) }),
        Request::CreateTopic(CreateTopic {
            name: topic(),
            partitions: Some(3),
            replicas: None,
            configs: set(),
        }),
        Request::AlterTopic(AlterTopic { name: topic(), partitions: None, configs: reset, based_on: None }),
        Request::DeleteTopic(DeleteTopic { name: topic(), id: None }),
        Request::DescribeTopics(DescribeTopics { names: vec![topic(), "b".to_owned()] }),
        Request::DescribeCluster,
        Request::InitProducer,
    ];
    let mut all: Vec<Vec<u8>> = requests.iter().map(|request| encode::request(1, request).to_vec()).collect();
    let open = OpenRead { partition: partition(), offset: Offset(3), bytes_max: 0, group: None };
    all.push(encode::open_produce(&partition()).to_vec());
    all.push(encode::open_read(2, &open).to_vec());
    let mut chunks = Vec::new();
    encode::produce(3, Acks::All, &batch().seal(None), &mut chunks);
    all.push(chunks.concat());
    all.extend(answers());
    all
}

fn answers() -> Vec<Vec<u8>> {
    let produced = Produced {
        append_time: None,
        base_offset: Offset(8),
        leader_epoch: LeaderEpoch(1),
        durability: Durability::LeaderDisk,
        duplicate: false,
        timings: StageTimings { queue: Duration::from_micros(5), ..StageTimings::default() },
    };
    let found = FoundOffset {
        offset: Offset(1),
        timestamp: Some(TimestampMs(2)),
        log_start: Offset(0),
        high_watermark: Offset(9),
    };
    let out_of_range =
        FetchError::OffsetOutOfRange { asked: Offset(9), log_start: Offset(1), high_watermark: Offset(8) };
    let why = || "the disk said so".to_owned();
    let responses = [
        Response::FindOffset(Ok(found)),
        Response::FindOffset(Err(FetchError::Damaged { why: why() })),
        Response::DeleteRecords(Ok(Offset(4))),
        Response::DeleteRecords(Err(DeleteRecordsError::StorageFailed { why: why() })),
        Response::CreateTopic(Ok(described())),
        Response::CreateTopic(Err(TopicError::Name { name: "/".to_owned(), why: why() })),
        Response::AlterTopic(Ok(described())),
        Response::AlterTopic(Err(TopicError::Config { why: why() })),
        Response::DeleteTopic(Ok(())),
        Response::DeleteTopic(Err(TopicError::NoSpace)),
        Response::DescribeTopics(Ok(vec![described(), described()])),
        Response::DescribeTopics(Err(TopicError::Unknown { name: "t".to_owned() })),
        Response::DescribeCluster(cluster()),
        Response::InitProducer(Ok(77)),
        Response::InitProducer(Err(InitProducerError::NotReady)),
    ];
    let mut all: Vec<Vec<u8>> =
        responses.iter().map(|response| encode::response(4, response).to_vec()).collect();
    let refusal = Refusal { code: Code::TooMany, cause: why(), remedy: "wait".to_owned() };
    let sequence = ProduceError::OutOfSequence { producer_id: 1, sent: 2, expected: 3 };
    let opened = ReadOpened { log_start: Offset(0), high_watermark: Offset(9) };
    all.push(encode::produced(5, &Ok(produced)).to_vec());
    all.push(encode::produced(5, &Err(sequence)).to_vec());
    all.push(encode::read_opened(6, &opened).to_vec());
    all.push(encode::read_failed(6, &out_of_range).to_vec());
    all.push(encode::refused(0, &refusal).to_vec());
    let fetched = Fetched { log_start: Offset(0), high_watermark: Offset(2000), frames: frames() };
    let mut chunks = Vec::new();
    encode::frames(7, &fetched, &mut chunks);
    all.push(chunks.concat());
    all
}

fn cluster() -> ClusterDescription {
    ClusterDescription {
        cluster_id: 0x1234,
        version: "0.1.0".to_owned(),
        nodes: vec![NodeDescription {
            id: NodeId(1),
            address: "127.0.0.1:9092".to_owned(),
            cores: 2,
            partitions_led: 3,
            incarnation: 4,
        }],
        topics_count: 1,
        partitions_count: 3,
        troubled: vec![TroubledPartition {
            topic: "orders".to_owned(),
            index: 2,
            end: Offset(10),
            why: "damaged".to_owned(),
        }],
    }
}

fn message_input(bytes: &[u8]) -> Vec<u8> {
    let mut bytes = Bytes::copy_from_slice(bytes);
    let message = MessageReader::new(1 << 20).read(&mut bytes).expect("our own").expect("a whole one");
    let nth = Kind::ALL.iter().position(|kind| *kind == message.kind).expect("every kind is in ALL");
    let meta_bytes = (message.meta.len() as u16).to_le_bytes();
    let prefix = if message.kind.has_bulk() { &meta_bytes[..] } else { &[] };
    [&[nth as u8][..], prefix, &message.meta, &message.bulk].concat()
}

fn streams() -> Vec<Vec<u8>> {
    let messages = messages();
    let (requests, answers) = messages.split_at(11);
    vec![
        [&[0, 3, 1, 9, 2][..], &requests.concat()].concat(),
        [&[1, 7, 7, 7, 7][..], &answers.concat()].concat(),
        [&[3, 1, 1, 1, 1][..], &messages[0]].concat(),
    ]
}

fn metadata() -> Vec<Vec<u8>> {
    let configs = vec![("flush.ms".to_owned(), "7".to_owned())];
    let commands = [
        Command::NodeStarted {
            cluster_id: 1,
            node: 1,
            incarnation: 2,
            cores: 4,
            address: "h:9092".to_owned(),
        },
        Command::CreateTopic { id: 3, name: "orders".to_owned(), partitions: 5, replicas: 1, configs },
        Command::AlterTopic { id: 3, partitions: Some(6), configs: vec![("flush.ms".to_owned(), None)] },
        Command::AllocateProducerIds { count: 1000 },
        Command::DeleteTopic { id: 3 },
        Command::ForgetLogs { logs: vec![(1, 2), (4, 9)] },
    ];
    let mut state = ClusterState::default();
    let mut all = Vec::new();
    for command in &commands {
        all.push([&[0][..], &command.encode()].concat());
        state.apply(command).expect("a history in order");
        all.push([&[1][..], &state.encode()].concat());
    }
    let steps: &[u8] =
        &[0, 1, 6, 0, 0, 1, 2, 0, 0, 0, 0, 1, 16, 0, 1, 2, 0, 33, 1, 5, 1, 1, 0, 0, 2, 0, 0, 9, 2, 4];
    all.push([&[2][..], steps].concat());
    all
}

fn identities() -> Vec<Vec<u8>> {
    let identity =
        Identity { cluster_id: 0x0102, directory_id: 0x0304, node_id: 5, incarnation: 6, created_ms: 7 };
    vec![identity.encode().to_vec(), identity.encode()[..64].to_vec()]
}

fn quic() -> Vec<Vec<u8>> {
    vec![
        // Two produces on one stream, answered in reverse; a reader; one request; all ended in order.
        vec![
            0x83, 0, 4, 0, 2, 3, 0, 1, 2, 3, 4, 0, 1, 0, 0, 15, 0, 10, 1, 0, 10, 0, 0, 0x85, 1, 0, 0, 0,
            0x86, 2, 10, 0, 0, 11, 0, 5, 7, 0, 7, 1,
        ],
        // A reset in the middle of a message, a stopped reader, a stall, a pause, foreign datagrams.
        vec![
            0x80, 0, 8, 0, 200, 0, 0, 0, 1, 2, 0, 0, 8, 0, 0x85, 1, 0, 0, 0, 9, 1, 0x80, 2, 1, 0, 1, 11, 0,
            255, 11, 0, 255, 12, 0, 0, 0x86, 3, 12, 0, 1, 13, 0, 5, 0, 0xc0, 0, 0, 0, 1, 14, 0, 9, 0, 3, 15,
            0,
        ],
        // Messages of every direction with any meta.
        vec![0x82, 0, 5, 4, 0, 1, 2, 3, 4, 0x82, 1, 17, 0, 0, 0x82, 2, 0, 20, 0, 1, 1, 1, 1],
    ]
}

const COMMAND_LINES: &[&str] = &[
    "serve\n--data\n/var/lib/millstream\n--listen\n0.0.0.0:9092\n--advertise\nbroker.example:9092\n--cores\n4",
    "topic\ncreate\norders\n--partitions\n8\n--config\nretention.ms=86400000\n--timeout\n500ms",
    "topic\nalter\norders\n--partitions=16\n--config\nwrite.caching=true\n--delete-config\nflush.ms",
    "topic\nlist\n--format\njson\n--server\na:1,b:2\n--server=c:3",
    "produce\norders\n--key-separator\n:\n--acks\nleader\n--compression\nzstd\n--partition\n3",
    "consume\norders\n--timestamp\n2026-03-01T00:00:00Z\n--exit-at-end\n--output\njson\n--max-records\n5",
    "consume\norders\n--from-beginning\n--partition=0\n--fingerprint\n00ff\n--ca-file\nx",
    "bench\nproduce\n--record-bytes\n100\n--duration\n10\n--rate\n50000\n--config\na=b\n--linger-us\n5",
    "bench\ndisk\n--dir\n.\n--blocks\n4096,262144",
    "bench\nquic\n--gigabytes\n2\n--datagram-bytes\n1400",
    "log\ndump\nx.seg",
    "cluster\nstatus\n--timeout\n2m",
    "help\ntopic\ncreate",
    "--version",
];

fn lines(of: &[&str]) -> Vec<Vec<u8>> {
    of.iter().map(|text| text.as_bytes().to_vec()).collect()
}

fn settings() -> Vec<Vec<u8>> {
    lines(&[
        include_str!("../../../deploy/config/millstream.toml"),
        "node_id = 1\nmemory = \"64MiB\"\ncores = [0, 2]\n[log]\nlevel = \"warn\"\n[topic]\n\"flush.ms\" = 7\n",
        "tls = { cert_file = \"a\", key_file = \"b\" }\ncluster_id = \"000000000000000000000000000000ff\"",
        "\0MILLSTREAM_LOG__LEVEL=error\0MILLSTREAM_LISTEN=[::1]:9092\0--node_id=3\0--advertise=h:0",
        "lisen = \"x\"\0MILLSTREAM_FREE_SPACE_MIN=1TiB\0--cores=0,2,4-7\0--http=localhost:80",
    ])
}

fn formats() -> Vec<Vec<u8>> {
    let of = |which: u8, text: &str| [&[which][..], text.as_bytes()].concat();
    vec![
        of(0, "2026-03-01T12:30:00.250Z"),
        of(0, "1970-01-01 01:00:00+01:00"),
        of(0, "-1500"),
        of(1, "0,2,4-7"),
        of(1, "0,0-18446744073709551615"),
        of(1, "all"),
        of(1, "12"),
        of(
            2,
            "retention.ms=-1\nsegment.bytes=1048576\nwrite.caching=TRUE\nmessage.timestamp.type=LogAppendTime",
        ),
        of(2, "max.message.bytes=1\nmin.insync.replicas=2\ncleanup.policy=delete\ncompression.type=producer"),
        of(3, "orders.v1_A-9"),
        of(3, "0000000007.seg"),
        of(3, "checkpoint"),
        of(4, &"00ff:".repeat(16)),
        of(5, "\u{4}\u{3}one\n\ntoo long\r\nlast"),
        of(6, "\u{f}\u{3}key\u{5}value\u{2}xyname"),
        of(7, "\u{1}:>key:>value"),
    ]
}
