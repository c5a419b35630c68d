//! Connections: ids, moving, limits, ends.

use std::net::Ipv4Addr;
use std::time::Duration;

use engine_api::{Acks, Request};
use quinn_proto::{ConnectionError, ConnectionIdGenerator};

use super::world::*;
use crate::Server;
use crate::cid::{CID_BYTES, CoreCids};

const SOON: Duration = Duration::from_millis(20);

#[test]
fn every_connection_id_begins_with_the_core() {
    let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, b"secret");
    let mut cids = CoreCids::new(engine_api::CoreId(CORE), key, None);
    for _ in 0..1000 {
        let id = cids.generate_cid();
        assert_eq!((id.len(), id[0]), (CID_BYTES, CORE));
        assert!(cids.validate(&id).is_ok());
    }
    assert!(cids.validate(&quinn_proto::ConnectionId::new(&[CORE; CID_BYTES])).is_err());
}

#[test]
fn connection_ids_follow_from_the_seed() {
    let ids = |seed| {
        let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, b"secret");
        let mut cids = CoreCids::new(engine_api::CoreId(CORE), key, seed);
        (0..5).map(|_| cids.generate_cid()).collect::<std::collections::BTreeSet<_>>()
    };
    assert_eq!(ids(Some(1)), ids(Some(1)));
    assert!(ids(Some(1)).is_disjoint(&ids(Some(2))));
    assert!(ids(None).is_disjoint(&ids(None)));
    assert_eq!(ids(Some(1)).len(), 5);
}

#[test]
fn every_packet_after_the_first_flight_is_steered_to_the_core() {
    let mut world = World::new();
    world.broker.is_serving = true;
    let client = world.connect();
    let writer = world.open_produce(client);
    for n in 0..10 {
        world.produce(client, writer, n, Acks::All, &frame(5000));
        // Each new address takes a new connection id into use.
        world.clients[client].address.set_port(50_000 + n as u16);
        world.clients[client].quic.local_address_changed();
        world.run(Duration::from_secs(1));
    }
    assert_eq!(world.received(client, writer).len(), 10);
    let mut ids = std::collections::BTreeSet::new();
    for packet in &world.clients[client].sent {
        if packet[0] & 0x80 == 0 {
            assert_eq!(packet[1], CORE, "short header: the id's first byte");
            ids.insert(packet.slice(1..=CID_BYTES));
        }
    }
    assert!(ids.len() > 3, "{} ids were used", ids.len());
}

#[test]
fn a_connection_survives_a_change_of_its_clients_address() {
    let mut world = World::new();
    world.broker.is_serving = true;
    let client = world.connect();
    let writer = world.open_produce(client);
    world.produce(client, writer, 1, Acks::All, &frame(100));
    world.run(SOON);
    world.clients[client].address = (Ipv4Addr::new(127, 0, 0, 9), 5555).into();
    world.produce(client, writer, 2, Acks::All, &frame(100));
    world.run(Duration::from_secs(1));
    assert_eq!(world.received(client, writer).len(), 2);
    assert_eq!(world.server.stats().migrations, 1);
    assert_eq!(world.server.stats().connections, 1);
}

#[test]
fn closing_tells_every_client_why() {
    let mut world = World::new();
    let first = world.connect();
    let second = world.connect();
    let _reader = world.open_read(first, 0, 0);
    world.run(SOON);
    world.server.close(world.now);
    world.run(SOON);
    for client in [first, second] {
        match &world.clients[client].lost {
            Some(ConnectionError::ApplicationClosed(close)) => {
                assert_eq!(close.error_code.into_inner(), u64::from(net_wire::Code::ShuttingDown.number()));
                assert_eq!(&close.reason[..], b"broker is shutting down");
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(world.broker.cancelled.len(), 1);
    let late = world.dial(ClientSetup::default());
    world.run(Duration::from_secs(5));
    assert!(world.clients[late].lost.is_some() && !world.clients[late].is_connected);
    assert_eq!(world.server.stats().connections, 0);
}

#[test]
fn connections_above_the_limit_are_refused_and_take_nothing() {
    let mut config = server_config();
    config.connections_max = 2;
    let mut world = World::with(config);
    let first = world.connect();
    world.connect();
    let third = world.dial(ClientSetup::default());
    world.run(Duration::from_secs(1));
    match &world.clients[third].lost {
        // CONNECTION_REFUSED
        Some(ConnectionError::ConnectionClosed(close)) => assert_eq!(u64::from(close.error_code), 2),
        other => panic!("{other:?}"),
    }
    assert_eq!(world.server.stats().connections_refused, 1);
    // One leaves, one may come.
    let now = world.now;
    world.clients[first].quic.close(now, 0u32.into(), bytes::Bytes::new());
    world.run(Duration::from_secs(5));
    world.connect();
    assert_eq!(world.server.stats().connections, 2);
}

#[test]
fn a_client_that_is_gone_is_forgotten_with_all_it_asked_for() {
    let mut world = World::new();
    let client = world.connect();
    world.open_read(client, 0, 0);
    world.open_request(client, 1, &Request::InitProducer);
    world.run(SOON);
    assert_eq!(world.broker.open.len(), 2);
    world.clients[client].is_mute = true;
    world.run(Duration::from_secs(60));
    let stats = world.server.stats();
    assert_eq!((stats.connections, stats.streams_open, stats.requests_open), (0, 0, 0));
    assert_eq!(world.broker.cancelled.len(), 2);
    assert_eq!(stats.client_errors, [("timed_out", 1)]);
}

#[test]
fn a_handshake_that_does_not_get_on_is_given_up() {
    let mut world = World::new();
    let client = world.dial(ClientSetup::default());
    // Its first datagram arrives and nothing after it.
    world.run(Duration::ZERO);
    world.clients[client].is_mute = true;
    world.run(Duration::from_secs(1));
    assert_eq!(world.server.stats().connections, 1);
    world.run(Duration::from_secs(15));
    assert_eq!(world.server.stats().connections, 0);
    assert_eq!(world.server.stats().client_errors, [("handshake_too_slow", 1)]);
}

#[test]
fn a_flood_of_first_packets_makes_clients_prove_their_address() {
    let mut config = server_config();
    config.connections_max = 5000;
    let mut world = World::with(config);
    for _ in 0..crate::config::HANDSHAKES_FREE {
        let client = world.dial(ClientSetup::default());
        world.run(Duration::ZERO);
        world.clients[client].is_mute = true;
    }
    world.run(SOON);
    assert_eq!(world.server.stats().connections, crate::config::HANDSHAKES_FREE as u64);
    let mute = world.dial(ClientSetup::default());
    world.run(Duration::ZERO);
    world.clients[mute].is_mute = true;
    world.run(SOON);
    assert_eq!(world.server.stats().connections, crate::config::HANDSHAKES_FREE as u64, "costs nothing yet");
    // Honest clients get in, one round trip later.
    world.connect();
}

#[test]
fn a_restarted_broker_tells_its_old_clients_that_they_are_forgotten() {
    let mut world = World::new();
    let client = world.connect();
    world.server = Server::new(server_config());
    world.open_request(client, 1, &Request::InitProducer);
    world.run(Duration::from_secs(2));
    assert_eq!(world.clients[client].lost, Some(ConnectionError::Reset));
}

#[test]
fn an_idle_connection_costs_no_turns() {
    let mut world = World::new();
    let client = world.dial(ClientSetup { keeps_alive: false, ..ClientSetup::default() });
    world.run(Duration::from_secs(2));
    assert!(world.clients[client].is_connected);
    let mut turns = 0;
    let until = world.now + Duration::from_secs(15);
    while let Some(at) = world.server.next_timeout().filter(|at| *at < until) {
        world.now = world.now.max(at);
        world.server.handle_timeout(world.now);
        let mut buffer = Vec::new();
        while world.server.poll_transmit(world.now, 1, &mut buffer).is_some() {}
        turns += 1;
    }
    assert!(turns <= 3, "{turns} turns");
}

#[test]
fn datagrams_are_as_large_as_the_path_carries() {
    for (path_bytes_max, expected) in [(usize::MAX, 6400..=6500), (3000, 2900..=3000), (1400, 1300..=1400)] {
        let mut world = World::new();
        world.path_bytes_max = path_bytes_max;
        world.broker.is_serving = true;
        let client = world.connect();
        let writer = world.open_produce(client);
        let reader = world.open_read(client, 0, 0);
        for n in 0..100 {
            world.produce(client, writer, n, Acks::All, &frame(50_000));
        }
        world.run(Duration::from_secs(10));
        assert_eq!(world.received(client, writer).len(), 100);
        assert!(world.received(client, reader).len() > 1);
        assert!(
            expected.contains(&world.received_bytes_max),
            "{} of {path_bytes_max}",
            world.received_bytes_max
        );
    }
}
