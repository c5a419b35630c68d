//! Finding a broker, believing it, and what is said when either fails.

use std::net::UdpSocket;
use std::time::{Duration, Instant};

use millstream_client::{
    Client, Config, ConnectError, PartitionError, Place, ProducerConfig, RequestError, TopicError, Trust,
    TrustError,
};

use crate::support::{Broker, TOPIC};

#[tokio::test]
async fn closed_port_is_named_well_within_the_timeout() {
    let broker = Broker::start(1);
    let config = broker.config();
    let (address, _identity, _) = broker.stop().await;
    let begun = Instant::now();
    let error = Client::connect(config).await.unwrap_err();
    assert_eq!(error, ConnectError::PortClosed { address: address.to_string(), port: address.port() });
    assert!(error.to_string().contains("nothing listens on UDP port"), "{error}");
    assert!(begun.elapsed() < Duration::from_secs(3));
}

#[tokio::test]
async fn silence_is_an_error_at_the_timeout() {
    let broker = Broker::start(1);
    let silent = UdpSocket::bind("127.0.0.1:0").unwrap();
    let mut config =
        Config::new([silent.local_addr().unwrap().to_string()]).with_trust(broker.identity.trust());
    config.connect_timeout = Duration::from_millis(400);
    let error = Client::connect(config).await.unwrap_err();
    assert!(matches!(&error, ConnectError::NoAnswer { .. }), "{error}");
    assert!(error.to_string().contains("is UDP open?"), "{error}");
}

#[tokio::test]
async fn second_bootstrap_address_is_tried_when_the_first_is_no_good() {
    let broker = Broker::start(1);
    let silent = UdpSocket::bind("127.0.0.1:0").unwrap();
    let mut config = broker.config();
    config.connect_timeout = Duration::from_millis(300);
    config.servers.insert(0, silent.local_addr().unwrap().to_string());
    let client = Client::connect(config.clone()).await.unwrap();
    assert_eq!(client.admin().list_topics().await.unwrap().len(), 1);

    config.servers[1] = "no-such-host.invalid:1".into();
    let ConnectError::All { attempts } = Client::connect(config).await.unwrap_err() else {
        panic!("both fail")
    };
    assert!(matches!(attempts[..], [ConnectError::NoAnswer { .. }, ConnectError::Address { .. }]));
}

#[tokio::test]
async fn broker_of_another_authority_is_not_trusted() {
    let (broker, other) = (Broker::start(1), Broker::start(1));
    let error = Client::connect(broker.config().with_trust(other.identity.trust())).await.unwrap_err();
    assert!(matches!(error, ConnectError::NotTrusted { .. }), "{error}");
    assert!(error.to_string().contains("MILLSTREAM_CA_FILE"), "{error}");
}

#[tokio::test]
async fn pinned_fingerprint_is_enough_and_must_match() {
    let broker = Broker::start(1);
    let pinned = Trust::Fingerprint(broker.identity.fingerprint());
    let client = Client::connect(broker.config().with_trust(pinned)).await.unwrap();
    assert_eq!(client.admin().describe_cluster().await.unwrap().cluster_id, 7);

    let mut wrong = broker.identity.fingerprint();
    wrong[31] ^= 1;
    let error = Client::connect(broker.config().with_trust(Trust::Fingerprint(wrong))).await.unwrap_err();
    let ConnectError::NotTrusted { why, .. } = &error else { panic!("{error}") };
    let hex = |bytes: [u8; 32]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let (found, expected) = (hex(broker.identity.fingerprint()), hex(wrong));
    let differs = format!("its fingerprint differs: found {found}, expected {expected}");
    assert!(why.contains(&differs), "{why}");
}

#[tokio::test]
async fn ca_file_that_is_missing_or_empty_is_named() {
    let broker = Broker::start(1);
    let path = broker.identity.dir.path().join("nothing.pem");
    let trust = Trust::CaFile(path.clone());
    let error = Client::connect(broker.config().with_trust(trust.clone())).await.unwrap_err();
    assert!(matches!(&error, ConnectError::Trust(TrustError::Unreadable { path: p, .. }) if *p == path));
    std::fs::write(&path, "not a certificate").unwrap();
    let error = Client::connect(broker.config().with_trust(trust)).await.unwrap_err();
    assert!(matches!(error, ConnectError::Trust(TrustError::NoCertificate { .. })), "{error}");
}

#[tokio::test]
async fn another_protocol_over_quic_is_said_to_be_one() {
    let broker = Broker::start_with(1, b"h3");
    let error = Client::connect(broker.config()).await.unwrap_err();
    assert!(matches!(error, ConnectError::WrongProtocol { .. }), "{error:?}");
}

#[tokio::test]
async fn owner_cores_are_dialled_unless_one_is_forced() {
    let broker = Broker::start(2);
    let client = broker.client().await;
    client.admin().find_offset(TOPIC, 1, Place::End).await.unwrap();
    assert_eq!(broker.state().first_id_bytes, [0, 1]);

    broker.state().first_id_bytes.clear();
    let mut config = broker.config();
    config.force_core = Some(7);
    let client = Client::connect(config).await.unwrap();
    client.admin().find_offset(TOPIC, 1, Place::End).await.unwrap();
    assert_eq!(broker.state().first_id_bytes, [7]);
}

#[tokio::test]
async fn refusals_that_pass_are_waited_out_and_others_returned() {
    let broker = Broker::start(1);
    let client = broker.client().await;
    let admin = client.admin();
    broker.state().topics_not_ready_count = 2;
    assert_eq!(admin.describe_topic(TOPIC).await.unwrap().partitions.len(), 1);
    let unknown = admin.describe_topic("other").await.unwrap_err();
    assert_eq!(unknown, RequestError::Refused(TopicError::Unknown { name: "other".into() }));
}

#[tokio::test]
async fn lost_connection_is_found_again_by_the_next_request() {
    let broker = Broker::start(1);
    let client = broker.client().await;
    let admin = client.admin();
    admin.list_topics().await.unwrap();
    let broker = broker.restart().await;
    admin.list_topics().await.unwrap();
    drop(broker);
}

/// A full disk kept a delete waiting that had moved the start already; the broker stopped, answered that it was
/// shutting down, and could not be reached again. The client was told that its request had never left.
#[tokio::test]
async fn delete_that_a_stopping_broker_refused_is_in_doubt() {
    let broker = Broker::start(1);
    broker.state().deletes_in_shutdown = true;
    let mut config = broker.config();
    config.request_timeout = Duration::from_millis(300);
    let client = Client::connect(config).await.unwrap();
    let error = client.admin().delete_records(TOPIC, 0, storage_frame::Offset(0)).await.unwrap_err();
    assert!(matches!(error, PartitionError::Request(RequestError::Disconnected { .. })), "{error}");
}

#[tokio::test]
async fn closing_the_client_tells_the_broker_before_it_returns() {
    let broker = Broker::start(1);
    let client = broker.client().await;
    let producer = client.producer(ProducerConfig::default()).unwrap();
    producer.send(millstream_client::Record::new(TOPIC, b"x")).await.unwrap().await.unwrap();
    let connections = broker.state().connections.clone();
    assert_eq!(connections.len(), 2);
    client.close().await;
    for connection in connections {
        let why = connection.close_reason().expect("the broker was told");
        assert!(matches!(why, quinn::ConnectionError::ApplicationClosed(_)), "{why}");
    }
    client.close().await;
}

#[tokio::test]
async fn closing_the_client_does_not_wait_long_for_a_broker_that_is_away() {
    let broker = Broker::start(1);
    let client = broker.client().await;
    broker.stop().await;
    let begun = Instant::now();
    client.close().await;
    assert!(begun.elapsed() < Duration::from_secs(2));
}

/// A reader that was opened right after a broker's restart failed with the connection that the restart had ended.
#[tokio::test]
async fn requests_that_change_nothing_are_sent_again_when_the_connection_is_lost() {
    let broker = Broker::start(1);
    let client = broker.client().await;
    for losses_count in [1, 3] {
        broker.state().requests_dropped_count = losses_count;
        client.admin().describe_topic(TOPIC).await.unwrap();
        broker.state().requests_dropped_count = losses_count;
        client.admin().describe_cluster().await.unwrap();
        client.admin().find_offset(TOPIC, 0, Place::End).await.unwrap();
        broker.state().requests_dropped_count = losses_count;
        client.admin().find_offset(TOPIC, 0, Place::End).await.unwrap();
        broker.state().requests_dropped_count = losses_count;
        client.reader(millstream_client::ReaderConfig::new(TOPIC)).await.unwrap();
        assert_eq!(broker.state().requests_dropped_count, 0);
    }
}

#[tokio::test]
async fn requests_that_change_something_are_not_sent_again() {
    let broker = Broker::start(1);
    let client = broker.client().await;
    broker.state().requests_dropped_count = 1;
    let deleted = client.admin().delete_topic(TOPIC).await;
    assert!(matches!(deleted, Err(RequestError::Disconnected { .. })), "{deleted:?}");
    // The lookups before it.
    client.admin().find_offset(TOPIC, 0, Place::End).await.unwrap();
    broker.state().requests_dropped_count = 1;
    let trimmed = client.admin().delete_records(TOPIC, 0, millstream_client::Offset(0)).await;
    let lost = |error: &_| matches!(error, PartitionError::Request(RequestError::Disconnected { .. }));
    assert!(trimmed.as_ref().is_err_and(lost), "{trimmed:?}");
}

#[tokio::test]
async fn dropping_the_client_ends_what_it_made() {
    let broker = Broker::start(1);
    let client = broker.client().await;
    let producer = client.producer(ProducerConfig::default()).unwrap();
    let admin = client.admin();
    drop(client);
    assert!(admin.list_topics().await.is_err());
    assert!(producer.flush().await.is_ok(), "nothing was pending");
    let error = producer.send(millstream_client::Record::new(TOPIC, b"late")).await.unwrap_err();
    assert_eq!(error, millstream_client::SendError::Closed);
}
