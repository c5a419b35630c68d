//! InitProducerId: an id for an idempotent producer.

use bytes::Bytes;
use engine_api::{Request, Response};
use kafka_protocol::ResponseError;
use kafka_protocol::messages::{InitProducerIdRequest, InitProducerIdResponse, ProducerId};

use crate::api::Outcome;
use crate::codec::Malformed;
use crate::context::Context;
use crate::errors::init_producer_error;

/// An id never given before is as good as the next epoch of an old one, which is what Kafka gives, too.
pub(crate) fn start(context: &mut Context<'_>, body: Bytes) -> Result<Outcome, Malformed> {
    let request: InitProducerIdRequest = context.decode(body)?;
    if request.transactional_id.is_some() {
        // There are no transactions. Of all errors this is the one that every client takes for final.
        return Ok(context.reply(&failed(ResponseError::TransactionalIdAuthorizationFailed)));
    }
    Ok(context.gather(vec![Request::InitProducer], |context, mut answers| {
        let response = match answers.remove(0) {
            Response::InitProducer(Ok(id)) => InitProducerIdResponse::default()
                .with_producer_id(ProducerId(i64::try_from(id).unwrap_or(i64::MAX)))
                .with_producer_epoch(0),
            Response::InitProducer(Err(error)) => failed(init_producer_error(&error)),
            other => return Outcome::unexpected(&other),
        };
        context.reply(&response)
    }))
}

fn failed(error: ResponseError) -> InitProducerIdResponse {
    InitProducerIdResponse::default()
        .with_error_code(error.code())
        .with_producer_id(ProducerId(-1))
        .with_producer_epoch(-1)
}
