//! Little-endian fields of the small files: taken one after the other, never past the end.

use crc_fast::{CrcAlgorithm, Digest, checksum};

/// CRC-32C.
pub(crate) fn crc(bytes: &[u8]) -> u32 {
    // Crc32Iscsi is a 32-bit algorithm, so the upper half is zero.
    (checksum(CrcAlgorithm::Crc32Iscsi, bytes) & 0xffff_ffff) as u32
}

/// Why the bytes of a small file are not believed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum FormatError {
    /// Written by a newer build: nothing may be assumed about it, least of all that it is damaged.
    #[error("format version {version}, this build reads up to {known}: start the newer build again")]
    Newer { version: u32, known: u32 },
    #[error("{0}")]
    Damaged(String),
}

pub(crate) struct Fields<'a> {
    rest: &'a [u8],
}

impl<'a> Fields<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    pub(crate) fn bytes(&mut self, count: usize) -> Result<&'a [u8], FormatError> {
        let (head, rest) =
            self.rest.split_at_checked(count).ok_or_else(|| FormatError::Damaged("cut short".to_owned()))?;
        self.rest = rest;
        Ok(head)
    }

    pub(crate) fn u16(&mut self) -> Result<u16, FormatError> {
        Ok(u16::from_le_bytes(self.array()?))
    }

    pub(crate) fn u32(&mut self) -> Result<u32, FormatError> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    pub(crate) fn u64(&mut self) -> Result<u64, FormatError> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    pub(crate) fn i64(&mut self) -> Result<i64, FormatError> {
        Ok(i64::from_le_bytes(self.array()?))
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], FormatError> {
        let bytes = self.bytes(N)?;
        Ok(bytes.try_into().expect("N bytes were asked for"))
    }
}

/// Every small file begins with magic (8), version (4) and a checksum (4): CRC-32C of the version and of all that
/// follows. This is so in every version, so that newer and damaged stay apart.
pub(crate) const PREFIX_BYTES: usize = 16;

/// Checks the prefix of `file`, whose checksum reaches to its end, and hands out what follows.
pub(crate) fn open_prefix<'a>(
    file: &'a [u8],
    magic: &[u8; 8],
    known: u32,
) -> Result<Fields<'a>, FormatError> {
    Ok(open_versioned(file, magic, known)?.1)
}

/// As [`open_prefix`], of a file of which more than one version is read; with the version.
pub(crate) fn open_versioned<'a>(
    file: &'a [u8],
    magic: &[u8; 8],
    known: u32,
) -> Result<(u32, Fields<'a>), FormatError> {
    let mut fields = Fields::new(file);
    if fields.bytes(8)? != magic {
        return Err(FormatError::Damaged("magic number is not there".to_owned()));
    }
    let version = fields.u32()?;
    let stored = fields.u32()?;
    let computed = file_crc(version, &file[PREFIX_BYTES..]);
    if stored != computed {
        let what = format!("checksum {stored:#010x}, computed {computed:#010x}");
        return Err(FormatError::Damaged(what));
    }
    match version {
        0 => Err(FormatError::Damaged("version 0".to_owned())),
        _ if version > known => Err(FormatError::Newer { version, known }),
        _ => Ok((version, fields)),
    }
}

/// Sets version and checksum of a file that begins with `PREFIX_BYTES` reserved for them.
pub(crate) fn close_prefix(file: &mut [u8], magic: &[u8; 8], version: u32) {
    let sum = file_crc(version, &file[PREFIX_BYTES..]);
    file[..8].copy_from_slice(magic);
    file[8..12].copy_from_slice(&version.to_le_bytes());
    file[12..16].copy_from_slice(&sum.to_le_bytes());
}

fn file_crc(version: u32, rest: &[u8]) -> u32 {
    let mut digest = Digest::new(CrcAlgorithm::Crc32Iscsi);
    digest.update(&version.to_le_bytes());
    digest.update(rest);
    (digest.finalize() & 0xffff_ffff) as u32
}
