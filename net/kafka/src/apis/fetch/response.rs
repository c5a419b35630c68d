//! A fetch's answer, written by hand: what is small is gathered, records are sent as they lie in memory.
//!
//! ```text
//! throttle i32 | error i16, session i32 (7) | topics: name, partitions:
//!   index i32, error i16, high watermark i64, last stable i64, log start i64 (5), aborted: none,
//!   preferred replica i32 (11), records: bytes                                      (version it is there since)
//! ```
//! Of each batch the 61 bytes of the header are written; what follows them is the frame's own payload.

use bytes::{BufMut, Bytes, BytesMut};
use kafka_protocol::ResponseError;
use kafka_protocol::messages::{ApiKey, FetchResponse};
use storage_frame::{Encoding, Frame};
use storage_recordbatch::{BatchHeader, Compression, served};

use super::{Limits, Scope, Target, session};
use crate::api::Outcome;
use crate::codec::{Reply, ReplyError, begin_reply, seal_size};
use crate::context::Context;

/// The first version whose clients can read zstd (KIP-110).
const ZSTD_SINCE: i16 = 10;
const FLEXIBLE_SINCE: i16 = 12;
/// Small parts of an answer, for each partition.
const PARTITION_BYTES: usize = 64;
const BATCH_HEADER_BYTES: usize = storage_recordbatch::HEADER_BYTES;
/// The header's last field.
const RECORD_COUNT_AT: usize = BATCH_HEADER_BYTES - 4;

/// An answer without partitions.
pub(crate) fn refuse(context: &Context<'_>, error: ResponseError) -> Outcome {
    context.reply(&FetchResponse::default().with_error_code(error.code()))
}

/// A partition's part of the answer.
struct Part {
    index: usize,
    code: i16,
    batches: Vec<Batch>,
    bytes: usize,
}

/// The header as it is to be sent, and the rest.
struct Batch {
    head: Bytes,
    rest: Bytes,
}

impl Batch {
    /// Compaction leaves batches that only say which offsets there were.
    fn has_records(&self) -> bool {
        self.head[RECORD_COUNT_AT..BATCH_HEADER_BYTES] != [0; 4]
    }
}

pub(super) fn encode(
    context: &mut Context<'_>,
    scope: &mut Scope,
    targets: &[Target],
    limits: &Limits,
) -> Outcome {
    let mut parts = fill(context, scope, targets, limits);
    if context.head.version >= 7 {
        parts.retain(|part| {
            let target = &targets[part.index];
            let told = (part.code, target.high_watermark, target.log_start);
            session::is_news(context.session, scope, part.index, told, part.bytes > 0)
        });
    }
    let small_bytes =
        parts.iter().map(|part| PARTITION_BYTES + part.batches.len() * BATCH_HEADER_BYTES).sum();
    let mut out = Writer::new(context, small_bytes);
    out.body(scope, targets, &parts, limits.committed_only);
    out.finish().into()
}

/// Takes what fits, from another partition first each time, in the order of the request.
fn fill(context: &mut Context<'_>, scope: &Scope, targets: &[Target], limits: &Limits) -> Vec<Part> {
    let mut room = limits.bytes_max;
    let mut is_first = true;
    let count = targets.len();
    let mut parts: Vec<Part> = (0..count)
        .map(|place| {
            let index = (place + scope.turn) % count;
            let part = take(context, index, &targets[index], room, is_first);
            room = room.saturating_sub(part.bytes);
            is_first &= !part.batches.iter().any(Batch::has_records);
            part
        })
        .collect();
    parts.sort_unstable_by_key(|part| part.index);
    parts
}

/// `may_exceed`: no records have been taken before, so that one batch of any size fits.
fn take(context: &mut Context<'_>, index: usize, target: &Target, room: usize, mut may_exceed: bool) -> Part {
    let mut part = Part { index, code: 0, batches: Vec::new(), bytes: 0 };
    if let Err(error) = target.partition {
        part.code = error.code();
        return part;
    }
    let room = room.min(target.bytes_max);
    for frame in &target.frames {
        let batch = match batch(context, target, frame) {
            Ok(batch) => batch,
            Err(error) => {
                if part.batches.is_empty() {
                    part.code = error.code();
                }
                break;
            }
        };
        let bytes = batch.head.len() + batch.rest.len();
        if part.bytes + bytes > room && !may_exceed {
            break;
        }
        may_exceed &= !batch.has_records();
        part.bytes += bytes;
        part.batches.push(batch);
    }
    part
}

fn batch(context: &mut Context<'_>, target: &Target, frame: &Frame) -> Result<Batch, ResponseError> {
    let corrupt = ResponseError::CorruptMessage;
    match frame.header().encoding {
        Encoding::KafkaV2 => {
            let served = served(frame).map_err(|_| corrupt)?;
            if context.head.version < ZSTD_SINCE
                && BatchHeader::parse(frame.payload())
                    .is_ok_and(|header| header.compression == Compression::Zstd)
            {
                return Err(ResponseError::UnsupportedCompressionType);
            }
            Ok(Batch { head: served.head, rest: served.rest })
        }
        Encoding::Archived => {
            let partition = target.partition?;
            let batch = context.conversions.convert(partition, frame).map_err(|_| corrupt)?;
            Ok(Batch { head: batch.slice(..BATCH_HEADER_BYTES), rest: batch.slice(BATCH_HEADER_BYTES..) })
        }
    }
}

/// Gathers small parts and puts records between them.
struct Writer {
    version: i16,
    /// With the size, which is known last.
    first: Option<BytesMut>,
    chunks: Vec<Bytes>,
    small: BytesMut,
}

impl Writer {
    fn new(context: &Context<'_>, small_bytes: usize) -> Self {
        let small = begin_reply(ApiKey::Fetch, context.head, PARTITION_BYTES + small_bytes);
        Self { version: context.head.version, first: None, chunks: Vec::new(), small }
    }

    fn body(&mut self, scope: &Scope, targets: &[Target], parts: &[Part], committed_only: bool) {
        self.small.put_i32(0);
        if self.version >= 7 {
            self.small.put_i16(0);
            self.small.put_i32(scope.session);
        }
        let topic_of = |part: &Part| &scope.asked[part.index].topic;
        let topics: Vec<&[Part]> = parts.chunk_by(|a, b| topic_of(a) == topic_of(b)).collect();
        self.count(topics.len());
        for topic in topics {
            self.name(topic_of(&topic[0]));
            self.count(topic.len());
            for part in topic {
                self.partition(scope.asked[part.index].partition, &targets[part.index], part, committed_only);
            }
            self.no_tags();
        }
        self.no_tags();
    }

    fn partition(&mut self, index: i32, target: &Target, part: &Part, committed_only: bool) {
        self.small.put_i32(index);
        self.small.put_i16(part.code);
        self.small.put_i64(target.high_watermark);
        // Without transactions everything below the high watermark is stable.
        self.small.put_i64(target.high_watermark);
        if self.version >= 5 {
            self.small.put_i64(target.log_start);
        }
        match committed_only {
            true => self.count(0),
            false if self.version >= FLEXIBLE_SINCE => self.small.put_u8(0),
            false => self.small.put_i32(-1),
        }
        if self.version >= 11 {
            self.small.put_i32(-1);
        }
        self.count(part.bytes);
        for batch in &part.batches {
            self.small.put_slice(&batch.head);
            if !batch.rest.is_empty() {
                self.cut();
                self.chunks.push(batch.rest.clone());
            }
        }
        self.no_tags();
    }

    /// A number of elements or bytes.
    fn count(&mut self, count: usize) {
        if self.version < FLEXIBLE_SINCE {
            return self.small.put_i32(i32::try_from(count).expect("answers are bounded"));
        }
        let mut value = u32::try_from(count + 1).expect("answers are bounded");
        while value >= 0x80 {
            self.small.put_u8((value & 0x7f) as u8 | 0x80);
            value >>= 7;
        }
        self.small.put_u8(value as u8);
    }

    fn name(&mut self, name: &str) {
        if self.version < FLEXIBLE_SINCE {
            self.small.put_i16(i16::try_from(name.len()).expect("requests with longer names are refused"));
        } else {
            self.count(name.len());
        }
        self.small.put_slice(name.as_bytes());
    }

    fn no_tags(&mut self) {
        if self.version >= FLEXIBLE_SINCE {
            self.small.put_u8(0);
        }
    }

    /// What has been gathered goes before what comes now.
    fn cut(&mut self) {
        let small = self.small.split();
        if self.first.is_none() {
            self.first = Some(small);
        } else if !small.is_empty() {
            self.chunks.push(small.freeze());
        }
    }

    fn finish(mut self) -> Result<Reply, ReplyError> {
        self.cut();
        let mut first = self.first.expect("was cut");
        seal_size(&mut first, self.chunks.iter().map(Bytes::len).sum())?;
        self.chunks.insert(0, first.freeze());
        Ok(Reply { chunks: self.chunks })
    }
}
