//! Reads and finds that wait for the disk: where each has got to, and how it judges the bytes that come.

use bytes::Bytes;
use storage_frame::{Frame, FrameError, FrameHeader, HEADER_BYTES, LeaderEpoch, Offset, Salt, TimestampMs};

use crate::disk_op::SegmentId;
use crate::event::ReadId;
use crate::index::{Place, SegmentIndex};
use crate::segment::plain;

/// What to skip over is read in pieces of this.
pub(crate) const SKIP_BYTES: usize = 128 << 10;

#[derive(Debug)]
pub(crate) enum Goal {
    Read {
        from: Offset,
        limit: Offset,
        bytes_max: usize,
    },
    /// `from` rises with what has been looked at.
    Find {
        from: Offset,
        at: TimestampMs,
        limit: Offset,
    },
}

#[derive(Debug)]
pub(crate) struct Job {
    pub(crate) id: ReadId,
    pub(crate) goal: Goal,
    /// The next thing to read begins here.
    pub(crate) place: Option<InSegment>,
    /// Waits for this segment's index.
    pub(crate) waits_for: Option<SegmentId>,
    /// An index lied to it: it walks.
    pub(crate) without_index: bool,
    pub(crate) asked_bytes: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct InSegment {
    pub(crate) segment: SegmentId,
    pub(crate) at: Place,
    /// A frame that verified ends here, or the segment begins: not only an index says so.
    pub(crate) is_certain: bool,
    /// Bytes known to be needed from here.
    pub(crate) bytes_min: usize,
}

/// What one piece gave.
#[derive(Debug)]
pub(crate) enum Walked {
    /// The job's answer, when it is a read, and where the next one would go on.
    Frames(Vec<Frame>, Place),
    /// The job's answer, when it is a find.
    Found(FrameHeader),
    /// Go on there, with at least so many bytes.
    Onward(Place, usize),
    Bad(Place, String),
}

/// What this process wrote: a write that the device lost may leave what an earlier life wrote at its place, and all
/// but the epoch of that verifies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Life {
    /// Frames from here on were appended in this life...
    pub(crate) start: Offset,
    /// ...at this epoch or a later one.
    pub(crate) epoch: LeaderEpoch,
}

impl Life {
    fn is_before(self, header: &FrameHeader) -> bool {
        header.base_offset >= self.start && header.leader_epoch < self.epoch
    }
}

impl Job {
    pub(crate) fn new(id: ReadId, goal: Goal) -> Self {
        Self { id, goal, place: None, waits_for: None, without_index: false, asked_bytes: 0 }
    }

    /// The first offset it is interested in.
    pub(crate) fn from(&self) -> Offset {
        match self.goal {
            Goal::Read { from, .. } | Goal::Find { from, .. } => from,
        }
    }

    /// A find that looks no further than before `offset`.
    pub(crate) fn is_beyond(&self, offset: Offset) -> bool {
        matches!(self.goal, Goal::Find { limit, .. } if offset >= limit)
    }

    /// Judges `piece`, which begins at `start`; frames end at `end_position` at the latest, and those of this life
    /// are of this life.
    pub(crate) fn walk(
        &self,
        piece: &Bytes,
        start: Place,
        salt: Salt,
        end_position: u64,
        life: Life,
        mut index: Option<&mut SegmentIndex>,
    ) -> Walked {
        let mut place = start;
        let mut frames = Vec::new();
        let mut frames_bytes = 0;
        while place.position < end_position {
            if end_position - place.position < HEADER_BYTES as u64 {
                return answer_or_bad(frames, place, "no room for a frame before the end".to_owned());
            }
            // A frame that was jumped over may end behind the piece.
            let at = (place.position - start.position).min(piece.len() as u64) as usize;
            let rest = piece.slice(at..);
            if rest.len() < HEADER_BYTES {
                return answer_or_onward(frames, place, HEADER_BYTES);
            }
            let header = match FrameHeader::decode(&rest, salt) {
                Ok(header) => header,
                Err(error) => return answer_or_bad(frames, place, error.to_string()),
            };
            if header.base_offset != place.offset {
                let why = format!("offset {} where {} follows", header.base_offset, place.offset);
                return answer_or_bad(frames, place, why);
            }
            if life.is_before(&header) {
                let why =
                    format!("epoch {} below {}, a frame of an earlier life", header.leader_epoch, life.epoch);
                return answer_or_bad(frames, place, why);
            }
            let next =
                Place { position: place.position + header.frame_bytes() as u64, offset: header.end_offset() };
            if next.position > end_position {
                return answer_or_bad(frames, place, "frame runs over the end".to_owned());
            }
            match self.goal {
                Goal::Find { at, limit, .. } => {
                    if header.base_offset >= limit {
                        return Walked::Onward(place, 0);
                    }
                    if next.offset > self.from() && header.max_timestamp >= at {
                        return Walked::Found(FrameHeader { starts_write: false, ..header });
                    }
                }
                Goal::Read { from, limit, bytes_max } => {
                    if next.offset > limit {
                        let why =
                            format!("offsets {} to {} over {limit}", header.base_offset, header.end_offset());
                        return answer_or_bad(frames, place, why);
                    }
                    if !frames.is_empty() && frames_bytes + header.frame_bytes() > bytes_max {
                        return Walked::Frames(frames, place);
                    }
                    if next.offset > from {
                        match Frame::split_from(&mut rest.clone(), salt) {
                            Ok(frame) => frames.push(plain(frame)),
                            Err(FrameError::Short { .. }) => {
                                return answer_or_onward(frames, place, header.frame_bytes());
                            }
                            Err(error) => return answer_or_bad(frames, place, error.to_string()),
                        }
                        frames_bytes += header.frame_bytes();
                    }
                }
            }
            if let Some(index) = &mut index {
                index.note(place.position, &header);
            }
            place = next;
        }
        answer_or_onward(frames, place, 0)
    }
}

fn answer_or_onward(frames: Vec<Frame>, place: Place, bytes_min: usize) -> Walked {
    if frames.is_empty() { Walked::Onward(place, bytes_min) } else { Walked::Frames(frames, place) }
}

/// What verified is given; who reads on from there meets the damage.
fn answer_or_bad(frames: Vec<Frame>, place: Place, why: String) -> Walked {
    if frames.is_empty() { Walked::Bad(place, why) } else { Walked::Frames(frames, place) }
}
