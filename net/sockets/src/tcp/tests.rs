use std::future::Future;
use std::io::{Read, Write};
use std::rc::Rc;
use std::time::Duration;

use glommio::{LocalExecutorBuilder, Placement};

use super::*;
use crate::tcp_group::bind_tcp_group;

fn on_executor<F: Future<Output = ()> + 'static>(test: impl FnOnce(Ring) -> F + Send + 'static) {
    let thread = LocalExecutorBuilder::new(Placement::Unbound).io_memory(1 << 20).spawn(|| async move {
        let ring = Ring::new(Duration::ZERO).unwrap();
        ring.drive(test(ring.clone())).await;
    });
    thread.unwrap().join().unwrap();
}

/// A connection: our end, and the client's.
async fn pair(ring: &Ring) -> (TcpPort, TcpStream) {
    let mut group = bind_tcp_group("127.0.0.1:0".parse().unwrap(), 1).unwrap();
    let gate = TcpGate::new(ring.clone(), group.listeners.remove(0)).unwrap();
    let client = TcpStream::connect(group.address).unwrap();
    let port = gate.accept().await.unwrap();
    assert_eq!((port.remote(), port.local()), (client.local_addr().unwrap(), group.address));
    (port, client)
}

async fn read_all(port: &TcpPort, into: &mut BytesMut) {
    loop {
        port.readable().await.unwrap();
        into.reserve(4096);
        if port.read(into).unwrap() == TcpRead::End {
            return;
        }
    }
}

#[test]
fn bytes_are_read_in_order_into_the_buffer_given() {
    on_executor(|ring| async move {
        let (port, mut client) = pair(&ring).await;
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
    on_executor(|ring| async move {
        let (port, mut client) = pair(&ring).await;
        client.write_all(b"0123456789").unwrap();
        port.readable().await.unwrap();
        let mut buffer = BytesMut::with_capacity(4);
        let memory = buffer.as_ptr();
        assert_eq!(port.read(&mut buffer).unwrap(), TcpRead::Bytes(4));
        assert_eq!((&buffer[..], buffer.as_ptr()), (&b"0123"[..], memory), "nothing was moved");
        buffer.reserve(100);
        assert_eq!(port.read(&mut buffer).unwrap(), TcpRead::Bytes(6));
        assert_eq!(port.read(&mut buffer).unwrap(), TcpRead::Empty);
        drop(client);
        port.readable().await.unwrap();
        assert_eq!(port.read(&mut buffer).unwrap(), TcpRead::End);
    });
}

#[test]
fn waiting_costs_no_turns_and_ends_when_something_comes() {
    on_executor(|ring| async move {
        let (port, mut client) = pair(&ring).await;
        let sleeper = ring.clone();
        let writer = ring.spawn(async move {
            sleeper.sleep(Duration::from_millis(20)).await;
            client.write_all(b"x").unwrap();
            client
        });
        port.readable().await.unwrap();
        assert_eq!(port.read(&mut BytesMut::with_capacity(10)).unwrap(), TcpRead::Bytes(1));
        writer.await;
    });
}

/// The client reads nothing until we are stuck.
#[test]
fn a_full_socket_says_so_and_goes_on_when_there_is_room() {
    on_executor(|ring| async move {
        let (port, mut client) = pair(&ring).await;
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
        port.writable().await.unwrap();
        let more = port.send(&slices).unwrap();
        assert!(more > 64 << 10, "room for a good part");
        port.close();
        let all = reader.join().unwrap();
        assert!(all.len() == sent + more && all.iter().all(|byte| *byte == 7));
    });
}

#[test]
fn who_waits_for_a_connection_that_is_closed_here_is_told() {
    on_executor(|ring| async move {
        let (port, client) = pair(&ring).await;
        let port = Rc::new(port);
        let waiting = ring.spawn({
            let port = Rc::clone(&port);
            async move {
                port.readable().await.unwrap();
                port.read(&mut BytesMut::with_capacity(10)).unwrap()
            }
        });
        ring.sleep(Duration::from_millis(5)).await;
        port.close();
        assert_eq!(waiting.await, TcpRead::End);
        drop(client);
    });
}

#[test]
fn a_client_that_is_gone_is_an_error_not_a_signal() {
    on_executor(|ring| async move {
        let (port, client) = pair(&ring).await;
        drop(client);
        port.readable().await.unwrap();
        assert_eq!(port.read(&mut BytesMut::with_capacity(10)).unwrap(), TcpRead::End);
        let chunk = [1; 100];
        let outcome = loop {
            match port.send(&[IoSlice::new(&chunk)]) {
                Ok(_) => ring.sleep(Duration::from_millis(1)).await,
                Err(error) => break error,
            };
        };
        assert!(matches!(outcome.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset));
    });
}
