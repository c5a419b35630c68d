//! Index files (`storage/log`).

use storage_log::inspect;

use crate::mend;

pub const MAGIC: &[u8; 8] = b"MSINDEX\0";

pub fn index(data: &[u8]) {
    check(data);
    check(&mend::prefixed(data, MAGIC));
}

fn check(bytes: &[u8]) {
    let Ok(found) = inspect::index(bytes) else { return };
    assert_eq!(bytes.len(), 64 + 16 * found.entries.len());
    let rising = found.entries.windows(2).all(|pair| pair[0].0 < pair[1].0 && pair[0].1 < pair[1].1);
    assert!(rising, "entries out of order");
    assert!(
        found.entries.iter().all(|(offset, at)| *offset >= found.base_offset && *at < found.end_position)
    );
    for bit in mend::some_bits(bytes, 8 * bytes.len()) {
        assert!(
            inspect::index(&mend::flipped(bytes, bit)).is_err(),
            "bit {bit} is turned and nobody notices"
        );
    }
}
