//! The changes a cluster's picture goes through, and their bytes in the metadata log.

use rkyv::{Archive, Deserialize, Serialize};

/// The first byte of every encoding in this room; a newer build that changes them counts it up.
pub(crate) const FORMAT: u8 = 1;

/// One change. Everything random or chosen is in it, so that applying it is a function.
#[derive(Debug, Clone, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub enum Command {
    /// A node begins a new life: its partitions get `incarnation` as leader epoch and, if `cores` is another
    /// number than before, are placed anew.
    NodeStarted { cluster_id: u128, node: u32, incarnation: u32, cores: u8, address: String },
    /// `configs` are those that differ from the defaults, in canonical spelling.
    CreateTopic { id: u128, name: String, partitions: u32, replicas: u32, configs: Vec<(String, String)> },
    /// `partitions`: the new number, if it grows. `None` as a config's value: back to the default.
    AlterTopic { id: u128, partitions: Option<u32>, configs: Vec<(String, Option<String>)> },
    /// Its logs are remembered as removed until `ForgetLogs`.
    DeleteTopic { id: u128 },
    /// The next `count` producer ids are given away.
    AllocateProducerIds { count: u32 },
    /// These removed logs, first id and how many, have left the disk.
    ForgetLogs { logs: Vec<(u64, u64)> },
}

/// Why bytes are not what they should be. They come from disk or another core, under a checksum: damage or
/// another build.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    #[error("metadata of format {0}, this build reads {FORMAT}")]
    Format(u8),
    #[error("metadata does not decode")]
    Archive,
    #[error("metadata contradicts itself: {0}")]
    Content(&'static str),
}

impl Command {
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let archived = rkyv::to_bytes::<rkyv::rancor::Panic>(self).unwrap_or_else(|never| match never {});
        with_format(&archived)
    }

    /// # Errors
    /// [`DecodeError`]
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let archived = without_format(bytes)?;
        rkyv::from_bytes::<Self, rkyv::rancor::Failure>(archived).map_err(|_| DecodeError::Archive)
    }
}

pub(crate) fn with_format(archived: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(1 + archived.len());
    bytes.push(FORMAT);
    bytes.extend_from_slice(archived);
    bytes
}

pub(crate) fn without_format(bytes: &[u8]) -> Result<&[u8], DecodeError> {
    match bytes.split_first() {
        Some((&FORMAT, archived)) => Ok(archived),
        Some((&other, _)) => Err(DecodeError::Format(other)),
        None => Err(DecodeError::Archive),
    }
}
