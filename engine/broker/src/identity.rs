//! The identity file: whose data this directory holds, and how often it has been started.
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
//! The file is replaced whole: written as `identity.new`, synced, renamed, the directory synced. So at every
//! moment `identity` is a whole one, and an incarnation is durable before anything is written under it: two
//! lives of a broker never write with one epoch. A directory with data and no identity, or a damaged one, is
//! refused: what is lost could only be guessed, and a guess may give an epoch a second meaning.
//!
//! A whole block, because the runtime's probe for direct reads needs one to read (`engine/core`).

use std::io;
use std::path::{Path, PathBuf};

use crc_fast::{CrcAlgorithm, checksum};

use crate::replace::replace;
use crate::{random, utc};

pub const FILE_NAME: &str = "identity";
pub const FILE_BYTES: usize = 4096;
/// The only format this build reads and writes.
pub const VERSION: u16 = 1;

const MAGIC: [u8; 8] = *b"MILLSTRM";
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

/// Why a directory is not this node's to use. Its identity file is as it was.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    #[error(
        "{path} has format version {found}, this build reads version {VERSION}: start the newer build it was \
         written by", path = path.display()
    )]
    Newer { path: PathBuf, found: u16 },
    #[error(
        "{path} is damaged ({why}): restore it from a backup, or start with an empty data directory",
        path = path.display()
    )]
    Damaged { path: PathBuf, why: String },
    #[error(
        "{path} is missing though there are logs beside it: restore it from a backup, or start with an empty \
         data directory", path = path.display()
    )]
    Missing { path: PathBuf },
    #[error(
        "{path} belongs to another cluster: it says {found:032x}, the settings say {wanted:032x}; use that \
         cluster's data directory", path = path.display()
    )]
    OtherCluster { path: PathBuf, found: u128, wanted: u128 },
    #[error(
        "{path} belongs to another node: it says node {found}, the settings say node {wanted}; use that node's \
         data directory, or start with --node-id {found}", path = path.display()
    )]
    OtherNode { path: PathBuf, found: u32, wanted: u32 },
    #[error("{path} has been started {incarnation} times, which is the limit", path = path.display())]
    Incarnation { path: PathBuf, incarnation: u32 },
    #[error("{path}: {error}", path = path.display())]
    Io { path: PathBuf, error: io::Error },
}

impl Identity {
    /// Reads the identity of `directory`, or makes one where there is no data yet, counts this start, and makes
    /// the count durable.
    ///
    /// # Errors
    /// [`IdentityError`]; nothing was changed.
    pub fn begin_life(
        directory: &Path,
        node_id: u32,
        cluster_id: Option<u128>,
        has_logs: bool,
    ) -> Result<Self, IdentityError> {
        let path = directory.join(FILE_NAME);
        let mut identity = match Self::read(&path)? {
            Some(identity) => identity,
            None if has_logs => return Err(IdentityError::Missing { path }),
            None => Self::fresh(node_id, cluster_id)
                .map_err(|error| IdentityError::Io { path: path.clone(), error })?,
        };
        if let Some(wanted) = cluster_id.filter(|wanted| *wanted != identity.cluster_id) {
            return Err(IdentityError::OtherCluster { path, found: identity.cluster_id, wanted });
        }
        if identity.node_id != node_id {
            return Err(IdentityError::OtherNode { path, found: identity.node_id, wanted: node_id });
        }
        identity.incarnation = match identity.incarnation.checked_add(1) {
            Some(next) => next,
            None => return Err(IdentityError::Incarnation { path, incarnation: identity.incarnation }),
        };
        replace(&path, &identity.encode(), 0o600).map_err(|error| IdentityError::Io { path, error })?;
        Ok(identity)
    }

    /// `None` when there is no file.
    ///
    /// # Errors
    /// [`IdentityError`] `Newer`, `Damaged`, `Io`.
    pub fn read(path: &Path) -> Result<Option<Self>, IdentityError> {
        match std::fs::read(path) {
            Ok(bytes) => Self::decode(path, &bytes).map(Some),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(IdentityError::Io { path: path.to_owned(), error }),
        }
    }

    fn fresh(node_id: u32, cluster_id: Option<u128>) -> io::Result<Self> {
        let cluster_id = match cluster_id {
            Some(id) => id,
            None => random::id()?,
        };
        Ok(Self {
            cluster_id,
            directory_id: random::id()?,
            node_id,
            incarnation: 0,
            created_ms: utc::now_ms(),
        })
    }

    fn encode(&self) -> [u8; FILE_BYTES] {
        let mut out = [0; FILE_BYTES];
        out[0..8].copy_from_slice(&MAGIC);
        out[8..10].copy_from_slice(&VERSION.to_le_bytes());
        out[16..32].copy_from_slice(&self.cluster_id.to_le_bytes());
        out[32..48].copy_from_slice(&self.directory_id.to_le_bytes());
        out[48..52].copy_from_slice(&self.node_id.to_le_bytes());
        out[52..56].copy_from_slice(&self.incarnation.to_le_bytes());
        out[56..64].copy_from_slice(&self.created_ms.to_le_bytes());
        let crc = crc(&out[CRC_FROM..]);
        out[12..16].copy_from_slice(&crc.to_le_bytes());
        out
    }

    fn decode(path: &Path, bytes: &[u8]) -> Result<Self, IdentityError> {
        let damaged = |why: String| IdentityError::Damaged { path: path.to_owned(), why };
        if bytes.get(..8) != Some(&MAGIC[..]) {
            return Err(damaged("it does not begin as one".to_owned()));
        }
        // Before everything else: a newer format may have another size and no checksum where ours is.
        let found = bytes.get(8..10).map_or(0, |b| u16::from_le_bytes([b[0], b[1]]));
        if found > VERSION {
            return Err(IdentityError::Newer { path: path.to_owned(), found });
        }
        if found != VERSION || bytes.len() != FILE_BYTES {
            return Err(damaged(format!("version {found}, {} bytes", bytes.len())));
        }
        let stored = u32::from_le_bytes(array(bytes, 12));
        let computed = crc(&bytes[CRC_FROM..]);
        if stored != computed {
            return Err(damaged(format!("checksum {stored:#010x}, computed {computed:#010x}")));
        }
        if bytes[USED_BYTES..].iter().any(|byte| *byte != 0) {
            return Err(damaged("bytes after its fields".to_owned()));
        }
        Ok(Self {
            cluster_id: u128::from_le_bytes(array(bytes, 16)),
            directory_id: u128::from_le_bytes(array(bytes, 32)),
            node_id: u32::from_le_bytes(array(bytes, 48)),
            incarnation: u32::from_le_bytes(array(bytes, 52)),
            created_ms: i64::from_le_bytes(array(bytes, 56)),
        })
    }
}

fn array<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    bytes[at..at + N].try_into().expect("the size was checked")
}

fn crc(bytes: &[u8]) -> u32 {
    (checksum(CrcAlgorithm::Crc32Iscsi, bytes) & 0xffff_ffff) as u32
}

#[cfg(test)]
mod tests;
