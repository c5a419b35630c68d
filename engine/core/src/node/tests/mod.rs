//! A real node on a temporary directory, spoken to over QUIC.

mod client;
mod kafka;

use std::net::SocketAddr;
use std::path::Path;

use engine_api::{
    CoreId, CreateTopic, DescribeTopics, FetchError, NodeId, PartitionId, ProduceError, Request, Response,
    TopicDescription, TopicError,
};
use engine_shard::{Level, ShardConfig};
use futures_lite::future::block_on;
use net_quic::ServerConfig;
use net_sockets::{bind_group, bind_tcp_group};
use net_wire::OpenRead;
use storage_disk::DiskConfig;
use storage_frame::{BatchBuilder, Frame, Offset, TimestampMs};

use super::*;
use crate::config::EventSink;
use crate::cpus::available_cpus;
use client::Client;

const STOP: Duration = Duration::from_secs(10);

struct Certificate {
    chain: rustls::pki_types::CertificateDer<'static>,
    key: Vec<u8>,
}

impl Certificate {
    fn new() -> Self {
        let made = rcgen::generate_simple_self_signed(vec!["localhost".into()]).unwrap();
        Self { chain: made.cert.der().clone(), key: made.signing_key.serialize_der() }
    }

    fn server(&self) -> Arc<rustls::ServerConfig> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut tls = rustls::ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(
                vec![self.chain.clone()],
                rustls::pki_types::PrivatePkcs8KeyDer::from(self.key.clone()).into(),
            )
            .unwrap();
        tls.alpn_protocols = vec![net_wire::ALPN.to_vec()];
        Arc::new(tls)
    }
}

/// A data directory with what the broker would have put there.
struct Place {
    directory: tempfile::TempDir,
    certificate: Certificate,
    starts: u32,
    /// Where the node started last listens for Kafka's clients.
    kafka: Option<SocketAddr>,
}

impl Place {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("identity"), vec![7; 4096]).unwrap();
        Self { directory, certificate: Certificate::new(), starts: 0, kafka: None }
    }

    fn config(&mut self, cores: usize) -> (NodeConfig, SocketAddr) {
        self.starts += 1;
        let group = bind_group("127.0.0.1:0".parse().unwrap(), cores).unwrap();
        let data = self.directory.path().to_path_buf();
        let shard = ShardConfig {
            node: NodeId(1),
            core: CoreId(0),
            cores: 0,
            cluster_id: 42,
            incarnation: self.starts,
            address: group.address.to_string(),
            version: "test".to_owned(),
            seed: u64::from(self.starts),
            memory_bytes_max: 64 << 20,
            free_bytes_min: 0,
            opens_max: 8,
            metadata_snapshot_bytes: engine_shard::METADATA_SNAPSHOT_BYTES,
            topic_defaults: vec![("segment.bytes".to_owned(), (4 << 20).to_string())],
            offsets_partitions: 2,
            groups: engine_shard::GroupsConfig::default(),
        };
        let quic = ServerConfig {
            core: CoreId(0),
            tls: self.certificate.server(),
            secret: [9; 32],
            idle_timeout: Duration::from_secs(30),
            connections_max: 100,
            message_bytes_max: 2 << 20,
            receive_window_bytes: 1 << 20,
            send_buffer_bytes: 256 << 10,
            seed: None,
        };
        let tcp = bind_tcp_group("127.0.0.1:0".parse().unwrap(), cores).unwrap();
        self.kafka = Some(tcp.address);
        let kafka = net_kafka::ServerConfig {
            core: CoreId(0),
            node: NodeId(1),
            advertise: None,
            connections_max: 8,
            request_bytes_max: 2 << 20,
            idle_timeout: Duration::from_secs(30),
            auto_create_topics: true,
            partitions_default: 1,
            replicas_default: 1,
            topic_defaults: Vec::new(),
            node_configs: Vec::new(),
        };
        let config = NodeConfig {
            cpus: available_cpus().unwrap().into_iter().take(cores).collect(),
            identity: data.join("identity"),
            data,
            udp: group.sockets,
            tcp: tcp.listeners.into_iter().map(|listener| vec![listener]).collect(),
            shard,
            quic,
            kafka,
            disk: DiskConfig { spares_free_bytes_min: 0, ..DiskConfig::default() },
            spin_before_park: Duration::ZERO,
            events: quiet(),
        };
        (config, group.address)
    }

    fn start(&mut self, cores: usize) -> (Node, SocketAddr) {
        let (config, address) = self.config(cores);
        let node = Node::start(config).unwrap();
        block_on(node.ready()).unwrap();
        (node, address)
    }

    fn connect(&self, address: SocketAddr, core: u8) -> Client {
        Client::connect(address, core, self.certificate.chain.clone())
    }
}

/// Errors are worth seeing, whatever test they are in.
fn quiet() -> EventSink {
    Arc::new(|core, event| {
        if event.level >= Level::Warn {
            eprintln!("core {}: {} {:?}", core.0, event.name, event.fields);
        }
    })
}

fn cores() -> usize {
    available_cpus().unwrap().len().min(2)
}

fn create(client: &mut Client, name: &str, partitions: u32) -> TopicDescription {
    let topic =
        CreateTopic { name: name.to_owned(), partitions: Some(partitions), replicas: None, configs: vec![] };
    let response = client.call(&Request::CreateTopic(topic));
    let Response::CreateTopic(Ok(description)) = response else { panic!("{response:?}") };
    description
}

fn describe(client: &mut Client, name: &str) -> Result<TopicDescription, TopicError> {
    let response = client.call(&Request::DescribeTopics(DescribeTopics { names: vec![name.to_owned()] }));
    let Response::DescribeTopics(found) = response else { panic!("{response:?}") };
    found.map(|mut topics| topics.remove(0))
}

/// Retention goes by the records' own time.
fn now() -> TimestampMs {
    crate::core::now(Instant::now()).wall
}

fn frame(text: &str) -> Frame {
    let mut builder = BatchBuilder::new();
    builder.push(now(), None, Some(text.as_bytes()), []).unwrap();
    builder.seal(None)
}

fn large_frame(number: usize) -> Frame {
    let mut builder = BatchBuilder::new();
    let value: Vec<u8> = (0..200_000).map(|index| (index * 7 + number) as u8).collect();
    builder.push(now(), None, Some(&value), []).unwrap();
    builder.seal(None)
}

fn partition(topic: &TopicDescription, index: u32) -> PartitionId {
    PartitionId { topic: topic.id, index }
}

/// The payloads of `count` frames read from the start.
fn read_all(client: &mut Client, partition: PartitionId, count: usize) -> Vec<Frame> {
    let id = client.open_read(&OpenRead { partition, offset: Offset(0), bytes_max: 0, group: None });
    let mut frames = Vec::new();
    while frames.len() < count {
        frames.extend(client.next_frames(id));
    }
    frames
}

#[test]
fn records_and_topics_outlive_an_ordered_restart() {
    let mut place = Place::new();
    let (node, address) = place.start(cores());
    let mut client = place.connect(address, 0);
    let topic = create(&mut client, "orders", 4);
    for index in 0..4 {
        let frames: Vec<Frame> = (0..50).map(|number| frame(&format!("{index}/{number}"))).collect();
        let answers = client.produce(partition(&topic, index), &frames);
        let offsets: Vec<u64> = answers.into_iter().map(|answer| answer.unwrap().base_offset.0).collect();
        assert_eq!(offsets, (0..50).collect::<Vec<_>>());
    }
    node.stop_within(STOP).unwrap();
    assert!(block_on(node.stats()).cores.is_empty(), "no core is left to answer");

    let (node, address) = place.start(cores());
    let mut client = place.connect(address, 0);
    assert_eq!(describe(&mut client, "orders").unwrap().id, topic.id);
    for index in 0..4 {
        for (number, read) in read_all(&mut client, partition(&topic, index), 50).into_iter().enumerate() {
            assert_eq!(read.header().base_offset, Offset(number as u64));
            assert_eq!(read.payload(), frame(&format!("{index}/{number}")).payload());
        }
        let next = client.produce(partition(&topic, index), &[frame("next")]).remove(0).unwrap();
        assert_eq!(next.base_offset, Offset(50));
        assert_eq!(next.leader_epoch.0, 2, "the second start writes with its own epoch");
    }
    node.stop_within(STOP).unwrap();
}

#[test]
fn a_request_on_the_wrong_core_is_answered_through_the_mesh() {
    if cores() < 2 {
        return;
    }
    let mut place = Place::new();
    let (node, address) = place.start(2);
    let mut clients = [place.connect(address, 0), place.connect(address, 1)];
    let topic = create(&mut clients[1], "spread", 8);
    for index in 0..8 {
        let owner = topic.partitions[index as usize].core.0;
        for (core, client) in (0u8..).zip(&mut clients) {
            let answer = client.produce(partition(&topic, index), &[frame("x")]).remove(0).unwrap();
            assert_eq!(
                answer.base_offset,
                Offset(u64::from(core)),
                "partition {index} of core {owner} by way of {core}"
            );
        }
        assert_eq!(read_all(&mut clients[usize::from(1 - owner)], partition(&topic, index), 2).len(), 2);
    }
    let stats = block_on(node.stats());
    assert_eq!(stats.cores.len(), 2);
    for core in &stats.cores {
        assert_eq!(core.quic.connections_opened, 1, "steered by the first packet");
        assert!(core.turns.requests_owned >= 4 && core.turns.requests_forwarded >= 4, "{:?}", core.turns);
        assert!(core.mesh.sent > 0 && core.mesh.received > 0 && core.mesh.backlog == 0, "{:?}", core.mesh);
        assert!(core.shard.produce_batches == 8, "{:?}", core.shard);
        assert!(core.disk.write.count > 0);
    }
    node.stop_within(STOP).unwrap();
}

#[test]
fn a_push_reader_hears_of_a_record_at_once() {
    let mut place = Place::new();
    let (node, address) = place.start(cores());
    let (mut writer, mut reader) = (place.connect(address, 0), place.connect(address, 1));
    let topic = create(&mut writer, "news", 1);
    let read = reader.open_read(&OpenRead {
        partition: partition(&topic, 0),
        offset: Offset(0),
        bytes_max: 0,
        group: None,
    });
    let mut fastest = Duration::MAX;
    for number in 0..20 {
        let begun = Instant::now();
        writer.produce(partition(&topic, 0), &[frame("extra")]).remove(0).unwrap();
        let frames = reader.next_frames(read);
        assert_eq!(frames[0].header().base_offset, Offset(number));
        fastest = fastest.min(begun.elapsed());
    }
    // A missed wake would show as the tick's 10 ms at the very least, every time.
    assert!(fastest < Duration::from_millis(9), "{fastest:?}");
    node.stop_within(STOP).unwrap();
}

#[test]
fn a_stop_tells_clients_and_ends_in_time() {
    let mut place = Place::new();
    let (node, address) = place.start(cores());
    let mut client = place.connect(address, 0);
    let topic = create(&mut client, "t", 1);
    let unknown = PartitionId { index: 9, ..partition(&topic, 0) };
    assert_eq!(client.produce(unknown, &[frame("x")]).remove(0), Err(ProduceError::UnknownPartition));
    let begun = Instant::now();
    node.stop();
    node.stop_within(STOP).unwrap();
    assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
    let reason = client.wait_until_lost();
    assert!(reason.contains("shutting down"), "{reason}");
    assert_eq!(block_on(node.ended()), Ok(()));
}

#[test]
fn a_node_stopped_before_it_is_ready_ends_all_the_same() {
    let mut place = Place::new();
    let (config, _) = place.config(cores());
    let node = Node::start(config).unwrap();
    node.stop_within(STOP).unwrap();
    assert!(matches!(block_on(node.ready()), Ok(()) | Err(NodeError::StoppedEarly)));
}

#[test]
fn a_start_that_fails_leaves_nothing_behind_and_says_why() {
    let mut place = Place::new();
    let all = available_cpus().unwrap();
    let (config, _) = place.config(1);
    let absent = all.iter().max().unwrap() + 1;
    let error = Node::start(NodeConfig { cpus: vec![absent], ..config }).map(drop).unwrap_err();
    assert!(matches!(error, StartError::Cpus(CpuError::NoSuch { .. })), "{error}");

    let (config, _) = place.config(1);
    let error = Node::start(NodeConfig { udp: vec![], ..config }).map(drop).unwrap_err();
    assert_eq!(error, StartError::Sockets { sockets: 0, cores: 1 });

    let (config, address) = place.config(cores());
    let identity = place.directory.path().join("absent");
    let error = Node::start(NodeConfig { identity, ..config }).map(drop).unwrap_err();
    assert!(error.to_string().contains("absent: No such file"), "{error}");
    drop(bind_group(address, 1).expect("the sockets are closed"));
    assert!(!Path::new(&place.directory.path().join("logs")).exists());
}

#[test]
fn an_unknown_partition_cannot_be_read() {
    let mut place = Place::new();
    let (node, address) = place.start(1);
    let mut client = place.connect(address, 0);
    let topic = create(&mut client, "t", 1);
    let partition = PartitionId { index: 1, ..partition(&topic, 0) };
    assert_eq!(
        client.failed_read(&OpenRead { partition, offset: Offset(0), bytes_max: 0, group: None }),
        FetchError::UnknownPartition
    );
    assert!(matches!(describe(&mut client, "absent"), Err(TopicError::Unknown { .. })));
    node.stop_within(STOP).unwrap();
}

#[test]
fn more_than_the_memory_budget_passes_through_it() {
    let mut place = Place::new();
    let (mut config, address) = place.config(cores());
    config.shard.memory_bytes_max = 2 << 20;
    let node = Node::start(config).unwrap();
    block_on(node.ready()).unwrap();
    let mut client = place.connect(address, 0);
    let topic = create(&mut client, "large", 2);
    for index in 0..2 {
        // By offset, the number of the frame acknowledged there.
        let mut acknowledged: Vec<usize> = Vec::new();
        let mut rest: Vec<usize> = (0..60).collect();
        while !rest.is_empty() {
            let frames: Vec<Frame> = rest.iter().map(|number| large_frame(*number)).collect();
            let mut refused = Vec::new();
            for (number, answer) in rest.into_iter().zip(client.produce(partition(&topic, index), &frames)) {
                match answer {
                    Ok(produced) => {
                        assert_eq!(produced.base_offset, Offset(acknowledged.len() as u64));
                        acknowledged.push(number);
                    }
                    Err(error) => {
                        assert_eq!(error, ProduceError::Overloaded);
                        refused.push(number);
                    }
                }
            }
            rest = refused;
        }
        let read = read_all(&mut client, partition(&topic, index), 60);
        for (number, read) in acknowledged.into_iter().zip(read) {
            assert_eq!(read.payload(), large_frame(number).payload(), "frame {number}");
        }
    }
    for core in block_on(node.stats()).cores {
        assert!(core.shard.memory_bytes < 8 << 20, "{:?}", core.shard);
    }
    node.stop_within(STOP).unwrap();
}

#[test]
fn a_core_that_panics_ends_the_node_with_its_words() {
    let mut place = Place::new();
    let (config, _) = place.config(cores());
    let events: EventSink = Arc::new(|_, _| panic!("an event too many"));
    let node = Node::start(NodeConfig { events, ..config }).unwrap();
    let error = block_on(node.ended()).unwrap_err();
    assert!(
        matches!(&error, NodeError::CoreFailed { why, .. } if why.contains("an event too many")),
        "{error}"
    );
    assert!(block_on(node.ready()).is_err());
    assert!(node.stop_within(STOP).is_err());
}
