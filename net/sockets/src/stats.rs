//! What one core's socket has moved, counted up since it was bound.

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct UdpStats {
    pub datagrams_in: u64,
    pub bytes_in: u64,
    /// Receive calls: datagrams per call tell how well GRO and batching do.
    pub receives: u64,
    pub datagrams_out: u64,
    pub bytes_out: u64,
    /// Send calls.
    pub sends: u64,
    /// Sends that found the socket's buffer full and were tried again.
    pub sends_delayed: u64,
    /// Sends the system refused; the datagram is lost, as datagrams may be.
    pub sends_failed: u64,
}
