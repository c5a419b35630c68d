//! What cores tell each other in a [`MetaUpdate`]: metadata from the controller's core, troubles and that it listens
//! from any.

use bytes::Bytes;
use engine_api::{CoreId, TroubledPartition};
use engine_meta::{ClusterState, Command, DecodeError};
use rkyv::{Archive, Deserialize, Serialize};
use storage_frame::Offset;

use crate::seam::MetaUpdate;

/// Metadata versions start at 1: this one says that the update is none of them.
const TROUBLES: u64 = 0;
/// As does this one, which no count of changes reaches.
const LISTENING: u64 = u64::MAX;

#[derive(Debug)]
pub(crate) enum News {
    Snapshot(Box<ClusterState>),
    Command(Command),
    /// All partitions of that core that cannot be written.
    Troubles(CoreId, Vec<TroubledPartition>),
    /// That core reads what its clients send.
    Listening(CoreId),
}

#[derive(Archive, Serialize, Deserialize)]
struct Troubles {
    core: u8,
    list: Vec<Trouble>,
}

#[derive(Archive, Serialize, Deserialize)]
struct Trouble {
    topic: String,
    index: u32,
    end: u64,
    why: String,
}

pub(crate) fn snapshot(state: &ClusterState) -> MetaUpdate {
    MetaUpdate { version: state.version(), snapshot: true, bytes: Bytes::from(state.encode()) }
}

pub(crate) fn command(version: u64, command: &Command) -> MetaUpdate {
    assert_ne!(version, TROUBLES, "versions start at 1");
    MetaUpdate { version, snapshot: false, bytes: Bytes::from(command.encode()) }
}

pub(crate) fn troubles(core: CoreId, list: &[TroubledPartition]) -> MetaUpdate {
    let store = |p: &TroubledPartition| Trouble {
        topic: p.topic.clone(),
        index: p.index,
        end: p.end.0,
        why: p.why.clone(),
    };
    let troubles = Troubles { core: core.0, list: list.iter().map(store).collect() };
    let bytes = rkyv::to_bytes::<rkyv::rancor::Panic>(&troubles).unwrap_or_else(|never| match never {});
    MetaUpdate { version: TROUBLES, snapshot: false, bytes: Bytes::from_owner(bytes) }
}

pub(crate) fn listening(core: CoreId) -> MetaUpdate {
    MetaUpdate { version: LISTENING, snapshot: false, bytes: Bytes::copy_from_slice(&[core.0]) }
}

pub(crate) fn read(update: &MetaUpdate) -> Result<News, DecodeError> {
    if update.snapshot {
        return Ok(News::Snapshot(Box::new(ClusterState::decode(&update.bytes)?)));
    }
    if update.version == LISTENING {
        let core = update.bytes.first().ok_or(DecodeError::Archive)?;
        return Ok(News::Listening(CoreId(*core)));
    }
    if update.version != TROUBLES {
        return Ok(News::Command(Command::decode(&update.bytes)?));
    }
    let troubles = rkyv::from_bytes::<Troubles, rkyv::rancor::Failure>(&update.bytes)
        .map_err(|_| DecodeError::Archive)?;
    let load =
        |p: Trouble| TroubledPartition { topic: p.topic, index: p.index, end: Offset(p.end), why: p.why };
    Ok(News::Troubles(CoreId(troubles.core), troubles.list.into_iter().map(load).collect()))
}
