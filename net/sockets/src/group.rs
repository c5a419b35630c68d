//! One UDP port for all cores of a node.
//!
//! Each core has a socket of its own, all bound to the same port (`SO_REUSEPORT`). A small program in the kernel
//! picks the socket by the first byte of the QUIC destination connection id, modulo the number of cores; that
//! byte is the core for every id the server gave out, and a client chooses it in its first packet. So a
//! connection stays with its core when the client's address changes.
//!
//! `SO_REUSEPORT` by itself would let a second broker of the same user join the group and take its share of the
//! packets. So the first socket is bound alone, which fails if anyone else has the port, and opened to the others
//! only afterwards.

use std::fmt;
use std::io;
use std::net::{SocketAddr, UdpSocket};

use socket2::{Domain, Protocol, Socket, Type};

use crate::options;

/// Asked of the system for each socket and direction; what it grants is in [`UdpGroup`].
pub const BUFFER_BYTES_WANTED: usize = 8 << 20;

/// The sockets of one port.
#[derive(Debug)]
pub struct UdpGroup {
    /// In core order.
    pub sockets: Vec<UdpSocket>,
    /// With the port that the system chose, if it was to choose.
    pub address: SocketAddr,
    /// The smallest receive buffer among the sockets, payload bytes as `SO_RCVBUF` counts them.
    pub receive_buffer_bytes: usize,
    pub send_buffer_bytes: usize,
}

/// What a port is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    Tcp,
    Udp,
}

impl Transport {
    /// As `ss` wants it.
    fn letter(self) -> char {
        match self {
            Self::Tcp => 't',
            Self::Udp => 'u',
        }
    }
}

impl fmt::Display for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp => "TCP",
            Self::Udp => "UDP",
        })
    }
}

/// Why the port cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    #[error("{protocol} port {} is in use ({address}): stop the other process (see `ss -{}lpn`) or choose another --listen address",
        address.port(), protocol.letter())]
    InUse { protocol: Transport, address: SocketAddr },
    #[error("{protocol} port {} may not be bound ({address}): ports below 1024 take CAP_NET_BIND_SERVICE, choose a higher one",
        address.port())]
    Forbidden { protocol: Transport, address: SocketAddr },
    #[error(
        "{address} is not an address of this machine: choose one that `ip address` shows, or 0.0.0.0 or [::] for all"
    )]
    NotLocal { address: SocketAddr },
    #[error("cannot {what} for {address}: {source}")]
    System { what: &'static str, address: SocketAddr, source: io::Error },
}

/// Binds `cores` sockets to `address`. Port 0: the system chooses. `[::]` takes IPv4 as well.
///
/// # Errors
/// [`BindError`]; nothing is left bound.
///
/// # Panics
/// With no or more than 256 cores: a connection id names its core in one byte.
pub fn bind_group(address: SocketAddr, cores: usize) -> Result<UdpGroup, BindError> {
    assert!((1..=256).contains(&cores), "{cores} cores");
    let first = open(address)?;
    first.bind(&address.into()).map_err(|error| bind_error(Transport::Udp, address, error))?;
    let system = |what| move |source| BindError::System { what, address, source };
    let bound = first.local_addr().map_err(system("learn the port"))?;
    let address = bound.as_socket().expect("an IP socket has an IP address");
    first.set_reuse_port(true).map_err(system("share the port among cores"))?;
    let mut sockets = vec![first];
    for _ in 1..cores {
        let next = open(address)?;
        next.set_reuse_port(true).map_err(system("share the port among cores"))?;
        next.bind(&address.into()).map_err(|error| bind_error(Transport::Udp, address, error))?;
        sockets.push(next);
    }
    if cores > 1 {
        let mut program = steering_program(cores as u32);
        options::steer(&sockets[0], &mut program).map_err(system("steer packets to cores"))?;
    }
    let smallest =
        |size: fn(&Socket) -> io::Result<usize>| sockets.iter().filter_map(|socket| size(socket).ok()).min();
    Ok(UdpGroup {
        address,
        // The system reports twice what it lets be asked for; the other half is its own bookkeeping.
        receive_buffer_bytes: smallest(Socket::recv_buffer_size).unwrap_or(0) / 2,
        send_buffer_bytes: smallest(Socket::send_buffer_size).unwrap_or(0) / 2,
        sockets: sockets.into_iter().map(UdpSocket::from).collect(),
    })
}

fn open(address: SocketAddr) -> Result<Socket, BindError> {
    let system = |what| move |source| BindError::System { what, address, source };
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))
        .map_err(system("open a socket"))?;
    if address.is_ipv6() {
        socket.set_only_v6(!address.ip().is_unspecified()).map_err(system("set IPV6_V6ONLY"))?;
    }
    socket.set_nonblocking(true).map_err(system("set O_NONBLOCK"))?;
    // Above the system's limit where this process may; the limit otherwise. Neither is an error: it works with
    // less, and what was reached is told.
    if options::force_receive_buffer(&socket, BUFFER_BYTES_WANTED).is_err() {
        let _ = socket.set_recv_buffer_size(BUFFER_BYTES_WANTED);
    }
    if options::force_send_buffer(&socket, BUFFER_BYTES_WANTED).is_err() {
        let _ = socket.set_send_buffer_size(BUFFER_BYTES_WANTED);
    }
    Ok(socket)
}

pub(crate) fn bind_error(protocol: Transport, address: SocketAddr, source: io::Error) -> BindError {
    match source.raw_os_error() {
        Some(libc::EADDRINUSE) => BindError::InUse { protocol, address },
        Some(libc::EACCES) => BindError::Forbidden { protocol, address },
        Some(libc::EADDRNOTAVAIL) => BindError::NotLocal { address },
        _ => BindError::System { what: "bind", address, source },
    }
}

/// RFC 9000, 17.2 and 17.3: the top bit of the first byte tells a long header, whose destination connection id
/// begins at byte 6, from a short one, whose begins at byte 1. A packet too short for that goes to core 0.
fn steering_program(cores: u32) -> [libc::sock_filter; 7] {
    const LOAD_BYTE: u32 = libc::BPF_LD | libc::BPF_B | libc::BPF_ABS;
    const JUMP_IF_SET: u32 = libc::BPF_JMP | libc::BPF_JSET | libc::BPF_K;
    const JUMP: u32 = libc::BPF_JMP | libc::BPF_JA;
    const MODULO: u32 = libc::BPF_ALU | libc::BPF_MOD | libc::BPF_K;
    const RETURN_A: u32 = libc::BPF_RET | libc::BPF_A;
    let step = |code: u32, jt, jf, k| libc::sock_filter { code: code as u16, jt, jf, k };
    [
        step(LOAD_BYTE, 0, 0, 0),
        step(JUMP_IF_SET, 0, 2, 0x80),
        step(LOAD_BYTE, 0, 0, 6),
        step(JUMP, 0, 0, 1),
        step(LOAD_BYTE, 0, 0, 1),
        step(MODULO, 0, 0, cores),
        step(RETURN_A, 0, 0, 0),
    ]
}

#[cfg(test)]
mod tests;
