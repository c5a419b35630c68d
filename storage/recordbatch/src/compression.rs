//! The records of a batch in Kafka's five codecs.
//!
//! What is decompressed is foreign: no more than the bound is ever held, whatever the bytes claim, beside the codecs'
//! own windows (8 MiB for lz4, 2^27 bytes of address space for zstd, of which what is written is used).

use std::io::{Read, Write};

use bytes::Bytes;

use crate::header::{BatchError, Compression};

/// zstd's own bound for streams of unknown size; its levels up to 22 stay in it.
const ZSTD_WINDOW_LOG_MAX: u32 = 27;
const ZSTD_LEVEL: i32 = 3;

/// What snappy-java writes first, and librdkafka, sarama and kafka-python after it: then versions, then blocks, each
/// with its length as a big-endian i32.
const XERIAL_MAGIC: [u8; 8] = [0x82, b'S', b'N', b'A', b'P', b'P', b'Y', 0];
const XERIAL_HEADER_BYTES: usize = 16;
const XERIAL_VERSIONS: [u8; 8] = [0, 0, 0, 1, 0, 0, 0, 1];
const XERIAL_BLOCK_BYTES: usize = 32 << 10;

/// The plain records behind `stored`, which is what follows a batch's header. Without compression that is what it
/// is, shared.
///
/// # Errors
/// [`BatchError::Decompress`], [`BatchError::TooLarge`].
pub fn decompress(compression: Compression, stored: &Bytes, bytes_max: usize) -> Result<Bytes, BatchError> {
    let damaged = |error: std::io::Error| BatchError::Decompress { why: error.to_string() };
    let plain = match compression {
        Compression::None if stored.len() > bytes_max => return Err(BatchError::TooLarge { bytes_max }),
        Compression::None => return Ok(stored.clone()),
        Compression::Snappy => return snappy(stored, bytes_max).map(Bytes::from),
        Compression::Gzip => read(flate2::bufread::MultiGzDecoder::new(&stored[..]), bytes_max),
        Compression::Lz4 => read(lz4_flex::frame::FrameDecoder::new(&stored[..]), bytes_max),
        Compression::Zstd => {
            let mut decoder = zstd::stream::read::Decoder::with_buffer(&stored[..]).map_err(damaged)?;
            decoder.window_log_max(ZSTD_WINDOW_LOG_MAX).map_err(damaged)?;
            read(decoder, bytes_max)
        }
    };
    let plain = plain.map_err(damaged)?;
    if plain.len() > bytes_max {
        return Err(BatchError::TooLarge { bytes_max });
    }
    Ok(Bytes::from(plain))
}

/// Everything there is, or one byte more than may be.
fn read(decoder: impl Read, bytes_max: usize) -> std::io::Result<Vec<u8>> {
    let mut plain = Vec::new();
    decoder.take(bytes_max as u64 + 1).read_to_end(&mut plain)?;
    Ok(plain)
}

fn snappy(stored: &[u8], bytes_max: usize) -> Result<Vec<u8>, BatchError> {
    let mut plain = Vec::new();
    if !stored.starts_with(&XERIAL_MAGIC) {
        snappy_block(stored, bytes_max, &mut plain)?;
        return Ok(plain);
    }
    let cut_off = || BatchError::Decompress { why: "snappy: cut off".into() };
    let mut rest = stored.get(XERIAL_HEADER_BYTES..).ok_or_else(cut_off)?;
    while !rest.is_empty() {
        let (length, after) = rest.split_first_chunk::<4>().ok_or_else(cut_off)?;
        let block_bytes = usize::try_from(i32::from_be_bytes(*length)).map_err(|_| cut_off())?;
        let (block, after) = after.split_at_checked(block_bytes).ok_or_else(cut_off)?;
        snappy_block(block, bytes_max, &mut plain)?;
        rest = after;
    }
    Ok(plain)
}

fn snappy_block(block: &[u8], bytes_max: usize, plain: &mut Vec<u8>) -> Result<(), BatchError> {
    let damaged = |error: snap::Error| BatchError::Decompress { why: error.to_string() };
    let block_bytes = snap::raw::decompress_len(block).map_err(damaged)?;
    let start = plain.len();
    if block_bytes > bytes_max - start {
        return Err(BatchError::TooLarge { bytes_max });
    }
    // A byte of snappy makes 64 at most (a copy of two bytes' offset is three): more is a claim that cannot hold, and
    // no memory is set aside for it.
    if block_bytes / 64 > block.len() {
        return Err(BatchError::Decompress { why: "snappy: claims more than it can hold".into() });
    }
    plain.resize(start + block_bytes, 0);
    let got = snap::raw::Decoder::new().decompress(block, &mut plain[start..]).map_err(damaged)?;
    assert_eq!(got, block_bytes);
    Ok(())
}

/// Appends `plain` to `out` as Kafka's Java client writes it: gzip, xerial's framing of snappy, lz4's frame format
/// of independent blocks, zstd at its default level.
pub(crate) fn compress(compression: Compression, plain: &[u8], out: &mut Vec<u8>) {
    const TO_MEMORY: &str = "memory takes every write";
    match compression {
        Compression::None => out.extend_from_slice(plain),
        Compression::Gzip => {
            let mut encoder = flate2::write::GzEncoder::new(out, flate2::Compression::default());
            encoder.write_all(plain).expect(TO_MEMORY);
            encoder.finish().expect(TO_MEMORY);
        }
        Compression::Snappy => {
            out.extend_from_slice(&XERIAL_MAGIC);
            out.extend_from_slice(&XERIAL_VERSIONS);
            let mut encoder = snap::raw::Encoder::new();
            for block in plain.chunks(XERIAL_BLOCK_BYTES) {
                let block = encoder.compress_vec(block).expect("a block is below snappy's limit");
                out.extend_from_slice(&(block.len() as i32).to_be_bytes());
                out.extend_from_slice(&block);
            }
        }
        Compression::Lz4 => {
            let info = lz4_flex::frame::FrameInfo::new().block_size(lz4_flex::frame::BlockSize::Max64KB);
            let mut encoder = lz4_flex::frame::FrameEncoder::with_frame_info(info, out);
            encoder.write_all(plain).expect(TO_MEMORY);
            encoder.finish().expect(TO_MEMORY);
        }
        Compression::Zstd => {
            let mut encoder = zstd::stream::write::Encoder::new(out, ZSTD_LEVEL).expect("a known level");
            encoder.write_all(plain).expect(TO_MEMORY);
            encoder.finish().expect(TO_MEMORY);
        }
    }
}
