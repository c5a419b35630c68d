//! Everything the SDK takes from outside: names, sockets, chance, the wall clock. (Durations are tokio's.)
//!
//! One value, so that a simulator can be all of it. Not for anybody else: it names quinn, whose version is no part
//! of this library's promises.

use std::future::{Future, poll_fn};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;
use std::{fmt, io};

use rustls::crypto::SecureRandom;
use storage_frame::TimestampMs;
use tokio::net::UdpSocket;
use tokio::time::{Instant, timeout};

/// What has to be waited for.
pub type Waiting<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// The world around a client. See the module.
pub trait Outside: fmt::Debug + Send + Sync + 'static {
    /// The network addresses of `host`, each with `port`, best first.
    fn resolve<'a>(&'a self, host: &'a str, port: u16) -> Waiting<'a, io::Result<Vec<SocketAddr>>>;

    /// A QUIC endpoint on a socket of its own that reaches `remote`. `config` goes to quinn, with whatever this
    /// world has to add.
    ///
    /// # Errors
    /// There is no socket.
    fn endpoint(&self, remote: SocketAddr, config: quinn::EndpointConfig) -> io::Result<quinn::Endpoint>;

    /// Whether the machine of `remote` says that nobody listens there. Silence is no such answer.
    fn is_port_closed(&self, remote: SocketAddr) -> Waiting<'_, bool>;

    /// Fills `bytes` with random ones.
    fn fill_random(&self, bytes: &mut [u8]);

    /// The time for records that do not say theirs.
    fn wall_clock(&self) -> TimestampMs;
}

/// tokio, with quinn's tasks behind those that have something for them: tokio's threads run next what was woken last, so
/// each partition's records would leave in a datagram of their own the moment they are written.
#[derive(Debug)]
pub struct Gathering;

/// A task that was polled within this time is busy. One that was not is run at once: less than a round trip with a write
/// to a disk in it, more than the lanes of a hundred partitions take.
const BUSY_WITHIN: Duration = Duration::from_micros(100);

impl quinn::Runtime for Gathering {
    fn new_timer(&self, at: std::time::Instant) -> Pin<Box<dyn quinn::AsyncTimer>> {
        quinn::TokioRuntime.new_timer(at)
    }

    fn spawn(&self, mut future: Waiting<'static, ()>) {
        let mut polled_at: Option<Instant> = None;
        let mut has_yielded = false;
        tokio::spawn(poll_fn(move |context| {
            let now = Instant::now();
            let is_busy = polled_at.is_some_and(|at| now.duration_since(at) < BUSY_WITHIN);
            if is_busy && !std::mem::replace(&mut has_yielded, true) {
                context.waker().wake_by_ref();
                return Poll::Pending;
            }
            has_yielded = false;
            polled_at = Some(now);
            future.as_mut().poll(context)
        }));
    }

    fn wrap_udp_socket(&self, socket: std::net::UdpSocket) -> io::Result<Arc<dyn quinn::AsyncUdpSocket>> {
        quinn::TokioRuntime.wrap_udp_socket(socket)
    }

    fn now(&self) -> std::time::Instant {
        quinn::TokioRuntime.now()
    }
}

/// The operating system.
#[derive(Debug)]
pub(crate) struct System {
    random: &'static dyn SecureRandom,
    /// Of sockets; the system may grant less.
    socket_buffer_bytes: usize,
}

/// How long a machine may take to say that a port is closed.
const PROBE_WAIT: Duration = Duration::from_millis(200);

impl System {
    pub(crate) fn new(socket_buffer_bytes: usize) -> Self {
        let random = rustls::crypto::ring::default_provider().secure_random;
        Self { random, socket_buffer_bytes }
    }
}

impl Outside for System {
    fn resolve<'a>(&'a self, host: &'a str, port: u16) -> Waiting<'a, io::Result<Vec<SocketAddr>>> {
        Box::pin(async move { Ok(tokio::net::lookup_host((host, port)).await?.collect()) })
    }

    fn endpoint(&self, remote: SocketAddr, config: quinn::EndpointConfig) -> io::Result<quinn::Endpoint> {
        use socket2::{Domain, Protocol, Socket, Type};

        let socket = Socket::new(Domain::for_address(remote), Type::DGRAM, Some(Protocol::UDP))?;
        // As much as the system grants: less costs speed, nothing else.
        let _ = socket.set_recv_buffer_size(self.socket_buffer_bytes);
        let _ = socket.set_send_buffer_size(self.socket_buffer_bytes);
        socket.bind(&any_address(remote).into())?;
        quinn::Endpoint::new(config, None, socket.into(), Arc::new(Gathering))
    }

    /// quinn's socket serves many peers and so never hears of it; one that is connected does.
    fn is_port_closed(&self, remote: SocketAddr) -> Waiting<'_, bool> {
        Box::pin(probe(remote))
    }

    fn fill_random(&self, bytes: &mut [u8]) {
        self.random.fill(bytes).expect("the system has random numbers");
    }

    fn wall_clock(&self) -> TimestampMs {
        let now = std::time::SystemTime::now();
        let millis = |span: Duration| i64::try_from(span.as_millis()).unwrap_or(i64::MAX);
        TimestampMs(match now.duration_since(std::time::UNIX_EPOCH) {
            Ok(since) => millis(since),
            Err(before) => -millis(before.duration()),
        })
    }
}

fn any_address(remote: SocketAddr) -> SocketAddr {
    match remote {
        SocketAddr::V4(_) => (std::net::Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (std::net::Ipv6Addr::UNSPECIFIED, 0).into(),
    }
}

async fn probe(remote: SocketAddr) -> bool {
    let Ok(socket) = UdpSocket::bind(any_address(remote)).await else { return false };
    if socket.connect(remote).await.is_err() {
        return false;
    }
    // One byte is no QUIC packet: whoever listens drops it without an answer.
    if let Err(error) = socket.send(&[0]).await {
        return error.kind() == io::ErrorKind::ConnectionRefused;
    }
    let mut buffer = [0; 1];
    match timeout(PROBE_WAIT, socket.recv(&mut buffer)).await {
        Ok(Err(error)) => error.kind() == io::ErrorKind::ConnectionRefused,
        Ok(Ok(_)) | Err(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use tokio::sync::Notify;
    use tokio::task::yield_now;

    use super::*;

    /// Who ran, in order, once all three were woken, quinn's first; `pause` after they ran last.
    async fn order_when_woken(pause: Duration) -> Vec<&'static str> {
        let (ran, wake) = (Arc::new(Mutex::new(Vec::new())), Arc::new(Notify::new()));
        let task = |name: &'static str| {
            let (ran, wake) = (Arc::clone(&ran), Arc::clone(&wake));
            async move {
                loop {
                    wake.notified().await;
                    ran.lock().expect("nobody panics").push(name);
                }
            }
        };
        quinn::Runtime::spawn(&Gathering, Box::pin(task("quinn")));
        tokio::spawn(task("lane"));
        tokio::spawn(task("lane"));
        yield_now().await;
        tokio::time::advance(pause).await;
        wake.notify_waiters();
        for _ in 0..4 {
            yield_now().await;
        }
        ran.lock().expect("nobody panics").clone()
    }

    #[tokio::test(start_paused = true)]
    async fn a_busy_task_runs_once_behind_those_that_were_woken_with_it() {
        assert_eq!(order_when_woken(Duration::from_micros(10)).await, ["lane", "lane", "quinn"]);
        assert_eq!(order_when_woken(Duration::from_millis(2)).await, ["quinn", "lane", "lane"]);
    }
}
