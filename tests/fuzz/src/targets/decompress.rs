//! Compressed payloads as the SDK reads them (`net/client`): codec, then the payload.

use bytes::Bytes;
use millstream_client::{DecompressError, TimestampMs};
use storage_frame::Codec;

use crate::script::Script;
use crate::targets::batch;

/// As large as a reader of this target lets a batch become.
const PLAIN_BYTES_MAX: usize = 1 << 20;

pub fn decompress(data: &[u8]) {
    let mut script = Script::new(data);
    let flags = script.u8();
    let codec = [Codec::None, Codec::Lz4, Codec::Zstd][usize::from(flags % 3)];
    if flags & 0x80 == 0 {
        check(codec, &Bytes::copy_from_slice(script.rest()));
    } else {
        comes_back(script.rest());
    }
}

fn check(codec: Codec, payload: &Bytes) {
    match millstream_client::decompress(codec, payload, PLAIN_BYTES_MAX) {
        Ok(plain) if codec == Codec::None => assert_eq!(plain, payload),
        Ok(plain) => {
            assert!(plain.len() <= PLAIN_BYTES_MAX);
            assert_eq!(plain.len(), claimed(payload));
            batch::check(batch::header(false, TimestampMs(0)), plain);
        }
        Err(DecompressError::TooLarge { plain_bytes, plain_bytes_max }) => {
            assert_eq!((plain_bytes, plain_bytes_max), (claimed(payload), PLAIN_BYTES_MAX));
        }
        Err(DecompressError::Damaged { codec: of }) => assert_eq!(of, codec),
    }
}

fn claimed(payload: &[u8]) -> usize {
    let prefix = payload.first_chunk().expect("no plain size is not taken for one");
    u32::from_le_bytes(*prefix) as usize
}

/// What is compressed as the SDK does it comes back, and one byte less of it does not.
fn comes_back(plain: &[u8]) {
    let lz4 = lz4_flex::block::compress(plain);
    let zstd = zstd::bulk::compress(plain, 1).expect("any bytes can be compressed");
    for (codec, compressed) in [(Codec::Lz4, lz4), (Codec::Zstd, zstd)] {
        let mut payload = (plain.len() as u32).to_le_bytes().to_vec();
        payload.extend_from_slice(&compressed);
        let payload = Bytes::from(payload);
        let back = millstream_client::decompress(codec, &payload, PLAIN_BYTES_MAX);
        if plain.len() > PLAIN_BYTES_MAX {
            assert!(back.is_err());
            continue;
        }
        assert_eq!(back.as_deref(), Ok(plain));
        let cut = payload.slice(..payload.len() - 1);
        assert!(millstream_client::decompress(codec, &cut, PLAIN_BYTES_MAX).is_err() || plain.is_empty());
    }
}
