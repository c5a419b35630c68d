use std::future::Future;
use std::io::{Read, Write};
use std::rc::Rc;
use std::time::Duration;

use glommio::timer::Timer;
use glommio::{LocalExecutorBuilder, Placement};

use super::*;
use crate::tcp_group::bind_tcp_group;

fn on_executor<F: Future<Output = ()> + 'static>(test: impl FnOnce() -> F + Send + 'static) {
    LocalExecutorBuilder::new(Placement::Unbound)
        .io_memory(1 << 20)
        .preempt_timer(Duration::from_secs(1))
        .spawn(test)
        .unwrap()
        .join()
        .unwrap();
}

/// A connection: our end, and the client's.
async fn pair() -> (TcpPort, std::net::TcpStream) {
    let mut group = bind_tcp_group("127.0.0.1:0".parse().unwrap(), 1).unwrap();
    let gate = TcpGate::new(group.listeners.remove(0));
    let client = std::net::TcpStream::connect(group.address).unwrap();
    let port = gate.accept().await.unwrap();
    assert_eq!((port.remote(), port.local()), (client.local_addr().unwrap(), group.address));
    (port, client)
}

async fn read_all(port: &TcpPort, into: &mut BytesMut) {
    while let Some(first) = port.first_byte().await.unwrap() {
        into.reserve(4096);
        port.read_behind(first, into).unwrap();
    }
}

#[test]
fn bytes_are_read_in_order_into_the_buffer_given() {
    on_executor(|| async {
        let (port, mut client) = pair().await;
        let sent: Vec<u8> = (0..200_000u32).map(|index| index as u8).collect();
        let writer = std::thread::spawn({
            let sent = sent.clone();
            move || client.write_all(&sent).unwrap()
        });
        let mut received = BytesMut::new();
        read_all(&port, &mut received).await;
        assert!(received == sent, "{} bytes", received.len());
        writer.join().unwrap();
    });
}

#[test]
fn a_read_fills_no_more_than_there_is_room_for() {
    on_executor(|| async {
        let (port, mut client) = pair().await;
        client.write_all(b"0123456789").unwrap();
        let first = port.first_byte().await.unwrap().unwrap();
        let mut buffer = BytesMut::with_capacity(4);
        let memory = buffer.as_ptr();
        assert_eq!(port.read_behind(first, &mut buffer).unwrap(), TcpRead::Bytes(3));
        assert_eq!((&buffer[..], buffer.as_ptr()), (&b"0123"[..], memory), "nothing was moved");
        buffer.reserve(100);
        assert_eq!(port.read(&mut buffer).unwrap(), TcpRead::Bytes(6));
        assert_eq!(port.read(&mut buffer).unwrap(), TcpRead::Empty);
        drop(client);
        assert_eq!(port.first_byte().await.unwrap(), None);
        assert_eq!(port.read(&mut buffer).unwrap(), TcpRead::End);
    });
}

#[test]
fn waiting_costs_no_turns_and_ends_when_something_comes() {
    on_executor(|| async {
        let (port, mut client) = pair().await;
        let writer = glommio::spawn_local(async move {
            Timer::new(Duration::from_millis(20)).await;
            client.write_all(b"x").unwrap();
            client
        });
        assert_eq!(port.first_byte().await.unwrap(), Some(b'x'));
        writer.await;
    });
}

/// The client reads nothing until we are stuck.
#[test]
fn a_full_socket_says_so_and_goes_on_when_there_is_room() {
    on_executor(|| async {
        let (port, mut client) = pair().await;
        let chunk = vec![7u8; 64 << 10];
        let slices = [IoSlice::new(&chunk), IoSlice::new(&chunk)];
        let mut sent = 0;
        loop {
            let count = port.send(&slices).unwrap();
            if count == 0 {
                break;
            }
            sent += count;
        }
        let reader = std::thread::spawn(move || {
            let mut all = Vec::new();
            client.read_to_end(&mut all).unwrap();
            all
        });
        port.send_byte(8).await.unwrap();
        assert!(port.send(&slices).unwrap() > 64 << 10, "room for more than a byte");
        port.close();
        let all = reader.join().unwrap();
        assert!(all.len() > sent && all[..sent].iter().all(|byte| *byte == 7) && all[sent] == 8);
    });
}

#[test]
fn who_waits_for_a_connection_that_is_closed_here_is_told() {
    on_executor(|| async {
        let (port, client) = pair().await;
        let port = Rc::new(port);
        let waiting = glommio::spawn_local({
            let port = Rc::clone(&port);
            async move { port.first_byte().await.unwrap() }
        });
        Timer::new(Duration::from_millis(5)).await;
        port.close();
        assert_eq!(waiting.await, None);
        drop(client);
    });
}

#[test]
fn a_client_that_is_gone_is_an_error_not_a_signal() {
    on_executor(|| async {
        let (port, client) = pair().await;
        drop(client);
        assert_eq!(port.first_byte().await.unwrap(), None);
        let chunk = [1; 100];
        let outcome = loop {
            match port.send(&[IoSlice::new(&chunk)]) {
                Ok(_) => Timer::new(Duration::from_millis(1)).await,
                Err(error) => break error,
            };
        };
        assert!(matches!(outcome.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset));
    });
}
