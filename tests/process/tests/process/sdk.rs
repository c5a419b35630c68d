//! What the command line does not show: offsets of acks, deleted beginnings, clients on the wrong core.

use millstream_client::{
    Client, Config, Offset, Producer, ProducerConfig, ReadError, ReaderConfig, Record, RecordMetadata, Start,
    Trust,
};
use tests_process::clients::{self, Read};
use tests_process::scrape::metric;
use tests_process::{Broker, Options, directory};

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

async fn client(broker: &Broker) -> Client {
    Client::connect(config(broker)).await.unwrap()
}

fn config(broker: &Broker) -> Config {
    Config::new([broker.options.listen.to_string()]).with_trust(Trust::DataDir(broker.options.data.clone()))
}

/// One partition from its start to its present end.
async fn stored(client: &Client, topic: &str, partition: u32) -> Read {
    let read = clients::read(client, topic, partition, Start::Beginning).await;
    assert_eq!(read.error, None);
    read
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
            assert_eq!((left.start, left.values.len()), (4, 6));
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
                assert_eq!(read.values.len(), usize::from(core) + 1);
                assert_eq!(read.values[usize::from(core)], format!("{core}/{partition}").into_bytes());
            }
        }
    });
    // Each partition was produced to and read from once on the core that does not own it.
    let crossed = forwarded() - before;
    assert!(crossed >= 16.0, "{crossed} requests crossed over");
}
