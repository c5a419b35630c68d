//! The SDK as the command line uses it: how to connect, and what exit code each of its errors has.

use std::convert::Infallible;
use std::time::Duration;

use engine_api::{FetchError, ProduceError, TopicError};
use millstream_client::{
    Client, Config, ConnectError, DeliveryError, PartitionError, RequestError, SendError, Trust,
};

use crate::args::Global;
use crate::failure::{Exit, Failure};

/// For one address to answer, however patient the command is otherwise.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Connects as the global options say.
pub(crate) async fn connect(global: &Global) -> Result<Client, Failure> {
    Ok(Client::connect(config(global)?).await?)
}

/// Runs `work` with a client and closes it, however `work` ends.
pub(crate) async fn with_client(
    global: &Global,
    work: impl AsyncFnOnce(&Client) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let client = connect(global).await?;
    let outcome = work(&client).await;
    // A broker that is not told would keep the connections until they are silent for too long.
    client.close().await;
    outcome
}

/// What the global options say.
pub(crate) fn config(global: &Global) -> Result<Config, Failure> {
    let mut config = Config::new(global.server.iter().filter(|server| !server.is_empty()));
    if let Some(text) = &global.fingerprint {
        config.trust = Trust::fingerprint(text).ok_or_else(|| {
            Failure::new(Exit::Usage, format_args!("'{text}' is not a fingerprint: 64 hex digits"))
        })?;
    } else if let Some(path) = &global.ca_file {
        config.trust = Trust::CaFile(path.clone());
    }
    if let Some(timeout) = global.timeout {
        config.connect_timeout = timeout.min(CONNECT_TIMEOUT);
        config.request_timeout = timeout;
    }
    Ok(config)
}

impl From<ConnectError> for Failure {
    fn from(error: ConnectError) -> Self {
        Self::new(connect_exit(&error), connect_text(&error))
    }
}

/// The SDK's words, with the flags of the command line where those name its types.
fn connect_text(error: &ConnectError) -> String {
    match error {
        ConnectError::NotTrusted { address, why } => format!(
            "the certificate of {address} is not trusted: {why}; give the CA of that broker (its tls/ca.pem) by \
             --ca-file, or its certificate's SHA-256 by --fingerprint"
        ),
        ConnectError::All { attempts } => {
            let attempts: Vec<String> = attempts.iter().map(connect_text).collect();
            format!("no broker reached: {}", attempts.join("; "))
        }
        error @ (ConnectError::NoAnswer { .. }
        | ConnectError::NoServers
        | ConnectError::Trust(_)
        | ConnectError::Address { .. }
        | ConnectError::PortClosed { .. }
        | ConnectError::WrongProtocol { .. }
        | ConnectError::Refused { .. }
        | ConnectError::Failed { .. }
        | ConnectError::Closed) => error.to_string(),
    }
}

fn connect_exit(error: &ConnectError) -> Exit {
    match error {
        ConnectError::NoAnswer { .. } => Exit::Timeout,
        ConnectError::NoServers => Exit::Usage,
        ConnectError::All { attempts } if attempts.iter().all(|one| connect_exit(one) == Exit::Timeout) => {
            Exit::Timeout
        }
        ConnectError::All { .. }
        | ConnectError::Trust(_)
        | ConnectError::Address { .. }
        | ConnectError::PortClosed { .. }
        | ConnectError::NotTrusted { .. }
        | ConnectError::WrongProtocol { .. }
        | ConnectError::Refused { .. }
        | ConnectError::Failed { .. }
        | ConnectError::Closed => Exit::Failed,
    }
}

impl<E> From<RequestError<E>> for Failure
where
    E: std::error::Error + Into<Failure> + 'static,
{
    fn from(error: RequestError<E>) -> Self {
        match error {
            RequestError::Refused(refusal) => refusal.into(),
            RequestError::Connect(error) => error.into(),
            error @ RequestError::TimedOut { .. } => Self::new(Exit::Timeout, error),
            error @ (RequestError::Disconnected { .. }
            | RequestError::Rejected(_)
            | RequestError::Protocol(_)) => Self::failed(error),
        }
    }
}

impl<E> From<PartitionError<E>> for Failure
where
    E: std::error::Error + Into<Failure> + 'static,
{
    fn from(error: PartitionError<E>) -> Self {
        match error {
            PartitionError::Topic(error) => error.into(),
            PartitionError::Request(error) => error.into(),
            error @ PartitionError::OutOfRange { .. } => Self::new(Exit::NotFound, error),
        }
    }
}

impl From<Infallible> for Failure {
    fn from(never: Infallible) -> Self {
        match never {}
    }
}

/// What to do about a topic that is not there.
#[must_use]
pub(crate) fn unknown_topic(name: &str) -> Failure {
    Failure::new(Exit::NotFound, format_args!("topic '{name}' does not exist")).with_hint(format_args!(
        "create it: millstream topic create {name}; see which there are: millstream topic list"
    ))
}

impl From<TopicError> for Failure {
    fn from(error: TopicError) -> Self {
        match error {
            TopicError::Unknown { name } => unknown_topic(&name),
            TopicError::Exists { .. }
            | TopicError::Name { .. }
            | TopicError::Partitions { .. }
            | TopicError::Replicas { .. }
            | TopicError::Config { .. }
            | TopicError::StorageFailed { .. }
            | TopicError::NoSpace
            | TopicError::NotReady
            | TopicError::ShuttingDown
            | TopicError::Changed { .. } => Self::failed(error),
        }
    }
}

impl From<FetchError> for Failure {
    fn from(error: FetchError) -> Self {
        match error {
            FetchError::UnknownPartition => Self::new(Exit::NotFound, error),
            FetchError::NotLeader
            | FetchError::OffsetOutOfRange { .. }
            | FetchError::Damaged { .. }
            | FetchError::StorageFailed { .. }
            | FetchError::Overloaded
            | FetchError::ShuttingDown => Self::failed(error),
        }
    }
}

impl From<SendError> for Failure {
    fn from(error: SendError) -> Self {
        match error {
            SendError::UnknownTopic { topic } => unknown_topic(&topic),
            SendError::Metadata { source, .. } => source.into(),
            SendError::NoRoom { .. } => Self::new(Exit::Timeout, error),
            SendError::PartitionOutOfRange { .. } => Self::new(Exit::NotFound, error),
            SendError::RecordTooLarge { .. }
            | SendError::HeaderName { .. }
            | SendError::Fenced(_)
            | SendError::Closed => Self::failed(error),
        }
    }
}

impl From<DeliveryError> for Failure {
    fn from(error: DeliveryError) -> Self {
        match &error {
            DeliveryError::Refused(refusal) | DeliveryError::RefusedOnRetry(refusal) => {
                Self::new(refusal_exit(refusal), &error)
            }
            DeliveryError::NotSent { .. } | DeliveryError::TimedOut { .. } => {
                Self::new(Exit::Timeout, &error)
            }
            DeliveryError::OffsetUnknown | DeliveryError::Closed { .. } => Self::failed(&error),
        }
    }
}

fn refusal_exit(refusal: &ProduceError) -> Exit {
    match refusal {
        ProduceError::UnknownPartition => Exit::NotFound,
        ProduceError::NotLeader
        | ProduceError::TooLarge { .. }
        | ProduceError::Invalid { .. }
        | ProduceError::OutOfSequence { .. }
        | ProduceError::ProducerFenced { .. }
        | ProduceError::NoSpace
        | ProduceError::Overloaded
        | ProduceError::StorageFailed { .. }
        | ProduceError::Damaged { .. }
        | ProduceError::ShuttingDown => Exit::Failed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_topic_is_not_found_wherever_it_is_noticed() {
        let unknown = || TopicError::Unknown { name: "t".to_owned() };
        let failures: [Failure; 3] = [
            RequestError::Refused(unknown()).into(),
            PartitionError::<FetchError>::Topic(RequestError::Refused(unknown())).into(),
            SendError::UnknownTopic { topic: "t".to_owned() }.into(),
        ];
        for failure in failures {
            assert_eq!(failure.exit, Exit::NotFound);
            assert!(failure.hint.unwrap().contains("millstream topic create t"));
        }
    }

    #[test]
    fn a_certificate_that_is_not_trusted_is_answered_with_flags() {
        let error = ConnectError::NotTrusted { address: "a:1".to_owned(), why: "it differs".to_owned() };
        for error in [error.clone(), ConnectError::All { attempts: vec![error] }] {
            let said = Failure::from(error).message;
            assert!(said.contains("it differs") && said.contains("--ca-file"), "{said}");
            assert!(said.contains("--fingerprint") && !said.contains("Trust::"), "{said}");
        }
    }

    #[test]
    fn only_silence_is_a_timeout() {
        let silent = || ConnectError::NoAnswer { address: "a:1".to_owned(), after: Duration::from_secs(1) };
        let closed = || ConnectError::PortClosed { address: "a".to_owned(), port: 1 };
        assert_eq!(Failure::from(silent()).exit, Exit::Timeout);
        assert_eq!(Failure::from(closed()).exit, Exit::Failed);
        let all = |attempts| Failure::from(ConnectError::All { attempts }).exit;
        assert_eq!(all(vec![silent(), silent()]), Exit::Timeout);
        assert_eq!(all(vec![silent(), closed()]), Exit::Failed);
    }
}
