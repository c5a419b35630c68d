//! Peers that mean no good, or know no better, over QUIC. Every time the broker goes on serving the others, in bounded
//! memory.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use net_wire::{ALPN, Kind, MESSAGE_HEADER_BYTES, MessageHeader};
use quinn::crypto::rustls::QuicClientConfig;
use quinn::{ClientConfig, Connection, Endpoint, RecvStream, SendStream, TransportConfig, VarInt};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use tests_process::process::Unread;
use tests_process::{Broker, Chance, Options, directory, lines};

use crate::verify;

/// For what must come at once; only a failure waits this long.
const DEADLINE: Duration = Duration::from_secs(30);

fn with_broker<F: Future<Output = ()>>(test: impl FnOnce(SocketAddr, std::path::PathBuf) -> F) {
    let dir = directory();
    let broker = Broker::start(Options::new(dir.path()));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(test(broker.options.listen, broker.options.data.clone()));
    serves_others(&broker);
}

/// A well-behaved client gets what it asks for.
#[track_caller]
pub(crate) fn serves_others(broker: &Broker) {
    let cli = broker.cli();
    cli.create("others", 2);
    let sent = lines::real(2_000);
    cli.run_with(&["produce", "others"], lines::joined(&sent)).expect(0);
    verify::whole_topic(&cli, "others", 2, &sent);
}

async fn connect(
    server: SocketAddr,
    data: &Path,
    alpn: &[u8],
    window: u32,
) -> Result<Connection, quinn::ConnectionError> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(data.join("tls/ca.pem")).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let tls = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap();
    let mut tls = tls.with_root_certificates(roots).with_no_client_auth();
    tls.alpn_protocols = vec![alpn.to_vec()];
    let mut config = ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls).unwrap()));
    let mut transport = TransportConfig::default();
    transport.stream_receive_window(VarInt::from_u32(window)).receive_window(VarInt::from_u32(window));
    transport.keep_alive_interval(Some(Duration::from_secs(1)));
    config.transport_config(Arc::new(transport));
    let endpoint = Endpoint::client((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
    let connecting = endpoint.connect_with(config, server, "localhost").unwrap();
    tokio::time::timeout(DEADLINE, connecting).await.expect("an answer in time")
}

async fn friend(server: SocketAddr, data: &Path) -> Connection {
    connect(server, data, ALPN, 1 << 20).await.expect("connected")
}

fn header(kind: Kind, bytes: u32) -> [u8; MESSAGE_HEADER_BYTES] {
    MessageHeader { bytes, kind, meta_bytes: 0, correlation: 1 }.encode()
}

/// The broker ends its side, with whatever it has to say.
async fn ended(mut receive: RecvStream) {
    let read = async {
        let mut buffer = [0; 4096];
        while let Ok(Some(_)) = receive.read(&mut buffer).await {}
    };
    tokio::time::timeout(DEADLINE, read).await.expect("the stream ends");
}

async fn refused_bytes(connection: &Connection, bytes: &[u8]) {
    let Ok((mut send, receive)) = connection.open_bi().await else { return };
    // The broker may give the stream up before it has read everything.
    let _ = send.write_all(bytes).await;
    let _ = send.finish();
    ended(receive).await;
}

#[test]
fn the_wrong_alpn_is_refused_in_the_handshake() {
    with_broker(async |server, data| {
        let error = connect(server, &data, b"h3", 1 << 20).await.expect_err("refused");
        assert!(
            error.to_string().contains("application protocol") || error.to_string().contains("120"),
            "{error}"
        );
    });
}

#[test]
fn garbage_datagrams_are_dropped() {
    with_broker(async |server, _| {
        let mut chance = Chance::new(1);
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        for _ in 0..20_000 {
            let size = chance.below(1_400) as usize;
            let mut datagram = chance.bytes(size);
            // Half of them look like QUIC at first sight: a long header of version 1.
            if chance.below(2) == 0 && size > 5 {
                datagram[0] |= 0xC0;
                datagram[1..5].copy_from_slice(&[0, 0, 0, 1]);
            }
            // A full buffer drops them as well.
            let _ = socket.send_to(&datagram, server);
        }
    });
}

#[test]
fn garbage_on_a_stream_ends_that_stream() {
    with_broker(async |server, data| {
        let mut chance = Chance::new(2);
        for _ in 0..200 {
            let connection = friend(server, &data).await;
            let bytes = chance.below(300) as usize;
            refused_bytes(&connection, &chance.bytes(bytes)).await;
            connection.close(VarInt::from_u32(0), b"");
        }
    });
}

#[test]
fn every_kind_with_a_garbage_body_is_refused() {
    with_broker(async |server, data| {
        let mut chance = Chance::new(3);
        let connection = friend(server, &data).await;
        let mut other = friend(server, &data).await;
        for kind in Kind::ALL {
            for bytes in [0, 1, 7, 64, 1000] {
                let message = [&header(*kind, bytes)[..], &chance.bytes(bytes as usize)].concat();
                if other.close_reason().is_some() {
                    other = friend(server, &data).await;
                }
                refused_bytes(&other, &message).await;
            }
        }
        assert!(connection.close_reason().is_none(), "another connection is left alone");
    });
}

#[test]
fn a_stream_cut_anywhere_does_no_harm() {
    with_broker(async |server, data| {
        let message = [&header(Kind::DescribeTopics, 100)[..], &[7; 100]].concat();
        for cut in [0, 1, 4, 15, 16, 17, 60, 115] {
            let connection = friend(server, &data).await;
            let (mut send, receive) = connection.open_bi().await.unwrap();
            send.write_all(&message[..cut]).await.unwrap();
            if cut % 2 == 0 {
                send.finish().unwrap();
                ended(receive).await;
            } else {
                send.reset(VarInt::from_u32(1)).unwrap();
            }
            connection.close(VarInt::from_u32(0), b"");
        }
    });
}

#[test]
fn a_length_beyond_the_limit_is_refused_before_it_arrives() {
    with_broker(async |server, data| {
        let connection = friend(server, &data).await;
        let (mut send, receive) = connection.open_bi().await.unwrap();
        send.write_all(&header(Kind::CreateTopic, u32::MAX)).await.unwrap();
        // Not finished: the refusal must not wait for the end of what will not be read.
        ended(receive).await;
        drop(send);
    });
}

/// A thousand messages that claim a megabyte each and never come: claims cost nothing, bytes that came do.
#[test]
fn streams_that_never_end_cost_what_they_sent_and_hold_up_nobody() {
    let dir = directory();
    let broker = Broker::start(Options::new(dir.path()));
    let before = broker.resident_bytes();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let held: Vec<(Connection, Vec<SendStream>)> = runtime.block_on(async {
        let mut held = Vec::new();
        for _ in 0..10 {
            let connection = friend(broker.options.listen, &broker.options.data).await;
            let mut streams = Vec::new();
            for _ in 0..100 {
                let open = tokio::time::timeout(Duration::from_millis(200), connection.open_bi()).await;
                // The broker bounds how many it takes at a time.
                let Ok(Ok((mut send, _))) = open else { break };
                send.write_all(&header(Kind::CreateTopic, 1 << 20)).await.unwrap();
                streams.push(send);
            }
            assert!(!streams.is_empty());
            held.push((connection, streams));
        }
        held
    });
    serves_others(&broker);
    let grown = broker.resident_bytes().saturating_sub(before);
    assert!(grown < 256 << 20, "resident size grew by {grown} bytes");
    drop(held);
}

/// It asks for everything and takes nothing. What the broker holds for it is bounded; others read on.
#[test]
fn a_client_that_stops_reading_holds_up_nobody() {
    let dir = directory();
    let broker = Broker::start(Options::new(dir.path()));
    let cli = broker.cli();
    cli.create("slow", 1);
    // 200 MB, far beyond any window: read back a little at first, then nothing.
    let line = vec![b'x'; 10_000];
    let sent = vec![line; if tests_process::soak() { 200_000 } else { 10_000 }];
    let stopped = Unread::spawn(cli.command(&["consume", "slow", "--from-beginning"]));
    cli.run_with(&["produce", "slow"], lines::joined(&sent)).expect(0);
    let before = broker.resident_bytes();
    serves_others(&broker);
    verify::same_lines(&sent, &cli.values("slow"));
    let grown = broker.resident_bytes().saturating_sub(before);
    assert!(grown < 256 << 20, "resident size grew by {grown} bytes");
    // Its end is noticed, and takes nothing else with it.
    drop(stopped);
    serves_on(&broker);
}

#[track_caller]
fn serves_on(broker: &Broker) {
    broker.cli().run(&["topic", "describe", "others"]).expect(0);
}
