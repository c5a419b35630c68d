//! What every client asks: versions, metadata, producing, fetching, finding offsets.

pub(crate) mod api_versions;
pub(crate) mod metadata;
