//! One TCP port for all cores of a node: each core has a listener of its own, and the kernel spreads connections over
//! them by address (`SO_REUSEPORT`).
//!
//! As with UDP, the first listener is bound alone, which fails if anyone else has the port, and opened to the others
//! only afterwards. `SO_REUSEADDR` lets a node have its port back while connections of its last life linger.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};

use socket2::{Domain, Protocol, Socket, Type};

use crate::group::{BindError, Transport, bind_error};

/// Connections of one listener that wait to be accepted; the system may allow fewer (`net.core.somaxconn`).
pub const BACKLOG: i32 = 1024;

/// The listeners of one port.
#[derive(Debug)]
pub struct TcpGroup {
    /// In core order.
    pub listeners: Vec<TcpListener>,
    /// With the port that the system chose, if it was to choose.
    pub address: SocketAddr,
}

/// Listens on `address` with `cores` sockets. Port 0: the system chooses. `[::]` takes IPv4 as well.
///
/// # Errors
/// [`BindError`]; nothing is left bound.
///
/// # Panics
/// Without cores.
pub fn bind_tcp_group(address: SocketAddr, cores: usize) -> Result<TcpGroup, BindError> {
    assert!(cores > 0, "a node has cores");
    let first = open(address)?;
    let bound = |error| bind_error(Transport::Tcp, address, error);
    first.bind(&address.into()).map_err(bound)?;
    let system = |what| move |source| BindError::System { what, address, source };
    let local = first.local_addr().map_err(system("learn the port"))?;
    let address = local.as_socket().expect("an IP socket has an IP address");
    first.set_reuse_port(true).map_err(system("share the port among cores"))?;
    // `SO_REUSEADDR` lets two bind; only one of them gets to listen.
    first.listen(BACKLOG).map_err(bound)?;
    let mut listeners = vec![TcpListener::from(first)];
    for _ in 1..cores {
        let next = open(address)?;
        next.set_reuse_port(true).map_err(system("share the port among cores"))?;
        next.bind(&address.into()).map_err(bound)?;
        next.listen(BACKLOG).map_err(bound)?;
        listeners.push(next.into());
    }
    Ok(TcpGroup { listeners, address })
}

/// The loopback address of the other family, same port: `localhost` is both, and clients take either.
#[must_use]
pub fn loopback_twin(address: SocketAddr) -> Option<SocketAddr> {
    let twin = match address.ip() {
        IpAddr::V4(Ipv4Addr::LOCALHOST) => IpAddr::V6(Ipv6Addr::LOCALHOST),
        IpAddr::V6(Ipv6Addr::LOCALHOST) => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V4(_) | IpAddr::V6(_) => return None,
    };
    Some(SocketAddr::new(twin, address.port()))
}

/// Blocking, as the runtime's own waiting wants it: no call of ours on it waits.
fn open(address: SocketAddr) -> Result<Socket, BindError> {
    let system = |what| move |source| BindError::System { what, address, source };
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))
        .map_err(|source: io::Error| BindError::System { what: "open a socket", address, source })?;
    if address.is_ipv6() {
        socket.set_only_v6(!address.ip().is_unspecified()).map_err(system("set IPV6_V6ONLY"))?;
    }
    socket.set_reuse_address(true).map_err(system("set SO_REUSEADDR"))?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use std::net::TcpStream;

    use super::*;

    fn local() -> SocketAddr {
        "127.0.0.1:0".parse().unwrap()
    }

    #[test]
    fn a_port_is_one_group_and_no_other_joins_it() {
        let group = bind_tcp_group(local(), 3).unwrap();
        assert_eq!(group.listeners.len(), 3);
        for listener in &group.listeners {
            assert_eq!(listener.local_addr().unwrap(), group.address);
        }
        let second = bind_tcp_group(group.address, 2);
        assert!(matches!(second, Err(BindError::InUse { protocol: Transport::Tcp, .. })), "{second:?}");
        assert!(second.unwrap_err().to_string().contains("ss -tlpn"));
    }

    #[test]
    fn every_listener_gets_its_share() {
        let group = bind_tcp_group(local(), 2).unwrap();
        let streams: Vec<TcpStream> = (0..64).map(|_| TcpStream::connect(group.address).unwrap()).collect();
        let mut accepted = [0, 0];
        for (listener, count) in group.listeners.iter().zip(&mut accepted) {
            listener.set_nonblocking(true).unwrap();
            while listener.accept().is_ok() {
                *count += 1;
            }
        }
        assert_eq!(accepted.iter().sum::<usize>(), streams.len());
        assert!(accepted.iter().all(|count| *count > 0), "{accepted:?}");
    }

    #[test]
    fn a_port_with_lingering_connections_can_be_had_again() {
        let group = bind_tcp_group(local(), 1).unwrap();
        let client = TcpStream::connect(group.address).unwrap();
        let (server, _) = group.listeners[0].accept().unwrap();
        // The side that closes first keeps the pair of addresses for a minute.
        drop(server);
        drop(client);
        let address = group.address;
        drop(group);
        bind_tcp_group(address, 1).unwrap();
    }

    #[test]
    fn loopback_has_two_addresses() {
        let twin = |text: &str| loopback_twin(text.parse().unwrap()).map(|twin| twin.to_string());
        assert_eq!(twin("127.0.0.1:9092").as_deref(), Some("[::1]:9092"));
        assert_eq!(twin("[::1]:9092").as_deref(), Some("127.0.0.1:9092"));
        assert_eq!(twin("0.0.0.0:9092"), None);
        assert_eq!(twin("192.0.2.1:9092"), None);
    }
}
