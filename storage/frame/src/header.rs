//! The 64 bytes before every payload.
//!
//! ```text
//!  0  magic u16 "MF"      2  version u8      3  encoding u8
//!  4  header_crc u32      CRC-32C of bytes 8..64, XOR salt of the place it is stored in
//!  8  payload_crc u32     CRC-32C of the payload, set by the producer, never recomputed on the way
//! 12  payload_bytes u32   without the padding to 16
//! 16  base_offset u64
//! 24  first_timestamp i64 32  max_timestamp i64
//! 40  producer_id u64     (0: none)
//! 48  leader_epoch u32    52  record_count u32
//! 56  base_sequence u32   60  producer_epoch u16
//! 62  flags u16           bits 0-2 codec, bit 3 append time, bit 4 starts a write, bit 5 compacted, bit 6 holes,
//!                         others 0
//! ```
//! Version 2 is that of a frame compaction has rewritten, and of no other: bit 5 says so too, under the checksum.
//! There `record_count` is how many offsets the frame stands for, of which the payload may hold fewer (bit 6) or, being
//! empty, none. Of its producer nothing is known: in place of `producer_id` stands the time at which its tombstones
//! were first compacted (i64; 0: it has none), the other two are 0.
//! Little endian. Offset and epoch are assigned by the leader after the producer has sealed the payload, so
//! they sit under `header_crc`, which costs 56 bytes to renew, and not under `payload_crc`.
//!
//! The salt binds a frame to the life of the segment it is stored in (`storage/FORMAT.md`): a frame read with
//! the salt of another life never verifies, because XOR with two different salts never gives one number.

use bytes::{BufMut, Bytes, BytesMut};
use crc_fast::{CrcAlgorithm, checksum};

use crate::units::{LeaderEpoch, Offset, TimestampMs};

/// Bytes of a frame header.
pub const HEADER_BYTES: usize = 64;
/// Frames start at multiples of this in a segment and follow each other with padding to it.
pub const FRAME_ALIGN: usize = 16;
/// No frame is larger, whatever a topic's `max.message.bytes` says; a claim above it is damage.
pub const FRAME_BYTES_MAX: usize = 64 << 20;

const MAGIC: u16 = u16::from_le_bytes(*b"MF");
const VERSION: u8 = 1;
const VERSION_COMPACTED: u8 = 2;
const CODEC_MASK: u16 = 0b111;
const FLAG_APPEND_TIME: u16 = 1 << 3;
const FLAG_STARTS_WRITE: u16 = 1 << 4;
const FLAG_COMPACTED: u16 = 1 << 5;
const FLAG_HOLES: u16 = 1 << 6;
const FLAGS_KNOWN: u16 = CODEC_MASK | FLAG_APPEND_TIME | FLAG_STARTS_WRITE | FLAG_COMPACTED | FLAG_HOLES;

/// The header as rkyv lays it out. Field order is the format.
#[derive(rkyv::Archive, rkyv::Serialize, Debug, Clone, Copy)]
struct Raw {
    magic: u16,
    version: u8,
    encoding: u8,
    header_crc: u32,
    payload_crc: u32,
    payload_bytes: u32,
    base_offset: u64,
    first_timestamp: i64,
    max_timestamp: i64,
    producer_id: u64,
    leader_epoch: u32,
    record_count: u32,
    base_sequence: u32,
    producer_epoch: u16,
    flags: u16,
}

// The format is these 64 bytes; a field added or moved must fail here, not on somebody's disk.
const _: () = assert!(size_of::<ArchivedRaw>() == HEADER_BYTES);
const _: () = assert!(align_of::<ArchivedRaw>() == 1, "readable at any address");
const _: () = assert!(std::mem::offset_of!(ArchivedRaw, payload_crc) == 8);
const _: () = assert!(std::mem::offset_of!(ArchivedRaw, flags) == 62);
const _: () = assert!(HEADER_BYTES.is_multiple_of(FRAME_ALIGN));

/// What the payload holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encoding {
    /// A flat archived batch ([`crate::batch`]), compressed as the header's [`Codec`] says.
    Archived,
    /// A Kafka RecordBatch v2 exactly as its client sent it; its own attributes say how it is compressed.
    KafkaV2,
}

/// How an `Archived` payload is compressed: whole, preceded by its plain size as a u32.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Codec {
    None,
    Lz4,
    Zstd,
}

/// Who produced a batch, for dropping duplicates.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Producer {
    /// Never 0.
    pub id: u64,
    pub epoch: u16,
    /// Sequence of the first record; wraps at 2^31 as in Kafka.
    pub base_sequence: u32,
}

impl Producer {
    /// Behind it comes 0.
    pub const SEQUENCE_MAX: u32 = i32::MAX as u32;

    /// The sequence of what follows `count` records from `sequence` on.
    #[must_use]
    pub fn sequence_after(sequence: u32, count: u32) -> u32 {
        sequence.wrapping_add(count) & Self::SEQUENCE_MAX
    }

    /// How many records lie from `from` up to `to`; more than half of all sequences: `to` is before `from`.
    #[must_use]
    pub fn sequences_between(from: u32, to: u32) -> u32 {
        to.wrapping_sub(from) & Self::SEQUENCE_MAX
    }
}

/// What compaction has left in a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Compaction {
    /// Records are missing: those that are there say which offsets they have.
    pub holes: bool,
    /// When the frame's tombstones were first compacted. Not 0, which stands for `None` on disk.
    pub tombstones_at: Option<TimestampMs>,
}

/// The life of a segment file, mixed into the header checksums of its frames. 0 on the wire from a producer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Salt(pub u32);

impl Salt {
    /// Frames outside of any segment: as the SDK makes them.
    pub const NONE: Self = Self(0);
}

/// A header that has been checked, or is about to be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FrameHeader {
    pub encoding: Encoding,
    pub codec: Codec,
    /// `max_timestamp` is the broker's append time and stands for every record of the batch.
    pub append_time: bool,
    /// First frame of one disk write; what follows a torn write never carries it (`storage/FORMAT.md`).
    pub starts_write: bool,
    pub payload_crc: u32,
    pub payload_bytes: u32,
    pub base_offset: Offset,
    pub leader_epoch: LeaderEpoch,
    /// Offsets the frame stands for, at least 1: as many records, unless `compaction` has made holes.
    pub record_count: u32,
    pub first_timestamp: TimestampMs,
    pub max_timestamp: TimestampMs,
    pub producer: Option<Producer>,
    /// Of a frame that compaction has rewritten; without a producer then.
    pub compaction: Option<Compaction>,
}

/// Why bytes are not a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    #[error("frame cut off: {have} of {need} bytes")]
    Short { have: usize, need: usize },
    #[error("no frame here (magic {magic:#06x})")]
    NoFrame { magic: u16 },
    #[error("frame version {version}, this build reads up to {VERSION_COMPACTED}")]
    Version { version: u8 },
    #[error("frame header damaged: checksum {stored:#010x}, computed {computed:#010x}")]
    HeaderChecksum { stored: u32, computed: u32 },
    #[error("frame payload damaged: checksum {stored:#010x}, computed {computed:#010x}")]
    PayloadChecksum { stored: u32, computed: u32 },
    #[error("frame header claims {what} = {value}, which no frame has")]
    Field { what: &'static str, value: u64 },
}

/// `bytes` rounded up to where the next frame starts.
#[must_use]
pub const fn padded_bytes(bytes: usize) -> usize {
    bytes.next_multiple_of(FRAME_ALIGN)
}

fn crc(bytes: &[u8]) -> u32 {
    // Crc32Iscsi is a 32-bit algorithm, so the upper half is zero.
    (checksum(CrcAlgorithm::Crc32Iscsi, bytes) & 0xffff_ffff) as u32
}

impl FrameHeader {
    /// Bytes of the whole frame with its padding.
    #[must_use]
    pub fn frame_bytes(&self) -> usize {
        padded_bytes(HEADER_BYTES + self.payload_bytes as usize)
    }

    /// Compaction has taken every record: the frame only stands for its offsets.
    #[must_use]
    pub fn has_no_records(&self) -> bool {
        self.compaction.is_some() && self.payload_bytes == 0
    }

    /// The payload says which of the frame's offsets its records have.
    #[must_use]
    pub fn has_holes(&self) -> bool {
        self.compaction.is_some_and(|compaction| compaction.holes)
    }

    /// One past the last offset it stands for.
    #[must_use]
    pub fn end_offset(&self) -> Offset {
        self.base_offset.plus(self.record_count)
    }

    /// The 64 bytes as they are stored where `salt` holds.
    #[must_use]
    pub fn encode(&self, salt: Salt) -> [u8; HEADER_BYTES] {
        let codec = match self.codec {
            Codec::None => 0,
            Codec::Lz4 => 1,
            Codec::Zstd => 2,
        };
        assert!(self.compaction.is_none() || self.producer.is_none(), "one stands in the other's place");
        let tombstones_at = self.compaction.and_then(|compaction| compaction.tombstones_at);
        let raw = Raw {
            magic: MAGIC,
            version: if self.compaction.is_some() { VERSION_COMPACTED } else { VERSION },
            encoding: match self.encoding {
                Encoding::Archived => 1,
                Encoding::KafkaV2 => 2,
            },
            header_crc: 0,
            payload_crc: self.payload_crc,
            payload_bytes: self.payload_bytes,
            base_offset: self.base_offset.0,
            first_timestamp: self.first_timestamp.0,
            max_timestamp: self.max_timestamp.0,
            producer_id: tombstones_at
                .map_or_else(|| self.producer.map_or(0, |p| p.id), |TimestampMs(at)| at as u64),
            leader_epoch: self.leader_epoch.0,
            record_count: self.record_count,
            base_sequence: self.producer.map_or(0, |p| p.base_sequence),
            producer_epoch: self.producer.map_or(0, |p| p.epoch),
            flags: codec
                | if self.append_time { FLAG_APPEND_TIME } else { 0 }
                | if self.starts_write { FLAG_STARTS_WRITE } else { 0 }
                | if self.compaction.is_some() { FLAG_COMPACTED } else { 0 }
                | if self.has_holes() { FLAG_HOLES } else { 0 },
        };
        let mut out = [0u8; HEADER_BYTES];
        let writer = rkyv::ser::writer::Buffer::from(&mut out[..]);
        rkyv::api::serialize_using::<_, rkyv::rancor::Panic>(
            &raw,
            &mut rkyv::ser::Serializer::new(writer, (), ()),
        )
        .map(|_| ())
        .unwrap_or_else(|never: rkyv::rancor::Panic| match never {});
        let header_crc = crc(&out[8..]) ^ salt.0;
        out[4..8].copy_from_slice(&header_crc.to_le_bytes());
        out
    }

    /// Reads and checks the header at the start of `bytes`, which may come from anywhere.
    ///
    /// # Errors
    /// Every [`FrameError`] but `PayloadChecksum`; the payload is not looked at.
    pub fn decode(bytes: &[u8], salt: Salt) -> Result<Self, FrameError> {
        let Some(head) = bytes.get(..HEADER_BYTES) else {
            return Err(FrameError::Short { have: bytes.len(), need: HEADER_BYTES });
        };
        let raw = rkyv::access::<ArchivedRaw, rkyv::rancor::Error>(head)
            .map_err(|_| FrameError::Short { have: head.len(), need: HEADER_BYTES })?;
        if raw.magic != MAGIC {
            return Err(FrameError::NoFrame { magic: raw.magic.to_native() });
        }
        if !(VERSION..=VERSION_COMPACTED).contains(&raw.version) {
            return Err(FrameError::Version { version: raw.version });
        }
        let computed = crc(&head[8..]) ^ salt.0;
        if raw.header_crc != computed {
            return Err(FrameError::HeaderChecksum { stored: raw.header_crc.to_native(), computed });
        }
        // From here on the bytes are what somebody sealed, but that may be a client with bad intentions.
        let field = |what, value| FrameError::Field { what, value };
        let flags = raw.flags.to_native();
        let is_compacted = flags & FLAG_COMPACTED != 0;
        let has_holes = flags & FLAG_HOLES != 0;
        if flags & !FLAGS_KNOWN != 0 || has_holes && !is_compacted {
            return Err(field("flags", u64::from(flags)));
        }
        // The checksum does not cover the version, so that it can be told from damage; the flag it does.
        if is_compacted != (raw.version == VERSION_COMPACTED) {
            return Err(field("version", u64::from(raw.version)));
        }
        let payload_bytes = raw.payload_bytes.to_native();
        if HEADER_BYTES + payload_bytes as usize > FRAME_BYTES_MAX {
            return Err(field("payload_bytes", u64::from(payload_bytes)));
        }
        let record_count = raw.record_count.to_native();
        if record_count == 0 {
            return Err(field("record_count", 0));
        }
        let base_offset = raw.base_offset.to_native();
        if base_offset > i64::MAX as u64 {
            return Err(field("base_offset", base_offset));
        }
        let producer_id = raw.producer_id.to_native();
        let base_sequence = raw.base_sequence.to_native();
        let is_of_producer = !is_compacted || base_sequence == 0;
        if base_sequence > Producer::SEQUENCE_MAX || !is_of_producer {
            return Err(field("base_sequence", u64::from(base_sequence)));
        }
        let producer = Producer { id: producer_id, epoch: raw.producer_epoch.to_native(), base_sequence };
        let compaction = Compaction {
            holes: has_holes,
            tombstones_at: (producer_id != 0).then_some(TimestampMs(producer_id as i64)),
        };
        Ok(Self {
            encoding: match raw.encoding {
                1 => Encoding::Archived,
                2 => Encoding::KafkaV2,
                other => return Err(field("encoding", u64::from(other))),
            },
            codec: match flags & CODEC_MASK {
                0 => Codec::None,
                1 => Codec::Lz4,
                2 => Codec::Zstd,
                other => return Err(field("codec", u64::from(other))),
            },
            append_time: flags & FLAG_APPEND_TIME != 0,
            starts_write: flags & FLAG_STARTS_WRITE != 0,
            payload_crc: raw.payload_crc.to_native(),
            payload_bytes,
            base_offset: Offset(base_offset),
            leader_epoch: LeaderEpoch(raw.leader_epoch.to_native()),
            record_count,
            first_timestamp: TimestampMs(raw.first_timestamp.to_native()),
            max_timestamp: TimestampMs(raw.max_timestamp.to_native()),
            producer: (producer_id != 0 && !is_compacted).then_some(producer),
            compaction: is_compacted.then_some(compaction),
        })
    }
}

/// The whole frame's bytes as the header at `bytes` claims, before any of it is believed: for deciding how
/// much to read. `None` when the header itself is not all there.
#[must_use]
pub fn peek_frame_bytes(bytes: &[u8]) -> Option<usize> {
    let claimed: [u8; 4] = bytes.get(..HEADER_BYTES)?.get(12..16)?.try_into().ok()?;
    Some(padded_bytes(HEADER_BYTES + u32::from_le_bytes(claimed) as usize))
}

/// A checked header and the payload it vouches for. Cheap to clone: the payload is shared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    header: FrameHeader,
    payload: Bytes,
}

impl Frame {
    /// Seals `payload` under `header`, setting its size and checksum there.
    ///
    /// # Panics
    /// When the payload is larger than [`FRAME_BYTES_MAX`] allows, or `record_count` is 0.
    #[must_use]
    pub fn seal(mut header: FrameHeader, payload: Bytes) -> Self {
        assert!(HEADER_BYTES + payload.len() <= FRAME_BYTES_MAX);
        assert!(header.record_count > 0 && (header.compaction.is_none() || header.producer.is_none()));
        header.payload_bytes = payload.len() as u32;
        header.payload_crc = crc(&payload);
        Self { header, payload }
    }

    /// A frame that stands for `record_count` offsets from `of`'s first on, whose records compaction has taken.
    ///
    /// Nobody who looks for a time finds it.
    #[must_use]
    pub fn without_records(of: &FrameHeader, record_count: u32) -> Self {
        let header = FrameHeader {
            encoding: Encoding::Archived,
            codec: Codec::None,
            append_time: false,
            starts_write: false,
            record_count,
            first_timestamp: TimestampMs(i64::MIN),
            max_timestamp: TimestampMs(i64::MIN),
            producer: None,
            compaction: Some(Compaction { holes: true, tombstones_at: None }),
            ..*of
        };
        Self::seal(header, Bytes::new())
    }

    /// Takes the first frame off `bytes` without copying, checking both checksums. Padding after the last
    /// frame may be absent.
    ///
    /// # Errors
    /// [`FrameError`]; `bytes` is unchanged then.
    pub fn split_from(bytes: &mut Bytes, salt: Salt) -> Result<Self, FrameError> {
        let header = FrameHeader::decode(bytes, salt)?;
        let end = HEADER_BYTES + header.payload_bytes as usize;
        if bytes.len() < end {
            return Err(FrameError::Short { have: bytes.len(), need: end });
        }
        let computed = crc(&bytes[HEADER_BYTES..end]);
        if computed != header.payload_crc {
            return Err(FrameError::PayloadChecksum { stored: header.payload_crc, computed });
        }
        let mut frame = bytes.split_to(header.frame_bytes().min(bytes.len()));
        frame.truncate(end);
        Ok(Self { header, payload: frame.split_off(HEADER_BYTES) })
    }

    #[must_use]
    pub fn header(&self) -> &FrameHeader {
        &self.header
    }

    #[must_use]
    pub fn payload(&self) -> &Bytes {
        &self.payload
    }

    /// Gives the frame its place in the log. The payload and its checksum stay as the producer sealed them.
    pub fn assign(&mut self, base_offset: Offset, leader_epoch: LeaderEpoch) {
        self.header.base_offset = base_offset;
        self.header.leader_epoch = leader_epoch;
    }

    /// What compaction says of the frame; of its producer nothing is known from then on.
    ///
    /// # Panics
    /// When its tombstones were compacted at 0, which stands for never.
    pub fn set_compaction(&mut self, compaction: Compaction) {
        assert_ne!(compaction.tombstones_at, Some(TimestampMs(0)));
        self.header.producer = None;
        self.header.compaction = Some(compaction);
    }

    /// Marks the first frame of a disk write ([`FrameHeader::starts_write`]).
    pub fn set_starts_write(&mut self, starts_write: bool) {
        self.header.starts_write = starts_write;
    }

    /// Replaces the batch's maximum timestamp by the broker's clock (`message.timestamp.type=LogAppendTime`).
    pub fn set_append_time(&mut self, now: TimestampMs) {
        self.header.append_time = true;
        self.header.max_timestamp = now;
    }

    /// Appends header, payload and padding to `out`.
    pub fn write_to(&self, salt: Salt, out: &mut BytesMut) {
        out.reserve(self.header.frame_bytes());
        out.put_slice(&self.header.encode(salt));
        out.put_slice(&self.payload);
        out.put_bytes(0, self.header.frame_bytes() - HEADER_BYTES - self.payload.len());
    }
}

#[cfg(test)]
mod tests;
