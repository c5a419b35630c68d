//! TCP on one core: connections accepted, bytes read straight into the reader's buffer, chunks sent in one call.
//!
//! Reading and sending are plain calls that never wait. The runtime is asked for one thing only, to wait until a
//! socket can be read or written; what it offers for that outside of its own calls is to read or to send, so it is
//! given a single byte: [`TcpPort::first_byte`] takes the first of what has come, and [`TcpPort::send_byte`] sends the
//! first of what could not be sent. Both wait by a poll in the ring, for which nothing is allocated beside the poll
//! itself: an idle connection holds no buffer, where a receive in the ring would hold a block of the runtime's.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::net::{Shutdown, SocketAddr, TcpListener};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, IntoRawFd};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{BufMut, BytesMut};
use futures_lite::future::poll_once;
use futures_lite::{AsyncRead, AsyncWrite};
use glommio::net::TcpStream;
use glommio::nop::NopSubmitter;
use socket2::{SockRef, TcpKeepalive};

/// When a silent connection is asked whether anybody is there, how often, and how many answers may be missing.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(60);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);
const KEEPALIVE_RETRIES: u32 = 6;

/// A core's listener. Lives on: the executor it was made on.
pub struct TcpGate {
    listener: glommio::net::TcpListener,
}

impl TcpGate {
    #[must_use]
    pub fn new(listener: TcpListener) -> Self {
        // SAFETY: the descriptor is a listening socket and was just given up by its only owner.
        let listener = unsafe { glommio::net::TcpListener::from_raw_fd(listener.into_raw_fd()) };
        Self { listener }
    }

    /// Waits for the next connection.
    ///
    /// # Errors
    /// Those of the system. None of them ends the listener: a client may have left at once, and descriptors or
    /// memory may be short for a while.
    pub async fn accept(&self) -> io::Result<TcpPort> {
        let mut accept = std::pin::pin!(self.listener.accept());
        let stream = match poll_once(&mut accept).await {
            // As with reading: many clients must not keep the core from its completions.
            Some(stream) => {
                NopSubmitter::new().run_nop().await?;
                stream?
            }
            None => accept.await?,
        };
        TcpPort::new(stream)
    }
}

/// What became of a read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TcpRead {
    /// So many bytes, at least one.
    Bytes(usize),
    /// Nothing is there: wait with [`TcpPort::first_byte`].
    Empty,
    /// The other side has said all it had to say.
    End,
}

/// One connection. Lives on: the executor it was made on.
pub struct TcpPort {
    /// Borrowed within calls and polls only.
    stream: RefCell<TcpStream>,
    /// Read and not handed out: whoever waited for it gave up.
    taken: Cell<Option<u8>>,
    remote: SocketAddr,
    local: SocketAddr,
}

impl TcpPort {
    fn new(stream: TcpStream) -> io::Result<Self> {
        let socket = borrow(&stream);
        let socket = SockRef::from(&socket);
        // Answers leave whole; waiting for more to send would only delay them.
        socket.set_tcp_nodelay(true)?;
        let keepalive = TcpKeepalive::new()
            .with_time(KEEPALIVE_IDLE)
            .with_interval(KEEPALIVE_INTERVAL)
            .with_retries(KEEPALIVE_RETRIES);
        socket.set_tcp_keepalive(&keepalive)?;
        let address = |found: socket2::SockAddr| found.as_socket().ok_or(io::ErrorKind::AddrNotAvailable);
        let (remote, local) = (address(socket.peer_addr()?)?, address(socket.local_addr()?)?);
        Ok(Self { stream: RefCell::new(stream), taken: Cell::new(None), remote, local })
    }

    pub fn remote(&self) -> SocketAddr {
        self.remote
    }

    /// The address the client has reached.
    pub fn local(&self) -> SocketAddr {
        self.local
    }

    /// Waits until something has come and takes its first byte; `None`: the other side has said all. Where there is
    /// something already, the runtime looks at all other completions first: a client that never stops sending would
    /// otherwise keep the core from its disk. For one task at a time.
    ///
    /// # Errors
    /// Those of the system; the connection is lost.
    ///
    /// # Cancel safety
    /// A byte that was taken is handed out by the next call.
    pub async fn first_byte(&self) -> io::Result<Option<u8>> {
        if let Some(byte) = self.taken.take() {
            return Ok(Some(byte));
        }
        let mut read = std::pin::pin!(poll_fn(|context| self.poll_read(context)));
        match poll_once(&mut read).await {
            None => read.await,
            Some(Ok(Some(byte))) => {
                self.taken.set(Some(byte));
                NopSubmitter::new().run_nop().await?;
                Ok(self.taken.take())
            }
            Some(ended) => ended,
        }
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
        let received = self.with_socket(|socket| socket.recv_with_flags(room, libc::MSG_DONTWAIT));
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

    /// As [`read`](Self::read), behind the byte that [`first_byte`](Self::first_byte) took.
    ///
    /// # Errors
    /// As `read`.
    pub fn read_behind(&self, first: u8, into: &mut BytesMut) -> io::Result<TcpRead> {
        into.put_u8(first);
        if into.len() == into.capacity() { Ok(TcpRead::Empty) } else { self.read(into) }
    }

    /// Hands the system as much of `slices` as it takes now. 0: it is full, wait with
    /// [`send_byte`](Self::send_byte).
    ///
    /// # Errors
    /// Those of the system but for "no room"; the connection is lost.
    pub fn send(&self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
        match self.with_socket(|socket| socket.send_vectored_with_flags(slices, flags)) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(0),
            sent => sent,
        }
    }

    /// Waits until there is room for a good part of what a socket holds, and sends one byte. For one task at a time,
    /// during which nothing else is sent. Where there is room at once, the runtime looks at all other completions
    /// first.
    ///
    /// # Errors
    /// Those of the system; the connection is lost.
    pub async fn send_byte(&self, byte: u8) -> io::Result<()> {
        let byte = [byte];
        let mut send = std::pin::pin!(poll_fn(|context| self.poll_write(context, &byte)));
        let sent = match poll_once(&mut send).await {
            Some(sent) => {
                NopSubmitter::new().run_nop().await?;
                sent?
            }
            None => send.await?,
        };
        if sent == 1 { Ok(()) } else { Err(io::ErrorKind::WriteZero.into()) }
    }

    /// Says that nothing more comes from here, behind what was sent. What the other side still says can be read.
    pub fn finish(&self) {
        // It may be closed already.
        let _ = self.with_socket(|socket| socket.shutdown(Shutdown::Write));
    }

    /// Says the end in both directions. Who waits here or on the other side is told.
    pub fn close(&self) {
        // It may be closed already.
        let _ = self.with_socket(|socket| socket.shutdown(Shutdown::Both));
    }

    fn poll_read(&self, context: &mut Context<'_>) -> Poll<io::Result<Option<u8>>> {
        let mut byte = [0];
        let read = Pin::new(&mut *self.stream.borrow_mut()).poll_read(context, &mut byte);
        read.map_ok(|count| (count > 0).then_some(byte[0]))
    }

    fn poll_write(&self, context: &mut Context<'_>, byte: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut *self.stream.borrow_mut()).poll_write(context, byte)
    }

    fn with_socket<T>(&self, call: impl FnOnce(&SockRef<'_>) -> T) -> T {
        let stream = self.stream.borrow();
        call(&SockRef::from(&borrow(&stream)))
    }
}

fn borrow(stream: &TcpStream) -> BorrowedFd<'_> {
    // SAFETY: the stream owns its descriptor and keeps it open as long as it lives, which is as long as it is borrowed
    // here.
    unsafe { BorrowedFd::borrow_raw(stream.as_raw_fd()) }
}

#[cfg(test)]
mod tests;
