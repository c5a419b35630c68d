//! Checkpoint files (`storage/log`).

use bytes::Bytes;
use storage_log::inspect;

use crate::mend;

pub const MAGIC: &[u8; 8] = b"MSCHKPNT";

pub fn checkpoint(data: &[u8]) {
    check(data);
    check(&mend::prefixed(data, MAGIC));
}

fn check(bytes: &[u8]) {
    let Ok(found) = inspect::checkpoint(&Bytes::copy_from_slice(bytes)) else { return };
    assert!(found.scan_from <= found.durable_end);
    assert!(!found.segments.is_empty());
    let rising = found
        .segments
        .windows(2)
        .all(|pair| pair[0].segment.0 + 1 == pair[1].segment.0 && pair[0].base_offset < pair[1].base_offset);
    assert!(rising, "segments out of order: {:?}", found.segments);
    assert!(found.app_state_bytes.unwrap_or(0) + 40 * found.segments.len() < bytes.len());
    for bit in mend::some_bits(bytes, 8 * bytes.len()) {
        let bad = Bytes::from(mend::flipped(bytes, bit));
        assert!(inspect::checkpoint(&bad).is_err(), "bit {bit} is turned and nobody notices");
    }
}
