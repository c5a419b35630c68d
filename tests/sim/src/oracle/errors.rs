//! The node reports nothing as an error that no fault explains.
//!
//! One that is reported at the same moment as its fault may be heard before it, so each is judged a moment later.

use std::collections::BTreeMap;
use std::time::Duration;

use engine_shard::Level;
use storage_frame::LogId;
use tests_disk::{FaultKind, Zone};

use super::lives::log_of;
use super::{Oracle, Violation};
use crate::fact::{At, Fact};

#[derive(Debug, Default)]
pub(super) struct Errors {
    /// By log, `None`: what is not of one; each kind and zone once.
    injected: BTreeMap<Option<LogId>, Vec<(FaultKind, Zone)>>,
    to_judge: Vec<Reported>,
}

#[derive(Debug)]
struct Reported {
    at: Duration,
    life: u32,
    core: u8,
    name: &'static str,
    fields: String,
}

impl Oracle for Errors {
    fn name(&self) -> &'static str {
        "errors"
    }

    fn hear(&mut self, at: &At) -> Result<(), Violation> {
        if self.to_judge.first().is_some_and(|reported| reported.at < at.time) {
            self.judge()?;
        }
        match &at.fact {
            Fact::Injected { log, kind: Some(kind), .. } => {
                let known = self.injected.entry(*log).or_default();
                if !known.contains(kind) {
                    known.push(*kind);
                }
            }
            Fact::Event { level: Level::Error, life, core, name, fields } => {
                let (life, core, name, fields) = (*life, *core, *name, fields.clone());
                self.to_judge.push(Reported { at: at.time, life, core, name, fields });
            }
            _ => {}
        }
        Ok(())
    }

    fn end(&mut self) -> Result<(), Violation> {
        self.judge()
    }
}

impl Errors {
    fn judge(&mut self) -> Result<(), Violation> {
        for reported in std::mem::take(&mut self.to_judge) {
            if !self.is_explained(&reported) {
                let Reported { at, life, core, name, fields } = reported;
                let log = log_of(&fields);
                let injected = self.injected.get(&log).map_or(&[][..], Vec::as_slice);
                return Err(Violation(format!(
                    "life {life}, core {core} reported {name} at {at:?} ({fields}), and no fault explains it; of \
                     that log there were {injected:?}"
                )));
            }
        }
        Ok(())
    }

    fn is_explained(&self, reported: &Reported) -> bool {
        let log = match reported.name {
            "metadata_unusable" => Some(LogId(0)),
            _ => log_of(&reported.fields),
        };
        // Where no log is named, any may be meant.
        let of_log = self.injected.iter().filter(|(of, _)| of.is_none() || log.is_none() || **of == log);
        of_log.flat_map(|(_, kinds)| kinds).any(|(kind, zone)| explains(reported.name, *kind, *zone))
    }
}

/// A fault of this kind may lead to an error of that name. A crash alone, a full or a slow disk explain none.
fn explains(name: &str, kind: FaultKind, zone: Zone) -> bool {
    let is_damage = match kind {
        FaultKind::LatentError
        | FaultKind::BitFlip
        | FaultKind::LostFile
        | FaultKind::LostWrite
        | FaultKind::Misdirected
        | FaultKind::Overwritten
        | FaultKind::LateWrite => true,
        FaultKind::Torn
        | FaultKind::Unanswered
        | FaultKind::Undone
        | FaultKind::ReadError
        | FaultKind::WriteError
        | FaultKind::NoSpace
        | FaultKind::Slow
        | FaultKind::Stall => false,
    };
    match name {
        "log_failed" | "metadata_unusable" => {
            is_damage || matches!(kind, FaultKind::ReadError | FaultKind::WriteError)
        }
        "read_failed" => is_damage || kind == FaultKind::ReadError,
        // What cannot be read is not taken for a torn end: it is refused until it is opened again.
        "log_damaged" => is_damage || kind == FaultKind::ReadError,
        "producers_lost" => is_damage && zone == Zone::Checkpoint,
        "log_from_later_start" => is_damage && zone == Zone::Identity,
        "log_not_removed" => is_damage || kind == FaultKind::WriteError,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oracle::history::{History, plain};

    #[test]
    fn no_error_passes_and_faults_alone_are_none() {
        let mut history = History::new(Errors::default());
        history.topic(plain()).injected(FaultKind::WriteError, Zone::Written).crash().passes();
    }

    #[test]
    fn an_error_after_its_fault_passes() {
        let mut history = History::new(Errors::default());
        history.injected(FaultKind::WriteError, Zone::Written).error("log_failed").crash().passes();
    }

    #[test]
    fn an_error_without_a_fault_fails() {
        let mut history = History::new(Errors::default());
        history.error("log_failed").crash().fails_with("life 0, core 0 reported log_failed at 2s");
    }

    #[test]
    fn an_error_after_a_fault_that_does_not_lead_there_fails() {
        for (kind, name) in [
            (FaultKind::Torn, "log_damaged"),
            (FaultKind::WriteError, "log_damaged"),
            (FaultKind::NoSpace, "log_failed"),
            (FaultKind::BitFlip, "a_new_error"),
        ] {
            let mut history = History::new(Errors::default());
            history.injected(kind, Zone::Written).error(name).fails_with("no fault explains it");
        }
    }

    #[test]
    fn an_error_of_a_log_that_had_no_fault_fails() {
        let mut history = History::new(Errors::default());
        let what = "flip".to_owned();
        let kind = Some((FaultKind::BitFlip, Zone::Sealed));
        history.fact(Fact::Injected { log: Some(LogId(77)), kind, beyond_promise: true, what });
        history.error("read_failed").fails_with("no fault explains it");
    }
}
