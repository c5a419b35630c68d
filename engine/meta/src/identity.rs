//! A data directory's identity: whose data it holds, and how often it has been started.
//!
//! `<data>/identity`, one block of 4096 bytes, little endian:
//!
//! ```text
//!  0  magic [8] "MILLSTRM"   the same in every version
//!  8  version u16 (1)        10  reserved u16 (0)
//! 12  crc u32                CRC-32C of bytes 16..4096
//! 16  cluster_id u128        made at random with the cluster, never 0
//! 32  directory_id u128      made at random with the directory, never 0
//! 48  node_id u32            52  incarnation u32   starts of this directory, from 1
//! 56  created_ms i64         since 1970-01-01T00:00:00Z
//! 64  zeros
//! ```
//!
//! What must hold: an incarnation is durable before anything is written under it, so that two lives of a broker
//! never write with one epoch. A directory with data and no identity, or a damaged one, is refused: what is lost
//! could only be guessed, and a guess may give an epoch a second meaning.
//!
//! Does not know: where the bytes are kept, and how they are replaced whole.

use std::ops::Range;

use crc_fast::{CrcAlgorithm, checksum};

pub const IDENTITY_BYTES: usize = 4096;
/// The only format this build reads and writes.
pub const IDENTITY_VERSION: u16 = 1;

const MAGIC: [u8; 8] = *b"MILLSTRM";
const RESERVED: Range<usize> = 10..12;
const CRC_FROM: usize = 16;
const USED_BYTES: usize = 64;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Identity {
    pub cluster_id: u128,
    pub directory_id: u128,
    pub node_id: u32,
    /// Starts of the directory, this one included.
    pub incarnation: u32,
    pub created_ms: i64,
}

/// Whose directory it must be to be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wanted {
    pub node_id: u32,
    /// `None`: any.
    pub cluster_id: Option<u128>,
}

/// For a directory that has no data yet. The ids are random and not 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fresh {
    /// Unless the cluster's is told.
    pub cluster_id: u128,
    pub directory_id: u128,
    pub created_ms: i64,
}

/// Why a directory is not this node's to use. The message goes on from the name of the identity file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IdentityError {
    #[error(
        "has format version {found}, this build reads version {IDENTITY_VERSION}: start the newer build it was \
         written by"
    )]
    Newer { found: u16 },
    #[error("is damaged ({why}): restore it from a backup, or start with an empty data directory")]
    Damaged { why: String },
    #[error(
        "is missing though there are logs beside it: restore it from a backup, or start with an empty data directory"
    )]
    Missing,
    #[error(
        "belongs to another cluster: it says {found:032x}, the settings say {wanted:032x}; use that cluster's data \
         directory"
    )]
    OtherCluster { found: u128, wanted: u128 },
    #[error(
        "belongs to another node: it says node {found}, the settings say node {wanted}; use that node's data \
         directory, or start with --node-id {found}"
    )]
    OtherNode { found: u32, wanted: u32 },
    #[error("has been started {incarnation} times, which is the limit")]
    Incarnation { incarnation: u32 },
}

impl Identity {
    /// The identity under which a directory starts that holds the file `found`, or none. It must be durable before
    /// anything else is written.
    ///
    /// # Errors
    /// [`IdentityError`]; the directory is to be left as it is.
    pub fn begin_life(
        found: Option<&[u8]>,
        has_logs: bool,
        wanted: Wanted,
        fresh: Fresh,
    ) -> Result<Self, IdentityError> {
        let mut identity = match found {
            Some(bytes) => Self::decode(bytes)?,
            None if has_logs => return Err(IdentityError::Missing),
            None => Self::fresh(wanted, fresh),
        };
        if let Some(wanted) = wanted.cluster_id.filter(|wanted| *wanted != identity.cluster_id) {
            return Err(IdentityError::OtherCluster { found: identity.cluster_id, wanted });
        }
        if identity.node_id != wanted.node_id {
            return Err(IdentityError::OtherNode { found: identity.node_id, wanted: wanted.node_id });
        }
        let next = identity.incarnation.checked_add(1);
        identity.incarnation =
            next.ok_or(IdentityError::Incarnation { incarnation: identity.incarnation })?;
        Ok(identity)
    }

    fn fresh(wanted: Wanted, fresh: Fresh) -> Self {
        let identity = Self {
            cluster_id: wanted.cluster_id.unwrap_or(fresh.cluster_id),
            directory_id: fresh.directory_id,
            node_id: wanted.node_id,
            incarnation: 0,
            created_ms: fresh.created_ms,
        };
        assert!(identity.cluster_id != 0 && identity.directory_id != 0, "0 stands for no id");
        identity
    }

    /// The file's bytes.
    #[must_use]
    pub fn encode(&self) -> [u8; IDENTITY_BYTES] {
        let mut out = [0; IDENTITY_BYTES];
        out[0..8].copy_from_slice(&MAGIC);
        out[8..10].copy_from_slice(&IDENTITY_VERSION.to_le_bytes());
        out[16..32].copy_from_slice(&self.cluster_id.to_le_bytes());
        out[32..48].copy_from_slice(&self.directory_id.to_le_bytes());
        out[48..52].copy_from_slice(&self.node_id.to_le_bytes());
        out[52..56].copy_from_slice(&self.incarnation.to_le_bytes());
        out[56..64].copy_from_slice(&self.created_ms.to_le_bytes());
        let crc = crc(&out[CRC_FROM..]);
        out[12..16].copy_from_slice(&crc.to_le_bytes());
        out
    }

    /// # Errors
    /// [`IdentityError`] `Newer`, `Damaged`.
    pub fn decode(bytes: &[u8]) -> Result<Self, IdentityError> {
        let damaged = |why: String| IdentityError::Damaged { why };
        if bytes.get(..8) != Some(&MAGIC[..]) {
            return Err(damaged("it does not begin as one".to_owned()));
        }
        // Before everything else: a newer format may have another size and no checksum where ours is.
        let found = bytes.get(8..10).map_or(0, |b| u16::from_le_bytes([b[0], b[1]]));
        if found > IDENTITY_VERSION {
            return Err(IdentityError::Newer { found });
        }
        if found != IDENTITY_VERSION || bytes.len() != IDENTITY_BYTES {
            return Err(damaged(format!("version {found}, {} bytes", bytes.len())));
        }
        let stored = u32::from_le_bytes(array(bytes, 12));
        let computed = crc(&bytes[CRC_FROM..]);
        if stored != computed {
            return Err(damaged(format!("checksum {stored:#010x}, computed {computed:#010x}")));
        }
        if bytes[RESERVED].iter().chain(&bytes[USED_BYTES..]).any(|byte| *byte != 0) {
            return Err(damaged("bytes beside its fields".to_owned()));
        }
        let identity = Self {
            cluster_id: u128::from_le_bytes(array(bytes, 16)),
            directory_id: u128::from_le_bytes(array(bytes, 32)),
            node_id: u32::from_le_bytes(array(bytes, 48)),
            incarnation: u32::from_le_bytes(array(bytes, 52)),
            created_ms: i64::from_le_bytes(array(bytes, 56)),
        };
        if identity.cluster_id == 0 || identity.directory_id == 0 || identity.incarnation == 0 {
            return Err(damaged("a field that is never 0 is".to_owned()));
        }
        Ok(identity)
    }
}

fn array<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    bytes[at..at + N].try_into().expect("the size was checked")
}

fn crc(bytes: &[u8]) -> u32 {
    (checksum(CrcAlgorithm::Crc32Iscsi, bytes) & 0xffff_ffff) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    const WANTED: Wanted = Wanted { node_id: 1, cluster_id: None };
    const FRESH: Fresh = Fresh { cluster_id: 0x0102, directory_id: 0x0304, created_ms: 7 };

    fn first() -> Identity {
        Identity::begin_life(None, false, WANTED, FRESH).unwrap()
    }

    fn again(bytes: &[u8]) -> Result<Identity, IdentityError> {
        Identity::begin_life(
            Some(bytes),
            true,
            WANTED,
            Fresh { cluster_id: 8, directory_id: 9, created_ms: 10 },
        )
    }

    #[test]
    fn a_fresh_directory_gets_an_identity_and_keeps_it_while_incarnations_rise() {
        let first = first();
        let ids = (first.cluster_id, first.directory_id, first.node_id);
        assert_eq!((ids, first.incarnation, first.created_ms), ((0x0102, 0x0304, 1), 1, 7));
        let second = again(&first.encode()).unwrap();
        assert_eq!(second, Identity { incarnation: 2, ..first });
        let told = Wanted { cluster_id: Some(5), ..WANTED };
        assert_eq!(Identity::begin_life(None, false, told, FRESH).unwrap().cluster_id, 5);
    }

    #[test]
    fn the_format_is_drawn_byte_by_byte() {
        let identity =
            Identity { cluster_id: 0x0102, directory_id: 0x0304, node_id: 5, incarnation: 6, created_ms: 7 };
        let bytes = identity.encode();
        assert_eq!(&bytes[..12], b"MILLSTRM\x01\0\0\0");
        assert_eq!(u32::from_le_bytes(array(&bytes, 12)), crc(&bytes[16..]));
        assert_eq!((bytes[16], bytes[17], bytes[32], bytes[33]), (2, 1, 4, 3));
        assert_eq!((bytes[48], bytes[52], bytes[56]), (5, 6, 7));
        assert_eq!(Identity::decode(&bytes).unwrap(), identity);
    }

    #[test]
    fn a_newer_format_is_refused_naming_both_versions() {
        let mut bytes = first().encode();
        bytes[8] = 7;
        let error = again(&bytes[..512]).unwrap_err();
        assert_eq!(error, IdentityError::Newer { found: 7 });
        assert!(error.to_string().contains("format version 7, this build reads version 1"), "{error}");
    }

    #[test]
    fn damage_anywhere_is_refused() {
        let good = first().encode();
        for at in 0..IDENTITY_BYTES {
            let mut bad = good;
            bad[at] ^= 0x40;
            assert!(again(&bad).is_err(), "byte {at}");
        }
        for bytes in [0, 8, 10, 100, IDENTITY_BYTES - 1] {
            assert!(matches!(again(&good[..bytes]), Err(IdentityError::Damaged { .. })), "{bytes} bytes");
        }
    }

    #[test]
    fn what_no_build_writes_is_refused_whatever_its_checksum() {
        let good = first();
        let bad = [
            Identity { cluster_id: 0, ..good },
            Identity { directory_id: 0, ..good },
            Identity { incarnation: 0, ..good },
        ];
        for bad in bad {
            assert!(matches!(again(&bad.encode()), Err(IdentityError::Damaged { .. })), "{bad:?}");
        }
    }

    #[test]
    fn logs_without_an_identity_are_refused() {
        assert_eq!(Identity::begin_life(None, true, WANTED, FRESH), Err(IdentityError::Missing));
    }

    #[test]
    fn a_directory_of_another_node_or_cluster_is_refused() {
        let bytes = first().encode();
        let begin = |wanted| Identity::begin_life(Some(&bytes), true, wanted, FRESH);
        let other = Wanted { node_id: 2, cluster_id: None };
        assert_eq!(begin(other), Err(IdentityError::OtherNode { found: 1, wanted: 2 }));
        let other = Wanted { node_id: 1, cluster_id: Some(9) };
        assert_eq!(begin(other), Err(IdentityError::OtherCluster { found: 0x0102, wanted: 9 }));
        assert!(begin(Wanted { node_id: 1, cluster_id: Some(0x0102) }).is_ok());
    }

    #[test]
    fn the_last_incarnation_is_not_followed_by_a_first() {
        let last = Identity { incarnation: u32::MAX, ..first() };
        assert_eq!(again(&last.encode()), Err(IdentityError::Incarnation { incarnation: u32::MAX }));
    }
}
