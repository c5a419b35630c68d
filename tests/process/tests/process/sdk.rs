//! What the command line does not show: offsets of acks, deleted beginnings, clients on the wrong core.

use std::collections::BTreeMap;
use std::time::Duration;

use millstream_client::{
    Client, Config, Offset, Producer, ProducerConfig, ReadError, ReaderConfig, Record, RecordMetadata, Start,
    Trust,
};
use tests_process::scrape::metric;
use tests_process::{Broker, Chance, Options, directory};
use tokio::sync::mpsc;

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

async fn client(broker: &Broker) -> Client {
    Client::connect(config(broker)).await.unwrap()
}

fn config(broker: &Broker) -> Config {
    Config::new([broker.options.listen.to_string()]).with_trust(Trust::DataDir(broker.options.data.clone()))
}

/// Values by offset, of one partition from its start to its present end.
async fn stored(client: &Client, topic: &str, partition: u32) -> BTreeMap<u64, Vec<u8>> {
    let config = ReaderConfig::new(topic).partitions([partition]).from(Start::Beginning).until_end();
    let mut reader = client.reader(config).await.unwrap();
    let mut all = BTreeMap::new();
    while let Some(batch) = reader.next().await.unwrap() {
        let first = batch.first_offset().0;
        for (at, record) in batch.records().enumerate() {
            let value = record.unwrap().value.unwrap().to_vec();
            assert_eq!(all.insert(first + at as u64, value), None, "an offset came twice");
        }
    }
    all
}

async fn send(producer: &Producer, topic: &str, value: &str) -> RecordMetadata {
    producer.send(Record::new(topic, value.as_bytes())).await.unwrap().await.unwrap()
}

#[test]
fn an_offset_below_the_start_is_out_of_range() {
    let dir = directory();
    let mut broker = Broker::start(Options::new(dir.path()));
    broker.cli().create("trimmed", 1);
    block_on(async {
        let client = client(&broker).await;
        let producer = client.producer(ProducerConfig::default()).unwrap();
        for n in 0..10 {
            send(&producer, "trimmed", &n.to_string()).await;
        }
        let start = client.admin().delete_records("trimmed", 0, Offset(4)).await.unwrap();
        assert_eq!(start, Offset(4));
        let past_the_end = client.admin().delete_records("trimmed", 0, Offset(11)).await;
        assert!(past_the_end.unwrap_err().to_string().contains("out of range"));
    });
    for _ in 0..2 {
        block_on(async {
            let client = client(&broker).await;
            let read = client.reader(ReaderConfig::new("trimmed").from(Start::Offset(Offset(3)))).await;
            let error = read.map(|_| ()).unwrap_err();
            let ReadError::OffsetOutOfRange { asked, log_start, high_watermark, .. } = error else {
                panic!("{error}")
            };
            assert_eq!((asked, log_start, high_watermark), (Offset(3), Offset(4), Offset(10)));
            let left = stored(&client, "trimmed", 0).await;
            assert_eq!(left.keys().copied().collect::<Vec<_>>(), (4..10).collect::<Vec<_>>());
        });
        // The deleted beginning stays deleted.
        broker.kill9();
        broker.restart();
    }
    let cli = broker.cli();
    cli.run(&["consume", "trimmed", "--partition", "0", "--offset", "3", "--exit-at-end"])
        .expect(1)
        .says(&["offset", "3", "4", "10"]);
}

#[test]
fn a_client_on_the_wrong_core_gets_right_answers() {
    let dir = directory();
    let broker = Broker::start(Options::new(dir.path()).cores(2));
    broker.cli().create("crossed", 8);
    let forwarded = || metric(&broker.metrics(), "millstream_requests_forwarded_total", "").expect("counted");
    let before = forwarded();
    block_on(async {
        for core in [0, 1] {
            let mut config = config(&broker);
            config.force_core = Some(core);
            let client = Client::connect(config).await.unwrap();
            let producer = client.producer(ProducerConfig::default()).unwrap();
            for partition in 0..8 {
                let value = format!("{core}/{partition}");
                let record = Record::new("crossed", value.as_bytes()).partition(partition);
                let delivered = producer.send(record).await.unwrap().await.unwrap();
                assert_eq!(
                    (delivered.partition, delivered.offset),
                    (partition, Some(Offset(u64::from(core))))
                );
            }
            for partition in 0..8 {
                let read = stored(&client, "crossed", partition).await;
                assert_eq!(read.len(), usize::from(core) + 1);
                assert_eq!(read[&u64::from(core)], format!("{core}/{partition}").into_bytes());
            }
        }
    });
    // Each partition was produced to and read from once on the core that does not own it.
    let crossed = forwarded() - before;
    assert!(crossed >= 16.0, "{crossed} requests crossed over");
}

/// Every acknowledged record is remembered with the offset its ack named; after each kill that is where it is.
#[test]
fn what_was_acknowledged_stays_at_its_offset_through_kills() {
    const PARTITIONS: u32 = 4;
    let mut chance = Chance::new(77);
    let dir = directory();
    let mut broker = Broker::start(Options::new(dir.path()));
    broker.cli().create("acked", PARTITIONS);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let producing = runtime.block_on(client(&broker));
    let producer = producing.producer(ProducerConfig::default()).unwrap();
    let (stop, acked) = produce_until_stopped(&runtime, producer);
    let mut promised: BTreeMap<(u32, u64), Vec<u8>> = BTreeMap::new();
    for _ in 0..8 {
        let wanted = promised.len() + 200 + chance.below(3_000) as usize;
        while promised.len() < wanted {
            let (place, value) =
                acked.recv_timeout(Duration::from_secs(60)).expect("the producer rides through");
            assert_eq!(promised.insert(place, value), None, "{place:?} was acknowledged twice");
        }
        broker.kill9();
        broker.restart();
        // A connection of its own: that of the producer may not have noticed yet.
        let client = runtime.block_on(client(&broker));
        for partition in 0..PARTITIONS {
            let stored = runtime.block_on(stored(&client, "acked", partition));
            assert_eq!(
                stored.keys().copied().collect::<Vec<_>>(),
                (0..stored.len() as u64).collect::<Vec<_>>()
            );
            for ((_, offset), value) in promised.range((partition, 0)..(partition + 1, 0)) {
                assert_eq!(stored.get(offset), Some(value), "partition {partition}, offset {offset}");
            }
        }
    }
    stop.store(true, std::sync::atomic::Ordering::Relaxed);
    promised.extend(acked.iter());
    let client = runtime.block_on(client(&broker));
    let mut values: Vec<Vec<u8>> = Vec::new();
    for partition in 0..PARTITIONS {
        values.extend(runtime.block_on(stored(&client, "acked", partition)).into_values());
    }
    values.sort_unstable();
    values.dedup();
    assert_eq!(values.len(), promised.len(), "every record once, and no other");
}

type Acked = ((u32, u64), Vec<u8>);

/// Unacknowledged records are bounded; the channel ends once all are acknowledged after the stop.
fn produce_until_stopped(
    runtime: &tokio::runtime::Runtime,
    producer: Producer,
) -> (std::sync::Arc<std::sync::atomic::AtomicBool>, std::sync::mpsc::Receiver<Acked>) {
    let stop = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let stopped = std::sync::Arc::clone(&stop);
    let (send_delivery, mut deliveries) = mpsc::channel(500);
    let (send_acked, acked) = std::sync::mpsc::channel();
    runtime.spawn(async move {
        for n in 0_u64.. {
            if stopped.load(std::sync::atomic::Ordering::Relaxed) {
                break;
            }
            let value = format!("record {n}").into_bytes();
            let record = Record::new("acked", &value).partition((n % 4) as u32);
            let delivery = producer.send(record).await.unwrap();
            if send_delivery.send((value, delivery)).await.is_err() {
                break;
            }
        }
        producer.close().await.unwrap();
    });
    runtime.spawn(async move {
        while let Some((value, delivery)) = deliveries.recv().await {
            let stored = delivery.await.unwrap();
            let place = (stored.partition, stored.offset.unwrap().0);
            if send_acked.send((place, value)).is_err() {
                break;
            }
        }
    });
    (stop, acked)
}
