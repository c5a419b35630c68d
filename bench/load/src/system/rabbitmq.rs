//! RabbitMQ streams over their own protocol: a stream per partition, with the codec of the project's Rust client.
//!
//! A record's ticket is its publishing id: brokers give it back as it was, and look at it only for publishers that have
//! a name, which these have not. A chunk is one frame per stream it touches.

#![expect(clippy::wildcard_enum_match_arm, reason = "of the protocol's many answers a driver needs a few")]

use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use millstream_client::Config;
use rabbitmq_stream_protocol::codec::{Decoder, Encoder};
use rabbitmq_stream_protocol::commands::create_stream::CreateStreamCommand;
use rabbitmq_stream_protocol::commands::credit::CreditCommand;
use rabbitmq_stream_protocol::commands::declare_publisher::DeclarePublisherCommand;
use rabbitmq_stream_protocol::commands::delete::Delete;
use rabbitmq_stream_protocol::commands::deliver::DeliverCommand;
use rabbitmq_stream_protocol::commands::open::OpenCommand;
use rabbitmq_stream_protocol::commands::peer_properties::PeerPropertiesCommand;
use rabbitmq_stream_protocol::commands::publish::PublishCommand;
use rabbitmq_stream_protocol::commands::sasl_authenticate::SaslAuthenticateCommand;
use rabbitmq_stream_protocol::commands::sasl_handshake::SaslHandshakeCommand;
use rabbitmq_stream_protocol::commands::subscribe::{OffsetSpecification, SubscribeCommand};
use rabbitmq_stream_protocol::commands::tune::TunesCommand;
use rabbitmq_stream_protocol::message::Message;
use rabbitmq_stream_protocol::types::PublishedMessage;
use rabbitmq_stream_protocol::{Request, Response, ResponseKind};
use tokio::io::{AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};

use crate::outcomes::{Outcomes, Ticket};
use crate::system::feed::{
    Chooser, Feed, FeedSender, Portion, place, refuse_configs, refuse_consumer, refuse_producer,
};
use crate::system::{
    Consumer, ConsumerSpec, Description, Durability, Outgoing, Pending, Producer, ProducerSpec, ReadFrom,
    System, SystemError, TopicSpec,
};

const SYSTEM: &str = "RabbitMQ streams";
/// Of a broker as it is installed, which takes them from loopback only.
const USER: &str = "guest";
const PASSWORD: &str = "guest";
/// Publishers and subscriptions are numbered by a byte.
const PARTITIONS_MAX: u32 = 256;
const PUBLISH_VERSION: u16 = 1;
/// Of the codec around a value, at most.
const MESSAGE_OVERHEAD_BYTES: usize = 64;
/// Chunks of the log that a broker may send ahead of the reader, each acknowledged by a credit of one.
const CREDIT: u16 = 32;
const READ_BUFFER_BYTES: usize = 256 << 10;

pub(super) struct RabbitMq {
    server: String,
    /// Partitions of the topic that was made, for the end.
    made: AtomicU32,
}

impl RabbitMq {
    pub(super) async fn connect(config: &Config) -> Result<RabbitMq, SystemError> {
        let Some(server) = config.servers.first() else {
            return Err(SystemError::Connect("no server is named".to_owned()));
        };
        Link::open(server).await?;
        Ok(RabbitMq { server: server.clone(), made: AtomicU32::new(0) })
    }
}

impl System for RabbitMq {
    fn create_topic<'a>(&'a self, topic: &'a TopicSpec) -> Pending<'a, Result<(), SystemError>> {
        Box::pin(async move {
            refuse_configs(SYSTEM, &topic.configs)?;
            let unsupported =
                |what: &str| Err(SystemError::Unsupported { system: SYSTEM, what: what.to_owned() });
            if topic.durability == Durability::Memory {
                return unsupported("streams that are not in files");
            }
            if topic.partitions > PARTITIONS_MAX {
                return unsupported("more than 256 partitions: publishers are numbered by a byte");
            }
            if topic.replicas.is_some_and(|replicas| replicas > 1) {
                return unsupported("replicas: this driver is for one node");
            }
            let mut link = Link::open(&self.server).await?;
            for partition in 0..topic.partitions {
                let name = place(&topic.name, partition);
                link.ask(|id| CreateStreamCommand::new(id, name, HashMap::new()))
                    .await
                    .map_err(SystemError::topic)?;
                self.made.store(partition + 1, Ordering::Relaxed);
            }
            Ok(())
        })
    }

    fn delete_topic<'a>(&'a self, name: &'a str) -> Pending<'a, Result<(), SystemError>> {
        Box::pin(async move {
            let mut link = Link::open(&self.server).await?;
            for partition in 0..self.made.load(Ordering::Relaxed) {
                link.ask(|id| Delete::new(id, place(name, partition))).await.map_err(SystemError::topic)?;
            }
            Ok(())
        })
    }

    fn describe<'a>(&'a self, topic: &'a TopicSpec) -> Pending<'a, Result<Description, SystemError>> {
        Box::pin(async move {
            let link = Link::open(&self.server).await?;
            Ok(Description {
                system: format!("RabbitMQ {}", link.version),
                client: "rabbitmq-stream-protocol 0.11, TCP".to_owned(),
                durability:
                    "written to the operating system's page cache: RabbitMQ never syncs streams, and says \
                             that replicas are what keeps them"
                        .to_owned(),
                replication: "1 replica".to_owned(),
                batching: "a frame per chunk and stream, many on the way".to_owned(),
                notes: vec![format!("{} streams", topic.partitions)],
            })
        })
    }

    fn producer<'a>(
        &'a self,
        spec: &'a ProducerSpec,
        outcomes: Outcomes,
    ) -> Pending<'a, Result<Box<dyn Producer>, SystemError>> {
        Box::pin(async move {
            refuse_producer(SYSTEM, spec)?;
            let mut link = Link::open(&self.server).await?;
            for partition in 0..spec.partitions {
                let name = place(&spec.topic, partition);
                link.ask(|id| DeclarePublisherCommand::new(id, partition as u8, None, name))
                    .await
                    .map_err(SystemError::Send)?;
            }
            let waiting = Arc::new(Waiting::default());
            tokio::spawn(hear(link.reader, Arc::clone(&waiting), outcomes.clone()));
            Ok(Box::new(Sender {
                writer: link.writer,
                frame_bytes_max: link.frame_bytes_max,
                chooser: Chooser::new(spec.partitions),
                frames: (0..spec.partitions).map(|_| Vec::new()).collect(),
                waiting,
                outcomes,
            }) as Box<dyn Producer>)
        })
    }

    fn consumer<'a>(&'a self, spec: &'a ConsumerSpec) -> Pending<'a, Result<Box<dyn Consumer>, SystemError>> {
        Box::pin(async move {
            refuse_consumer(SYSTEM, spec)?;
            let mut link = Link::open(&self.server).await?;
            let mut early = Vec::new();
            for partition in &spec.partitions {
                let from = match spec.from {
                    ReadFrom::Start => OffsetSpecification::First,
                    ReadFrom::Tail => OffsetSpecification::Next,
                };
                let name = place(&spec.topic, *partition);
                let subscribe =
                    |id| SubscribeCommand::new(id, *partition as u8, name, from, CREDIT, HashMap::new());
                early.extend(link.ask(subscribe).await.map_err(SystemError::Read)?);
            }
            let feed = Feed::new(|sender, tasks| {
                tasks.spawn(read(link, early, sender));
            });
            Ok(Box::new(feed) as Box<dyn Consumer>)
        })
    }
}

/// A connection that has said who it is.
struct Link {
    reader: FrameReader,
    writer: OwnedWriteHalf,
    version: String,
    /// As the broker asked for.
    frame_bytes_max: usize,
    correlation: u32,
}

impl Link {
    async fn open(server: &str) -> Result<Link, SystemError> {
        Link::greet(server).await.map_err(SystemError::Connect)
    }

    async fn greet(server: &str) -> Result<Link, String> {
        let socket = TcpStream::connect(server).await.map_err(text)?;
        socket.set_nodelay(true).map_err(text)?;
        let (reader, writer) = socket.into_split();
        let reader =
            FrameReader { socket: BufReader::with_capacity(READ_BUFFER_BYTES, reader), frame: Vec::new() };
        let (version, frame_bytes_max) = (String::new(), usize::MAX);
        let mut link = Link { reader, writer, version, frame_bytes_max, correlation: 0 };
        let properties = HashMap::from([("product".to_owned(), "millstream-bench".to_owned())]);
        link.write(PeerPropertiesCommand::new(link.correlation, properties)).await?;
        let answer = link.reader.next().await?;
        let ResponseKind::PeerProperties(peer) = answer.kind_ref() else { return Err(unexpected(&answer)) };
        link.version = peer.server_properties.get("version").cloned().unwrap_or_default();
        link.write(SaslHandshakeCommand::new(link.correlation)).await?;
        let answer = link.reader.next().await?;
        let ResponseKind::SaslHandshake(_) = answer.kind_ref() else { return Err(unexpected(&answer)) };
        let who = format!("\0{USER}\0{PASSWORD}").into_bytes();
        let tunes = link.ask(|id| SaslAuthenticateCommand::new(id, "PLAIN".to_owned(), who)).await?;
        assert!(tunes.is_empty(), "nothing is subscribed to");
        let answer = link.reader.next().await?;
        let ResponseKind::Tunes(tunes) = answer.kind_ref() else { return Err(unexpected(&answer)) };
        if tunes.max_frame_size > 0 {
            link.frame_bytes_max = tunes.max_frame_size as usize;
        }
        // No heartbeats: a run that is stuck ends by itself.
        link.write(TunesCommand::new(tunes.max_frame_size, 0)).await?;
        link.write(OpenCommand::new(link.correlation, "/".to_owned())).await?;
        let answer = link.reader.next().await?;
        match answer.kind_ref() {
            ResponseKind::Open(open) if open.is_ok() => Ok(link),
            _ => Err(unexpected(&answer)),
        }
    }

    /// Asks for something and waits for the broker's yes. Returns what was delivered in the meantime.
    async fn ask<C: Into<Request>>(
        &mut self,
        command: impl FnOnce(u32) -> C,
    ) -> Result<Vec<DeliverCommand>, String> {
        self.correlation += 1;
        self.write(command(self.correlation)).await?;
        let mut delivered = Vec::new();
        loop {
            let answer = self.reader.next().await?;
            let is_for_this = answer.correlation_id() == Some(self.correlation);
            match answer.kind() {
                ResponseKind::Generic(generic) if is_for_this && generic.is_ok() => return Ok(delivered),
                ResponseKind::Generic(generic) if is_for_this => {
                    return Err(format!("refused: {:?}", generic.code()));
                }
                ResponseKind::Deliver(delivery) => delivered.push(delivery),
                _ => {}
            }
        }
    }

    async fn write(&mut self, command: impl Into<Request>) -> Result<(), String> {
        self.writer.write_all(&encoded(command)?).await.map_err(text)
    }
}

fn encoded(command: impl Into<Request>) -> Result<Vec<u8>, String> {
    let request: Request = command.into();
    let mut bytes = Vec::with_capacity(request.encoded_size() as usize + 4);
    request.encode(&mut bytes).map_err(|error| format!("{error:?}"))?;
    Ok(bytes)
}

struct FrameReader {
    socket: BufReader<OwnedReadHalf>,
    /// Of the last answer, with its length in front, as the codec wants it.
    frame: Vec<u8>,
}

impl FrameReader {
    async fn next(&mut self) -> Result<Response, String> {
        let body_bytes = self.socket.read_u32().await.map_err(text)?;
        self.frame.clear();
        self.frame.extend_from_slice(&body_bytes.to_be_bytes());
        self.frame.resize(4 + body_bytes as usize, 0);
        self.socket.read_exact(&mut self.frame[4..]).await.map_err(text)?;
        let (_, response) = Response::decode(&self.frame).map_err(|error| format!("{error:?}"))?;
        Ok(response)
    }
}

/// Tickets on the way, so that none is forgotten when the connection ends.
#[derive(Debug, Default)]
struct Waiting(Mutex<Tickets>);

#[derive(Debug, Default)]
struct Tickets {
    /// By ticket.
    waits: Vec<bool>,
    ended: bool,
}

impl Waiting {
    /// False when the connection has ended.
    fn add(&self, records: &[Outgoing<'_>]) -> bool {
        let mut tickets = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if tickets.ended {
            return false;
        }
        for Outgoing { ticket: Ticket(index), .. } in records {
            if *index >= tickets.waits.len() {
                tickets.waits.resize(index + 1, false);
            }
            tickets.waits[*index] = true;
        }
        true
    }

    /// Those of `ids` that did wait.
    fn remove(&self, ids: impl IntoIterator<Item = u64>) -> Vec<Ticket> {
        let mut tickets = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = ids.into_iter().filter_map(|id| {
            let index = usize::try_from(id).ok()?;
            let waits = tickets.waits.get_mut(index)?;
            std::mem::take(waits).then_some(Ticket(index))
        });
        waited.collect()
    }

    /// All of them, and none can come any more.
    fn end(&self) -> Vec<Ticket> {
        let mut tickets = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        tickets.ended = true;
        let waits = std::mem::take(&mut tickets.waits);
        waits.iter().enumerate().filter(|(_, waits)| **waits).map(|(index, _)| Ticket(index)).collect()
    }
}

struct Sender {
    writer: OwnedWriteHalf,
    frame_bytes_max: usize,
    chooser: Chooser,
    /// By partition, of the chunk under way.
    frames: Vec<Vec<PublishedMessage>>,
    waiting: Arc<Waiting>,
    outcomes: Outcomes,
}

impl Producer for Sender {
    fn send<'a>(&'a mut self, records: &'a [Outgoing<'a>]) -> Pending<'a, Result<(), SystemError>> {
        Box::pin(async move {
            if !self.waiting.add(records) {
                self.outcomes.failed(records.iter().map(|record| record.ticket), "not sent: connection lost");
                return Err(SystemError::Send("the connection ended".to_owned()));
            }
            let mut bytes = Vec::new();
            let mut frame_bytes = vec![0; self.frames.len()];
            for record in records {
                let partition = self.chooser.partition(record) as usize;
                let message_bytes = record.value.len() + MESSAGE_OVERHEAD_BYTES;
                if frame_bytes[partition] + message_bytes > self.frame_bytes_max {
                    self.close_frame(partition, &mut bytes)?;
                    frame_bytes[partition] = 0;
                }
                frame_bytes[partition] += message_bytes;
                let message = Message::builder().body(record.value).build();
                self.frames[partition].push(PublishedMessage::new(record.ticket.0 as u64, message, None));
            }
            for partition in 0..self.frames.len() {
                self.close_frame(partition, &mut bytes)?;
            }
            self.chooser.next_chunk();
            self.writer.write_all(&bytes).await.map_err(SystemError::send)
        })
    }

    fn flush(&mut self) -> Pending<'_, Result<(), SystemError>> {
        Box::pin(async { Ok(()) })
    }
}

impl Sender {
    fn close_frame(&mut self, partition: usize, bytes: &mut Vec<u8>) -> Result<(), SystemError> {
        let messages = std::mem::take(&mut self.frames[partition]);
        if messages.is_empty() {
            return Ok(());
        }
        let publish: Request = PublishCommand::new(partition as u8, messages, PUBLISH_VERSION).into();
        publish.encode(bytes).map_err(|error| SystemError::Send(format!("{error:?}")))
    }
}

/// Tells what became of records, until the connection ends.
async fn hear(mut reader: FrameReader, waiting: Arc<Waiting>, outcomes: Outcomes) {
    while let Ok(answer) = reader.next().await {
        match answer.kind() {
            ResponseKind::PublishConfirm(confirm) => {
                outcomes.acknowledged(waiting.remove(confirm.publishing_ids));
            }
            ResponseKind::PublishError(error) => {
                for error in error.publishing_errors {
                    let refused = waiting.remove([error.publishing_id]);
                    outcomes.failed(refused, &format!("refused: {:?}", error.error_code));
                }
            }
            _ => {}
        }
    }
    let lost = waiting.end();
    if !lost.is_empty() {
        outcomes.failed(lost, "connection lost: unknown");
    }
}

/// A message that holds a record's value.
struct Body(Message);

impl AsRef<[u8]> for Body {
    fn as_ref(&self) -> &[u8] {
        self.0.data().unwrap_or_default()
    }
}

async fn read(mut link: Link, early: Vec<DeliverCommand>, sender: FeedSender<Body>) {
    let mut early = early.into_iter();
    loop {
        let delivery = match early.next() {
            Some(delivery) => Ok(delivery),
            None => next_delivery(&mut link.reader).await,
        };
        let portion = match delivery {
            Ok(delivery) => {
                let partition = u32::from(delivery.subscription_id);
                // The next chunk may come while this one is looked at.
                let credited = link.write(CreditCommand::new(delivery.subscription_id, 1)).await;
                credited.map(|()| Portion {
                    partition,
                    values: delivery.messages.into_iter().map(Body).collect(),
                })
            }
            Err(error) => Err(error),
        };
        let is_over = portion.is_err();
        if sender.send(portion.map_err(SystemError::Read)).await.is_err() || is_over {
            return;
        }
    }
}

async fn next_delivery(reader: &mut FrameReader) -> Result<DeliverCommand, String> {
    loop {
        if let ResponseKind::Deliver(delivery) = reader.next().await?.kind() {
            return Ok(delivery);
        }
    }
}

fn unexpected(answer: &Response) -> String {
    format!("unexpected answer: {:?}", answer.kind_ref())
}

fn text(error: std::io::Error) -> String {
    error.to_string()
}

#[cfg(test)]
mod tests {
    use rabbitmq_stream_protocol::codec::Decoder;
    use rabbitmq_stream_protocol::message::Message;

    use super::{Body, MESSAGE_OVERHEAD_BYTES, Waiting, encoded};
    use crate::outcomes::Ticket;
    use crate::system::Outgoing;

    fn outgoing(ticket: usize) -> Outgoing<'static> {
        Outgoing { ticket: Ticket(ticket), partition: None, key: None, value: b"value" }
    }

    #[test]
    fn a_ticket_is_answered_once_and_none_is_forgotten_at_the_end() {
        let waiting = Waiting::default();
        assert!(waiting.add(&[outgoing(0), outgoing(2), outgoing(5)]));
        assert_eq!(waiting.remove([2, 2, 7, u64::MAX]), [Ticket(2)]);
        assert_eq!(waiting.remove([2]), []);
        assert!(waiting.add(&[outgoing(2)]));
        assert_eq!(waiting.end(), [Ticket(0), Ticket(2), Ticket(5)]);
        assert!(!waiting.add(&[outgoing(1)]));
    }

    #[test]
    fn a_frame_is_as_long_as_it_says_and_within_what_is_reckoned() {
        use rabbitmq_stream_protocol::commands::publish::PublishCommand;
        use rabbitmq_stream_protocol::types::PublishedMessage;

        for value_bytes in [0, 100, 255, 256, 100_000] {
            let message = Message::builder().body(vec![7; value_bytes]).build();
            let publish = PublishCommand::new(3, vec![PublishedMessage::new(9, message, None)], 1);
            let bytes = encoded(publish).unwrap();
            let length = u32::from_be_bytes(bytes[..4].try_into().unwrap());
            assert_eq!(length as usize, bytes.len() - 4);
            assert!(bytes.len() <= value_bytes + MESSAGE_OVERHEAD_BYTES, "{}", bytes.len());
        }
    }

    #[test]
    fn a_value_comes_back_as_it_was_sent() {
        use rabbitmq_stream_protocol::codec::Encoder;

        let message = Message::builder().body(b"value".as_slice()).build();
        let mut bytes = Vec::new();
        message.encode(&mut bytes).unwrap();
        let (_, back) = Message::decode(&bytes).unwrap();
        assert_eq!(Body(back).as_ref(), b"value");
    }
}
