//! The identity file, `<data>/identity`: read, counted up and replaced when a life begins. What is in it, and when a
//! directory is refused: `engine_meta::identity`.
//!
//! The file is replaced whole: written as `identity.new`, synced, the two names exchanged, the directory synced. So at
//! every moment `identity` is a whole one, and an incarnation is durable before anything is written under it. The one
//! before is kept as `identity.new`, where the next is written: a full disk must not refuse a start.
//!
//! A whole block, because the runtime's probe for direct reads needs one to read (`engine/core`).

use std::io;
use std::path::{Path, PathBuf};

use engine_meta::identity::{self, Fresh, Identity, Wanted};

use crate::replace::replace_in_turn;
use crate::{random, utc};

pub const FILE_NAME: &str = "identity";

/// Why a directory is not this node's to use. Its identity file is as it was.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    #[error("{path} {why}", path = path.display())]
    Refused { path: PathBuf, why: identity::IdentityError },
    #[error("{path}: {error}", path = path.display())]
    Io { path: PathBuf, error: io::Error },
}

/// Reads the identity of `directory`, or makes one where there is no data yet, counts this start, and makes the
/// count durable.
///
/// # Errors
/// [`IdentityError`]; nothing was changed.
pub fn begin_life(directory: &Path, wanted: Wanted, has_logs: bool) -> Result<Identity, IdentityError> {
    let path = directory.join(FILE_NAME);
    let fail = |error| IdentityError::Io { path: path.clone(), error };
    let found = match std::fs::read(&path) {
        Ok(bytes) => Some(bytes),
        Err(e) if e.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(fail(error)),
    };
    let fresh = fresh().map_err(fail)?;
    let identity = Identity::begin_life(found.as_deref(), has_logs, wanted, fresh)
        .map_err(|why| IdentityError::Refused { path: path.clone(), why })?;
    replace_in_turn(&path, &identity.encode(), 0o600).map_err(fail)?;
    Ok(identity)
}

fn fresh() -> io::Result<Fresh> {
    Ok(Fresh { cluster_id: random::id()?, directory_id: random::id()?, created_ms: utc::now_ms() })
}

#[cfg(test)]
mod tests;
