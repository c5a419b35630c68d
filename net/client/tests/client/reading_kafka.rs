//! Batches that came over Kafka's protocol: every codec, the middle of a batch, batches that compaction has been at.

use bytes::Bytes;
use millstream_client::{
    Offset, ReadBatch, ReadError, Reader, ReaderConfig, RecordsError, Start, TimestampMs,
};
use storage_frame::{Compaction, Frame, LeaderEpoch};
use storage_recordbatch::{BatchBuilder, BatchFields, Compression, retain, to_frame};

use crate::support::{Broker, TOPIC};

const CODECS: [Compression; 5] =
    [Compression::None, Compression::Gzip, Compression::Snappy, Compression::Lz4, Compression::Zstd];

/// The value and time of the record at `offset`; every third has no key, every fourth is a tombstone.
fn value(offset: u64) -> Option<Vec<u8>> {
    (offset % 4 != 3).then(|| format!("value {offset} ").repeat(20).into_bytes())
}

fn key(offset: u64) -> Option<Vec<u8>> {
    (offset % 3 != 2).then(|| offset.to_be_bytes().to_vec())
}

/// Ten records from `base` on as a client sends them.
fn frame(base: u64, compression: Compression) -> Frame {
    let mut batch = BatchBuilder::new();
    for delta in 0..10 {
        let offset = base + u64::from(delta);
        let headers = [("h", Some(&b"v"[..])), ("none", None)];
        let (key, value) = (key(offset), value(offset));
        batch.push(delta, TimestampMs(offset as i64), key.as_deref(), value.as_deref(), headers).unwrap();
    }
    let mut frame = to_frame(batch.seal(compression, &BatchFields::UNASSIGNED)).unwrap();
    frame.assign(Offset(base), LeaderEpoch(1));
    frame
}

/// As compaction leaves it.
fn compacted(frame: &Frame, keep: impl Fn(u64) -> bool) -> Frame {
    let left = retain(frame, 1 << 20, |record| keep(record.offset.0)).unwrap().expect("some went");
    let compaction = Some(Compaction { holes: true, tombstones_at: None });
    Frame::seal(storage_frame::FrameHeader { compaction, producer: None, ..*frame.header() }, left)
}

/// A frame without records for `count` offsets.
fn emptied(base: u64, count: u32) -> Frame {
    let frame = frame(base, Compression::None);
    let compaction = Some(Compaction { holes: false, tombstones_at: None });
    let header = storage_frame::FrameHeader {
        compaction,
        producer: None,
        record_count: count,
        leader_epoch: LeaderEpoch(2),
        ..*frame.header()
    };
    Frame::seal(header, Bytes::new())
}

fn offsets(batch: &ReadBatch) -> Vec<u64> {
    let mut offsets = Vec::new();
    for record in batch.records() {
        let record = record.unwrap();
        let offset = record.offset.0;
        assert_eq!(record.key, key(offset).as_deref());
        assert_eq!(record.value, value(offset).as_deref());
        assert_eq!(record.timestamp, TimestampMs(offset as i64));
        assert_eq!(record.headers().collect::<Vec<_>>(), [("h", Some(&b"v"[..])), ("none", None)]);
        offsets.push(offset);
    }
    assert_eq!(batch.first_offset().0, offsets[0]);
    assert_eq!(batch.record_count() as usize, offsets.len());
    offsets
}

async fn read_all(reader: &mut Reader) -> Vec<u64> {
    let mut all = Vec::new();
    while let Some(batch) = reader.next().await.unwrap() {
        all.extend(offsets(&batch));
    }
    all
}

fn from(start: Start) -> ReaderConfig {
    ReaderConfig::new(TOPIC).from(start).until_end()
}

#[tokio::test]
async fn batches_in_every_codec_are_read_from_any_place() {
    let broker = Broker::start(1);
    broker.state().logs[0].frames =
        CODECS.iter().enumerate().map(|(n, codec)| frame(n as u64 * 10, *codec)).collect();
    let client = broker.client().await;
    for (start, first) in [
        (Start::Beginning, 0),
        (Start::Offset(Offset(7)), 7),
        (Start::Offset(Offset(10)), 10),
        (Start::Offset(Offset(39)), 39),
        (Start::Timestamp(TimestampMs(25)), 25),
        (Start::End, 50),
    ] {
        let mut reader = client.reader(from(start)).await.unwrap();
        assert_eq!(read_all(&mut reader).await, (first..50).collect::<Vec<_>>(), "{start:?}");
    }
}

#[tokio::test]
async fn what_compaction_took_is_skipped_and_the_rest_is_read() {
    let broker = Broker::start(1);
    broker.state().logs[0].frames = vec![
        compacted(&frame(0, Compression::Zstd), |offset| offset % 2 == 1),
        compacted(&frame(10, Compression::None), |_| false),
        emptied(20, 30),
        frame(50, Compression::Gzip),
        emptied(60, 5),
    ];
    let client = broker.client().await;
    for (start, expect) in [
        (0, vec![1, 3, 5, 7, 9, 50, 51, 52, 53, 54, 55, 56, 57, 58, 59]),
        (4, vec![5, 7, 9, 50, 51, 52, 53, 54, 55, 56, 57, 58, 59]),
        (33, (50..60).collect()),
        (57, vec![57, 58, 59]),
        (62, vec![]),
    ] {
        let mut reader = client.reader(from(Start::Offset(Offset(start)))).await.unwrap();
        assert_eq!(read_all(&mut reader).await, expect, "from {start}");
    }
}

#[tokio::test]
async fn lost_streams_go_on_inside_what_compaction_left() {
    let broker = Broker::start(1);
    broker.state().logs[0].frames = vec![frame(0, Compression::Lz4), frame(10, Compression::Lz4)];
    let client = broker.client().await;
    let mut reader = client.reader(ReaderConfig::new(TOPIC).from(Start::Beginning)).await.unwrap();
    assert_eq!(reader.next().await.unwrap().unwrap().next_offset(), Offset(10));
    assert_eq!(reader.next().await.unwrap().unwrap().next_offset(), Offset(20));
    let (address, identity, state) = broker.stop().await;
    state.lock().unwrap().logs[0].frames = vec![emptied(0, 20), frame(20, Compression::Snappy)];
    let broker = Broker::resume(address, identity, state);
    assert_eq!(offsets(&reader.next().await.unwrap().unwrap()), (20..30).collect::<Vec<_>>());
    drop(broker);
}

#[tokio::test]
async fn batch_above_the_readers_bound_is_refused_and_a_small_buffer_is_enough() {
    let broker = Broker::start(1);
    broker.state().logs[0].frames = (0..40).map(|n| frame(n * 10, CODECS[n as usize % 5])).collect();
    let client = broker.client().await;
    let mut config = from(Start::Beginning);
    config.buffer_bytes_per_partition = 64 << 10;
    let mut reader = client.reader(config).await.unwrap();
    assert_eq!(read_all(&mut reader).await.len(), 400);

    let mut bounded = from(Start::Beginning);
    bounded.plain_bytes_max = 100;
    let mut reader = client.reader(bounded).await.unwrap();
    let error = reader.next().await.unwrap_err();
    assert!(matches!(error, ReadError::BadBatch { source: RecordsError::Kafka(_), .. }), "{error}");
}

#[tokio::test]
async fn brokers_append_time_is_every_records_time() {
    let broker = Broker::start(1);
    let mut timed = frame(0, Compression::Zstd);
    timed.set_append_time(TimestampMs(77));
    broker.state().logs[0].frames = vec![timed];
    let client = broker.client().await;
    let mut reader = client.reader(from(Start::Beginning)).await.unwrap();
    let batch = reader.next().await.unwrap().unwrap();
    assert!(batch.records().all(|record| record.unwrap().timestamp == TimestampMs(77)));
}
