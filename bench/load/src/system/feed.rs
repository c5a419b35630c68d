//! What drivers of systems without partitions share: a stream, key or subject per partition, read by a task each.

use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::system::{
    Acks, Compression, Consumer, ConsumerSpec, Incoming, Outgoing, Pending, ProducerSpec, SystemError, Take,
};

/// Name of what stands for a partition.
pub(super) fn place(topic: &str, partition: u32) -> String {
    format!("{topic}-{partition}")
}

/// Says so before anything was sent.
pub(super) fn refuse_producer(system: &'static str, spec: &ProducerSpec) -> Result<(), SystemError> {
    let unsupported = |what: &str| Err(SystemError::Unsupported { system, what: what.to_owned() });
    refuse_configs(system, &spec.client_configs)?;
    match (spec.acks, spec.compression) {
        (Acks::None, _) => unsupported("acks none: this driver waits for every answer"),
        (_, Compression::Lz4 | Compression::Zstd) => unsupported("compression: its client has none"),
        (Acks::All | Acks::Leader, Compression::None) => Ok(()),
    }
}

pub(super) fn refuse_consumer(system: &'static str, spec: &ConsumerSpec) -> Result<(), SystemError> {
    match spec.group {
        Some(_) => Err(SystemError::Unsupported { system, what: "groups as Kafka has them".to_owned() }),
        None => Ok(()),
    }
}

pub(super) fn refuse_configs(system: &'static str, configs: &[(String, String)]) -> Result<(), SystemError> {
    match configs.first() {
        Some((key, _)) => Err(SystemError::Unsupported { system, what: format!("config {key}") }),
        None => Ok(()),
    }
}

/// Which partition a record goes to where the client library has no say: by its key, else a whole chunk to each in turn.
#[derive(Debug)]
pub(super) struct Chooser {
    partitions: u32,
    current: u32,
}

impl Chooser {
    pub(super) fn new(partitions: u32) -> Chooser {
        Chooser { partitions, current: 0 }
    }

    pub(super) fn partition(&self, record: &Outgoing<'_>) -> u32 {
        match (record.partition, record.key) {
            (Some(partition), _) => partition,
            (None, Some(key)) => {
                let hash = crc_fast::checksum(crc_fast::CrcAlgorithm::Crc32Iscsi, key);
                (hash % u64::from(self.partitions)) as u32
            }
            (None, None) => self.current,
        }
    }

    pub(super) fn next_chunk(&mut self) {
        self.current = (self.current + 1) % self.partitions;
    }
}

/// Values of one partition that came together.
#[derive(Debug)]
pub(super) struct Portion<V> {
    pub(super) partition: u32,
    pub(super) values: Vec<V>,
}

pub(super) type FeedSender<V> = mpsc::Sender<Result<Portion<V>, SystemError>>;

/// A consumer fed by tasks, which end with it.
pub(super) struct Feed<V> {
    portions: mpsc::Receiver<Result<Portion<V>, SystemError>>,
    /// Why it ended, to be said by the next call.
    ended: Option<SystemError>,
    #[expect(dead_code, reason = "dropping it ends the tasks")]
    tasks: JoinSet<()>,
}

/// Portions that may wait for a consumer: enough not to stall a connection, few enough to be little memory.
const PORTIONS_WAITING: usize = 16;
/// Handed over by one call, the last portion aside: more may come as fast as it is taken.
const TAKEN_MAX: usize = 4096;

impl<V: AsRef<[u8]> + Send + 'static> Feed<V> {
    /// `start` spawns the tasks, each with a clone of the sender.
    pub(super) fn new(start: impl FnOnce(FeedSender<V>, &mut JoinSet<()>)) -> Feed<V> {
        let (sender, portions) = mpsc::channel(PORTIONS_WAITING);
        let mut tasks = JoinSet::new();
        start(sender, &mut tasks);
        Feed { portions, ended: None, tasks }
    }
}

impl<V: AsRef<[u8]> + Send + 'static> Consumer for Feed<V> {
    fn next<'a>(&'a mut self, take: Take<'a>) -> Pending<'a, Result<usize, SystemError>> {
        Box::pin(async move {
            if let Some(error) = self.ended.take() {
                return Err(error);
            }
            let over = || Err(SystemError::Read("the connection ended".to_owned()));
            let first = self.portions.recv().await.unwrap_or_else(over)?;
            let mut count = hand_over(&first, take);
            while count < TAKEN_MAX
                && self.ended.is_none()
                && let Ok(portion) = self.portions.try_recv()
            {
                match portion {
                    Ok(portion) => count += hand_over(&portion, take),
                    // What came before is handed over first.
                    Err(error) => self.ended = Some(error),
                }
            }
            Ok(count)
        })
    }
}

fn hand_over<V: AsRef<[u8]>>(portion: &Portion<V>, take: Take<'_>) -> usize {
    for value in &portion.values {
        take(Incoming { partition: portion.partition, value: value.as_ref() });
    }
    portion.values.len()
}

#[cfg(test)]
mod tests {
    use super::{Chooser, Feed, Portion, TAKEN_MAX, refuse_consumer, refuse_producer};
    use crate::outcomes::Ticket;
    use crate::system::{
        Acks, Compression, Consumer, ConsumerSpec, Outgoing, ProducerSpec, ReadFrom, SystemError,
    };

    fn outgoing<'a>(partition: Option<u32>, key: Option<&'a [u8]>) -> Outgoing<'a> {
        Outgoing { ticket: Ticket(0), partition, key, value: b"value" }
    }

    #[test]
    fn a_key_stays_in_its_partition_and_chunks_without_go_round() {
        let mut chooser = Chooser::new(3);
        let of_key = chooser.partition(&outgoing(None, Some(b"key")));
        let mut chunks = Vec::new();
        for _ in 0..4 {
            chunks.push(chooser.partition(&outgoing(None, None)));
            assert_eq!(chooser.partition(&outgoing(None, Some(b"key"))), of_key);
            assert_eq!(chooser.partition(&outgoing(Some(2), Some(b"key"))), 2);
            chooser.next_chunk();
        }
        assert_eq!(chunks, [0, 1, 2, 0]);
    }

    #[test]
    fn what_a_driver_cannot_do_is_refused_at_once() {
        let spec = |acks, compression| ProducerSpec {
            topic: "topic".to_owned(),
            partitions: 1,
            acks,
            compression,
            batch_bytes: 1024,
            linger_us: 0,
            client_configs: Vec::new(),
            memory_bytes: 1 << 20,
            window: 100,
        };
        let refused = |acks, compression| {
            matches!(refuse_producer("It", &spec(acks, compression)), Err(SystemError::Unsupported { .. }))
        };
        assert!(!refused(Acks::All, Compression::None) && !refused(Acks::Leader, Compression::None));
        assert!(refused(Acks::None, Compression::None) && refused(Acks::All, Compression::Zstd));
        let group = |group: Option<&str>| ConsumerSpec {
            topic: "topic".to_owned(),
            partitions: vec![0],
            from: ReadFrom::Tail,
            group: group.map(str::to_owned),
        };
        assert!(refuse_consumer("It", &group(None)).is_ok());
        let error = refuse_consumer("It", &group(Some("group"))).unwrap_err();
        assert_eq!(error.to_string(), "It cannot do that: groups as Kafka has them");
    }

    #[tokio::test]
    async fn a_call_ends_though_portions_go_on_coming() {
        let mut feed = Feed::new(|sender, tasks| {
            tasks.spawn(async move {
                while sender.send(Ok(Portion { partition: 0, values: vec![vec![0]; 1000] })).await.is_ok() {}
            });
        });
        // Lets them queue up.
        tokio::task::yield_now().await;
        for _ in 0..3 {
            assert!((1000..=TAKEN_MAX + 1000).contains(&feed.next(&mut |_| {}).await.unwrap()));
            tokio::task::yield_now().await;
        }
        assert_eq!(feed.next(&mut |_| {}).await.unwrap(), 5000);
    }

    #[tokio::test]
    async fn portions_are_handed_over_in_order_and_an_error_comes_after_them() {
        let mut feed = Feed::new(|sender, tasks| {
            tasks.spawn(async move {
                for partition in 0..2 {
                    let values = vec![vec![partition as u8], vec![9]];
                    sender.send(Ok(Portion { partition, values })).await.unwrap();
                }
                sender.send(Err(SystemError::Read("broken".to_owned()))).await.unwrap();
            });
        });
        let mut seen = Vec::new();
        let error = loop {
            let mut take = |incoming: crate::system::Incoming<'_>| {
                seen.push((incoming.partition, incoming.value[0]));
            };
            if let Err(error) = feed.next(&mut take).await {
                break error;
            }
        };
        assert_eq!(seen, [(0, 0), (0, 9), (1, 1), (1, 9)]);
        assert_eq!(error, SystemError::Read("broken".to_owned()));
        let ended = feed.next(&mut |_| unreachable!()).await.unwrap_err();
        assert_eq!(ended, SystemError::Read("the connection ended".to_owned()));
    }
}
