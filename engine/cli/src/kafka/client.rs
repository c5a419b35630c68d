//! librdkafka as the tools use it: its words on stderr, deliveries counted.

use std::sync::Mutex;
use std::time::Duration;

use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::ConsumerContext;
use rdkafka::error::KafkaError;
use rdkafka::message::{DeliveryResult, Message, ToBytes};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer, ProducerContext};
use rdkafka::types::RDKafkaErrorCode;

use super::fault::Fault;

/// Says warnings and errors on stderr.
#[derive(Debug, Default)]
pub(crate) struct Said {
    tally: Mutex<Tally>,
}

/// What became of the records.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Tally {
    pub(crate) stored_count: u64,
    pub(crate) failed_count: u64,
    pub(crate) first_failure: Option<String>,
}

impl Said {
    fn tally(&self) -> std::sync::MutexGuard<'_, Tally> {
        self.tally.lock().expect("nobody panics with it")
    }
}

impl ClientContext for Said {
    fn log(&self, level: RDKafkaLogLevel, _facility: &str, message: &str) {
        match level {
            RDKafkaLogLevel::Emerg
            | RDKafkaLogLevel::Alert
            | RDKafkaLogLevel::Critical
            | RDKafkaLogLevel::Error => eprintln!("ERROR {message}"),
            RDKafkaLogLevel::Warning => eprintln!("WARN {message}"),
            RDKafkaLogLevel::Notice | RDKafkaLogLevel::Info | RDKafkaLogLevel::Debug => {}
        }
    }

    // Each is in the log, too.
    fn error(&self, _error: KafkaError, _reason: &str) {}
}

impl ConsumerContext for Said {}

impl ProducerContext for Said {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, _opaque: ()) {
        match result {
            Ok(_) => self.tally().stored_count += 1,
            Err((error, message)) => {
                let bytes = message.payload().map_or(0, <[u8]>::len);
                let topic = message.topic();
                let error =
                    error.rdkafka_error_code().map_or_else(|| error.to_string(), |code| code.to_string());
                eprintln!(
                    "ERROR Error when sending message to topic {topic} with value: {bytes} bytes with error: {error}"
                );
                let mut tally = self.tally();
                tally.failed_count += 1;
                tally.first_failure.get_or_insert(error);
            }
        }
    }
}

/// A producer that waits for room.
pub(crate) struct Sender {
    producer: BaseProducer<Said>,
}

/// Callbacks are run at least so often while there is no room.
const ROOM_WAIT: Duration = Duration::from_millis(100);

impl Sender {
    pub(crate) fn new(config: &rdkafka::ClientConfig) -> Result<Self, Fault> {
        Ok(Self { producer: config.create_with_context(Said::default())? })
    }

    /// Hands a record over. What becomes of it is counted.
    pub(crate) fn send<K: ToBytes + ?Sized, V: ToBytes + ?Sized>(
        &self,
        record: BaseRecord<'_, K, V>,
    ) -> Result<(), Fault> {
        let mut record = record;
        loop {
            match self.producer.send(record) {
                Ok(()) => {
                    self.producer.poll(Duration::ZERO);
                    return Ok(());
                }
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), back)) => {
                    self.producer.poll(ROOM_WAIT);
                    record = back;
                }
                Err((error, _)) => return Err(error.into()),
            }
        }
    }

    /// Waits until everything is answered, or given up.
    pub(crate) fn flush(&self, timeout: Duration) -> Result<(), Fault> {
        Ok(self.producer.flush(timeout)?)
    }

    pub(crate) fn tally(&self) -> Tally {
        self.producer.context().tally().clone()
    }
}
