//! A life of a client that is none of ours: speaks QUIC, and little else as it should.
//!
//! Nothing it does may be stored, or disturb anybody else for long. It notes nothing: what others see is what counts.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use engine_api::{Acks, PartitionId, Request, TopicId};
use net_wire::{OpenRead, encode};
use quinn::VarInt;
use quinn::crypto::rustls::QuicClientConfig;
use quinn_proto::ConnectionId;
use storage_frame::{BatchBuilder, HEADER_BYTES, Offset, TimestampMs};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::Cast;
use crate::dice::Dice;
use crate::net::{Cut, Machine, Way, tls};

const DEEDS_MAX: u64 = 12;
/// Connections begun at once, mostly.
const CROWD_MAX: u64 = 20;
/// A broker takes 256 before it asks for proof of addresses.
const LARGE_CROWD: u64 = 280;
const CONNECTING_MAX: Duration = Duration::from_secs(3);
/// Above the broker's patience with a message under way.
const STALL: Duration = Duration::from_secs(35);
/// Of one stream of a client that does not read.
const DEAF_WINDOW_BYTES: u32 = 4 << 10;
/// The id for a first packet.
const FIRST_ID_BYTES: usize = 16;
const FLOOD_MAX: u64 = 400;
/// Refusals of so many are more than a broker keeps for a stream.
const LARGE_FLOOD: u64 = 3000;
/// Above the broker's patience with a handshake.
const DEAFNESS: Duration = Duration::from_secs(14);

impl Cast<'_> {
    pub(super) async fn be_hostile(&mut self) {
        let partition = self.some_partition().await;
        let machine = self.machine();
        for _ in 0..self.dice.within(1..=DEEDS_MAX) {
            if self.is_late() {
                break;
            }
            match self.dice.below(16) {
                0 => self.vanish().await,
                1 => self.crowd(&machine).await,
                2 => self.hear_nothing(&machine).await,
                _ => {
                    if let Some(connection) = self.dial(&machine).await {
                        self.misbehave(&connection, partition).await;
                    }
                }
            }
            self.pause(Duration::from_millis(300)).await;
        }
        if self.dice.chance(300_000) {
            machine.unplug();
        }
    }

    /// One that is there, if somebody says so.
    async fn some_partition(&mut self) -> PartitionId {
        let nowhere = PartitionId { topic: TopicId(1), index: 0 };
        let Some(topic) = self.topic() else { return nowhere };
        let Some(life) = self.connect().await else { return nowhere };
        let described = life.client.admin().describe_topic(&topic).await;
        life.client.close().await;
        described.map_or(nowhere, |topic| PartitionId { topic: topic.id, index: 0 })
    }

    fn node(&self) -> SocketAddr {
        self.plan.servers[0].parse().expect("the address of a node")
    }

    fn endpoint(&self, machine: &Machine) -> quinn::Endpoint {
        let config = quinn::EndpointConfig::default();
        machine.outside().endpoint(self.node(), config).expect("machines have sockets")
    }

    async fn dial(&mut self, machine: &Machine) -> Option<quinn::Connection> {
        let endpoint = self.endpoint(machine);
        let connecting = endpoint.connect_with(config(&mut self.dice), self.node(), "node").ok()?;
        timeout(CONNECTING_MAX, connecting).await.ok()?.ok()
    }

    /// Dies in the middle of a handshake.
    async fn vanish(&mut self) {
        self.life += 1;
        let machine = self.machine();
        let endpoint = self.endpoint(&machine);
        let connecting = endpoint.connect_with(config(&mut self.dice), self.node(), "node");
        self.pause(Duration::from_millis(5)).await;
        machine.unplug();
        drop(connecting);
    }

    /// Goes on greeting, and hears nothing of the answers.
    async fn hear_nothing(&mut self, machine: &Machine) {
        let until = self.net.now() + DEAFNESS;
        let client = Some(machine.ip());
        self.net.wire().cut(Cut { client, way: Way::FromNodes, until });
        let endpoint = self.endpoint(machine);
        if let Ok(connecting) = endpoint.connect_with(config(&mut self.dice), self.node(), "node") {
            let _ = timeout(DEAFNESS, connecting).await;
        }
    }

    async fn crowd(&mut self, machine: &Machine) {
        let endpoint = self.endpoint(machine);
        let mut handshakes = JoinSet::new();
        let is_large = self.dice.chance(100_000);
        let count = if is_large { LARGE_CROWD } else { self.dice.within(2..=CROWD_MAX) };
        for _ in 0..count {
            if let Ok(connecting) = endpoint.connect_with(config(&mut self.dice), self.node(), "node") {
                handshakes.spawn(async move { drop(connecting.await) });
            }
        }
        let all = async { while handshakes.join_next().await.is_some() {} };
        // Whoever is refused or ignored is given up.
        let _ = timeout(CONNECTING_MAX, all).await;
    }

    async fn misbehave(&mut self, connection: &quinn::Connection, partition: PartitionId) {
        match self.dice.below(9) {
            0 | 1 => self.say_nonsense(connection).await,
            2 | 3 => self.break_off(connection, partition).await,
            4 => self.stall(connection).await,
            5 => self.send_bad_frames(connection, partition).await,
            6 => self.read_nothing(connection, partition).await,
            7 => self.flood(connection).await,
            _ => self.ask_for_what_is_not_there(connection).await,
        }
        if self.dice.chance(500_000) {
            connection.close(VarInt::from_u32(self.dice.below(1000) as u32), b"bye");
        }
    }

    async fn say_nonsense(&mut self, connection: &quinn::Connection) {
        let Some((mut send, mut receive)) = open(connection).await else { return };
        let mut bytes = vec![0; self.dice.within(1..=3000) as usize];
        self.dice.fill(&mut bytes);
        let _ = timeout(CONNECTING_MAX, send.write_all(&bytes)).await;
        let _ = timeout(CONNECTING_MAX, receive.read_chunk(usize::MAX, true)).await;
    }

    /// Ends in the middle of a message, with or without saying so.
    async fn break_off(&mut self, connection: &quinn::Connection, partition: PartitionId) {
        let Some((mut send, mut receive)) = open(connection).await else { return };
        let whole = match self.dice.below(3) {
            0 => encode::request(1, &Request::DescribeCluster),
            1 => encode::open_read(1, &OpenRead { partition, offset: Offset(0), bytes_max: 0, group: None }),
            _ => [encode::open_produce(&partition), self.bad_frame()].concat().into(),
        };
        let part = self.dice.below(whole.len() as u64) as usize;
        let _ = timeout(CONNECTING_MAX, send.write_all(&whole[..part])).await;
        self.pause(Duration::from_millis(20)).await;
        match self.dice.below(4) {
            0 => drop(send.finish()),
            1 => drop(send.reset(VarInt::from_u32(1))),
            2 => drop(receive.stop(VarInt::from_u32(1))),
            _ => return,
        }
        let _ = timeout(CONNECTING_MAX, receive.read_chunk(usize::MAX, true)).await;
    }

    /// Holds streams open and says nothing on them.
    async fn stall(&mut self, connection: &quinn::Connection) {
        let mut streams = Vec::new();
        for _ in 0..self.dice.within(1..=5) {
            let Some((mut send, receive)) = open(connection).await else { break };
            let whole = encode::request(1, &Request::DescribeCluster);
            let part = self.dice.within(1..=whole.len() as u64 - 1) as usize;
            let _ = timeout(CONNECTING_MAX, send.write_all(&whole[..part])).await;
            streams.push((send, receive));
        }
        tokio::select! {
            biased;
            _ = connection.closed() => {}
            () = sleep(STALL) => {}
        }
    }

    /// A message with a frame whose payload is not what its checksum says.
    fn bad_frame(&mut self) -> Bytes {
        let mut builder = BatchBuilder::new();
        let value = vec![7; self.dice.within(1..=500) as usize];
        let pushed = builder.push(TimestampMs(1), None, Some(&value), std::iter::empty());
        pushed.expect("a small record fits");
        let frame = builder.seal(None);
        let mut chunks = Vec::new();
        encode::produce(self.dice.below(9), Acks::All, &frame, &mut chunks);
        // The message's own header is under no checksum: with that damaged the frame would be as good as any.
        let mut whole = chunks.concat();
        let payload_at = whole.len() - frame.header().frame_bytes() + HEADER_BYTES;
        let at = payload_at + self.dice.below(frame.payload().len() as u64) as usize;
        whole[at] ^= 1 << self.dice.below(8);
        whole.into()
    }

    async fn send_bad_frames(&mut self, connection: &quinn::Connection, partition: PartitionId) {
        let Some((mut send, mut receive)) = open(connection).await else { return };
        let mut chunks = vec![encode::open_produce(&partition)];
        for _ in 0..self.dice.within(1..=3) {
            chunks.push(self.bad_frame());
        }
        let _ = timeout(CONNECTING_MAX, send.write_all_chunks(&mut chunks)).await;
        let _ = timeout(CONNECTING_MAX, receive.read_chunk(usize::MAX, true)).await;
    }

    /// Opens many reads and takes nothing of them for a while.
    async fn read_nothing(&mut self, connection: &quinn::Connection, partition: PartitionId) {
        let mut streams = Vec::new();
        for _ in 0..self.dice.within(1..=30) {
            let Some((mut send, receive)) = open(connection).await else { break };
            let open = OpenRead { partition, offset: Offset(self.dice.below(3)), bytes_max: 0, group: None };
            let _ = timeout(CONNECTING_MAX, send.write_chunk(encode::open_read(3, &open))).await;
            streams.push((send, receive));
        }
        self.pause(Duration::from_secs(8)).await;
        for (_, receive) in &mut streams {
            // Some go on late, after all.
            if self.dice.chance(500_000) {
                let _ = timeout(Duration::from_millis(50), receive.read_chunk(usize::MAX, true)).await;
            }
        }
    }

    /// Requests by the hundred, whose answers nobody waits for.
    async fn flood(&mut self, connection: &quinn::Connection) {
        for _ in 0..self.dice.within(10..=FLOOD_MAX) {
            let Some((mut send, _receive)) = open(connection).await else { return };
            let asked =
                timeout(CONNECTING_MAX, send.write_chunk(encode::request(1, &Request::DescribeCluster)));
            if asked.await.is_err() {
                return;
            }
            let _ = send.finish();
        }
        // The connection goes with all of them open, or after some answers.
        self.pause(Duration::from_millis(3)).await;
    }

    /// Produces by the hundred for a partition that is not there, and leaves the refusals where they are.
    async fn ask_for_what_is_not_there(&mut self, connection: &quinn::Connection) {
        let partition = PartitionId { topic: TopicId(1), index: 7 };
        let Some((mut send, mut receive)) = open(connection).await else { return };
        let mut chunks = vec![encode::open_produce(&partition)];
        let mut builder = BatchBuilder::new();
        let pushed = builder.push(TimestampMs(1), None, Some(b"for nobody"), std::iter::empty());
        pushed.expect("a small record fits");
        let frame = builder.seal(None);
        let is_large = self.dice.chance(200_000);
        let count = if is_large { LARGE_FLOOD } else { self.dice.within(1..=FLOOD_MAX) };
        for correlation in 0..count {
            encode::produce(correlation, Acks::All, &frame, &mut chunks);
        }
        let _ = timeout(CONNECTING_MAX, send.write_all_chunks(&mut chunks)).await;
        self.pause(Duration::from_secs(2)).await;
        let _ = timeout(CONNECTING_MAX, receive.read_chunk(usize::MAX, true)).await;
    }
}

async fn open(connection: &quinn::Connection) -> Option<(quinn::SendStream, quinn::RecvStream)> {
    timeout(CONNECTING_MAX, connection.open_bi()).await.ok()?.ok()
}

/// Everything random in it comes from `dice`.
fn config(dice: &mut Dice) -> quinn::ClientConfig {
    let crypto = QuicClientConfig::try_from(tls::client()).expect("ring has the initial cipher suite");
    let mut config = quinn::ClientConfig::new(Arc::new(crypto));
    let mut transport = quinn::TransportConfig::default();
    transport
        .stream_receive_window(VarInt::from_u32(DEAF_WINDOW_BYTES))
        .keep_alive_interval(Some(Duration::from_secs(2)));
    config.transport_config(Arc::new(transport));
    let mut id = [0; FIRST_ID_BYTES];
    dice.fill(&mut id);
    config.initial_dst_cid_provider(Arc::new(move || ConnectionId::new(&id)));
    config
}
