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
use crate::fields::{Fields, FormatError, PREFIX_BYTES, close_prefix, open_versioned};
use crate::segment::{OFFSET_MAX, is_boundary, take_time};

const MAGIC: &[u8; 8] = b"MSSEGMNT";
const VERSION: u32 = 1;
const VERSION_REWRITTEN: u32 = 2;
const REWRITTEN_AT: usize = 448;
/// The unit a device writes whole or not at all.
const SECTOR_BYTES: usize = 512;
const LABEL_BYTES_MAX: usize = 384;

// A header over two sectors could be half old, half new.
const _: () = assert!(58 + LABEL_BYTES_MAX <= REWRITTEN_AT && REWRITTEN_AT + 40 <= SECTOR_BYTES);

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
    pub(crate) rewritten: Option<Rewritten>,
}

/// Of a segment that compaction wrote.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Rewritten {
    /// It stands in the place of the segments of these numbers.
    pub(crate) first: SegmentId,
    pub(crate) last: SegmentId,
    pub(crate) end_position: u64,
    pub(crate) end_offset: Offset,
    pub(crate) max_timestamp: TimestampMs,
    pub(crate) tombstones_at: Option<TimestampMs>,
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
        let mut version = VERSION;
        if let Some(rewritten) = &self.rewritten {
            version = VERSION_REWRITTEN;
            out.resize(REWRITTEN_AT, 0);
            out.put_u32_le(rewritten.first.0);
            out.put_u32_le(rewritten.last.0);
            out.put_u64_le(rewritten.end_position);
            out.put_u64_le(rewritten.end_offset.0);
            out.put_i64_le(rewritten.max_timestamp.0);
            out.put_i64_le(rewritten.tombstones_at.map_or(0, |at| at.0));
        }
        out.resize(SECTOR_BYTES, 0);
        close_prefix(&mut out, MAGIC, version);
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
        let (version, mut fields) = open_versioned(sector, MAGIC, VERSION_REWRITTEN)?;
        let rewritten = if version == VERSION_REWRITTEN {
            Some(Rewritten::decode(&sector[REWRITTEN_AT..])?)
        } else {
            None
        };
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
            rewritten,
        };
        header.check()?;
        Ok(header)
    }

    fn check(&self) -> Result<(), FormatError> {
        let header = self;
        if header.generation == 0 {
            return Err(FormatError::Damaged("generation 0".to_owned()));
        }
        if header.base_offset.0 > i64::MAX as u64 {
            return Err(FormatError::Damaged("base offset above 2^63 - 1".to_owned()));
        }
        let is_numbered = match &header.rewritten {
            None => !header.segment.is_rewritten(),
            Some(of) => {
                header.segment.is_rewritten()
                    && of.first <= of.last
                    && !of.last.is_rewritten()
                    && is_boundary(of.end_position)
                    && (header.base_offset..=OFFSET_MAX).contains(&of.end_offset)
            }
        };
        if !is_numbered {
            return Err(FormatError::Damaged("contradicts itself".to_owned()));
        }
        Ok(())
    }
}

impl Rewritten {
    fn decode(bytes: &[u8]) -> Result<Self, FormatError> {
        let mut fields = Fields::new(bytes);
        Ok(Self {
            first: SegmentId(fields.u32()?),
            last: SegmentId(fields.u32()?),
            end_position: fields.u64()?,
            end_offset: Offset(fields.u64()?),
            max_timestamp: TimestampMs(fields.i64()?),
            tombstones_at: take_time(&mut fields)?,
        })
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
            rewritten: None,
        }
    }

    fn rewritten() -> SegmentHeader {
        let rewritten = Rewritten {
            first: SegmentId(3),
            last: SegmentId(5),
            end_position: 8192,
            end_offset: Offset(2000),
            max_timestamp: TimestampMs(-4),
            tombstones_at: Some(TimestampMs(77)),
        };
        let label = "x".repeat(1000);
        SegmentHeader { segment: SegmentId((1 << 31) + 4), label, rewritten: Some(rewritten), ..header() }
    }

    #[test]
    fn header_of_a_rewritten_segment_is_of_a_version_of_its_own() {
        let block = rewritten().encode();
        assert_eq!(block[8], VERSION_REWRITTEN as u8);
        let FirstBlock::Header(back) = SegmentHeader::decode(&block) else { panic!("unreadable") };
        assert_eq!((back.rewritten, back.segment), (rewritten().rewritten, rewritten().segment));
        for bit in 0..SECTOR_BYTES * 8 {
            let mut bad = block.to_vec();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(matches!(SegmentHeader::decode(&bad), FirstBlock::Unreadable(_)), "bit {bit}");
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
