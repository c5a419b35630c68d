//! What must hold, one file per property. An oracle hears every fact and says when its property is broken.
//!
//! Shared by them: `lives` (what may be lost when a process ends), `topics`, `batches`, `deletes`, `tails` (what is on
//! the disk and may not be lost), `ends` (what start and high watermark were at least at any time). `history` builds small histories for their tests.
#![allow(clippy::wildcard_enum_match_arm, reason = "an oracle listens to what its property is about")]

mod answers;
mod batches;
mod commits;
mod deletes;
mod durable;
mod ends;
mod errors;
mod fencing;
mod fetches;
mod generations;
mod healing;
#[cfg(test)]
mod history;
mod idempotence;
mod index;
mod lives;
mod offsets;
mod prefix;
mod promise;
mod refusal;
mod regrouping;
mod retention;
mod sessions;
mod stuck;
mod tails;
mod topics;
mod values;

pub(crate) use lives::log_of;

use crate::fact::At;

/// How a property was broken, for people: which client, partition, offset, and what was promised.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation(pub String);

pub trait Oracle {
    /// Short and fixed: `durable`.
    fn name(&self) -> &'static str;

    /// Hears a fact.
    ///
    /// # Errors
    /// [`Violation`]: the run has failed.
    fn hear(&mut self, at: &At) -> Result<(), Violation>;

    /// The run is over, every partition audited.
    ///
    /// # Errors
    /// [`Violation`]: the run has failed.
    fn end(&mut self) -> Result<(), Violation> {
        Ok(())
    }
}

/// What a run promises.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Rules {
    /// Faults beyond what one node promises to bear: it has to notice and refuse, and may lose what it refuses.
    pub beyond_promise: bool,
}

/// Every oracle there is.
#[must_use]
pub fn all(rules: Rules) -> Vec<Box<dyn Oracle>> {
    vec![
        Box::new(values::Values::default()),
        Box::new(offsets::Offsets::new(rules)),
        Box::new(durable::Durable::new(rules)),
        Box::new(idempotence::Idempotence::new(rules)),
        Box::new(prefix::Prefix::new(rules)),
        Box::new(refusal::Refusal::default()),
        Box::new(promise::Promise::default()),
        Box::new(index::Index::new(rules)),
        Box::new(retention::Retention::default()),
        Box::new(healing::Healing::new(rules)),
        Box::new(errors::Errors::default()),
        Box::new(generations::Generations::default()),
        Box::new(commits::Commits::new(rules)),
        Box::new(fencing::Fencing::default()),
        Box::new(regrouping::Regrouping::new(rules)),
        Box::new(sessions::Sessions::default()),
        Box::new(stuck::Stuck::new(rules)),
        Box::new(answers::Answers::default()),
        Box::new(fetches::Fetches::new(rules)),
    ]
}
