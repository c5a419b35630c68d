//! TCP on one core: connections accepted, bytes read straight into the reader's buffer, chunks sent in one call.
//!
//! Reading and sending are plain calls that never wait; the ring is asked for one thing only, to wait until a socket can
//! be read or written, for which nothing is allocated beside the wait itself: an idle connection holds no buffer.

use std::io::{self, IoSlice};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::rc::Rc;
use std::time::Duration;

use bytes::BytesMut;
use socket2::{SockRef, TcpKeepalive};
use storage_ring::Ring;

/// When a silent connection is asked whether anybody is there, how often, and how many answers may be missing.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(60);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);
const KEEPALIVE_RETRIES: u32 = 6;

/// A core's listener. Lives on: the thread of its ring.
pub struct TcpGate {
    ring: Ring,
    listener: Rc<TcpListener>,
}

impl TcpGate {
    /// # Errors
    /// Those of the system.
    pub fn new(ring: Ring, listener: TcpListener) -> io::Result<Self> {
        listener.set_nonblocking(true)?;
        Ok(Self { ring, listener: Rc::new(listener) })
    }

    /// Waits for the next connection.
    ///
    /// # Errors
    /// Those of the system. None of them ends the listener: a client may have left at once, and descriptors or
    /// memory may be short for a while.
    pub async fn accept(&self) -> io::Result<TcpPort> {
        loop {
            // Before the call: many clients must not keep the core from its other answers.
            self.ring.readable(Rc::clone(&self.listener) as _).await?;
            match self.listener.accept() {
                Ok((stream, _)) => return TcpPort::new(self.ring.clone(), stream),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
    }
}

/// What became of a read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TcpRead {
    /// So many bytes, at least one.
    Bytes(usize),
    /// Nothing is there: wait with [`TcpPort::readable`].
    Empty,
    /// The other side has said all it had to say.
    End,
}

/// One connection. Lives on: the thread of its ring.
pub struct TcpPort {
    ring: Ring,
    stream: Rc<TcpStream>,
    remote: SocketAddr,
    local: SocketAddr,
}

impl TcpPort {
    fn new(ring: Ring, stream: TcpStream) -> io::Result<Self> {
        stream.set_nonblocking(true)?;
        // Answers leave whole; waiting for more to send would only delay them.
        stream.set_nodelay(true)?;
        let keepalive = TcpKeepalive::new()
            .with_time(KEEPALIVE_IDLE)
            .with_interval(KEEPALIVE_INTERVAL)
            .with_retries(KEEPALIVE_RETRIES);
        SockRef::from(&stream).set_tcp_keepalive(&keepalive)?;
        let (remote, local) = (stream.peer_addr()?, stream.local_addr()?);
        Ok(Self { ring, stream: Rc::new(stream), remote, local })
    }

    pub fn remote(&self) -> SocketAddr {
        self.remote
    }

    /// The address the client has reached.
    pub fn local(&self) -> SocketAddr {
        self.local
    }

    /// Waits until something has come, or the other side has said all. For one task at a time.
    ///
    /// # Errors
    /// Those of the system; the connection is lost.
    ///
    /// # Cancel safety
    /// Takes nothing.
    pub async fn readable(&self) -> io::Result<()> {
        self.ring.readable(Rc::clone(&self.stream) as _).await
    }

    /// Appends what has come to `into`, as much as fits into what it has allocated.
    ///
    /// # Errors
    /// Those of the system but for "nothing there"; the connection is lost.
    ///
    /// # Panics
    /// Without room.
    pub fn read(&self, into: &mut BytesMut) -> io::Result<TcpRead> {
        let before = into.len();
        let room = into.spare_capacity_mut();
        assert!(!room.is_empty(), "nothing can be read into nothing");
        let received = SockRef::from(&*self.stream).recv(room);
        match received {
            Ok(0) => Ok(TcpRead::End),
            Ok(count) => {
                assert!(before + count <= into.capacity());
                // SAFETY: the system has written the first `count` bytes behind the first `before` ones, and both
                // lie in the buffer's memory, as checked above.
                unsafe { into.set_len(before + count) };
                Ok(TcpRead::Bytes(count))
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(TcpRead::Empty),
            Err(error) => Err(error),
        }
    }

    /// Hands the system as much of `slices` as it takes now. 0: it is full, wait with
    /// [`writable`](Self::writable).
    ///
    /// # Errors
    /// Those of the system but for "no room"; the connection is lost.
    pub fn send(&self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        match SockRef::from(&*self.stream).send_vectored_with_flags(slices, libc::MSG_NOSIGNAL) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(0),
            sent => sent,
        }
    }

    /// Waits until there is room for a good part of what a socket holds.
    ///
    /// # Errors
    /// Those of the system; the connection is lost.
    pub async fn writable(&self) -> io::Result<()> {
        self.ring.writable(Rc::clone(&self.stream) as _).await
    }

    /// Says that nothing more comes from here, behind what was sent. What the other side still says can be read.
    pub fn finish(&self) {
        // It may be closed already.
        let _ = self.stream.shutdown(Shutdown::Write);
    }

    /// Says the end in both directions. Who waits here or on the other side is told.
    pub fn close(&self) {
        // It may be closed already.
        let _ = self.stream.shutdown(Shutdown::Both);
    }
}

#[cfg(test)]
mod tests;
