use std::rc::Rc;
use std::time::Duration;

use glommio::{LocalExecutorBuilder, Placement};

use super::*;
use crate::group::bind_group;

fn on_executor<F: Future<Output = ()> + 'static>(test: impl FnOnce(Ring) -> F + Send + 'static) {
    let thread = LocalExecutorBuilder::new(Placement::Unbound).io_memory(1 << 20).spawn(|| async move {
        let ring = Ring::new(Duration::ZERO).unwrap();
        ring.drive(test(ring.clone())).await;
    });
    thread.unwrap().join().unwrap();
}

fn port(ring: &Ring) -> (UdpPort, SocketAddr) {
    let mut group = bind_group("127.0.0.1:0".parse().unwrap(), 1).unwrap();
    (UdpPort::new(ring.clone(), group.sockets.remove(0)).unwrap(), group.address)
}

#[test]
fn a_segmented_send_arrives_as_its_datagrams() {
    on_executor(|ring| async move {
        let ((from, from_address), (to, to_address)) = (port(&ring), port(&ring));
        assert_eq!(to.receive(1, |_| panic!("nothing was sent")).unwrap(), Received::All);
        let segments = from.segments_max().min(8);
        let contents: Vec<u8> = (0..segments * 1000 - 10).map(|index| (index / 1000) as u8).collect();
        let outgoing = Outgoing {
            remote: to_address,
            local_ip: None,
            ecn: Some(2),
            contents: &contents,
            segment_bytes: Some(1000),
        };
        assert_eq!(from.send(&outgoing), Sent::Gone);
        let mut sizes = Vec::new();
        while sizes.len() < segments {
            to.readable().await.unwrap();
            to.receive(4, |datagram| {
                assert_eq!((datagram.remote, datagram.ecn), (from_address, Some(2)));
                assert_eq!(datagram.local_ip, Some(to_address.ip()));
                assert!(datagram.data.iter().all(|byte| usize::from(*byte) == sizes.len()));
                sizes.push(datagram.data.len());
            })
            .unwrap();
        }
        assert_eq!(sizes.last(), Some(&990));
        assert!(sizes[..segments - 1].iter().all(|bytes| *bytes == 1000));
        assert_eq!(from.stats().datagrams_out, segments as u64);
        assert_eq!((to.stats().datagrams_in, to.stats().bytes_in), (segments as u64, contents.len() as u64));
    });
}

#[test]
fn a_bounded_round_says_that_there_is_more() {
    on_executor(|ring| async move {
        let (to, address) = port(&ring);
        let client = UdpSocket::bind("127.0.0.1:0").unwrap();
        for number in 0..3 * MESSAGES as u8 {
            client.send_to(&[number], address).unwrap();
        }
        let mut got = Vec::new();
        assert_eq!(to.receive(2, |datagram| got.push(datagram.data[0])).unwrap(), Received::More);
        assert_eq!(got.len(), 2 * MESSAGES);
        assert_eq!(to.receive(2, |datagram| got.push(datagram.data[0])).unwrap(), Received::All);
        assert_eq!(got, (0..3 * MESSAGES as u8).collect::<Vec<_>>());
    });
}

#[test]
fn waiting_ends_with_the_next_datagram_and_leaves_it_there() {
    on_executor(|ring| async move {
        let (to, address) = port(&ring);
        let to = Rc::new(to);
        let waiting = ring.spawn({
            let to = Rc::clone(&to);
            async move { to.readable().await }
        });
        storage_ring::yield_now().await;
        UdpSocket::bind("127.0.0.1:0").unwrap().send_to(b"hello", address).unwrap();
        waiting.await.unwrap();
        let mut got = Vec::new();
        to.receive(1, |datagram| got.push(datagram.data)).unwrap();
        assert_eq!(got, [&b"hello"[..]]);
    });
}

#[test]
fn a_destination_that_cannot_be_reached_costs_the_datagram_only() {
    on_executor(|ring| async move {
        let (from, _) = port(&ring);
        let contents = [0; 70_000];
        let remote = "127.0.0.1:9".parse().unwrap();
        let too_large =
            Outgoing { remote, local_ip: None, ecn: None, contents: &contents, segment_bytes: None };
        assert_eq!(from.send(&too_large), Sent::Gone);
        let unreachable =
            Outgoing { remote: "[2001:db8::1]:9".parse().unwrap(), contents: &[0; 10], ..too_large };
        assert_eq!(from.send(&unreachable), Sent::Gone);
        assert_eq!(from.stats().sends, 0);
        assert_eq!(from.stats().sends_failed, 1);
    });
}

#[test]
fn a_slot_comes_back_whole_with_its_own_memory() {
    let mut slot = fresh_slot();
    let memory = slot.as_ptr();
    let mut message = take_message(&mut slot, 40_000);
    message.fill(7);
    drop(message);
    make_whole(&mut slot);
    assert_eq!((slot.len(), slot.as_ptr()), (MESSAGE_BYTES, memory));
}

#[test]
fn a_datagram_that_is_kept_keeps_its_bytes() {
    let mut slot = fresh_slot();
    slot[..40_000].fill(7);
    let kept = take_message(&mut slot, 40_000);
    make_whole(&mut slot);
    slot.fill(9);
    assert!(kept.iter().all(|byte| *byte == 7));
}

#[test]
fn a_small_message_does_not_keep_its_slot() {
    let mut slot = fresh_slot();
    let memory = slot.as_ptr();
    let kept = take_message(&mut slot, 1200);
    make_whole(&mut slot);
    assert_eq!((slot.len(), slot.as_ptr(), kept.len()), (MESSAGE_BYTES, memory, 1200));
}
