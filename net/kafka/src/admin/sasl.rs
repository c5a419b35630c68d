//! SASL: no mechanism is enabled, and nothing needs one.

use bytes::Bytes;
use kafka_protocol::ResponseError;
use kafka_protocol::messages::{
    SaslAuthenticateRequest, SaslAuthenticateResponse, SaslHandshakeRequest, SaslHandshakeResponse,
};
use kafka_protocol::protocol::StrBytes;

use crate::api::Outcome;
use crate::codec::Malformed;
use crate::context::Context;

pub(super) fn handshake(context: &mut Context<'_>, body: Bytes) -> Result<Outcome, Malformed> {
    let _: SaslHandshakeRequest = context.decode(body)?;
    let refusal =
        SaslHandshakeResponse::default().with_error_code(ResponseError::UnsupportedSaslMechanism.code());
    Ok(context.reply(&refusal))
}

pub(super) fn authenticate(context: &mut Context<'_>, body: Bytes) -> Result<Outcome, Malformed> {
    let _: SaslAuthenticateRequest = context.decode(body)?;
    let why = "no SASL mechanism is enabled on this listener: connect with security.protocol=PLAINTEXT";
    let refusal = SaslAuthenticateResponse::default()
        .with_error_code(ResponseError::IllegalSaslState.code())
        .with_error_message(Some(StrBytes::from_static_str(why)));
    Ok(context.reply(&refusal))
}
