//! What a client is told at the start.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::outside::{Outside, System};

/// How to reach a cluster. Start from [`Config::new`] or [`Config::default`] and change fields.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Config {
    /// `host:port` of one or more brokers, tried in order; the rest is learned from the one that answers.
    /// Without a port: 9092. IPv6 as `[::1]:9092`.
    pub servers: Vec<String>,
    /// Whom to believe that it is the broker.
    pub trust: Trust,
    /// For one address to answer and finish the TLS handshake. Default 5 s.
    pub connect_timeout: Duration,
    /// For one request other than producing and reading. Default 30 s.
    pub request_timeout: Duration,
    /// Topics' metadata is asked for again after this, and whenever an error hints that it has changed.
    /// Default 5 min.
    pub metadata_age_max: Duration,
    /// A silent connection is given up after this. Default 10 s. Keep-alives go at a quarter of it.
    pub idle_timeout: Duration,
    /// Send and receive buffers of the UDP sockets, in bytes; the system may grant less. Default 4 MiB.
    pub socket_buffer_bytes: usize,
    /// Dial this core of every broker, whichever owns the partition. Answers are the same, one hop later.
    /// For tests.
    pub force_core: Option<u8>,
    /// The world around the client where it is not the operating system. For simulators.
    #[doc(hidden)]
    pub outside: Option<Arc<dyn Outside>>,
}

/// Whom to believe that it is the broker. There is no way to believe everybody.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Trust {
    /// The CA in the file named by `MILLSTREAM_CA_FILE`; where that is not set, as [`Trust::DataDir`] with the
    /// directory named by `MILLSTREAM_DATA`, or `./millstream-data`.
    #[default]
    Automatic,
    /// The CA that a broker with this data directory made: `<data>/tls/ca.pem`.
    DataDir(PathBuf),
    /// Every CA in this PEM file.
    CaFile(PathBuf),
    /// The one server certificate whose DER has this SHA-256, whatever it says and whoever signed it.
    Fingerprint([u8; 32]),
}

/// Where brokers listen unless told otherwise.
pub const DEFAULT_SERVER: &str = "127.0.0.1:9092";
pub(crate) const DEFAULT_PORT: u16 = 9092;

impl Config {
    /// Defaults, and these servers.
    #[must_use]
    pub fn new<S: Into<String>>(servers: impl IntoIterator<Item = S>) -> Self {
        Self {
            servers: servers.into_iter().map(Into::into).collect(),
            trust: Trust::Automatic,
            connect_timeout: Duration::from_secs(5),
            request_timeout: Duration::from_secs(30),
            metadata_age_max: Duration::from_secs(300),
            idle_timeout: Duration::from_secs(10),
            socket_buffer_bytes: 4 << 20,
            force_core: None,
            outside: None,
        }
    }

    /// Replaces [`trust`](Self::trust).
    #[must_use]
    pub fn with_trust(self, trust: Trust) -> Self {
        Self { trust, ..self }
    }

    pub(crate) fn outside(&self) -> Arc<dyn Outside> {
        let system = || Arc::new(System::new(self.socket_buffer_bytes)) as _;
        self.outside.clone().unwrap_or_else(system)
    }
}

impl Default for Config {
    /// One broker on this machine.
    fn default() -> Self {
        Self::new([DEFAULT_SERVER])
    }
}

impl Trust {
    /// Reads a fingerprint as tools print it: 64 hex digits, colons and spaces ignored.
    #[must_use]
    pub fn fingerprint(text: &str) -> Option<Self> {
        let digits: Vec<u8> = text
            .chars()
            .filter(|c| *c != ':' && !c.is_whitespace())
            .map(|c| c.to_digit(16).map(|digit| digit as u8))
            .collect::<Option<_>>()?;
        let pairs: Vec<u8> = digits.chunks(2).map(|pair| pair.iter().fold(0, |n, d| n << 4 | d)).collect();
        let bytes = (digits.len() == 64).then_some(pairs)?;
        bytes.try_into().ok().map(Self::Fingerprint)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fingerprints_are_read_with_and_without_colons() {
        let plain = "00ff".repeat(16);
        let Some(Trust::Fingerprint(bytes)) = Trust::fingerprint(&plain) else { panic!("{plain}") };
        assert_eq!(bytes[..2], [0x00, 0xff]);
        let colons: Vec<&str> = plain.as_bytes().chunks(2).map(|p| std::str::from_utf8(p).unwrap()).collect();
        assert_eq!(Trust::fingerprint(&colons.join(":")), Some(Trust::Fingerprint(bytes)));
        assert_eq!(Trust::fingerprint("00ff"), None);
        assert_eq!(Trust::fingerprint(&"zz".repeat(32)), None);
        assert_eq!(Trust::fingerprint(&"é".repeat(32)), None);
    }
}
