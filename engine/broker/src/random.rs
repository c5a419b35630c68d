//! The system's random bytes, for ids, keys and seeds.

use std::fs::File;
use std::io::{self, Read};

/// # Errors
/// The system has no `/dev/urandom`.
pub(crate) fn bytes<const N: usize>() -> io::Result<[u8; N]> {
    let mut out = [0; N];
    File::open("/dev/urandom")?.read_exact(&mut out)?;
    Ok(out)
}

/// Never 0, which stands for "none" wherever an id may be absent.
pub(crate) fn id() -> io::Result<u128> {
    loop {
        match u128::from_le_bytes(bytes()?) {
            0 => {}
            id => return Ok(id),
        }
    }
}
