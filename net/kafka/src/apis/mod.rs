//! What every client asks: versions, metadata, producing, fetching, finding offsets.

pub(crate) mod api_versions;
pub(crate) mod fetch;
pub(crate) mod init_producer;
pub(crate) mod leader_epoch;
pub(crate) mod list_offsets;
pub(crate) mod metadata;
pub(crate) mod produce;
