//! A client's UDP socket on the simulated wire, as quinn takes it.

use std::io::{self, IoSliceMut};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use quinn::udp::{EcnCodepoint, RecvMeta, Transmit};
use quinn::{AsyncUdpSocket, UdpPoller};

use super::Net;

#[derive(Debug)]
pub(super) struct Socket {
    net: Net,
    inner: SocketAddr,
}

impl Socket {
    pub(super) fn open(net: Net, ip: std::net::IpAddr) -> Self {
        let inner = net.wire().open(ip);
        Self { net, inner }
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        self.net.wire().close(self.inner);
    }
}

impl AsyncUdpSocket for Socket {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        Box::pin(AlwaysWritable)
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        let ecn = transmit.ecn.map(|ecn| ecn as u8);
        self.net.send(self.inner, transmit.destination, ecn, transmit.contents);
        Ok(())
    }

    fn poll_recv(
        &self,
        context: &mut Context<'_>,
        buffers: &mut [IoSliceMut<'_>],
        metas: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        let mut wire = self.net.wire();
        let mut count = 0;
        for (buffer, meta) in buffers.iter_mut().zip(metas) {
            let Poll::Ready(received) = wire.poll_receive(context, self.inner) else { break };
            let bytes = received.bytes.len().min(buffer.len());
            buffer[..bytes].copy_from_slice(&received.bytes[..bytes]);
            *meta = RecvMeta {
                addr: received.from,
                len: bytes,
                stride: bytes,
                ecn: received.ecn.and_then(EcnCodepoint::from_bits),
                dst_ip: None,
            };
            count += 1;
        }
        if count == 0 { Poll::Pending } else { Poll::Ready(Ok(count)) }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.inner)
    }

    fn may_fragment(&self) -> bool {
        false
    }
}

/// The wire takes everything; what is too much is lost on it.
#[derive(Debug)]
struct AlwaysWritable;

impl UdpPoller for AlwaysWritable {
    fn poll_writable(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
