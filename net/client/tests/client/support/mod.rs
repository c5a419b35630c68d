//! A broker of a few hundred lines on real loopback UDP: keeps promises, and breaks them on demand.

use std::collections::{BTreeMap, VecDeque};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use engine_api::{
    ClusterDescription, ConfigEntry, CoreId, CreateTopic, DeleteRecordsError, Durability, FetchError,
    Fetched, FoundOffset, GroupError, NodeDescription, NodeId, PartitionDescription, PartitionId, Place,
    ProduceError, Produced, Request, Response, StageTimings, TopicDescription, TopicError, TopicId,
};
use millstream_client::{Client, Config, Trust};
use net_wire::{
    ClientMessage, MESSAGE_BYTES_MAX, MessageReader, OpenRead, ReadOpened, encode, take_produced_frame,
};
use quinn::crypto::rustls::QuicServerConfig;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use sha2::{Digest, Sha256};
use storage_frame::{Frame, LeaderEpoch, LogId, Offset};
use tempfile::TempDir;
use tokio::sync::Notify;

mod group;

pub(crate) const TOPIC: &str = "orders";
/// As the real one has it.
const STREAMS_MAX: u32 = 1024;

/// What to do to the next produce requests instead of the right thing.
#[derive(Debug, Clone)]
pub(crate) enum Fault {
    Refuse(ProduceError),
    /// Store it and drop the connection before the answer.
    StoreAndDrop,
    /// Drop the connection.
    Drop,
    /// Store it and never answer.
    StoreAndHang,
}

#[derive(Debug, Default)]
struct Known {
    next_sequence: u32,
    batches: VecDeque<(u32, u64)>,
}

#[derive(Debug, Default)]
pub(crate) struct Log {
    pub(crate) frames: Vec<Frame>,
    pub(crate) log_start: u64,
    producers: BTreeMap<u64, Known>,
}

impl Log {
    pub(crate) fn end(&self) -> u64 {
        self.frames.last().map_or(0, |frame| frame.header().end_offset().0)
    }

    fn append(&mut self, mut frame: Frame) -> Result<Produced, ProduceError> {
        let base = self.end();
        if let Some(sent) = frame.header().producer {
            if let Some(known) = self.producers.get(&sent.id) {
                if let Some((_, at)) =
                    known.batches.iter().find(|(sequence, _)| *sequence == sent.base_sequence)
                {
                    return Ok(produced(*at, true));
                }
                if known.next_sequence != sent.base_sequence {
                    return Err(ProduceError::OutOfSequence {
                        producer_id: sent.id,
                        sent: sent.base_sequence,
                        expected: known.next_sequence,
                    });
                }
            }
            let known = self.producers.entry(sent.id).or_default();
            known.next_sequence = sent.base_sequence + frame.header().record_count;
            known.batches.push_back((sent.base_sequence, base));
            if known.batches.len() > 5 {
                known.batches.pop_front();
            }
        }
        frame.assign(Offset(base), LeaderEpoch(1));
        self.frames.push(frame);
        Ok(produced(base, false))
    }
}

fn produced(base: u64, duplicate: bool) -> Produced {
    Produced {
        append_time: None,
        base_offset: Offset(base),
        leader_epoch: LeaderEpoch(1),
        durability: Durability::AllDisks,
        duplicate,
        timings: StageTimings { disk: Duration::from_micros(95), ..StageTimings::default() },
    }
}

#[derive(Debug, Default)]
pub(crate) struct State {
    pub(crate) logs: Vec<Log>,
    pub(crate) faults: VecDeque<Fault>,
    /// Reset the next read streams after so many pushes.
    pub(crate) read_resets: VecDeque<usize>,
    /// Move the start of the log there once somebody has asked for an offset.
    pub(crate) trim_after_find: Option<u64>,
    pub(crate) topics_not_ready_count: u32,
    /// Deletes of records are done and answered by a broker that shuts down.
    pub(crate) deletes_in_shutdown: bool,
    /// Drop the connections of the next requests after doing what they ask.
    pub(crate) requests_dropped_count: u32,
    /// The topic was deleted.
    pub(crate) topic_gone: bool,
    pub(crate) message_bytes_max: usize,
    /// Answer fetches from this frame index on, whatever was asked: a broker that loses its place.
    pub(crate) skip_frames: usize,
    pub(crate) first_id_bytes: Vec<u8>,
    pub(crate) connections: Vec<quinn::Connection>,
    next_producer_id: u64,
    pub(crate) group: group::Group,
}

#[derive(Debug)]
pub(crate) struct Identity {
    pub(crate) dir: TempDir,
    cert: CertificateDer<'static>,
    key: Vec<u8>,
}

impl Identity {
    pub(crate) fn new() -> Self {
        let ca_key = rcgen::KeyPair::generate().unwrap();
        let mut ca = rcgen::CertificateParams::default();
        ca.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let ca_cert = ca.self_signed(&ca_key).unwrap();
        let issuer = rcgen::Issuer::new(ca, ca_key);
        let key = rcgen::KeyPair::generate().unwrap();
        let names = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
        let cert = rcgen::CertificateParams::new(names).unwrap().signed_by(&key, &issuer).unwrap();
        let dir = TempDir::new().unwrap();
        std::fs::create_dir(dir.path().join("tls")).unwrap();
        std::fs::write(dir.path().join("tls/ca.pem"), ca_cert.pem()).unwrap();
        Self { dir, cert: cert.der().clone(), key: key.serialize_der() }
    }

    pub(crate) fn fingerprint(&self) -> [u8; 32] {
        Sha256::digest(&self.cert).into()
    }

    pub(crate) fn trust(&self) -> Trust {
        Trust::DataDir(self.dir.path().into())
    }
}

pub(crate) struct Broker {
    pub(crate) address: SocketAddr,
    pub(crate) identity: Arc<Identity>,
    pub(crate) state: Arc<Mutex<State>>,
    pub(crate) changed: Arc<Notify>,
    endpoint: quinn::Endpoint,
}

impl Broker {
    /// One topic, [`TOPIC`], of `partitions_count` partitions on cores 0, 1, 0, ...
    pub(crate) fn start(partitions_count: u32) -> Self {
        Self::start_with(partitions_count, net_wire::ALPN)
    }

    pub(crate) fn start_with(partitions_count: u32, alpn: &[u8]) -> Self {
        let logs = (0..partitions_count).map(|_| Log::default()).collect();
        let state = State { logs, message_bytes_max: 1 << 20, ..State::default() };
        let any = (Ipv4Addr::LOCALHOST, 0).into();
        Self::serve(any, Arc::new(Identity::new()), Arc::new(Mutex::new(state)), alpn)
    }

    fn serve(address: SocketAddr, identity: Arc<Identity>, state: Arc<Mutex<State>>, alpn: &[u8]) -> Self {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(identity.key.clone()));
        let mut tls = rustls::ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![identity.cert.clone()], key)
            .unwrap();
        tls.alpn_protocols = vec![alpn.to_vec()];
        let mut config = quinn::ServerConfig::with_crypto(Arc::new(QuicServerConfig::try_from(tls).unwrap()));
        let mut transport = quinn::TransportConfig::default();
        transport.max_concurrent_bidi_streams(STREAMS_MAX.into());
        config.transport_config(Arc::new(transport));
        let endpoint = quinn::Endpoint::server(config, address).unwrap();
        let address = endpoint.local_addr().unwrap();
        let changed = Arc::new(Notify::new());
        tokio::spawn(accept(endpoint.clone(), Arc::clone(&state), Arc::clone(&changed)));
        Self { address, identity, state, changed, endpoint }
    }

    /// Dies without a word to anybody, and comes back on the same port with its logs.
    pub(crate) async fn restart(self) -> Self {
        let (address, identity, state) = self.stop().await;
        Self::serve(address, identity, state, net_wire::ALPN)
    }

    /// Dies; the port is closed when this returns.
    pub(crate) async fn stop(self) -> (SocketAddr, Arc<Identity>, Arc<Mutex<State>>) {
        let Self { address, identity, state, endpoint, .. } = self;
        endpoint.close(9u32.into(), b"shutting down");
        state.lock().unwrap().connections.clear();
        endpoint.wait_idle().await;
        drop(endpoint);
        // quinn's driver lets go of the socket in its own time.
        while std::net::UdpSocket::bind(address).is_err() {
            tokio::task::yield_now().await;
        }
        (address, identity, state)
    }

    pub(crate) fn resume(address: SocketAddr, identity: Arc<Identity>, state: Arc<Mutex<State>>) -> Self {
        Self::serve(address, identity, state, net_wire::ALPN)
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    pub(crate) fn config(&self) -> Config {
        let mut config = Config::new([self.address.to_string()]).with_trust(self.identity.trust());
        config.request_timeout = Duration::from_secs(5);
        config
    }

    pub(crate) async fn client(&self) -> Client {
        Client::connect(self.config()).await.unwrap()
    }

    /// Everything stored in a partition, value by value.
    pub(crate) fn values(&self, partition: usize) -> Vec<Vec<u8>> {
        let mut values = Vec::new();
        for frame in &self.state().logs[partition].frames {
            let plain =
                millstream_client::decompress(frame.header().codec, frame.payload(), 1 << 26).unwrap();
            let view = storage_frame::BatchView::open_plain(*frame.header(), plain).unwrap();
            values.extend(view.records().map(|record| record.unwrap().value.unwrap().to_vec()));
        }
        values
    }
}

async fn accept(endpoint: quinn::Endpoint, state: Arc<Mutex<State>>, changed: Arc<Notify>) {
    while let Some(incoming) = endpoint.accept().await {
        state.lock().unwrap().first_id_bytes.push(incoming.orig_dst_cid()[0]);
        let (state, changed) = (Arc::clone(&state), Arc::clone(&changed));
        tokio::spawn(async move {
            let Ok(connection) = incoming.await else { return };
            state.lock().unwrap().connections.push(connection.clone());
            while let Ok((send, recv)) = connection.accept_bi().await {
                let stream = Stream {
                    connection: connection.clone(),
                    send,
                    recv,
                    reader: MessageReader::new(MESSAGE_BYTES_MAX),
                    chunk: bytes::Bytes::new(),
                    state: Arc::clone(&state),
                    changed: Arc::clone(&changed),
                };
                tokio::spawn(stream.serve());
            }
        });
    }
}

struct Stream {
    connection: quinn::Connection,
    send: quinn::SendStream,
    recv: quinn::RecvStream,
    reader: MessageReader,
    chunk: bytes::Bytes,
    state: Arc<Mutex<State>>,
    changed: Arc<Notify>,
}

impl Stream {
    async fn next(&mut self) -> Option<(u64, ClientMessage)> {
        loop {
            if !self.chunk.is_empty()
                && let Some(message) = self.reader.read(&mut self.chunk).unwrap()
            {
                return Some((message.correlation, message.into_client().unwrap()));
            }
            self.chunk = self.recv.read_chunk(usize::MAX, true).await.ok()??.bytes;
        }
    }

    async fn serve(mut self) -> Option<()> {
        match self.next().await? {
            (_, ClientMessage::OpenProduce(partition)) => self.produce(partition).await,
            (_, ClientMessage::OpenRead(open)) => self.read(open).await,
            (correlation, ClientMessage::Request(request)) => {
                let (response, drop) = {
                    let mut state = self.state.lock().unwrap();
                    let drop = state.requests_dropped_count > 0;
                    state.requests_dropped_count -= u32::from(drop);
                    (answer(&mut state, request), drop)
                };
                if drop {
                    self.connection.close(1u32.into(), b"fault");
                    return None;
                }
                self.send.write_chunk(encode::response(correlation, &response)).await.ok()?;
                self.send.finish().ok()
            }
            (_, ClientMessage::Produce { .. }) => panic!("OpenProduce comes first"),
        }
    }

    async fn produce(mut self, partition: PartitionId) -> Option<()> {
        assert_eq!(partition.topic, TopicId(1));
        while let Some((correlation, message)) = self.next().await {
            let ClientMessage::Produce { acks, bulk } = message else { panic!("{message:?}") };
            let frame = take_produced_frame(bulk).unwrap();
            let fault = self.state.lock().unwrap().faults.pop_front();
            let store = |frame| {
                let result = self.state.lock().unwrap().logs[partition.index as usize].append(frame);
                self.changed.notify_waiters();
                result
            };
            let result = match fault {
                None if self.state.lock().unwrap().topic_gone => Err(ProduceError::UnknownPartition),
                None => store(frame),
                Some(Fault::Refuse(error)) => Err(error),
                Some(Fault::StoreAndHang) => {
                    let _ = store(frame);
                    continue;
                }
                Some(fault @ (Fault::StoreAndDrop | Fault::Drop)) => {
                    if matches!(fault, Fault::StoreAndDrop) {
                        let _ = store(frame);
                    }
                    self.connection.close(1u32.into(), b"fault");
                    return None;
                }
            };
            if acks != engine_api::Acks::None {
                self.send.write_chunk(encode::produced(correlation, &result)).await.ok()?;
            }
        }
        None
    }

    async fn read(mut self, open: OpenRead) -> Option<()> {
        let partition = open.partition.index as usize;
        let mut next = open.offset.0;
        let mut pushes_left = self.state.lock().unwrap().read_resets.pop_front();
        let mut opened = false;
        loop {
            let changed = Arc::clone(&self.changed);
            let mut changed = std::pin::pin!(changed.notified());
            changed.as_mut().enable();
            let (fetched, range) = {
                let state = self.state.lock().unwrap();
                let log = &state.logs[partition];
                let (log_start, high_watermark) = (Offset(log.log_start), Offset(log.end()));
                let mut frames: Vec<Frame> =
                    log.frames.iter().filter(|frame| frame.header().end_offset().0 > next).cloned().collect();
                frames.drain(..state.skip_frames.min(frames.len()));
                frames.truncate(3);
                (Fetched { log_start, high_watermark, frames }, (log_start, high_watermark))
            };
            let (log_start, high_watermark) = range;
            if next < log_start.0 || next > high_watermark.0 {
                let asked = Offset(next);
                let error = FetchError::OffsetOutOfRange { asked, log_start, high_watermark };
                self.send.write_chunk(encode::read_failed(0, &error)).await.ok()?;
                return self.send.finish().ok();
            }
            if !opened {
                let message = encode::read_opened(0, &ReadOpened { log_start, high_watermark });
                self.send.write_chunk(message).await.ok()?;
                opened = true;
            }
            let Some(last) = fetched.frames.last() else {
                tokio::select! {
                    () = changed => continue,
                    _ = self.send.stopped() => return None,
                }
            };
            if pushes_left == Some(0) {
                self.send.reset(7u32.into()).ok()?;
                return None;
            }
            pushes_left = pushes_left.map(|left| left - 1);
            next = last.header().end_offset().0;
            let mut chunks = Vec::new();
            encode::frames(0, &fetched, &mut chunks);
            self.send.write_all_chunks(&mut chunks).await.ok()?;
        }
    }
}

fn topic(state: &State) -> TopicDescription {
    let partition = |index: u32| PartitionDescription {
        index,
        leader: NodeId(1),
        leader_epoch: LeaderEpoch(1),
        core: CoreId((index % 2) as u8),
        replicas: vec![NodeId(1)],
        in_sync: vec![NodeId(1)],
        log: LogId(u64::from(index) + 1),
    };
    TopicDescription {
        name: TOPIC.into(),
        id: TopicId(1),
        replicas: 1,
        partitions: (0..state.logs.len() as u32).map(partition).collect(),
        configs: vec![ConfigEntry {
            key: "max.message.bytes".into(),
            value: state.message_bytes_max.to_string(),
            is_default: true,
        }],
    }
}

fn answer(state: &mut State, request: Request) -> Response {
    match request {
        Request::DescribeTopics(_) if state.topics_not_ready_count > 0 => {
            state.topics_not_ready_count -= 1;
            Response::DescribeTopics(Err(TopicError::NotReady))
        }
        Request::DescribeTopics(asked) => {
            let unknown = asked.names.into_iter().find(|name| name != TOPIC || state.topic_gone);
            Response::DescribeTopics(match unknown {
                Some(name) => Err(TopicError::Unknown { name }),
                None => Ok(vec![topic(state)]),
            })
        }
        Request::DescribeCluster => Response::DescribeCluster(ClusterDescription {
            cluster_id: 7,
            version: "test".into(),
            nodes: vec![NodeDescription {
                id: NodeId(1),
                address: "unreachable.invalid:1".into(),
                cores: 2,
                partitions_led: state.logs.len() as u32,
                incarnation: 1,
            }],
            topics_count: 1,
            partitions_count: state.logs.len() as u32,
            troubled: Vec::new(),
        }),
        Request::InitProducer => {
            state.next_producer_id += 1;
            Response::InitProducer(Ok(state.next_producer_id))
        }
        Request::Group(request) => {
            let partitions_count = state.logs.len() as u32;
            Response::Group(state.group.answer(request, partitions_count))
        }
        Request::ListGroups(_) => Response::ListGroups(Err(GroupError::NotReady)),
        Request::MeasureLag(_) => Response::MeasureLag(Err(FetchError::NotLeader)),
        Request::CheckTopic(_) => Response::CheckTopic(Err(TopicError::NotReady)),
        Request::DescribeLogs(_) => Response::DescribeLogs(Err(TopicError::NotReady)),
        Request::FindOffset(find) => {
            let log = &state.logs[find.partition.index as usize];
            let (log_start, high_watermark) = (Offset(log.log_start), Offset(log.end()));
            let holder = |at| move |frame: &&Frame| frame.header().max_timestamp >= at;
            let (offset, timestamp) = match find.place {
                Place::Start => (log_start, None),
                Place::End => (high_watermark, None),
                Place::Timestamp(at) => {
                    log.frames.iter().find(holder(at)).map_or((high_watermark, None), |frame| {
                        (frame.header().base_offset, Some(frame.header().max_timestamp))
                    })
                }
            };
            if let Some(log_start) = state.trim_after_find.take() {
                state.logs[find.partition.index as usize].log_start = log_start;
            }
            Response::FindOffset(Ok(FoundOffset { offset, timestamp, log_start, high_watermark }))
        }
        Request::DeleteRecords(delete) => {
            let log = &mut state.logs[delete.partition.index as usize];
            if delete.before.0 > log.end() {
                return Response::DeleteRecords(Err(DeleteRecordsError::OffsetOutOfRange {
                    asked: delete.before,
                    log_start: Offset(log.log_start),
                    high_watermark: Offset(log.end()),
                }));
            }
            log.log_start = delete.before.0;
            if state.deletes_in_shutdown {
                return Response::DeleteRecords(Err(DeleteRecordsError::ShuttingDown));
            }
            Response::DeleteRecords(Ok(delete.before))
        }
        Request::CreateTopic(CreateTopic { name, .. }) => {
            Response::CreateTopic(Err(TopicError::Exists { name }))
        }
        Request::AlterTopic(_) => Response::AlterTopic(Ok(topic(state))),
        Request::DeleteTopic(_) => Response::DeleteTopic(Ok(())),
        Request::Produce(_) | Request::Fetch(_) => panic!("streams of their own"),
    }
}
