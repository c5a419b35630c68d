//! FindCoordinator: where a group is looked after. This node, as the client reaches it.

use bytes::Bytes;
use engine_api::{GroupAsk, GroupError, OFFSETS_TOPIC, Response};
use kafka_protocol::ResponseError;
use kafka_protocol::messages::find_coordinator_response::Coordinator;
use kafka_protocol::messages::{BrokerId, FindCoordinatorRequest, FindCoordinatorResponse, GroupId};
use kafka_protocol::protocol::StrBytes;

use crate::api::Outcome;
use crate::codec::Malformed;
use crate::context::Context;

use super::errors;

const KEY_IS_GROUP: i8 = 0;
const KEY_IS_TRANSACTION: i8 = 1;

pub(super) fn find(context: &mut Context<'_>, body: Bytes) -> Result<Outcome, Malformed> {
    let request: FindCoordinatorRequest = context.decode(body)?;
    let keys = if context.head.version >= 4 { request.coordinator_keys } else { vec![request.key] };
    let refusal = match request.key_type {
        KEY_IS_GROUP => None,
        // Anything retriable would keep a transactional producer trying for ever; this error is fatal to librdkafka,
        // Java and kafkajs alike, and they show the text.
        KEY_IS_TRANSACTION => Some((
            ResponseError::TransactionalIdAuthorizationFailed,
            "transactions are not offered by this broker: unset transactional.id",
        )),
        _ => Some((ResponseError::InvalidRequest, "only coordinators of groups are known")),
    };
    if let Some((error, why)) = refusal {
        return Ok(answer(context, keys, Some((error, why.into()))));
    }
    let first_group = keys.first().cloned();
    let asks = match first_group {
        // The first use of a group makes the topic that groups are kept in: asking for one is such a use.
        Some(group) if context.catalog.find_topic(OFFSETS_TOPIC).is_none() => {
            vec![errors::request(&GroupId(group), GroupAsk::Describe)]
        }
        Some(_) | None => Vec::new(),
    };
    Ok(context.gather(asks, move |context, answers| {
        let is_made = context.catalog.find_topic(OFFSETS_TOPIC).is_some();
        let refusal = answers.into_iter().find_map(|told| match told {
            Response::Group(Err(error @ (GroupError::NotReady | GroupError::ShuttingDown))) if !is_made => {
                Some((ResponseError::CoordinatorNotAvailable, error.to_string().into()))
            }
            // It exists: what there is to say about the group is said to whoever asks about it.
            _ => None,
        });
        answer(context, keys, refusal)
    }))
}

fn answer(context: &Context<'_>, keys: Vec<StrBytes>, refusal: Option<(ResponseError, StrBytes)>) -> Outcome {
    let (host, port) = context.own_address();
    let node = BrokerId(i32::try_from(context.config.node.0).unwrap_or(i32::MAX));
    let found = match &refusal {
        None => Coordinator::default().with_node_id(node).with_host(host.into()).with_port(i32::from(port)),
        Some((error, _)) => {
            Coordinator::default().with_node_id(BrokerId(-1)).with_port(-1).with_error_code(error.code())
        }
    };
    let message = refusal.map(|(_, why)| why);
    if context.head.version >= 4 {
        let coordinators =
            keys.into_iter().map(|key| found.clone().with_key(key).with_error_message(message.clone()));
        return context.reply(&FindCoordinatorResponse::default().with_coordinators(coordinators.collect()));
    }
    context.reply(
        &FindCoordinatorResponse::default()
            .with_error_code(found.error_code)
            .with_error_message(message)
            .with_node_id(found.node_id)
            .with_host(found.host)
            .with_port(found.port),
    )
}
