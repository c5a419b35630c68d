use std::task::Waker;

use super::*;
use crate::net::faults::Way;

const NODE: SocketAddr = SocketAddr::new(IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 1)), 9092);
const CLIENT: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 1, 1));

fn wire() -> Wire {
    let mut wire = Wire::new(7);
    wire.add_node(NODE, 2);
    wire.set_up(NODE, 2, true);
    wire
}

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn received(wire: &mut Wire, inner: SocketAddr) -> Option<Received> {
    match wire.poll_receive(&mut Context::from_waker(Waker::noop()), inner) {
        Poll::Ready(received) => Some(received),
        Poll::Pending => None,
    }
}

#[test]
fn datagrams_arrive_once_in_order_at_their_core_in_fair_weather() {
    let mut wire = wire();
    let inner = wire.open(CLIENT);
    for number in 0..100_u8 {
        wire.send(ms(1), inner, NODE, Some(2), &[0x40, 3, number]);
    }
    for number in 0..100 {
        let arrival = wire.pop_due(ms(5)).expect("nothing is lost");
        assert_eq!((arrival.core, arrival.from, arrival.ecn), (1, inner, Some(2)));
        assert_eq!(arrival.bytes[2], number);
    }
    assert_eq!(wire.pop_due(ms(5)), None);
    wire.send(ms(5), NODE, inner, None, b"answer");
    assert_eq!(received(&mut wire, inner), None);
    assert_eq!(wire.pop_due(ms(6)), None);
    assert_eq!(&received(&mut wire, inner).expect("it has arrived").bytes[..], b"answer");
}

#[test]
fn rebound_socket_is_seen_under_another_address_and_its_old_one_is_nowhere() {
    let mut wire = wire();
    let inner = wire.open(CLIENT);
    wire.send(ms(0), inner, NODE, None, b"one");
    wire.rebind(inner);
    wire.send(ms(1), inner, NODE, None, b"two");
    let (one, two) = (wire.pop_due(ms(9)).expect("one"), wire.pop_due(ms(9)).expect("two"));
    assert_eq!(one.from, inner);
    assert_ne!(two.from, inner);
    wire.send(ms(9), NODE, one.from, None, b"to one");
    wire.send(ms(9), NODE, two.from, None, b"to two");
    assert_eq!(wire.pop_due(ms(20)), None);
    assert_eq!(&received(&mut wire, inner).expect("the new address").bytes[..], b"to two");
    assert_eq!(received(&mut wire, inner), None);
    assert_eq!(wire.stats().nowhere, 1);
}

#[test]
fn cut_holds_one_way_until_its_time_and_a_closed_port_says_so_unless_cut() {
    let mut wire = wire();
    let inner = wire.open(CLIENT);
    wire.cut(Cut { client: Some(CLIENT), way: Way::FromNodes, until: ms(10) });
    wire.send(ms(1), inner, NODE, None, b"request");
    wire.send(ms(1), NODE, inner, None, b"answer");
    assert_eq!(wire.probe(ms(1), CLIENT, NODE), None);
    assert!(wire.pop_due(ms(9)).is_some());
    assert_eq!(received(&mut wire, inner), None);
    assert_eq!(wire.probe(ms(10), CLIENT, NODE), Some(false));
    wire.set_up(NODE, 2, false);
    assert_eq!(wire.probe(ms(10), CLIENT, NODE), Some(true));
    wire.send(ms(10), inner, NODE, None, b"request");
    assert_eq!(wire.pop_due(ms(20)), None);
}

#[test]
fn bad_weather_loses_doubles_reorders_and_damages_within_its_bounds() {
    let mut wire = wire();
    let inner = wire.open(CLIENT);
    wire.set_weather(Weather {
        lost_per_million: 100_000,
        doubled_per_million: 100_000,
        damaged_per_million: 100_000,
        reordered_per_million: 100_000,
        reorder_span: ms(5),
        delay: ms(1),
        jitter: ms(1),
        ..Weather::fair()
    });
    for number in 0..1000_u64 {
        wire.send(
            Duration::from_micros(number),
            inner,
            NODE,
            None,
            &[&[0x40; 8], &number.to_be_bytes()[..]].concat(),
        );
    }
    let mut numbers = Vec::new();
    while let Some(arrival) = wire.pop_due(ms(9)) {
        assert!(arrival.at <= ms(8), "as late as can be");
        assert_eq!(arrival.bytes[0] & 0x80, 0, "a short header stays one");
        numbers.push(arrival.bytes[8..].to_vec());
    }
    assert_eq!(wire.next_at(), None);
    let stats = wire.stats();
    assert_eq!(numbers.len() as u64, 1000 - stats.lost + stats.doubled);
    assert!(!numbers.is_sorted());
    for count in [stats.lost, stats.doubled, stats.damaged, stats.reordered] {
        assert!((40..200).contains(&count), "{stats:?}");
    }
}

#[test]
fn machine_that_is_unplugged_neither_sends_nor_hears() {
    let mut wire = wire();
    let inner = wire.open(CLIENT);
    wire.send(ms(0), inner, NODE, None, b"under way");
    wire.unplug(CLIENT);
    wire.send(ms(1), inner, NODE, None, b"never");
    wire.send(ms(1), NODE, inner, None, b"never");
    assert_eq!(wire.pop_due(ms(9)), None);
    assert_eq!(received(&mut wire, inner), None);
}

#[test]
fn datagrams_above_the_paths_size_vanish() {
    let mut wire = wire();
    let inner = wire.open(CLIENT);
    wire.set_weather(Weather { datagram_bytes_max: 1300, ..Weather::fair() });
    wire.send(ms(0), inner, NODE, None, &[0x40; 1301]);
    wire.send(ms(0), inner, NODE, None, &[0x40; 1300]);
    assert_eq!(wire.pop_due(ms(9)).expect("the smaller").bytes.len(), 1300);
    assert_eq!(wire.pop_due(ms(9)), None);
}
