//! A file whose header is not there was made ahead and not begun, or its first write was torn. Or that write was
//! answered, the device lost it, and others went behind it: then it must not be taken for a left-over and removed.
//! A frame that starts a write tells, where it does not stand where the first one does.

use storage_frame::{FRAME_ALIGN, FrameHeader, HEADER_BYTES, Salt};

use crate::fields::crc;
use crate::segment::FIRST_FRAME;
use crate::segment_header::FirstBlock;

/// How much of the file is looked at. Long runs of writes get a checkpoint soon, which knows the segment.
pub(super) const LOOK_BYTES: usize = 64 << 10;

/// Position of a write behind the first one. `bytes` are the file's from [`FIRST_FRAME`] on, `first` stands before
/// them and is no header of this segment's.
pub(super) fn later_write(first: &FirstBlock, bytes: &[u8]) -> Option<u64> {
    let salt = match first {
        FirstBlock::Header(former) => Some(Salt(former.generation.checked_add(1).unwrap_or(1))),
        FirstBlock::Zeros | FirstBlock::Unreadable(_) => salt_of(bytes),
    };
    let positions = (FRAME_ALIGN..bytes.len().saturating_sub(HEADER_BYTES - 1)).step_by(FRAME_ALIGN);
    let starts = positions.filter(|at| starts_write(&bytes[*at..], salt));
    starts.map(|at| FIRST_FRAME + at as u64).next()
}

/// A new file's salt is known by its first frame only.
fn salt_of(bytes: &[u8]) -> Option<Salt> {
    let salt = claimed_salt(bytes)?;
    FrameHeader::decode(bytes, salt).is_ok().then_some(salt)
}

/// The salt under which a header verifies.
fn claimed_salt(header: &[u8]) -> Option<Salt> {
    let stored = header.get(4..8)?.try_into().expect("four bytes");
    Some(Salt(u32::from_le_bytes(stored) ^ crc(header.get(8..HEADER_BYTES)?)))
}

/// Where no salt is known any will do: the file was zeros before this life, so what is there is of it.
fn starts_write(bytes: &[u8], salt: Option<Salt>) -> bool {
    if bytes[..FRAME_ALIGN].iter().all(|byte| *byte == 0) {
        return false;
    }
    let salt = salt.or_else(|| claimed_salt(bytes));
    salt.and_then(|salt| FrameHeader::decode(bytes, salt).ok()).is_some_and(|header| header.starts_write)
}
