//! Bytes made to pass checksums, as somebody with bad intentions would.

use crc_fast::{CrcAlgorithm, Digest, checksum};
use storage_frame::{HEADER_BYTES, Salt};

/// CRC-32C.
#[must_use]
pub fn crc(bytes: &[u8]) -> u32 {
    (checksum(CrcAlgorithm::Crc32Iscsi, bytes) & 0xffff_ffff) as u32
}

/// The first frame of `bytes` with both checksums right, if there is room for a header. What it claims beside
/// them stays; its payload is what there is of it.
#[must_use]
pub fn frame(bytes: &[u8], salt: Salt) -> Vec<u8> {
    let mut out = bytes.to_vec();
    if out.len() < HEADER_BYTES {
        return out;
    }
    out[..3].copy_from_slice(b"MF\x01");
    let claimed = u32::from_le_bytes([out[12], out[13], out[14], out[15]]) as usize;
    let payload = &out[HEADER_BYTES..out.len().min(HEADER_BYTES.saturating_add(claimed))];
    let payload_crc = crc(payload);
    out[8..12].copy_from_slice(&payload_crc.to_le_bytes());
    let header_crc = crc(&out[8..HEADER_BYTES]) ^ salt.0;
    out[4..8].copy_from_slice(&header_crc.to_le_bytes());
    out
}

/// One of the log's small files (or a segment's first sector): magic, version 1 and a checksum that reaches to
/// the end of `bytes`.
#[must_use]
pub fn prefixed(bytes: &[u8], magic: &[u8; 8]) -> Vec<u8> {
    let mut out = bytes.to_vec();
    if out.len() < 16 {
        return out;
    }
    let version = 1u32.to_le_bytes();
    let mut digest = Digest::new(CrcAlgorithm::Crc32Iscsi);
    digest.update(&version);
    digest.update(&out[16..]);
    let sum = (digest.finalize() & 0xffff_ffff) as u32;
    out[..8].copy_from_slice(magic);
    out[8..12].copy_from_slice(&version);
    out[12..16].copy_from_slice(&sum.to_le_bytes());
    out
}

/// `bytes` with one bit turned.
#[must_use]
pub fn flipped(bytes: &[u8], bit: usize) -> Vec<u8> {
    let mut out = bytes.to_vec();
    out[bit / 8] ^= 1 << (bit % 8);
    out
}

/// A few bits below `bit_count`, the same for the same `bytes`.
pub fn some_bits(bytes: &[u8], bit_count: usize) -> impl Iterator<Item = usize> {
    let start = crc(bytes) as usize;
    (0..8).filter(move |_| bit_count > 0).map(move |nth| start.wrapping_add(nth * 7919) % bit_count)
}
