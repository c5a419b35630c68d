//! What a client can do to the broker's QUIC server (`net/quic`): a real handshake, then streams with any bytes
//! on them, ended in any way, and datagrams from elsewhere. The input is a list of steps.
//!
//! At the end everything is answered and every stream closed: then nothing may be left, every request of a whole
//! stream was asked, and what the client was told are messages of ours.

mod wire;

use std::time::Duration;

use engine_api::{
    Acks, ClusterDescription, Durability, FetchError, Fetched, GroupError, PartitionId, Produced, Request,
    Response, StageTimings, TopicError, TopicId,
};
use net_quic::Ask;
use net_wire::{Kind, MessageHeader, OpenRead, encode};
use storage_frame::{BatchBuilder, Frame, LeaderEpoch, Offset, Salt, TimestampMs};

use crate::mend;
use crate::script::Script;
use wire::Wire;

const PARTITION: PartitionId = PartitionId { topic: TopicId(77), index: 1 };
const STREAMS_MAX: usize = 12;
const STEPS_MAX: usize = 100;
/// Of one step's bytes, repeated.
const WRITE_BYTES_MAX: usize = 256 << 10;

pub fn quic(data: &[u8]) {
    let mut world = World { wire: Wire::connect(), open: Vec::new(), asked: 0 };
    let mut script = Script::new(data);
    for _ in 0..STEPS_MAX {
        if script.is_over() {
            break;
        }
        world.step(&mut script);
        world.take_asks();
    }
    world.end();
}

struct World {
    wire: Wire,
    /// Asked and not answered.
    open: Vec<(u64, Request)>,
    asked: u64,
}

impl World {
    fn step(&mut self, script: &mut Script<'_>) {
        let what = script.u8();
        let opens = what & 0x80 != 0 || self.wire.stream_count() == 0;
        if opens && self.wire.stream_count() < STREAMS_MAX {
            self.wire.open();
        }
        let stream = usize::from(script.u8()) % self.wire.stream_count().max(1);
        match what % 16 {
            0 => {
                let piece = script.piece().to_vec();
                self.wire.write(stream, piece);
            }
            1 => {
                let times = 1 + usize::from(script.u8());
                let piece = script.piece().repeat(times);
                self.wire.write(stream, piece[..piece.len().min(WRITE_BYTES_MAX)].to_vec());
            }
            2 => {
                let bytes = message(script);
                self.wire.write(stream, bytes);
            }
            3 => self.wire.write(stream, encode::open_produce(&PARTITION).to_vec()),
            4 => {
                let bytes = produce(script);
                self.wire.write(stream, bytes);
            }
            5 => {
                let open = OpenRead {
                    partition: PARTITION,
                    offset: Offset(script.u8().into()),
                    bytes_max: script.u16().into(),
                    group: None,
                };
                self.wire.write(stream, encode::open_read(3, &open).to_vec());
            }
            6 => self.wire.write(stream, encode::request(9, &Request::DescribeCluster).to_vec()),
            7 => self.wire.finish(stream),
            8 => self.wire.reset(stream),
            9 => self.wire.stop(stream),
            10 => {
                if !self.open.is_empty() {
                    let nth = stream % self.open.len();
                    self.answer(nth, script.u8() & 1 == 0);
                }
            }
            11 => self.wire.run(Duration::from_millis(100 * u64::from(script.u8()))),
            12 => self.wire.pause(script.u8() & 1 == 0),
            13 => {
                let datagram = script.piece().to_vec();
                self.wire.inject(&datagram);
            }
            14 => {
                let flips = (script.u16(), script.u8());
                self.wire.damage_next(flips);
            }
            _ => self.wire.run(Duration::ZERO),
        }
    }

    fn take_asks(&mut self) {
        while let Some(ask) = self.wire.server.poll_ask() {
            match ask {
                Ask::Request { key, request } => {
                    assert!(self.open.iter().all(|(open, _)| *open != key), "a key is used once at a time");
                    self.asked += 1;
                    self.open.push((key, request));
                }
                Ask::Cancel { key } => {
                    let nth = self.open.iter().position(|(open, _)| *open == key);
                    self.open.remove(nth.expect("what is cancelled was asked"));
                }
            }
        }
        assert_eq!(self.wire.server.stats().requests_open, self.open.len() as u64);
    }

    fn answer(&mut self, nth: usize, well: bool) {
        let (key, request) = self.open.remove(nth);
        self.wire.server.handle_response(self.wire.now, key, response(&request, well));
    }

    /// Everything is answered, every stream closed, and in time nothing is left.
    fn end(mut self) {
        self.wire.pause(false);
        for stream in 0..self.wire.stream_count() {
            self.wire.finish(stream);
        }
        for _ in 0..500 {
            self.wire.run(Duration::from_millis(100));
            self.take_asks();
            // A reader waits for records until it leaves.
            while !self.open.is_empty() {
                self.answer(0, false);
                self.take_asks();
            }
            if self.wire.server.stats().streams_open == 0 {
                break;
            }
        }
        let stats = self.wire.server.stats();
        assert_eq!(
            (stats.streams_open, stats.requests_open, stats.send_buffered_bytes),
            (0, 0, 0),
            "{stats:?}"
        );
        assert!(self.wire.lost.is_none(), "streams are given up, not the connection: {:?}", self.wire.lost);
        self.wire.close();
        self.wire.run(Duration::from_secs(60));
        self.take_asks();
        assert_eq!(self.wire.server.stats().connections, 0);
        assert_eq!(self.wire.server.next_timeout(), None, "nothing is waited for");
    }
}

/// A message whose header says what follows; its meta and bulk are the fuzzer's.
fn message(script: &mut Script<'_>) -> Vec<u8> {
    let kind = Kind::ALL[usize::from(script.u8()) % Kind::ALL.len()];
    let (meta, bulk) = (script.piece(), if kind.has_bulk() { script.piece() } else { &[] });
    let bulk = mend::frame(bulk, Salt::NONE);
    let header = MessageHeader {
        bytes: (meta.len() + bulk.len()) as u32,
        kind,
        meta_bytes: if kind.has_bulk() { meta.len() as u16 } else { 0 },
        correlation: 5,
    };
    [&header.encode()[..], meta, &bulk].concat()
}

fn produce(script: &mut Script<'_>) -> Vec<u8> {
    let acks = [Acks::None, Acks::Leader, Acks::All][usize::from(script.u8() % 3)];
    let mut chunks = Vec::new();
    encode::produce(11, acks, &batch(script.piece()), &mut chunks);
    chunks.concat()
}

fn batch(value: &[u8]) -> Frame {
    let mut batch = BatchBuilder::new();
    batch.push(TimestampMs(1), None, Some(value), []).expect("one small record");
    batch.seal(None)
}

pub(super) fn response(request: &Request, well: bool) -> Response {
    let refused = || TopicError::Unknown { name: "t".to_owned() };
    match request {
        Request::Produce(produce) => Response::Produce(Ok(Produced {
            append_time: None,
            base_offset: Offset(u64::from(well)),
            leader_epoch: LeaderEpoch(1),
            durability: if produce.acks == Acks::None {
                Durability::Accepted
            } else {
                Durability::LeaderDisk
            },
            duplicate: !well,
            timings: StageTimings::default(),
        })),
        Request::Fetch(fetch) => Response::Fetch(if well {
            let mut frame = batch(b"value");
            frame.assign(fetch.offset, LeaderEpoch(1));
            let end = frame.header().end_offset();
            Ok(Fetched { log_start: Offset::ZERO, high_watermark: end, frames: vec![frame] })
        } else {
            Err(FetchError::UnknownPartition)
        }),
        Request::FindOffset(_) => Response::FindOffset(Err(FetchError::NotLeader)),
        Request::DeleteRecords(delete) => Response::DeleteRecords(Ok(delete.before)),
        Request::CreateTopic(_) => Response::CreateTopic(Err(refused())),
        Request::AlterTopic(_) => Response::AlterTopic(Err(refused())),
        Request::DeleteTopic(_) => Response::DeleteTopic(if well { Ok(()) } else { Err(refused()) }),
        Request::DescribeTopics(_) => Response::DescribeTopics(Ok(Vec::new())),
        Request::DescribeCluster => Response::DescribeCluster(cluster()),
        Request::InitProducer => Response::InitProducer(Ok(2)),
        Request::Group(_) => Response::Group(Err(GroupError::NotReady)),
        Request::ListGroups(_) => Response::ListGroups(Err(GroupError::NotReady)),
        Request::MeasureLag(_) => Response::MeasureLag(Err(FetchError::NotLeader)),
        Request::CheckTopic(_) => Response::CheckTopic(Err(TopicError::NotReady)),
        Request::DescribeLogs(_) => Response::DescribeLogs(Err(TopicError::NotReady)),
    }
}

fn cluster() -> ClusterDescription {
    ClusterDescription {
        cluster_id: 1,
        version: "0".to_owned(),
        nodes: Vec::new(),
        topics_count: 0,
        partitions_count: 0,
        troubled: Vec::new(),
    }
}
