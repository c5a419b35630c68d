//! Compressed payloads of native batches: the plain size as a little-endian u32, then the compressed bytes.

use bytes::Bytes;
use storage_frame::Codec;

/// How batches are compressed before they are sent. A batch that would not become smaller is sent as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Compression {
    /// Batches go as they are.
    #[default]
    None,
    /// Fast, about half the size for text.
    Lz4,
    /// Slower, smaller.
    Zstd {
        /// zstd's own, 1 to 22; 0 stands for its default (3).
        level: i32,
    },
}

/// Why a payload cannot be decompressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs, reason = "fields and variants are named for what they hold")]
pub enum DecompressError {
    /// The plain size is above the reader's bound; nothing was allocated for it.
    #[error("batch of {plain_bytes} bytes when decompressed, limit {plain_bytes_max}")]
    TooLarge { plain_bytes: usize, plain_bytes_max: usize },
    #[error("compressed batch is damaged ({codec:?})")]
    Damaged { codec: Codec },
}

const PREFIX_BYTES: usize = 4;

/// What [`BatchBuilder::seal_with`](storage_frame::BatchBuilder::seal_with) asks of its `compress`.
pub fn compress(compression: Compression, plain: &[u8]) -> (Codec, Option<Vec<u8>>) {
    let (codec, compressed) = match compression {
        Compression::None => return (Codec::None, None),
        Compression::Lz4 => {
            let mut out = vec![0; PREFIX_BYTES + lz4_flex::block::get_maximum_output_size(plain.len())];
            match lz4_flex::block::compress_into(plain, &mut out[PREFIX_BYTES..]) {
                Ok(bytes) => {
                    out.truncate(PREFIX_BYTES + bytes);
                    (Codec::Lz4, out)
                }
                Err(_) => return (Codec::None, None),
            }
        }
        Compression::Zstd { level } => {
            let mut out = vec![0; PREFIX_BYTES + zstd::zstd_safe::compress_bound(plain.len())];
            match zstd::bulk::compress_to_buffer(plain, &mut out[PREFIX_BYTES..], level) {
                Ok(bytes) => {
                    out.truncate(PREFIX_BYTES + bytes);
                    (Codec::Zstd, out)
                }
                Err(_) => return (Codec::None, None),
            }
        }
    };
    if compressed.len() >= plain.len() {
        return (Codec::None, None);
    }
    let mut compressed = compressed;
    compressed[..PREFIX_BYTES].copy_from_slice(&(plain.len() as u32).to_le_bytes());
    (codec, Some(compressed))
}

/// Bytes of the plain payload, as the payload itself claims.
#[must_use]
pub fn plain_bytes_claimed(codec: Codec, payload: &[u8]) -> usize {
    match (codec, payload.split_first_chunk::<PREFIX_BYTES>()) {
        (Codec::None, _) | (_, None) => payload.len(),
        (Codec::Lz4 | Codec::Zstd, Some((prefix, _))) => u32::from_le_bytes(*prefix) as usize,
    }
}

/// The plain payload, of at most `plain_bytes_max` bytes.
///
/// # Errors
/// [`DecompressError`].
pub fn decompress(codec: Codec, payload: &Bytes, plain_bytes_max: usize) -> Result<Bytes, DecompressError> {
    let damaged = DecompressError::Damaged { codec };
    if codec == Codec::None {
        return Ok(payload.clone());
    }
    let (prefix, compressed) = payload.split_first_chunk::<PREFIX_BYTES>().ok_or(damaged)?;
    let plain_bytes = u32::from_le_bytes(*prefix) as usize;
    if plain_bytes > plain_bytes_max {
        return Err(DecompressError::TooLarge { plain_bytes, plain_bytes_max });
    }
    let mut plain = vec![0; plain_bytes];
    let got = match codec {
        Codec::Lz4 => lz4_flex::block::decompress_into(compressed, &mut plain).map_err(|_| damaged)?,
        Codec::Zstd => zstd::bulk::decompress_to_buffer(compressed, &mut plain).map_err(|_| damaged)?,
        Codec::None => unreachable!("answered above"),
    };
    if got != plain_bytes {
        return Err(damaged);
    }
    Ok(Bytes::from(plain))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ALL: [Compression; 2] = [Compression::Lz4, Compression::Zstd { level: 3 }];

    #[test]
    fn text_shrinks_and_comes_back() {
        let text = "all work and no play makes a dull log\n".repeat(200).into_bytes();
        for compression in ALL {
            let (codec, payload) = compress(compression, &text);
            let payload = Bytes::from(payload.expect("shorter"));
            assert!(payload.len() < text.len() / 4);
            assert_eq!(decompress(codec, &payload, text.len()).unwrap(), text);
        }
    }

    #[test]
    fn claimed_size_above_the_bound_allocates_nothing() {
        let payload = Bytes::from_static(&[0xff, 0xff, 0xff, 0x7f, 1, 2, 3]);
        let error = decompress(Codec::Zstd, &payload, 1 << 20).unwrap_err();
        assert_eq!(error, DecompressError::TooLarge { plain_bytes: 0x7fff_ffff, plain_bytes_max: 1 << 20 });
    }

    #[test]
    fn wrong_plain_size_is_damage() {
        let text = b"abcabcabcabcabcabcabcabcabcabcabcabcabcabcabcabc";
        for compression in ALL {
            let (codec, payload) = compress(compression, text);
            let mut payload = payload.expect("shorter");
            payload[0] += 1;
            assert_eq!(decompress(codec, &payload.into(), 1 << 20), Err(DecompressError::Damaged { codec }));
        }
    }

    proptest! {
        #[test]
        fn whatever_goes_in_comes_out(plain in proptest::collection::vec(0u8..4, 0..2000)) {
            for compression in ALL {
                let (codec, payload) = compress(compression, &plain);
                let payload = payload.map_or_else(|| Bytes::from(plain.clone()), Bytes::from);
                prop_assert_eq!(decompress(codec, &payload, 4096).unwrap(), plain.clone());
            }
        }

        #[test]
        fn garbage_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            for codec in [Codec::Lz4, Codec::Zstd] {
                let _ = decompress(codec, &Bytes::from(bytes.clone()), 1 << 16);
            }
        }
    }
}
