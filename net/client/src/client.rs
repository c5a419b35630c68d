//! The client: one per cluster and process is enough.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;

use crate::admin::Admin;
use crate::config::Config;
use crate::dial::ConnectError;
use crate::group::{GroupConsumer, GroupConsumerError, GroupOptions};
use crate::producer::{Producer, ProducerConfig, ProducerConfigError};
use crate::reader::{ReadError, Reader, ReaderConfig};
use crate::shared::Shared;

/// A cluster, as this process reaches it. Clones share everything.
///
/// Keeps one QUIC connection per broker core that is needed, each found again after a loss. Dropping the last
/// clone ends everything made from it: connections close, deliveries that are still waiting say
/// [`Closed`](crate::DeliveryError::Closed), readers end with an error. [`Producer::close`] first, to lose
/// nothing.
///
/// Needs a tokio runtime with time and I/O enabled.
#[derive(Debug, Clone)]
pub struct Client {
    shared: Arc<Shared>,
    /// Producers and readers hold `shared`; only clients hold this.
    _guard: Arc<Guard>,
}

#[derive(Debug)]
struct Guard(Arc<Shared>);

impl Drop for Guard {
    fn drop(&mut self) {
        drop(self.0.close());
    }
}

/// For a closed connection to be forgotten: three probe timeouts of QUIC, well below this on any sane network.
const GOODBYE_MAX: Duration = Duration::from_millis(500);

impl Client {
    /// Connects to the first of `config.servers` that answers, each given `config.connect_timeout` for every
    /// network address its name has.
    ///
    /// # Errors
    /// [`ConnectError`], which says what to look at: nothing listens, nothing answers, the certificate is not
    /// trusted, or it is no such broker.
    /// # Cancel safety
    /// Dropping the future leaves nothing behind.
    pub async fn connect(config: Config) -> Result<Self, ConnectError> {
        let shared = Arc::new(Shared::connect(config).await?);
        Ok(Self { _guard: Arc::new(Guard(Arc::clone(&shared))), shared })
    }

    /// Topics, the cluster's picture, records to delete.
    #[must_use]
    pub fn admin(&self) -> Admin {
        Admin::new(Arc::clone(&self.shared))
    }

    /// A producer; one per process is enough, for any number of topics.
    ///
    /// # Errors
    /// A setting out of its bounds. Nothing is asked of the broker yet.
    pub fn producer(&self, config: ProducerConfig) -> Result<Producer, ProducerConfigError> {
        Producer::new(Arc::clone(&self.shared), config)
    }

    /// A reader of one topic. Returns once the place of every partition is known, so records that are produced
    /// from then on are read from [`Start::End`](crate::Start::End).
    ///
    /// # Errors
    /// [`ReadError`]: no such topic or partition, a start that is out of range, or no answer.
    /// # Panics
    /// When `buffer_bytes_per_partition` is out of its bounds.
    /// # Cancel safety
    /// Dropping the future leaves nothing behind.
    pub async fn reader(&self, config: ReaderConfig) -> Result<Reader, ReadError> {
        Reader::open(Arc::clone(&self.shared), config).await
    }

    /// Joins a consumer group that shares `topics` among its members, and returns once this consumer knows its
    /// partitions. Topics that do not exist yet are found when they are made.
    ///
    /// # Errors
    /// [`GroupConsumerError`]: the coordinator refuses, or is out of reach for
    /// [`unavailable_timeout`](GroupOptions::unavailable_timeout).
    /// # Cancel safety
    /// Dropping the future leaves at most a member that its session timeout removes.
    pub async fn join_group<T: Into<String>>(
        &self,
        group: impl Into<String>,
        topics: impl IntoIterator<Item = T>,
        options: GroupOptions,
    ) -> Result<GroupConsumer, GroupConsumerError> {
        let topics = topics.into_iter().map(Into::into).collect();
        GroupConsumer::join_group(Arc::clone(&self.shared), group.into(), topics, options).await
    }

    /// Ends everything, as dropping the last clone does, and waits until the brokers have been told, for at most
    /// half a second. A process that ends sooner leaves its connections to the brokers' idle timeout.
    ///
    /// # Cancel safety
    /// Everything has ended once the future was polled; dropping it ends the waiting.
    pub async fn close(&self) {
        let links = self.shared.close();
        let told = async {
            for link in links {
                // All of them are closed by now: the slowest is waited for.
                link.until_gone().await;
            }
        };
        // A broker that is away cannot be told.
        let _ = timeout(GOODBYE_MAX, told).await;
    }
}
