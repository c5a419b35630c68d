//! What a broker knows, with nothing that can go wrong in it: answers at once and loses nothing.

use std::collections::{BTreeMap, VecDeque};

use engine_api::{
    ClusterDescription, ConfigEntry, CoreId, DeleteRecordsError, Durability, FetchError, Fetched,
    FoundOffset, GroupError, NodeDescription, NodeId, PartitionDescription, PartitionId, Place, ProduceError,
    Produced, Request, Response, StageTimings, TopicDescription, TopicError, TopicId,
};
use storage_frame::{Frame, LeaderEpoch, LogId, Offset};

pub(crate) const CORES: u8 = 2;
/// Batches of a producer that are known again.
const KNOWN_MAX: usize = 5;

#[derive(Debug, Default)]
struct Known {
    next_sequence: u32,
    /// Sequence and offset.
    batches: VecDeque<(u32, u64)>,
}

#[derive(Debug, Default)]
pub(crate) struct Log {
    pub(crate) frames: Vec<Frame>,
    pub(crate) start: u64,
    producers: BTreeMap<u64, Known>,
}

impl Log {
    fn end(&self) -> Offset {
        self.frames.last().map_or(Offset::ZERO, |frame| frame.header().end_offset())
    }

    fn append(&mut self, mut frame: Frame) -> Result<Produced, ProduceError> {
        let base = self.end();
        if let Some(sent) = frame.header().producer {
            let known = self.producers.get(&sent.id);
            if let Some(known) = known {
                let earlier = known.batches.iter().find(|(sequence, _)| *sequence == sent.base_sequence);
                if let Some((_, at)) = earlier {
                    return Ok(produced(Offset(*at), true));
                }
                if known.next_sequence != sent.base_sequence {
                    return Err(ProduceError::OutOfSequence {
                        producer_id: sent.id,
                        sent: sent.base_sequence,
                        expected: known.next_sequence,
                    });
                }
            }
            let known = self.producers.entry(sent.id).or_default();
            known.next_sequence = sent.base_sequence + frame.header().record_count;
            known.batches.push_back((sent.base_sequence, base.0));
            if known.batches.len() > KNOWN_MAX {
                known.batches.pop_front();
            }
        }
        frame.assign(base, LeaderEpoch(1));
        self.frames.push(frame);
        Ok(produced(base, false))
    }
}

fn produced(base_offset: Offset, duplicate: bool) -> Produced {
    Produced {
        append_time: None,
        base_offset,
        leader_epoch: LeaderEpoch(1),
        durability: Durability::AllDisks,
        duplicate,
        timings: StageTimings::default(),
    }
}

#[derive(Debug)]
struct Topic {
    name: String,
    logs: Vec<Log>,
}

#[derive(Debug, Default)]
pub(crate) struct Broker {
    topics: BTreeMap<TopicId, Topic>,
    next_topic: u128,
    next_producer: u64,
}

impl Broker {
    pub(crate) fn create(&mut self, name: &str, partitions: u32) -> TopicId {
        self.next_topic += 1;
        let id = TopicId(self.next_topic);
        let logs = (0..partitions).map(|_| Log::default()).collect();
        self.topics.insert(id, Topic { name: name.to_owned(), logs });
        id
    }

    pub(crate) fn log(&self, id: TopicId, partition: u32) -> &Log {
        &self.topics[&id].logs[partition as usize]
    }

    fn find(&self, name: &str) -> Option<TopicId> {
        self.topics.iter().find(|(_, topic)| topic.name == name).map(|(id, _)| *id)
    }

    fn log_mut(&mut self, partition: PartitionId) -> Option<&mut Log> {
        self.topics.get_mut(&partition.topic)?.logs.get_mut(partition.index as usize)
    }

    /// `None`: a fetch has to wait.
    pub(crate) fn answer(&mut self, request: &Request) -> Option<Response> {
        Some(match request {
            Request::Produce(produce) => Response::Produce(match self.log_mut(produce.partition) {
                Some(log) => log.append(produce.frame.clone()),
                None => Err(ProduceError::UnknownPartition),
            }),
            Request::Fetch(fetch) => {
                let Some(log) = self.log_mut(fetch.partition) else {
                    return Some(Response::Fetch(Err(FetchError::UnknownPartition)));
                };
                let (log_start, high_watermark) = (Offset(log.start), log.end());
                if fetch.offset < log_start || fetch.offset > high_watermark {
                    let asked = fetch.offset;
                    let error = FetchError::OffsetOutOfRange { asked, log_start, high_watermark };
                    return Some(Response::Fetch(Err(error)));
                }
                let mut bytes = 0;
                let frames = log.frames.iter().filter(|frame| frame.header().end_offset() > fetch.offset);
                let frames: Vec<Frame> = frames
                    .take_while(|frame| {
                        bytes += frame.header().frame_bytes();
                        bytes <= fetch.bytes_max as usize || bytes == frame.header().frame_bytes()
                    })
                    .cloned()
                    .collect();
                if frames.is_empty() && fetch.wait_max.is_none() && fetch.bytes_min > 0 {
                    return None;
                }
                Response::Fetch(Ok(Fetched { log_start, high_watermark, frames }))
            }
            Request::FindOffset(find) => Response::FindOffset(match self.log_mut(find.partition) {
                Some(log) => Ok(found(log, find.place)),
                None => Err(FetchError::UnknownPartition),
            }),
            Request::DeleteRecords(delete) => Response::DeleteRecords(match self.log_mut(delete.partition) {
                Some(log) if delete.before <= log.end() => {
                    log.start = log.start.max(delete.before.0);
                    Ok(Offset(log.start))
                }
                Some(log) => Err(DeleteRecordsError::OffsetOutOfRange {
                    asked: delete.before,
                    log_start: Offset(log.start),
                    high_watermark: log.end(),
                }),
                None => Err(DeleteRecordsError::UnknownPartition),
            }),
            Request::CreateTopic(create) => Response::CreateTopic(match self.find(&create.name) {
                Some(_) => Err(TopicError::Exists { name: create.name.clone() }),
                None => {
                    let id = self.create(&create.name, create.partitions.unwrap_or(1));
                    Ok(self.describe(id))
                }
            }),
            Request::AlterTopic(alter) => Response::AlterTopic(match self.find(&alter.name) {
                Some(id) => {
                    let logs = &mut self.topics.get_mut(&id).expect("it was found").logs;
                    while logs.len() < alter.partitions.unwrap_or(0) as usize {
                        logs.push(Log::default());
                    }
                    Ok(self.describe(id))
                }
                None => Err(TopicError::Unknown { name: alter.name.clone() }),
            }),
            Request::DeleteTopic(delete) => Response::DeleteTopic(match self.find(&delete.name) {
                Some(id) => {
                    self.topics.remove(&id);
                    Ok(())
                }
                None => Err(TopicError::Unknown { name: delete.name.clone() }),
            }),
            Request::DescribeTopics(describe) => {
                let ids: Result<Vec<TopicId>, TopicError> = if describe.names.is_empty() {
                    Ok(self.topics.keys().copied().collect())
                } else {
                    let id = |name: &String| {
                        self.find(name).ok_or_else(|| TopicError::Unknown { name: name.clone() })
                    };
                    describe.names.iter().map(id).collect()
                };
                Response::DescribeTopics(ids.map(|ids| ids.into_iter().map(|id| self.describe(id)).collect()))
            }
            Request::DescribeCluster => Response::DescribeCluster(self.cluster()),
            Request::InitProducer => {
                self.next_producer += 1;
                Response::InitProducer(Ok(self.next_producer))
            }
            Request::Group(_) => Response::Group(Err(GroupError::NotReady)),
            Request::ListGroups(_) => Response::ListGroups(Err(GroupError::NotReady)),
            Request::MeasureLag(_) => Response::MeasureLag(Err(FetchError::NotLeader)),
            Request::CheckTopic(_) => Response::CheckTopic(Err(TopicError::NotReady)),
            Request::DescribeLogs(_) => Response::DescribeLogs(Err(TopicError::NotReady)),
        })
    }

    fn describe(&self, id: TopicId) -> TopicDescription {
        let topic = &self.topics[&id];
        let partition = |index: u32| PartitionDescription {
            index,
            leader: NodeId(1),
            leader_epoch: LeaderEpoch(1),
            core: CoreId((index % u32::from(CORES)) as u8),
            replicas: vec![NodeId(1)],
            in_sync: vec![NodeId(1)],
            log: LogId((id.0 as u64) << 16 | u64::from(index)),
        };
        let limit = ConfigEntry {
            key: "max.message.bytes".to_owned(),
            value: (64 << 10).to_string(),
            is_default: false,
        };
        TopicDescription {
            name: topic.name.clone(),
            id,
            replicas: 1,
            partitions: (0..topic.logs.len() as u32).map(partition).collect(),
            configs: vec![limit],
        }
    }

    fn cluster(&self) -> ClusterDescription {
        let partitions: usize = self.topics.values().map(|topic| topic.logs.len()).sum();
        let node = NodeDescription {
            id: NodeId(1),
            address: "node:9092".to_owned(),
            cores: CORES,
            partitions_led: partitions as u32,
            incarnation: 1,
        };
        ClusterDescription {
            cluster_id: 7,
            version: "scripted".to_owned(),
            nodes: vec![node],
            topics_count: self.topics.len() as u32,
            partitions_count: partitions as u32,
            troubled: Vec::new(),
        }
    }
}

fn found(log: &Log, place: Place) -> FoundOffset {
    let (log_start, high_watermark) = (Offset(log.start), log.end());
    let (offset, timestamp) = match place {
        Place::Start => (log_start, None),
        Place::End => (high_watermark, None),
        Place::Timestamp(at) => {
            let holder = log
                .frames
                .iter()
                .find(|frame| frame.header().end_offset() > log_start && frame.header().max_timestamp >= at);
            holder.map_or((high_watermark, None), |frame| {
                (frame.header().base_offset.max(log_start), Some(frame.header().max_timestamp))
            })
        }
    };
    FoundOffset { offset, timestamp, log_start, high_watermark }
}
