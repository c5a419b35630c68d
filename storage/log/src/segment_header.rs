//! Block 0 of a segment file. All of it stands in the first 512 bytes, so the device writes it whole or not.
//!
//! ```text
//!  0  magic "MSSEGMNT"    8  version u32        12  crc u32, CRC-32C of version and bytes 16..512
//! 16  log id u64         24  segment u32        28  generation u32
//! 32  base offset u64    40  created i64 (ms)   48  previous segment's end u64 (position; 0: none)
//! 56  label bytes u16    58  label (UTF-8, at most 384), zeros to 4096
//! ```

use bytes::{BufMut, Bytes, BytesMut};
use storage_frame::{LogId, Offset, TimestampMs};

use crate::disk_op::{BLOCK_BYTES, SegmentId};
use crate::fields::{FormatError, PREFIX_BYTES, close_prefix, open_prefix};

const MAGIC: &[u8; 8] = b"MSSEGMNT";
const VERSION: u32 = 1;
/// The unit a device writes whole or not at all.
const SECTOR_BYTES: usize = 512;
const LABEL_BYTES_MAX: usize = 384;

// A header over two sectors could be half old, half new.
const _: () = assert!(58 + LABEL_BYTES_MAX <= SECTOR_BYTES);

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SegmentHeader {
    pub(crate) log: LogId,
    pub(crate) segment: SegmentId,
    /// Counts the lives of the file; salt of its frames; never 0.
    pub(crate) generation: u32,
    pub(crate) base_offset: Offset,
    pub(crate) created: TimestampMs,
    /// Where the segment before ends: all of it was on stable storage when this header was written. 0: there
    /// is none, or it is retired for good.
    pub(crate) previous_end: u64,
    pub(crate) label: String,
}

/// What block 0 of a file says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum FirstBlock {
    Header(SegmentHeader),
    /// Never written.
    Zeros,
    Unreadable(FormatError),
}

impl SegmentHeader {
    pub(crate) fn encode(&self) -> Bytes {
        assert!(self.generation != 0);
        let mut out = BytesMut::with_capacity(BLOCK_BYTES);
        out.put_bytes(0, PREFIX_BYTES);
        out.put_u64_le(self.log.0);
        out.put_u32_le(self.segment.0);
        out.put_u32_le(self.generation);
        out.put_u64_le(self.base_offset.0);
        out.put_i64_le(self.created.0);
        out.put_u64_le(self.previous_end);
        let label = cut_label(&self.label);
        out.put_u16_le(label.len() as u16);
        out.put_slice(label.as_bytes());
        out.resize(SECTOR_BYTES, 0);
        close_prefix(&mut out, MAGIC, VERSION);
        out.resize(BLOCK_BYTES, 0);
        out.freeze()
    }

    pub(crate) fn decode(block: &[u8]) -> FirstBlock {
        let Some(sector) = block.get(..SECTOR_BYTES) else {
            return FirstBlock::Unreadable(FormatError::Damaged("file ends inside its header".to_owned()));
        };
        if sector.iter().all(|byte| *byte == 0) {
            return FirstBlock::Zeros;
        }
        match Self::decode_sector(sector) {
            Ok(header) => FirstBlock::Header(header),
            Err(why) => FirstBlock::Unreadable(why),
        }
    }

    fn decode_sector(sector: &[u8]) -> Result<Self, FormatError> {
        let mut fields = open_prefix(sector, MAGIC, VERSION)?;
        let header = Self {
            log: LogId(fields.u64()?),
            segment: SegmentId(fields.u32()?),
            generation: fields.u32()?,
            base_offset: Offset(fields.u64()?),
            created: TimestampMs(fields.i64()?),
            previous_end: fields.u64()?,
            label: {
                let bytes = fields.u16()? as usize;
                String::from_utf8_lossy(fields.bytes(bytes)?).into_owned()
            },
        };
        if header.generation == 0 {
            return Err(FormatError::Damaged("generation 0".to_owned()));
        }
        if header.base_offset.0 > i64::MAX as u64 {
            return Err(FormatError::Damaged("base offset above 2^63 - 1".to_owned()));
        }
        Ok(header)
    }
}

fn cut_label(label: &str) -> &str {
    let mut bytes = label.len().min(LABEL_BYTES_MAX);
    while !label.is_char_boundary(bytes) {
        bytes -= 1;
    }
    &label[..bytes]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header() -> SegmentHeader {
        SegmentHeader {
            log: LogId(7),
            segment: SegmentId(3),
            generation: 9,
            base_offset: Offset(1000),
            created: TimestampMs(1_700_000_000_000),
            previous_end: 8192,
            label: "orders/0".to_owned(),
        }
    }

    #[test]
    fn header_comes_back_and_every_flipped_bit_is_noticed() {
        let block = header().encode();
        assert_eq!(block.len(), BLOCK_BYTES);
        assert_eq!(SegmentHeader::decode(&block), FirstBlock::Header(header()));
        for bit in 0..SECTOR_BYTES * 8 {
            let mut bad = block.to_vec();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(matches!(SegmentHeader::decode(&bad), FirstBlock::Unreadable(_)), "bit {bit}");
        }
    }

    #[test]
    fn zeros_are_a_file_never_begun() {
        assert_eq!(SegmentHeader::decode(&[0; BLOCK_BYTES]), FirstBlock::Zeros);
        assert!(matches!(SegmentHeader::decode(&[0; 100]), FirstBlock::Unreadable(_)));
    }

    #[test]
    fn long_labels_are_cut_between_characters() {
        let long = SegmentHeader { label: "\u{e9}".repeat(300), ..header() };
        let FirstBlock::Header(back) = SegmentHeader::decode(&long.encode()) else { panic!("unreadable") };
        assert_eq!(back.label, "\u{e9}".repeat(192));
    }
}
