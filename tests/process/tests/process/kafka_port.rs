//! Who speaks something else to the port of Kafka's clients, or half of what they speak: the connection ends, the log
//! says what was spoken, the others are served. On both loopback addresses.

use std::io::{Read, Write};
use std::net::{Ipv6Addr, SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tests_process::{Broker, Options, directory, scrape};

use crate::hostile::serves_others;

/// For what must come at once; only a failure waits this long.
const DEADLINE: Duration = Duration::from_secs(30);

/// ApiVersions, version 0, without a client id. The number comes back in the answer.
fn request(number: u32) -> Vec<u8> {
    let head = [10u32.to_be_bytes(), [0, 18, 0, 0], number.to_be_bytes()].concat();
    [&head[..], &(-1i16).to_be_bytes()].concat()
}

fn dial(server: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect_timeout(&server, DEADLINE).expect("connected");
    stream.set_read_timeout(Some(DEADLINE)).expect("not zero");
    stream
}

/// A client that does as it should, on one connection.
struct Neighbour {
    stream: TcpStream,
    asked: u32,
}

impl Neighbour {
    fn new(server: SocketAddr) -> Self {
        Self { stream: dial(server), asked: 0 }
    }

    #[track_caller]
    fn is_served(&mut self) {
        self.asked += 1;
        self.stream.write_all(&request(self.asked)).expect("taken");
        let mut size = [0; 4];
        self.stream.read_exact(&mut size).expect("an answer in time");
        let mut answer = vec![0; u32::from_be_bytes(size) as usize];
        self.stream.read_exact(&mut answer).expect("the whole answer");
        assert_eq!(answer[..4], self.asked.to_be_bytes());
    }
}

fn client_hello() -> Vec<u8> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let tls = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let tls = tls.unwrap().with_root_certificates(rustls::RootCertStore::empty()).with_no_client_auth();
    let mut client = rustls::ClientConnection::new(Arc::new(tls), "localhost".try_into().unwrap()).unwrap();
    let mut hello = Vec::new();
    client.write_tls(&mut hello).unwrap();
    hello
}

/// Of Kafka's clients.
fn connections(broker: &Broker) -> u32 {
    scrape::metric(&broker.metrics(), "millstream_kafka_connections", "").expect("is told") as u32
}

#[track_caller]
fn wait_for_connections(broker: &Broker, count: u32) {
    let start = Instant::now();
    while connections(broker) != count {
        assert!(start.elapsed() < DEADLINE, "{} connections", connections(broker));
    }
}

#[test]
fn who_speaks_something_else_is_closed_and_named_and_others_are_served() {
    let dir = directory();
    let broker = Broker::start(Options::new(dir.path()));
    let v4 = broker.options.listen;
    let v6 = SocketAddr::from((Ipv6Addr::LOCALHOST, v4.port()));
    let mut neighbours = [v4, v6].map(Neighbour::new);
    neighbours.iter_mut().for_each(Neighbour::is_served);
    let garbage = [&256u32.to_be_bytes()[..], &[0x99; 256]].concat();
    for (server, spoken, reason, why) in [
        (v4, client_hello(), "tls", "TLS is spoken"),
        (v6, b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n".to_vec(), "http", "HTTP is spoken"),
        (v4, vec![0xff; 3000], "request_size", "a request of -1 bytes"),
        (v6, garbage, "request_malformed", "client id of a length below zero"),
        (v4, i32::MAX.to_be_bytes().to_vec(), "request_too_large", "a request of 2147483647 bytes"),
    ] {
        let mut stream = dial(server);
        stream.write_all(&spoken).expect("taken");
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).expect("closed in time");
        assert!(answer.is_empty(), "{answer:02x?} to {reason}");
        let remote = format!("remote={}", stream.local_addr().expect("bound"));
        broker.wait_for_stderr(&remote, DEADLINE);
        let said = broker.stderr();
        let line = said.lines().find(|line| line.contains(&remote)).expect("just seen");
        for word in ["kafka_connection_closed", &format!("reason={reason} "), why] {
            assert!(line.contains(word), "'{word}' in: {line}");
        }
        let label = format!("reason=\"{reason}\"");
        let count = scrape::metric(&broker.metrics(), "millstream_kafka_client_errors_total", &label);
        assert_eq!(count, Some(1.0), "{reason}");
        neighbours.iter_mut().for_each(Neighbour::is_served);
    }
    wait_for_connections(&broker, 2);
    serves_others(&broker);
}

#[test]
fn half_a_request_that_ends_leaves_nothing_behind_and_others_are_served() {
    let dir = directory();
    let broker = Broker::start(Options::new(dir.path()));
    let mut neighbour = Neighbour::new(broker.options.listen);
    let mut streams = Vec::new();
    let half = request(1);
    for bytes in 0..half.len() {
        let mut stream = dial(broker.options.listen);
        stream.write_all(&half[..bytes]).expect("taken");
        streams.push(stream);
        neighbour.is_served();
    }
    // A megabyte is announced.
    let mut stream = dial(broker.options.listen);
    stream.write_all(&[0, 0x10, 0, 0, 0, 0]).expect("taken");
    streams.push(stream);
    neighbour.is_served();
    // The rest of all of them is waited for.
    wait_for_connections(&broker, 16);
    drop(streams);
    wait_for_connections(&broker, 1);
    neighbour.is_served();
    serves_others(&broker);
}
