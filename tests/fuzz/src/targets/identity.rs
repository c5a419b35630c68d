//! The identity of a data directory (`engine/meta`): its used bytes, filled up to a block, and all of the input
//! as it is.

use engine_meta::identity::{IDENTITY_BYTES, Identity};

use crate::mend;

pub fn identity(data: &[u8]) {
    check(data);
    let mut block = data.to_vec();
    block.resize(IDENTITY_BYTES, 0);
    block[..12].copy_from_slice(b"MILLSTRM\x01\0\0\0");
    let sum = mend::crc(&block[16..]);
    block[12..16].copy_from_slice(&sum.to_le_bytes());
    check(&block);
}

fn check(bytes: &[u8]) {
    let Ok(found) = Identity::decode(bytes) else { return };
    assert_eq!(found.encode()[..], *bytes, "one identity has one writing");
    assert!(found.cluster_id != 0 && found.directory_id != 0, "ids are never 0");
    for bit in mend::some_bits(bytes, 8 * bytes.len()).chain(0..128) {
        assert!(
            Identity::decode(&mend::flipped(bytes, bit)).is_err(),
            "bit {bit} is turned and nobody notices"
        );
    }
}
