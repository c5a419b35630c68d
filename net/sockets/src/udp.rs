//! One core's UDP socket.
//!
//! Datagrams come in by `recvmmsg` with receive offload and go out with segmentation offload (`quinn-udp`);
//! the runtime's own calls move one at a time. It is asked for one thing only: to wait until the socket is
//! readable, by peeking at a byte through a second descriptor of the same socket.

use std::cell::{Cell, RefCell};
use std::io::{self, IoSliceMut};
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::os::fd::{FromRawFd, IntoRawFd};

use bytes::BytesMut;
use futures_lite::future::poll_once;
use glommio::nop::NopSubmitter;
use quinn_udp::{EcnCodepoint, RecvMeta, Transmit, UdpSocketState};

use crate::stats::UdpStats;

/// Messages taken by one receive call; each may hold many datagrams.
const MESSAGES: usize = 16;
/// The most that receive offload puts into one message.
const MESSAGE_BYTES: usize = 64 << 10;

/// A datagram that came in.
#[derive(Debug)]
pub struct Datagram {
    pub remote: SocketAddr,
    /// The address it was sent to.
    pub local_ip: Option<IpAddr>,
    /// The two bits of explicit congestion notification, unless they say nothing.
    pub ecn: Option<u8>,
    /// Datagrams that arrived in one message share one allocation.
    pub data: BytesMut,
}

/// A datagram, or several of `segment_bytes` each (the last may be shorter).
#[derive(Debug, Clone, Copy)]
pub struct Outgoing<'a> {
    pub remote: SocketAddr,
    pub local_ip: Option<IpAddr>,
    pub ecn: Option<u8>,
    pub contents: &'a [u8],
    pub segment_bytes: Option<usize>,
}

/// How a round of receiving ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Received {
    /// The socket is empty: wait with [`UdpPort::readable`].
    All,
    /// The bound was reached: there may be more.
    More,
}

/// What became of a datagram to send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sent {
    /// Handed to the system, or lost on the way to it, as datagrams may be.
    Gone,
    /// The socket's buffer is full: try again in a millisecond or so.
    Full,
}

/// Lives on: the executor it was made on.
pub struct UdpPort {
    socket: UdpSocket,
    state: UdpSocketState,
    /// A second descriptor of the same socket, for waiting only.
    watch: glommio::net::UdpSocket,
    buffer: RefCell<Box<[u8]>>,
    stats: Cell<UdpStats>,
}

impl UdpPort {
    /// # Errors
    /// Those of the system, for a descriptor that is no UDP socket or when there are no more descriptors.
    pub fn new(socket: UdpSocket) -> io::Result<Self> {
        let state = UdpSocketState::new((&socket).into())?;
        let descriptor = socket.try_clone()?.into_raw_fd();
        // SAFETY: the descriptor was just made and given up by its only owner.
        let watch = unsafe { glommio::net::UdpSocket::from_raw_fd(descriptor) };
        let buffer = RefCell::new(vec![0; MESSAGES * MESSAGE_BYTES].into_boxed_slice());
        Ok(Self { socket, state, watch, buffer, stats: Cell::default() })
    }

    /// Waits until there is something to receive. Where there is something already, the runtime looks at all other
    /// completions first: a socket that never runs dry would otherwise keep the core from its disk.
    ///
    /// # Errors
    /// Those of the system.
    pub async fn readable(&self) -> io::Result<()> {
        let mut byte = [0];
        let mut peek = std::pin::pin!(self.watch.peek_from(&mut byte));
        match poll_once(&mut peek).await {
            Some(peeked) => {
                peeked?;
                NopSubmitter::new().run_nop().await
            }
            None => Ok(peek.await.map(drop)?),
        }
    }

    /// Takes what has arrived, in at most `receives_max` calls to the system, and gives each datagram to `take`.
    ///
    /// # Errors
    /// Those of the system but for "nothing there". Datagrams taken before it have been given.
    pub fn receive(&self, receives_max: usize, mut take: impl FnMut(Datagram)) -> io::Result<Received> {
        let mut buffer = self.buffer.borrow_mut();
        for _ in 0..receives_max {
            let mut metas = [RecvMeta::default(); MESSAGES];
            let mut chunks = buffer.chunks_exact_mut(MESSAGE_BYTES);
            let mut slices: [IoSliceMut<'_>; MESSAGES] =
                std::array::from_fn(|_| IoSliceMut::new(chunks.next().expect("one chunk per message")));
            let messages = match self.state.recv((&self.socket).into(), &mut slices, &mut metas) {
                Ok(messages) => messages,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(Received::All),
                // Reports of packets that did not arrive somewhere are not about this socket.
                Err(error)
                    if matches!(
                        error.kind(),
                        io::ErrorKind::ConnectionReset | io::ErrorKind::ConnectionRefused
                    ) =>
                {
                    continue;
                }
                Err(error) => return Err(error),
            };
            let mut stats = self.stats.get();
            stats.receives += 1;
            for (meta, slice) in metas.iter().zip(&slices).take(messages) {
                stats.bytes_in += meta.len as u64;
                stats.datagrams_in += split(meta, slice, &mut take);
            }
            self.stats.set(stats);
            if messages < MESSAGES {
                return Ok(Received::All);
            }
        }
        Ok(Received::More)
    }

    pub fn send(&self, outgoing: &Outgoing<'_>) -> Sent {
        let transmit = Transmit {
            destination: outgoing.remote,
            ecn: outgoing.ecn.and_then(EcnCodepoint::from_bits),
            contents: outgoing.contents,
            segment_size: outgoing.segment_bytes,
            src_ip: outgoing.local_ip,
        };
        let sent = self.state.try_send((&self.socket).into(), &transmit);
        let mut stats = self.stats.get();
        let outcome = match sent {
            Ok(()) => {
                let bytes = outgoing.contents.len();
                stats.sends += 1;
                stats.bytes_out += bytes as u64;
                stats.datagrams_out += bytes.div_ceil(outgoing.segment_bytes.unwrap_or(bytes).max(1)) as u64;
                Sent::Gone
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                stats.sends_delayed += 1;
                Sent::Full
            }
            // Probes for the path's largest datagram are meant to fail this way.
            Err(error) if error.raw_os_error() == Some(libc::EMSGSIZE) => Sent::Gone,
            Err(_) => {
                stats.sends_failed += 1;
                Sent::Gone
            }
        };
        self.stats.set(stats);
        outcome
    }

    /// How many datagrams one send may carry. May fall to 1 when the system turns out not to do it.
    pub fn segments_max(&self) -> usize {
        self.state.max_gso_segments()
    }

    /// # Errors
    /// Those of the system.
    pub fn local_address(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    pub fn stats(&self) -> UdpStats {
        self.stats.get()
    }
}

/// Gives each datagram of one received message to `take`; returns how many there were.
fn split(meta: &RecvMeta, message: &[u8], take: &mut impl FnMut(Datagram)) -> u64 {
    // Copied to size: who keeps a slice of it keeps no more than what has arrived.
    let mut rest = BytesMut::from(&message[..meta.len]);
    let mut datagrams = 0;
    while !rest.is_empty() {
        let data = rest.split_to(meta.stride.clamp(1, rest.len()));
        take(Datagram { remote: meta.addr, local_ip: meta.dst_ip, ecn: meta.ecn.map(|ecn| ecn as u8), data });
        datagrams += 1;
    }
    datagrams
}

#[cfg(test)]
mod tests;
