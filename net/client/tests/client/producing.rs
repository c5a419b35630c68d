//! Records on their way in, through losses and refusals.

use std::time::Duration;

use millstream_client::{
    Acks, Client, Compression, Delivery, DeliveryError, ProduceError, Producer, ProducerConfig, Record,
    SendError,
};

use crate::support::{Broker, Fault, Log, TOPIC};

fn config(change: impl FnOnce(&mut ProducerConfig)) -> ProducerConfig {
    let mut config = ProducerConfig::default();
    config.delivery_timeout = Duration::from_secs(20);
    change(&mut config);
    config
}

async fn send_numbers(producer: &Producer, range: std::ops::Range<u32>) -> Vec<Delivery> {
    let mut deliveries = Vec::new();
    for n in range {
        let value = n.to_le_bytes();
        deliveries.push(producer.send(Record::new(TOPIC, &value).partition(0)).await.unwrap());
    }
    deliveries
}

#[track_caller]
fn assert_numbers(broker: &Broker, count: u32) {
    let expect: Vec<Vec<u8>> = (0..count).map(|n| n.to_le_bytes().to_vec()).collect();
    assert!(
        broker.values(0) == expect,
        "stored {} records, expected {count} in order",
        broker.values(0).len()
    );
}

#[tokio::test]
async fn records_are_stored_in_order_with_dense_offsets() {
    let broker = Broker::start(1);
    let client = broker.client().await;
    let producer = client.producer(config(|c| c.batch_bytes = 4 << 10)).unwrap();
    let deliveries = send_numbers(&producer, 0..20_000).await;
    for (n, delivery) in deliveries.into_iter().enumerate() {
        let metadata = delivery.await.unwrap();
        assert_eq!(metadata.offset.unwrap().0, n as u64);
        assert_eq!(metadata.timings.disk, Duration::from_micros(95));
    }
    assert_numbers(&broker, 20_000);
    assert_eq!(producer.stats().memory_bytes, 0);
    producer.close().await.unwrap();
}

#[tokio::test]
async fn lost_connections_and_refusals_lose_and_double_nothing() {
    let broker = Broker::start(1);
    let client = broker.client().await;
    let producer = client.producer(config(|c| c.batch_bytes = 1 << 10)).unwrap();
    let no_space = || Fault::Refuse(ProduceError::NoSpace);
    let not_leader = || Fault::Refuse(ProduceError::NotLeader);
    broker.state().faults =
        [not_leader(), Fault::StoreAndDrop, Fault::Drop, no_space(), Fault::StoreAndDrop, no_space()].into();
    let deliveries = send_numbers(&producer, 0..2_000).await;
    producer.flush().await.unwrap();
    for (n, delivery) in deliveries.into_iter().enumerate() {
        assert_eq!(delivery.peek().unwrap().unwrap().offset.unwrap().0, n as u64);
    }
    assert_numbers(&broker, 2_000);
    assert!(producer.stats().retries_count > 0);
    assert_eq!(producer.stats().identities_count, 0);
}

#[tokio::test]
async fn producer_rides_through_a_restart() {
    let broker = Broker::start(1);
    let client = broker.client().await;
    let producer = client.producer(config(|c| c.batch_bytes = 1 << 10)).unwrap();
    let mut deliveries = send_numbers(&producer, 0..500).await;
    let broker = {
        let (address, identity, state) = broker.stop().await;
        deliveries.extend(send_numbers(&producer, 500..1_000).await);
        Broker::resume(address, identity, state)
    };
    deliveries.extend(send_numbers(&producer, 1_000..1_500).await);
    for delivery in deliveries {
        delivery.await.unwrap();
    }
    assert_numbers(&broker, 1_500);
}

#[tokio::test]
async fn deadline_without_an_answer_says_unknown() {
    let broker = Broker::start(1);
    let client = broker.client().await;
    let producer = client.producer(config(|c| c.delivery_timeout = Duration::from_millis(300))).unwrap();
    broker.state().faults = [Fault::StoreAndHang].into();
    let delivery = producer.send(Record::new(TOPIC, b"x")).await.unwrap();
    assert!(matches!(delivery.await, Err(DeliveryError::TimedOut { .. })));
    // The stream is of no more use: the next record takes another, under another producer id.
    producer.send(Record::new(TOPIC, b"y")).await.unwrap().await.unwrap();
    assert_eq!(broker.values(0), [b"x", b"y"]);
}

#[tokio::test]
async fn broker_away_says_never_sent_at_the_deadline() {
    let broker = Broker::start(1);
    let client = broker.client().await;
    let producer = client.producer(config(|c| c.delivery_timeout = Duration::from_millis(500))).unwrap();
    producer.send(Record::new(TOPIC, b"x")).await.unwrap().await.unwrap();
    broker.stop().await;
    // The connection's end may not have been heard of yet: the first may still go out.
    let first = producer.send(Record::new(TOPIC, b"y")).await.unwrap();
    let second = producer.send(Record::new(TOPIC, b"z")).await.unwrap();
    assert!(matches!(first.await, Err(DeliveryError::NotSent { .. } | DeliveryError::TimedOut { .. })));
    let error = second.await.unwrap_err();
    assert!(matches!(&error, DeliveryError::NotSent { last: Some(_), .. }), "{error}");
}

#[tokio::test]
async fn batch_refused_as_too_large_goes_again_in_pieces() {
    let broker = Broker::start(1);
    let client = broker.client().await;
    let producer = client.producer(config(|c| c.linger = Duration::from_secs(10))).unwrap();
    let too_large = ProduceError::TooLarge { batch_bytes: 0, batch_bytes_max: 500 };
    broker.state().faults = [Fault::Refuse(too_large)].into();
    let deliveries = send_numbers(&producer, 0..100).await;
    producer.flush().await.unwrap();
    for (n, delivery) in deliveries.into_iter().enumerate() {
        assert_eq!(delivery.await.unwrap().offset.unwrap().0, n as u64);
    }
    assert_numbers(&broker, 100);
    assert!(broker.state().logs[0].frames.iter().all(|frame| frame.header().frame_bytes() <= 500));
}

#[tokio::test]
async fn records_that_can_never_go_are_refused_at_once() {
    let broker = Broker::start(2);
    broker.state().message_bytes_max = 2_000;
    let client = broker.client().await;
    let producer = client.producer(config(|_| {})).unwrap();
    let unknown = producer.send(Record::new("other", b"")).await.unwrap_err();
    assert_eq!(unknown, SendError::UnknownTopic { topic: "other".into() });
    let out_of_range = producer.send(Record::new(TOPIC, b"").partition(2)).await.unwrap_err();
    assert_eq!(out_of_range, SendError::PartitionOutOfRange { partition: 2, partitions_count: 2 });
    let too_large = producer.send(Record::new(TOPIC, &[0; 2_000])).await.unwrap_err();
    assert!(matches!(too_large, SendError::RecordTooLarge { record_bytes_max: 2_000, .. }));
    let refused = ProduceError::Damaged { why: "test".into() };
    broker.state().faults = [Fault::Refuse(refused.clone())].into();
    let delivery = producer.send(Record::new(TOPIC, b"x")).await.unwrap();
    assert_eq!(delivery.await, Err(DeliveryError::Refused(refused)));
}

#[tokio::test]
async fn full_memory_makes_send_wait_for_answers() {
    let broker = Broker::start(1);
    let client = broker.client().await;
    let producer = client.producer(config(|c| (c.batch_bytes, c.memory_bytes) = (1_024, 2_048))).unwrap();
    broker.state().faults = vec![Fault::Refuse(ProduceError::Overloaded); 3].into();
    let first = producer.send(Record::new(TOPIC, &[0; 900])).await.unwrap();
    let second = producer.send(Record::new(TOPIC, &[1; 900])).await.unwrap();
    assert!(first.peek().is_none() && producer.stats().memory_bytes <= 2_048);
    let third = producer.send(Record::new(TOPIC, &[2; 900])).await.unwrap();
    assert!(first.peek().is_some(), "there was no room before");
    for delivery in [first, second, third] {
        delivery.await.unwrap();
    }
}

#[tokio::test]
async fn compressed_batches_hold_the_same_records() {
    for compression in [Compression::Lz4, Compression::Zstd { level: 3 }] {
        let broker = Broker::start(1);
        let client = broker.client().await;
        let producer = client.producer(config(|c| c.compression = compression)).unwrap();
        let _deliveries = send_numbers(&producer, 0..1_000).await;
        producer.flush().await.unwrap();
        assert_numbers(&broker, 1_000);
        let codecs: Vec<_> = broker.state().logs[0].frames.iter().map(|f| f.header().codec).collect();
        assert!(codecs.iter().any(|codec| *codec != storage_frame::Codec::None), "{codecs:?}");
    }
}

#[tokio::test]
async fn added_partitions_are_found_before_a_record_is_refused() {
    let broker = Broker::start(1);
    let client = broker.client().await;
    let producer = client.producer(config(|_| {})).unwrap();
    producer.send(Record::new(TOPIC, b"x")).await.unwrap().await.unwrap();
    broker.state().logs.push(Log::default());
    // What was learned within the last second is believed, then it is asked for again.
    let second = tokio::time::timeout(Duration::from_secs(5), async {
        loop {
            match producer.send(Record::new(TOPIC, b"y").partition(1)).await {
                Ok(delivery) => break delivery.await.unwrap().partition,
                Err(SendError::PartitionOutOfRange { .. }) => tokio::task::yield_now().await,
                Err(error) => panic!("{error}"),
            }
        }
    });
    assert_eq!(second.await, Ok(1));
}

#[tokio::test]
async fn deleted_topic_refuses_what_is_on_its_way_and_then_everything() {
    let broker = Broker::start(1);
    let client = broker.client().await;
    let producer = client.producer(config(|_| {})).unwrap();
    producer.send(Record::new(TOPIC, b"x")).await.unwrap().await.unwrap();
    broker.state().topic_gone = true;
    let late = producer.send(Record::new(TOPIC, b"y")).await.unwrap();
    assert_eq!(late.await, Err(DeliveryError::Refused(ProduceError::UnknownPartition)));
    let later = producer.send(Record::new(TOPIC, b"z")).await.unwrap_err();
    assert_eq!(later, SendError::UnknownTopic { topic: TOPIC.into() });
    broker.state().topic_gone = false;
    producer.send(Record::new(TOPIC, b"anew")).await.unwrap().await.unwrap();
}

#[tokio::test]
async fn without_acks_close_waits_until_everything_has_arrived() {
    let broker = Broker::start(1);
    let client = broker.client().await;
    let producer = client.producer(config(|c| c.acks = Acks::None)).unwrap();
    for delivery in send_numbers(&producer, 0..5_000).await {
        assert_eq!(delivery.await.unwrap().offset, None);
    }
    producer.close().await.unwrap();
    drop(client);
    let state = std::sync::Arc::clone(&broker.state);
    let stored = || state.lock().unwrap().logs[0].end() == 5_000;
    tokio::time::timeout(Duration::from_secs(5), async {
        while !stored() {
            broker.changed.notified().await;
        }
    })
    .await
    .unwrap();
    assert_numbers(&broker, 5_000);
}

/// Lanes of all producers and topics shared one connection per 512 partitions, and requests with them: from 1025
/// on they waited for a stream for ever.
#[tokio::test]
async fn more_lanes_than_a_connection_has_streams_starve_neither_each_other_nor_requests() {
    let partitions_count = 500;
    let broker = Broker::start(partitions_count);
    let mut client_config = broker.config();
    // One core: all of it would be on one connection.
    client_config.force_core = Some(0);
    let client = Client::connect(client_config).await.unwrap();
    let mut producers = Vec::new();
    for _ in 0..3 {
        let producer = client.producer(config(|c| c.delivery_timeout = Duration::from_secs(8))).unwrap();
        let mut deliveries = Vec::new();
        for partition in 0..partitions_count {
            let record = Record::new(TOPIC, b"x").partition(partition);
            deliveries.push(producer.send(record).await.unwrap());
        }
        for delivery in deliveries {
            delivery.await.unwrap();
        }
        producers.push(producer);
    }
    client.admin().list_topics().await.unwrap();
    // Requests, and three times 500 streams of at most 512 a connection.
    assert_eq!(broker.state().connections.len(), 4);
}

#[tokio::test]
async fn dropping_the_producer_resolves_its_deliveries() {
    let broker = Broker::start(1);
    let client = broker.client().await;
    let producer = client.producer(config(|c| c.linger = Duration::from_secs(60))).unwrap();
    let delivery = producer.send(Record::new(TOPIC, b"x")).await.unwrap();
    drop(producer);
    assert_eq!(delivery.await, Err(DeliveryError::Closed { sent: false }));
}
