//! Records on their way out: places, resuming, ends, and what must never be skipped.

use std::time::Duration;

use millstream_client::{
    Client, Compression, Offset, ProducerConfig, ReadError, Reader, ReaderConfig, Record, RecordsError,
    Start, TimestampMs,
};

use storage_frame::LeaderEpoch;

use crate::support::{Broker, TOPIC};

/// Batches of ten records each; record `n` has value and timestamp `n`.
async fn fill(broker: &Broker, client: &Client, count: u64, compression: Compression) {
    let mut config = ProducerConfig::default();
    config.compression = compression;
    config.linger = Duration::from_secs(60);
    let producer = client.producer(config).unwrap();
    let begin = broker.state().logs[0].end();
    for n in begin..begin + count {
        let value = n.to_le_bytes();
        let record =
            Record::new(TOPIC, &value).partition(0).timestamp(TimestampMs(n as i64)).header("h", b"v");
        let _delivery = producer.send(record).await.unwrap();
        if n % 10 == 9 {
            producer.flush().await.unwrap();
        }
    }
    producer.close().await.unwrap();
}

/// Reads to the end and checks that values and offsets are one row.
async fn read_all(reader: &mut Reader) -> Vec<u64> {
    let mut values = Vec::new();
    while let Some(batch) = reader.next().await.unwrap() {
        assert_eq!(batch.topic(), TOPIC);
        for record in batch.records() {
            let record = record.unwrap();
            let value = u64::from_le_bytes(record.value.unwrap().try_into().unwrap());
            assert_eq!(record.offset.0, value);
            assert_eq!(record.headers().collect::<Vec<_>>(), [("h", Some(&b"v"[..]))]);
            values.push(value);
        }
        assert_eq!(batch.next_offset().0, values.last().unwrap() + 1);
    }
    values
}

fn partition_0(start: Start) -> ReaderConfig {
    ReaderConfig::new(TOPIC).partitions([0]).from(start).until_end()
}

#[tokio::test]
async fn every_start_gives_its_records_and_stops_at_the_end() {
    let broker = Broker::start(2);
    let client = broker.client().await;
    fill(&broker, &client, 95, Compression::None).await;
    for (start, first) in [
        (Start::Beginning, 0),
        (Start::Offset(Offset(0)), 0),
        (Start::Offset(Offset(37)), 37),
        (Start::Offset(Offset(95)), 95),
        (Start::Timestamp(TimestampMs(42)), 42),
        (Start::Timestamp(TimestampMs(-5)), 0),
        (Start::Timestamp(TimestampMs(1_000)), 95),
        (Start::End, 95),
    ] {
        let mut reader = client.reader(partition_0(start)).await.unwrap();
        assert_eq!(read_all(&mut reader).await, (first..95).collect::<Vec<_>>(), "{start:?}");
    }
    let mut both = client.reader(ReaderConfig::new(TOPIC).from(Start::Beginning).until_end()).await.unwrap();
    assert_eq!(read_all(&mut both).await.len(), 95);
}

#[tokio::test]
async fn compressed_batches_are_read_and_bounded() {
    let broker = Broker::start(1);
    let client = broker.client().await;
    fill(&broker, &client, 50, Compression::Zstd { level: 1 }).await;
    fill(&broker, &client, 50, Compression::Lz4).await;
    let mut reader = client.reader(partition_0(Start::Offset(Offset(5)))).await.unwrap();
    assert_eq!(read_all(&mut reader).await, (5..100).collect::<Vec<_>>());

    let mut bounded = partition_0(Start::Beginning);
    bounded.plain_bytes_max = 100;
    let mut reader = client.reader(bounded).await.unwrap();
    let error = reader.next().await.unwrap_err();
    assert!(
        matches!(error, ReadError::BadBatch { partition: 0, source: RecordsError::Decompress(_), .. }),
        "{error}"
    );
    assert!(reader.next().await.unwrap().is_none(), "the partition has ended");
}

#[tokio::test]
async fn lost_streams_are_resumed_without_loss_or_doubling() {
    let broker = Broker::start(1);
    let client = broker.client().await;
    fill(&broker, &client, 400, Compression::None).await;
    broker.state().read_resets = [1, 0, 2, 1, 0, 0, 3].into();
    let mut reader = client.reader(partition_0(Start::Offset(Offset(3)))).await.unwrap();
    assert_eq!(read_all(&mut reader).await, (3..400).collect::<Vec<_>>());
    assert!(broker.state().read_resets.is_empty(), "every fault happened");
}

#[tokio::test]
async fn reader_that_waits_goes_on_after_a_restart() {
    let broker = Broker::start(1);
    let client = broker.client().await;
    fill(&broker, &client, 10, Compression::None).await;
    let mut reader = client.reader(ReaderConfig::new(TOPIC).from(Start::Beginning)).await.unwrap();
    let batch = reader.next().await.unwrap().unwrap();
    assert_eq!((batch.next_offset(), batch.high_watermark()), (Offset(10), Offset(10)));
    let broker = broker.restart().await;
    fill(&broker, &client, 10, Compression::None).await;
    let batch = reader.next().await.unwrap().unwrap();
    assert_eq!(batch.first_offset(), Offset(10));
}

#[tokio::test]
async fn offsets_out_of_range_are_errors_both_ways() {
    let broker = Broker::start(1);
    let client = broker.client().await;
    fill(&broker, &client, 30, Compression::None).await;
    client.admin().delete_records(TOPIC, 0, Offset(20)).await.unwrap();
    for asked in [19, 31] {
        let error = client.reader(partition_0(Start::Offset(Offset(asked)))).await.unwrap_err();
        let expect = ReadError::OffsetOutOfRange {
            partition: 0,
            asked: Offset(asked),
            log_start: Offset(20),
            high_watermark: Offset(30),
        };
        assert_eq!(error, expect);
    }
    let mut reader = client.reader(partition_0(Start::Beginning)).await.unwrap();
    assert_eq!(read_all(&mut reader).await.first(), Some(&20));
}

#[tokio::test]
async fn beginning_that_moves_while_the_reader_is_opened_is_followed() {
    let broker = Broker::start(1);
    let client = broker.client().await;
    fill(&broker, &client, 40, Compression::None).await;
    broker.state().trim_after_find = Some(20);
    let mut reader = client.reader(partition_0(Start::Beginning)).await.unwrap();
    assert_eq!(read_all(&mut reader).await, (20..40).collect::<Vec<_>>());
    broker.state().trim_after_find = Some(30);
    let mut reader = client.reader(partition_0(Start::Offset(Offset(20)))).await.unwrap();
    let error = reader.next().await.unwrap_err();
    assert!(matches!(error, ReadError::OffsetOutOfRange { asked: Offset(20), .. }), "{error}");
    broker.state().trim_after_find = Some(40);
    let mut reader = client.reader(partition_0(Start::Beginning)).await.unwrap();
    assert!(read_all(&mut reader).await.is_empty(), "everything up to the end is gone");
}

/// With `write.caching` a crash loses records from memory, and the next ones get their offsets.
#[tokio::test]
async fn records_in_the_place_of_ones_that_were_read_are_an_error() {
    for lost_count in [1, 2] {
        let broker = Broker::start(1);
        let client = broker.client().await;
        fill(&broker, &client, 20, Compression::None).await;
        let mut reader = client.reader(ReaderConfig::new(TOPIC).from(Start::Beginning)).await.unwrap();
        let mut next = Offset(0);
        while next < Offset(20) {
            next = reader.next().await.unwrap().unwrap().next_offset();
        }
        let (address, identity, state) = broker.stop().await;
        for frame in state.lock().unwrap().logs[0].frames.iter_mut().rev().take(lost_count) {
            let base_offset = frame.header().base_offset;
            frame.assign(base_offset, LeaderEpoch(2));
        }
        let broker = Broker::resume(address, identity, state);
        let error = reader.next().await.unwrap_err();
        assert_eq!(error, ReadError::Diverged { partition: 0, next: Offset(20) });
        drop(broker);
    }
}

#[tokio::test]
async fn reader_goes_on_when_everything_it_has_read_was_deleted_meanwhile() {
    let broker = Broker::start(1);
    let client = broker.client().await;
    fill(&broker, &client, 10, Compression::None).await;
    let mut reader = client.reader(ReaderConfig::new(TOPIC).from(Start::Beginning)).await.unwrap();
    assert_eq!(reader.next().await.unwrap().unwrap().next_offset(), Offset(10));
    broker.state().logs[0].log_start = 10;
    let broker = broker.restart().await;
    fill(&broker, &client, 10, Compression::None).await;
    assert_eq!(reader.next().await.unwrap().unwrap().first_offset(), Offset(10));
}

#[tokio::test]
async fn gap_in_what_the_broker_pushes_is_an_error() {
    let broker = Broker::start(1);
    let client = broker.client().await;
    fill(&broker, &client, 30, Compression::None).await;
    broker.state().skip_frames = 1;
    let mut reader = client.reader(partition_0(Start::Beginning)).await.unwrap();
    let error = reader.next().await.unwrap_err();
    assert!(matches!(error, ReadError::NotContiguous { partition: 0, .. }), "{error}");
}

#[tokio::test]
async fn reader_that_is_not_drained_takes_bounded_memory_and_holds_up_nobody() {
    let broker = Broker::start(1);
    let client = broker.client().await;
    let producer = client.producer(ProducerConfig::default()).unwrap();
    let value = vec![1; 100_000];
    let mut config = ReaderConfig::new(TOPIC).from(Start::Beginning);
    config.buffer_bytes_per_partition = 256 << 10;
    let mut lazy = client.reader(config).await.unwrap();
    // More than its buffer, its stream's window and its connection's window together.
    for _ in 0..300 {
        producer.send(Record::new(TOPIC, &value)).await.unwrap().await.unwrap();
    }
    let mut count = 0;
    while count < 300 {
        count += lazy.next().await.unwrap().unwrap().record_count();
    }
}

/// A task that watched the connection held it open when the reader was dropped while it dialled.
#[tokio::test]
async fn reader_dropped_at_any_moment_leaves_no_connection_behind() {
    let broker = Broker::start(2);
    let client = broker.client().await;
    let config = || ReaderConfig::new(TOPIC).from(Start::Beginning);
    for turns_count in (0..60).map(|n| n * n / 20) {
        let opening = async {
            let mut reader = client.reader(config()).await.unwrap();
            reader.next().await.unwrap();
        };
        let turns = async {
            for _ in 0..turns_count {
                tokio::task::yield_now().await;
            }
        };
        tokio::select! {
            () = opening => {}
            () = turns => {}
        }
    }
    // One that is opened, so that connections were made.
    drop(client.reader(config()).await.unwrap());
    let connections = broker.state().connections.clone();
    assert!(connections.len() > 2);
    // The first is the client's own.
    for connection in &connections[1..] {
        tokio::time::timeout(Duration::from_secs(5), connection.closed()).await.expect("closed");
    }
    assert!(connections[0].close_reason().is_none());
}

#[tokio::test]
async fn unknown_topics_and_partitions_are_errors_of_their_own() {
    let broker = Broker::start(2);
    let client = broker.client().await;
    let error = client.reader(ReaderConfig::new("other")).await.unwrap_err();
    assert_eq!(error, ReadError::UnknownTopic { topic: "other".into() });
    let error = client.reader(ReaderConfig::new(TOPIC).partitions([5])).await.unwrap_err();
    let expect = ReadError::PartitionOutOfRange { topic: TOPIC.into(), partition: 5, partitions_count: 2 };
    assert_eq!(error, expect);
}
