//! ApiVersions: what is served, and nothing else.

use bytes::Bytes;
use kafka_protocol::ResponseError;
use kafka_protocol::messages::api_versions_response::ApiVersion;
use kafka_protocol::messages::{ApiKey, ApiVersionsRequest, ApiVersionsResponse};

use crate::api::{Outcome, all};
use crate::codec::{Malformed, Reply, RequestHead, encode_reply};
use crate::context::Context;

pub(crate) fn start(context: &mut Context<'_>, body: Bytes) -> Result<Outcome, Malformed> {
    // The name and version of the client's software are for statistics: any are as good as any.
    let _: ApiVersionsRequest = context.decode(body)?;
    Ok(context.reply(&ApiVersionsResponse::default().with_api_keys(keys())))
}

/// The answer to a version that is not known: the oldest body, from which the client learns which are (KIP-511).
pub(crate) fn unsupported(head: &RequestHead) -> Option<Reply> {
    let response = ApiVersionsResponse::default()
        .with_error_code(ResponseError::UnsupportedVersion.code())
        .with_api_keys(keys());
    encode_reply(ApiKey::ApiVersions, head, 0, &response).ok()
}

fn keys() -> Vec<ApiVersion> {
    let mut keys: Vec<_> = all()
        .map(|api| {
            ApiVersion::default()
                .with_api_key(api.key as i16)
                .with_min_version(api.advertised_min)
                .with_max_version(api.version_max)
        })
        .collect();
    keys.sort_by_key(|key| key.api_key);
    keys
}
