//! Who reads a partition, as far as a fetch tells it.

use std::fmt::{Display, Write};
use std::time::Duration;

use storage_frame::Offset;

/// Of a client's name as much as is kept, and counts.
pub const CLIENT_BYTES_MAX: usize = 256;

/// What a group's coordinator can recognise its members' reads by: a native reader names its group, of a Kafka client
/// name and host are known. Two that share it are taken for one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ReaderId(pub u64);

impl ReaderId {
    /// A member of a native group: a partition has one at a time.
    #[must_use]
    pub fn of_group(group: &str) -> Self {
        Self::of('g', group, "")
    }

    /// A client of Kafka's protocol, whose fetches do not say which group it is in.
    #[must_use]
    pub fn of_client(client_id: &str, client_host: impl Display) -> Self {
        Self::of('c', &client_id[..client_id.floor_char_boundary(CLIENT_BYTES_MAX)], client_host)
    }

    /// The same on every core and node.
    fn of(kind: char, name: &str, host: impl Display) -> Self {
        let mut hash = Fnv(0xcbf2_9ce4_8422_2325);
        write!(hash, "{kind}{name}\0{host}").expect("hashing does not fail");
        Self(hash.0)
    }
}

/// FNV-1a: short texts, and nobody gains by making two meet.
struct Fnv(u64);

impl Write for Fnv {
    fn write_str(&mut self, text: &str) -> std::fmt::Result {
        for byte in text.bytes() {
            self.0 = (self.0 ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
        Ok(())
    }
}

/// The last fetch of a reader from a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LastRead {
    pub ago: Duration,
    /// What it asked for: it has had everything below, from where it began.
    pub next: Offset,
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;

    #[test]
    fn a_reader_is_the_same_however_its_host_is_said() {
        let host: IpAddr = "127.0.0.1".parse().unwrap();
        let one = ReaderId::of_client("app", format_args!("/{host}"));
        assert_eq!(one, ReaderId::of_client("app", "/127.0.0.1"));
        let others = [
            ReaderId::of_client("app", "/127.0.0.2"),
            ReaderId::of_client("app2", "/127.0.0.1"),
            ReaderId::of_group("app"),
        ];
        assert!(!others.contains(&one));
    }

    #[test]
    fn of_a_long_name_the_part_that_is_kept_counts() {
        let long = "x".repeat(CLIENT_BYTES_MAX + 1);
        assert_eq!(ReaderId::of_client(&long, "/h"), ReaderId::of_client(&long[..CLIENT_BYTES_MAX], "/h"));
    }
}
