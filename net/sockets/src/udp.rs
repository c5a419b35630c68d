//! One core's UDP socket.
//!
//! Datagrams come in by `recvmmsg` with receive offload and go out with segmentation offload (`quinn-udp`);
//! the ring is asked for one thing only: to wait until the socket is readable.

use std::cell::{Cell, RefCell};
use std::io::{self, IoSliceMut};
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::rc::Rc;

use bytes::BytesMut;
use quinn_udp::{EcnCodepoint, RecvMeta, Transmit, UdpSocketState};
use storage_ring::Ring;

use crate::stats::UdpStats;

/// Messages taken by one receive call; each may hold many datagrams.
const MESSAGES: usize = 16;
/// The most that receive offload puts into one message.
const MESSAGE_BYTES: usize = 64 << 10;
/// Messages of at least one part in so many of a slot are handed out without copying them.
const KEEP_RATIO: usize = 4;

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

/// Lives on: the thread of its ring.
pub struct UdpPort {
    ring: Ring,
    socket: Rc<UdpSocket>,
    state: UdpSocketState,
    slots: RefCell<Vec<BytesMut>>,
    stats: Cell<UdpStats>,
}

impl UdpPort {
    /// # Errors
    /// Those of the system, for a descriptor that is no UDP socket or when there are no more descriptors.
    pub fn new(ring: Ring, socket: UdpSocket) -> io::Result<Self> {
        let state = UdpSocketState::new((&socket).into())?;
        let slots = RefCell::new((0..MESSAGES).map(|_| fresh_slot()).collect());
        Ok(Self { ring, socket: Rc::new(socket), state, slots, stats: Cell::default() })
    }

    /// Waits until there is something to receive.
    ///
    /// # Errors
    /// Those of the system.
    pub async fn readable(&self) -> io::Result<()> {
        self.ring.readable(Rc::clone(&self.socket) as _).await
    }

    /// Takes what has arrived, in at most `receives_max` calls to the system, and gives each datagram to `take`.
    ///
    /// # Errors
    /// Those of the system but for "nothing there". Datagrams taken before it have been given.
    pub fn receive(&self, receives_max: usize, mut take: impl FnMut(Datagram)) -> io::Result<Received> {
        let mut slots = self.slots.borrow_mut();
        for _ in 0..receives_max {
            let mut metas = [RecvMeta::default(); MESSAGES];
            slots.iter_mut().for_each(make_whole);
            let mut whole = slots.iter_mut();
            let mut slices: [IoSliceMut<'_>; MESSAGES] =
                std::array::from_fn(|_| IoSliceMut::new(whole.next().expect("one slot per message")));
            let messages = match self.state.recv((&*self.socket).into(), &mut slices, &mut metas) {
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
            for (meta, slot) in metas.iter().zip(slots.iter_mut()).take(messages) {
                stats.bytes_in += meta.len as u64;
                stats.datagrams_in += split(meta, take_message(slot, meta.len), &mut take);
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
        let sent = self.state.try_send((&*self.socket).into(), &transmit);
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

fn fresh_slot() -> BytesMut {
    BytesMut::zeroed(MESSAGE_BYTES)
}

/// Makes room for a whole message again. Datagrams handed out are read by the end of their turn as a rule, so
/// their memory is back; where somebody still holds some, the slot gets other memory.
fn make_whole(slot: &mut BytesMut) {
    if slot.len() == MESSAGE_BYTES {
        return;
    }
    // Emptied first: reclaiming would move what is left of the slot to its start.
    slot.clear();
    if !slot.try_reclaim(MESSAGE_BYTES) {
        *slot = fresh_slot();
        return;
    }
    assert!(slot.capacity() >= MESSAGE_BYTES);
    // SAFETY: the slot's memory was made of `MESSAGE_BYTES` zeros by `fresh_slot` and only ever cut from its
    // front by `take_message`; `try_reclaim` gives back that same memory from its start (nobody else holds a
    // part of it) and `capacity` was checked above, so all of these bytes exist and have been written.
    unsafe { slot.set_len(MESSAGE_BYTES) };
}

/// The first `bytes` of the slot: its own memory where they fill a good part of it, a copy otherwise, so that who
/// keeps a datagram keeps at most [`KEEP_RATIO`] times its message.
fn take_message(slot: &mut BytesMut, bytes: usize) -> BytesMut {
    if bytes * KEEP_RATIO >= MESSAGE_BYTES { slot.split_to(bytes) } else { BytesMut::from(&slot[..bytes]) }
}

/// Gives each datagram of one received message to `take`; returns how many there were.
fn split(meta: &RecvMeta, mut rest: BytesMut, take: &mut impl FnMut(Datagram)) -> u64 {
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
