//! The lives of the node's process, counted from 0, and what may be lost at the end of each.
//!
//! A *boundary* is named by the life after it. An answer that was asked for in one life and heard in another is of
//! any life between.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use engine_shard::Level;
use storage_frame::LogId;
use tests_disk::{FaultKind, Zone};

use crate::fact::{At, Fact};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Span {
    /// The earliest life it can be of, and the latest.
    pub(super) first: u32,
    pub(super) last: u32,
}

#[derive(Debug, Default)]
pub(super) struct Lives {
    lives: Vec<Life>,
    /// Logs whose frames were harmed, with the life in which that was first: however orderly a life ends from there on,
    /// the next may find what looks like a torn write.
    harmed: BTreeMap<LogId, u32>,
}

#[derive(Debug)]
struct Life {
    began: Duration,
    is_stopped: bool,
    /// Logs that gave up writing: what was in their memory is lost however orderly the end.
    failed: BTreeSet<LogId>,
    /// Logs that could not be read to their end when they were opened.
    damaged: BTreeSet<LogId>,
    was_full: bool,
}

impl Lives {
    pub(super) fn hear(&mut self, at: &At) {
        match &at.fact {
            Fact::Began { .. } => self.lives.push(Life {
                began: at.time,
                is_stopped: false,
                failed: BTreeSet::new(),
                damaged: BTreeSet::new(),
                was_full: false,
            }),
            Fact::Stopped { .. } => {
                if let Some(life) = self.lives.last_mut() {
                    life.is_stopped = true;
                }
            }
            Fact::Event { level: Level::Error, name: "log_failed", fields, .. } => {
                if let (Some(life), Some(log)) = (self.lives.last_mut(), log_of(fields)) {
                    life.failed.insert(log);
                }
            }
            Fact::Event { level: Level::Error, name: "log_damaged", fields, .. } => {
                if let (Some(life), Some(log)) = (self.lives.last_mut(), log_of(fields)) {
                    life.damaged.insert(log);
                }
            }
            Fact::Injected {
                log: Some(log),
                kind: Some((kind, zone @ (Zone::Written | Zone::Sealed))),
                ..
            } if kind.promise(*zone) == tests_disk::Promise::Noticed => {
                let now = self.now();
                self.harmed.entry(*log).or_insert(now);
            }
            Fact::Injected { kind: Some((FaultKind::NoSpace, _)), .. } => {
                if let Some(life) = self.lives.last_mut() {
                    life.was_full = true;
                }
            }
            _ => {}
        }
    }

    /// The life now, or the one that ended last.
    pub(super) fn now(&self) -> u32 {
        (self.lives.len() as u32).saturating_sub(1)
    }

    /// Of what was asked for at `asked_at` and is heard now.
    pub(super) fn since(&self, asked_at: Duration) -> Span {
        let begun = self.lives.partition_point(|life| life.began < asked_at) as u32;
        Span { first: begun.saturating_sub(1), last: self.now() }
    }

    /// What `log` had promised from memory, or shown no promise for, may be lost at this boundary.
    pub(super) fn may_lose(&self, boundary: u32, log: Option<LogId>) -> bool {
        let Some(before) = boundary.checked_sub(1).and_then(|before| self.lives.get(before as usize)) else {
            return false;
        };
        let is_harmed = |log| self.harmed.get(&log).is_some_and(|life| *life < boundary);
        !before.is_stopped
            || before.was_full
            || log.is_none_or(|log| before.failed.contains(&log) || is_harmed(log))
    }

    pub(super) fn was_damaged(&self, span: Span, log: LogId) -> bool {
        let lives = self.lives.get(span.first as usize..=span.last as usize).unwrap_or_default();
        lives.iter().any(|life| life.damaged.contains(&log))
    }

    /// Boundaries behind `from`, up to and with the one before `to`, at which something may be lost.
    pub(super) fn losses(
        &self,
        from: u32,
        to: u32,
        log: Option<LogId>,
    ) -> impl DoubleEndedIterator<Item = u32> + '_ {
        (from + 1..=to).filter(move |boundary| self.may_lose(*boundary, log))
    }
}

/// The log that an event names.
pub(crate) fn log_of(fields: &str) -> Option<LogId> {
    let (_, rest) = fields.split_once("log=")?;
    let hex = rest.get(..16)?;
    u64::from_str_radix(hex, 16).ok().map(LogId)
}
