//! Asking a group's coordinator, whichever broker passes it on.

use std::time::Duration;

use engine_api::{GroupAnswer, GroupAsk, GroupError, GroupRequest, Request, Response};
use net_wire::Code;
use tokio::time::timeout;

use crate::dial::ConnectError;
use crate::rpc::{RequestError, ask, unexpected};
use crate::shared::Shared;
use crate::state::group::{Advice, advice};

/// Once, and bounded.
pub(super) async fn ask_group(
    shared: &Shared,
    group: &str,
    what: GroupAsk,
    after: Duration,
) -> Result<GroupAnswer, RequestError<GroupError>> {
    let request = Request::Group(GroupRequest { group: group.to_owned(), ask: what });
    let asking = async {
        let connection = shared.any_link().await.map_err(RequestError::Connect)?;
        let Response::Group(answer) = ask(&connection, &request).await? else {
            return Err(unexpected("not the answer to a group's request").into());
        };
        answer.map_err(RequestError::Refused)
    };
    tokio::select! {
        answer = timeout(after, asking) => answer.unwrap_or(Err(RequestError::TimedOut { after })),
        () = shared.until_closed() => Err(RequestError::Connect(ConnectError::Closed)),
    }
}

pub(super) fn advice_on(error: &RequestError<GroupError>) -> Advice {
    match error {
        RequestError::Refused(error) => advice(error),
        RequestError::Connect(ConnectError::Closed) | RequestError::Protocol(_) => Advice::Fail,
        RequestError::Connect(_) | RequestError::Disconnected { .. } | RequestError::TimedOut { .. } => {
            Advice::Retry
        }
        RequestError::Rejected(refusal) => match refusal.code {
            Code::TooMany | Code::ShuttingDown | Code::TooSlow => Advice::Retry,
            Code::Done
            | Code::Version
            | Code::Kind
            | Code::Malformed
            | Code::TooLarge
            | Code::Unexpected
            | Code::Truncated
            | Code::Internal
            | Code::Other(_) => Advice::Fail,
        },
    }
}
