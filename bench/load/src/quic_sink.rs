//! What QUIC alone costs: bytes through two bare quinn-proto endpoints on loopback, one thread each, with the broker's
//! windows. The broker's CPU seconds per GB are to be read as a multiple of the receiving side's.

use std::collections::BTreeMap;
use std::io::{self, IoSliceMut};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;
use quinn_proto::congestion::CubicConfig;
use quinn_proto::{
    AckFrequencyConfig, ClientConfig, Connection, ConnectionHandle, DatagramEvent, Dir, Endpoint,
    EndpointConfig, Event, MtuDiscoveryConfig, ServerConfig, StreamEvent, StreamId, TransportConfig, VarInt,
};
use quinn_udp::{BATCH_SIZE, RecvMeta, Transmit, UdpSockRef, UdpSocketState};
use serde::Serialize;
use tokio::net::UdpSocket;

use crate::usage::thread_cpu_seconds;

#[derive(Debug, Clone, Copy)]
pub struct SinkBench {
    pub total_bytes: u64,
    pub windows: Windows,
}

/// Those of the broker's QUIC endpoint.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Windows {
    pub stream_receive_bytes: u32,
    pub receive_bytes: u32,
    pub send_bytes: u64,
    pub socket_bytes: usize,
    /// Largest datagram either side accepts and looks for.
    pub datagram_bytes: u16,
    /// What each side asks the other to take before it acknowledges, or 1 ms.
    pub packets_without_ack: u32,
}

#[derive(Debug, Clone, Serialize)]
pub struct SinkReport {
    pub total_bytes: u64,
    pub gb_per_second: f64,
    pub receiver_cpu_seconds_per_gb: f64,
    pub sender_cpu_seconds_per_gb: f64,
    pub windows: Windows,
}

/// Datagrams sent in one call at most.
const BURST_SEGMENTS: usize = 10;
const ACK_DELAY_MAX: Duration = Duration::from_millis(1);
const CHUNK_BYTES: usize = 64 * 1024;
const DATAGRAM_BYTES: usize = 64 * 1024;

/// Blocks the calling thread.
pub fn run(bench: SinkBench) -> io::Result<SinkReport> {
    let (tell, told) = mpsc::channel();
    let (server_config, client_config) = configs(bench.windows)?;
    let [core_of_receiver, core_of_sender] = cores()?;
    let receiver = thread::spawn(move || {
        confine(core_of_receiver)?;
        receive(server_config, bench.windows, &tell)
    });
    let to = told.recv().map_err(io::Error::other)?;
    let start = Instant::now();
    let sender = thread::spawn(move || {
        confine(core_of_sender)?;
        send(client_config, bench, to)
    });
    let sender_cpu = sender.join().map_err(|_| io::Error::other("sender panicked"))??;
    let elapsed = start.elapsed();
    let receiver_cpu = receiver.join().map_err(|_| io::Error::other("receiver panicked"))??;
    let gigabytes = bench.total_bytes as f64 / 1e9;
    Ok(SinkReport {
        total_bytes: bench.total_bytes,
        gb_per_second: gigabytes / elapsed.as_secs_f64(),
        receiver_cpu_seconds_per_gb: receiver_cpu / gigabytes,
        sender_cpu_seconds_per_gb: sender_cpu / gigabytes,
        windows: bench.windows,
    })
}

/// A core each, as the broker and its clients have; nothing where this process may use one alone.
fn cores() -> io::Result<[Option<usize>; 2]> {
    let allowed = sched_getaffinity(Pid::from_raw(0))?;
    let mut cores = (0..CpuSet::count()).filter(|core| allowed.is_set(*core).unwrap_or(false));
    Ok(match (cores.next(), cores.next()) {
        (Some(one), Some(other)) => [Some(one), Some(other)],
        (_, None) | (None, _) => [None, None],
    })
}

/// The calling thread.
fn confine(core: Option<usize>) -> io::Result<()> {
    let Some(core) = core else { return Ok(()) };
    let mut only = CpuSet::new();
    only.set(core)?;
    Ok(sched_setaffinity(Pid::from_raw(0), &only)?)
}

fn receive(config: ServerConfig, windows: Windows, tell: &mpsc::Sender<SocketAddr>) -> io::Result<f64> {
    on_runtime(async {
        let mut side = Side::bind(Some(config), windows)?;
        tell.send(side.socket.local_addr()?).map_err(io::Error::other)?;
        let mut drain = Drain { stream: None };
        while !side.over {
            side.turn(&mut |connection, event| drain.on_event(connection, &event)).await?;
        }
        thread_cpu_seconds()
    })
}

fn send(config: ClientConfig, bench: SinkBench, to: SocketAddr) -> io::Result<f64> {
    on_runtime(async {
        let mut side = Side::bind(None, bench.windows)?;
        let connected =
            side.endpoint.connect(Instant::now(), config, to, "localhost").map_err(io::Error::other)?;
        side.connections.insert(connected.0.0, connected.1);
        let mut source =
            Source { left_bytes: bench.total_bytes, stream: None, chunk: Bytes::from(vec![7; CHUNK_BYTES]) };
        while !side.over {
            side.turn(&mut |connection, event| source.on_event(connection, &event)).await?;
        }
        thread_cpu_seconds()
    })
}

fn on_runtime<T>(future: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build()?.block_on(future)
}

/// Reads and forgets one stream.
#[derive(Debug)]
struct Drain {
    stream: Option<StreamId>,
}

impl Drain {
    fn on_event(&mut self, connection: &mut Connection, event: &Event) {
        if matches!(event, Event::Stream(StreamEvent::Opened { .. })) {
            self.stream = connection.streams().accept(Dir::Uni);
        }
        let Some(stream) = self.stream else { return };
        let mut stream = connection.recv_stream(stream);
        let Ok(mut chunks) = stream.read(true) else { return };
        while let Ok(Some(_)) = chunks.next(usize::MAX) {}
        // `turn` polls for transmits after every event, so there is nothing to remember here.
        let _ = chunks.finalize();
    }
}

/// Writes one stream to its end, then closes the connection once every byte is acknowledged.
#[derive(Debug)]
struct Source {
    left_bytes: u64,
    stream: Option<StreamId>,
    chunk: Bytes,
}

impl Source {
    fn on_event(&mut self, connection: &mut Connection, event: &Event) {
        if matches!(event, Event::Connected) {
            self.stream = connection.streams().open(Dir::Uni);
        }
        if matches!(event, Event::Stream(StreamEvent::Finished { .. })) {
            connection.close(Instant::now(), VarInt::from_u32(0), Bytes::new());
        }
        if let Some(stream) = self.stream {
            self.write(connection, stream);
        }
    }

    fn write(&mut self, connection: &mut Connection, stream: StreamId) {
        let mut stream = connection.send_stream(stream);
        while self.left_bytes > 0 {
            let bytes = self.left_bytes.min(CHUNK_BYTES as u64) as usize;
            let Ok(written) = stream.write_chunks(&mut [self.chunk.slice(..bytes)]) else { return };
            self.left_bytes -= written.bytes as u64;
        }
        // Refused when it was finished before.
        let _ = stream.finish();
    }
}

/// One endpoint and its socket.
struct Side {
    socket: UdpSocket,
    udp: UdpSocketState,
    endpoint: Endpoint,
    connections: BTreeMap<usize, Connection>,
    receive: Vec<Vec<u8>>,
    transmit: Vec<u8>,
    over: bool,
}

impl Side {
    fn bind(config: Option<ServerConfig>, windows: Windows) -> io::Result<Side> {
        let socket = std::net::UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
        let udp = UdpSocketState::new(UdpSockRef::from(&socket))?;
        udp.set_recv_buffer_size(UdpSockRef::from(&socket), windows.socket_bytes)?;
        udp.set_send_buffer_size(UdpSockRef::from(&socket), windows.socket_bytes)?;
        let mut accepts = EndpointConfig::default();
        accepts.max_udp_payload_size(windows.datagram_bytes).map_err(io::Error::other)?;
        let endpoint = Endpoint::new(Arc::new(accepts), config.map(Arc::new), true, None);
        let receive = vec![vec![0; DATAGRAM_BYTES]; BATCH_SIZE];
        let socket = UdpSocket::from_std(socket)?;
        let connections = BTreeMap::new();
        Ok(Side { socket, udp, endpoint, connections, receive, transmit: Vec::new(), over: false })
    }

    /// Waits for datagrams or a timer, then lets every connection act on it.
    async fn turn(&mut self, on_event: &mut impl FnMut(&mut Connection, Event)) -> io::Result<()> {
        let idle = self.connections.is_empty();
        self.advance(on_event).await?;
        self.over = !idle && self.connections.is_empty();
        if self.over {
            return Ok(());
        }
        let due = self.connections.values_mut().filter_map(Connection::poll_timeout).min();
        let timer = async {
            match due {
                Some(due) => tokio::time::sleep_until(due.into()).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            readable = self.socket.readable() => readable?,
            () = timer => {}
        }
        self.read_socket().await?;
        let now = Instant::now();
        let timed_out = |c: &mut Connection| c.poll_timeout().is_some_and(|due| due <= now);
        self.connections
            .values_mut()
            .filter_map(|c| timed_out(c).then_some(c))
            .for_each(|c| c.handle_timeout(now));
        Ok(())
    }

    async fn read_socket(&mut self) -> io::Result<()> {
        loop {
            let mut metas = [RecvMeta::default(); BATCH_SIZE];
            let read = {
                let mut slices: Vec<IoSliceMut<'_>> =
                    self.receive.iter_mut().map(|b| IoSliceMut::new(b)).collect();
                let receive = || self.udp.recv(UdpSockRef::from(&self.socket), &mut slices, &mut metas);
                self.socket.try_io(tokio::io::Interest::READABLE, receive)
            };
            let count = match read {
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            };
            for (at, meta) in metas.iter().enumerate().take(count) {
                self.on_datagrams(at, meta).await?;
            }
        }
    }

    async fn on_datagrams(&mut self, at: usize, meta: &RecvMeta) -> io::Result<()> {
        let mut all = BytesMut::from(&self.receive[at][..meta.len]);
        while !all.is_empty() {
            let datagram = all.split_to(meta.stride.min(all.len()));
            let ecn = meta.ecn.map(|ecn| quinn_proto::EcnCodepoint::from_bits(ecn as u8)).unwrap_or_default();
            let now = Instant::now();
            self.transmit.clear();
            match self.endpoint.handle(now, meta.addr, meta.dst_ip, ecn, datagram, &mut self.transmit) {
                Some(DatagramEvent::ConnectionEvent(handle, event)) => {
                    if let Some(connection) = self.connections.get_mut(&handle.0) {
                        connection.handle_event(event);
                    }
                }
                Some(DatagramEvent::NewConnection(incoming)) => {
                    let accepted = self.endpoint.accept(incoming, now, &mut self.transmit, None);
                    let (handle, connection) = accepted.map_err(|error| io::Error::other(error.cause))?;
                    self.connections.insert(handle.0, connection);
                }
                Some(DatagramEvent::Response(transmit)) => {
                    send_all(&self.socket, &self.udp, &transmit, &self.transmit).await?
                }
                None => {}
            }
        }
        Ok(())
    }

    async fn advance(&mut self, on_event: &mut impl FnMut(&mut Connection, Event)) -> io::Result<()> {
        let burst = self.udp.max_gso_segments().min(BURST_SEGMENTS);
        let mut drained = Vec::new();
        for (&key, connection) in &mut self.connections {
            while let Some(event) = connection.poll() {
                on_event(connection, event);
            }
            let now = Instant::now();
            self.transmit.clear();
            while let Some(transmit) = connection.poll_transmit(now, burst, &mut self.transmit) {
                send_all(&self.socket, &self.udp, &transmit, &self.transmit).await?;
                self.transmit.clear();
            }
            while let Some(event) = connection.poll_endpoint_events() {
                if let Some(event) = self.endpoint.handle_event(ConnectionHandle(key), event) {
                    connection.handle_event(event);
                }
            }
            if connection.is_closed() {
                drained.push(key);
            }
        }
        drained.iter().for_each(|key| drop(self.connections.remove(key)));
        Ok(())
    }
}

async fn send_all(
    socket: &UdpSocket,
    udp: &UdpSocketState,
    transmit: &quinn_proto::Transmit,
    contents: &[u8],
) -> io::Result<()> {
    let transmit = Transmit {
        destination: transmit.destination,
        ecn: transmit.ecn.and_then(|ecn| quinn_udp::EcnCodepoint::from_bits(ecn as u8)),
        contents: &contents[..transmit.size],
        segment_size: transmit.segment_size,
        src_ip: transmit.src_ip,
    };
    loop {
        let send = || udp.send(UdpSockRef::from(socket), &transmit);
        match socket.try_io(tokio::io::Interest::WRITABLE, send) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => socket.writable().await?,
            sent => return sent,
        }
    }
}

fn configs(windows: Windows) -> io::Result<(ServerConfig, ClientConfig)> {
    let made = rcgen::generate_simple_self_signed(["localhost".to_string()]).map_err(io::Error::other)?;
    let certificate = made.cert.der().clone();
    let key = rustls::pki_types::PrivatePkcs8KeyDer::from(made.signing_key.serialize_der());
    let mut server =
        ServerConfig::with_single_cert(vec![certificate.clone()], key.into()).map_err(io::Error::other)?;
    let mut roots = rustls::RootCertStore::empty();
    roots.add(certificate).map_err(io::Error::other)?;
    let mut client = ClientConfig::with_root_certificates(Arc::new(roots)).map_err(io::Error::other)?;
    let transport = Arc::new(transport(windows));
    server.transport_config(Arc::clone(&transport));
    client.transport_config(transport);
    Ok((server, client))
}

fn transport(windows: Windows) -> TransportConfig {
    let mut transport = TransportConfig::default();
    let mut discovery = MtuDiscoveryConfig::default();
    discovery.upper_bound(windows.datagram_bytes);
    let mut acks = AckFrequencyConfig::default();
    acks.ack_eliciting_threshold(VarInt::from_u32(windows.packets_without_ack))
        .max_ack_delay(Some(ACK_DELAY_MAX));
    let mut congestion = CubicConfig::default();
    congestion.initial_window(10 * u64::from(windows.datagram_bytes));
    transport
        .ack_frequency_config(Some(acks))
        .congestion_controller_factory(Arc::new(congestion))
        .mtu_discovery_config(Some(discovery))
        .stream_receive_window(VarInt::from_u32(windows.stream_receive_bytes))
        .receive_window(VarInt::from_u32(windows.receive_bytes))
        .send_window(windows.send_bytes);
    transport
}

#[cfg(test)]
mod tests {
    use super::{SinkBench, Windows, confine, cores, run};

    #[test]
    fn both_sides_have_a_core_of_their_own_where_there_are_two() {
        let allowed = cores().unwrap();
        if let [Some(one), Some(other)] = allowed {
            assert_ne!(one, other);
            let confined = std::thread::spawn(move || {
                confine(Some(other)).unwrap();
                (cores().unwrap(), std::thread::available_parallelism().unwrap().get())
            });
            assert_eq!(confined.join().unwrap(), ([None, None], 1));
        }
        assert_eq!(cores().unwrap(), allowed);
    }

    #[test]
    fn every_byte_goes_through_and_both_sides_are_charged() {
        let windows = Windows {
            stream_receive_bytes: 1 << 20,
            receive_bytes: 1 << 20,
            send_bytes: 1 << 20,
            socket_bytes: 1 << 21,
            datagram_bytes: 1452,
            packets_without_ack: 60,
        };
        let report = run(SinkBench { total_bytes: 20_000_000, windows }).unwrap();
        assert_eq!(report.total_bytes, 20_000_000);
        assert!(report.receiver_cpu_seconds_per_gb > 0.0 && report.sender_cpu_seconds_per_gb > 0.0);
    }
}
