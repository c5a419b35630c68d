//! What of each log is on the disk, and what may be gone from its end when a process ends.
//!
//! The disk promises what it answered for ([`Fact::Written`]). In runs beyond that, `storage/FORMAT.md` names what
//! cannot be told from a torn write: damage of the very last write, and the loss of everything from some point on.

use std::collections::BTreeMap;
use std::time::Duration;

use storage_frame::LogId;
use storage_log::SegmentId;
use tests_disk::{FaultKind, Zone};

use super::Rules;
use crate::fact::{At, Fact};

#[derive(Debug)]
pub(super) struct Tails {
    rules: Rules,
    by_log: BTreeMap<LogId, Tail>,
}

#[derive(Debug, Default)]
struct Tail {
    /// First offset and time of every answered write, and whether the device lied about it.
    writes: Vec<Write>,
    end: u64,
    lied_at: Option<Duration>,
}

#[derive(Debug)]
struct Write {
    segment: SegmentId,
    base: u64,
    at: Duration,
    is_lie: bool,
}

impl Tails {
    pub(super) fn new(rules: Rules) -> Self {
        Self { rules, by_log: BTreeMap::new() }
    }

    pub(super) fn hear(&mut self, at: &At) {
        match &at.fact {
            Fact::Written { log, segment, frames } => {
                let (Some(first), Some(last)) = (frames.first(), frames.last()) else { return };
                let tail = self.by_log.entry(*log).or_default();
                tail.end = tail.end.max(last.end_offset.0);
                if self.rules.beyond_promise {
                    let is_lie = tail.lied_at == Some(at.time);
                    let (segment, base) = (*segment, first.base_offset.0);
                    tail.writes.push(Write { segment, base, at: at.time, is_lie });
                }
            }
            Fact::Injected { log: Some(log), kind: Some((kind, _)), .. } if is_lie(*kind) => {
                let tail = self.by_log.entry(*log).or_default();
                tail.lied_at = Some(at.time);
                if let Some(write) = tail.writes.last_mut().filter(|write| write.at == at.time) {
                    write.is_lie = true;
                }
            }
            // The file that is written, if no checkpoint lists it: all of it is "everything from some point on".
            Fact::Injected { log: Some(log), kind: Some((FaultKind::LostFile, Zone::Written)), .. } => {
                let tail = self.by_log.entry(*log).or_default();
                let last = tail.writes.last().map(|write| write.segment);
                for write in tail.writes.iter_mut().filter(|write| Some(write.segment) == last) {
                    write.is_lie = true;
                }
            }
            // What was lost is written anew.
            Fact::Began { .. } if self.rules.beyond_promise => {
                for tail in self.by_log.values_mut() {
                    tail.end = tail.safe_end(true);
                }
            }
            _ => {}
        }
    }

    /// Offsets below it cannot be gone unnoticed if the process ends now.
    pub(super) fn safe_end(&self, log: LogId) -> u64 {
        self.by_log.get(&log).map_or(0, |tail| tail.safe_end(self.rules.beyond_promise))
    }
}

impl Tail {
    fn safe_end(&self, beyond_promise: bool) -> u64 {
        if !beyond_promise {
            return self.end;
        }
        let mut safe_end = self.end;
        for (nth, write) in self.writes.iter().rev().enumerate() {
            // The very last may be damaged in any way.
            if nth > 0 && !write.is_lie {
                break;
            }
            safe_end = safe_end.min(write.base);
        }
        safe_end
    }
}

/// Answered, and not there.
fn is_lie(kind: FaultKind) -> bool {
    matches!(
        kind,
        FaultKind::LostWrite | FaultKind::Misdirected | FaultKind::Overwritten | FaultKind::LateWrite
    )
}
