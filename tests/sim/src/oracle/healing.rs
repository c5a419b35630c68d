//! When faults stop the node serves again within a stated time (I8): it is ready, it answers what is sent to it, and at
//! the end every partition that nobody deleted can be read from its start to its end.
//!
//! Beyond the promise it may refuse for good.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use engine_api::PartitionId;

use super::topics::Topics;
use super::{Oracle, Rules, Violation};
use crate::fact::{At, BatchId, Fact};

/// From the end of faults, or the start of a life after it, to having opened every log.
const READY_MAX: Duration = Duration::from_secs(60);
/// From then to the answer to what is sent.
const ANSWER_MAX: Duration = Duration::from_secs(60);

#[derive(Debug)]
pub(super) struct Healing {
    rules: Rules,
    topics: Topics,
    healing_since: Option<Duration>,
    /// Since when it is not ready, if it is not.
    waiting_since: Option<Duration>,
    /// Sent since faults stopped, in the order of time.
    unanswered: BTreeMap<BatchId, (PartitionId, Duration)>,
    audited: BTreeSet<PartitionId>,
    now: Duration,
}

impl Healing {
    pub(super) fn new(rules: Rules) -> Self {
        Self {
            rules,
            topics: Topics::default(),
            healing_since: None,
            waiting_since: Some(Duration::ZERO),
            unanswered: BTreeMap::new(),
            audited: BTreeSet::new(),
            now: Duration::ZERO,
        }
    }
}

impl Oracle for Healing {
    fn name(&self) -> &'static str {
        "healing"
    }

    fn hear(&mut self, at: &At) -> Result<(), Violation> {
        self.topics.hear(at);
        self.now = at.time;
        if self.rules.beyond_promise {
            return Ok(());
        }
        match &at.fact {
            Fact::Healing => self.healing_since = Some(at.time),
            Fact::Ready { .. } => {
                self.check_ready()?;
                self.waiting_since = None;
            }
            Fact::Crashed { .. } | Fact::Stopped { .. } => self.waiting_since = Some(at.time),
            Fact::Refusing { life, why } => {
                if self.healing_since.is_some() {
                    let what =
                        format!("life {life} refuses to serve at {:?}, without faults: {why}", at.time);
                    return Err(Violation(what));
                }
                self.waiting_since = Some(at.time);
            }
            Fact::Sent { batch, to, .. } if self.healing_since.is_some() => {
                self.unanswered.insert(*batch, (*to, at.time));
            }
            Fact::Acked { batch, .. } | Fact::Refused { batch, .. } | Fact::Doubtful { batch } => {
                self.check_answered()?;
                self.unanswered.remove(batch);
            }
            Fact::Audit { partition, .. } => {
                self.audited.insert(*partition);
            }
            Fact::AuditRefused { partition, why } => {
                let label = self.topics.label(*partition);
                return Err(Violation(format!("{label} cannot be read at the end, at {:?}: {why}", at.time)));
            }
            _ => {}
        }
        Ok(())
    }

    fn end(&mut self) -> Result<(), Violation> {
        if self.rules.beyond_promise {
            return Ok(());
        }
        self.check_ready()?;
        if let Some(since) = self.waiting_since {
            return Err(Violation(format!("the node is not ready at the end, since {since:?}")));
        }
        if let Some((batch, (to, sent_at))) = self.unanswered.first_key_value() {
            let label = self.topics.label(*to);
            let what =
                format!("batch {} to {label}, sent at {sent_at:?}, is not answered at the end", batch.0);
            return Err(Violation(what));
        }
        match self.topics.kept().find(|partition| !self.audited.contains(partition)) {
            Some(partition) => {
                Err(Violation(format!("{} was not audited at the end", self.topics.label(partition))))
            }
            None => Ok(()),
        }
    }
}

impl Healing {
    fn check_ready(&self) -> Result<(), Violation> {
        let (Some(healing_since), Some(waiting_since)) = (self.healing_since, self.waiting_since) else {
            return Ok(());
        };
        let took = self.now.saturating_sub(healing_since.max(waiting_since));
        if took <= READY_MAX {
            return Ok(());
        }
        Err(Violation(format!(
            "faults stopped at {healing_since:?}, the node was not ready from {waiting_since:?} to {:?}",
            self.now
        )))
    }

    fn check_answered(&self) -> Result<(), Violation> {
        let Some((batch, (to, sent_at))) = self.unanswered.first_key_value() else { return Ok(()) };
        if self.now.saturating_sub(*sent_at) <= READY_MAX + ANSWER_MAX {
            return Ok(());
        }
        Err(Violation(format!(
            "batch {} to {}, sent at {sent_at:?}, after faults had stopped, is not answered at {:?}",
            batch.0,
            self.topics.label(*to),
            self.now
        )))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oracle::history::{History, PARTITION, TOPIC, plain};
    use storage_frame::Offset;

    fn history() -> History {
        let mut history = History::new(Healing::new(Rules::default()));
        history.topic(plain()).fact(Fact::Ready { life: 0 });
        history
    }

    fn audit_all(history: &mut History) -> &mut History {
        let other = PartitionId { index: 1, ..PARTITION };
        let (log_start, high_watermark) = (Offset(0), Offset(0));
        let audit = Fact::Audit { partition: other, log_start, high_watermark, records: vec![] };
        history.audit(0, &[]).fact(audit)
    }

    #[test]
    fn a_node_that_serves_again_passes() {
        let mut history = history();
        history.crash().fact(Fact::Healing).fact(Fact::Ready { life: 1 }).sent(1, &[0]).acked(1, 0);
        audit_all(&mut history).passes();
    }

    #[test]
    fn a_node_that_is_not_ready_in_time_fails() {
        let mut late = history();
        late.crash().fact(Fact::Healing);
        late.now += READY_MAX;
        late.fact(Fact::Ready { life: 1 }).fails_with("the node was not ready from 4s");
        let mut never = history();
        never.crash().fact(Fact::Healing);
        audit_all(&mut never).fails_with("not ready at the end");
    }

    #[test]
    fn a_node_that_refuses_without_faults_fails() {
        let mut history = history();
        history.fact(Fact::Healing).fact(Fact::Refusing { life: 1, why: "identity".to_owned() });
        history.fails_with("life 1 refuses to serve at 5s, without faults: identity");
    }

    #[test]
    fn what_is_sent_without_faults_and_not_answered_fails() {
        let mut open = history();
        open.fact(Fact::Healing).sent(1, &[0]);
        audit_all(&mut open)
            .fails_with("batch 1 to orders/0 (log 0000000000000003), sent at 5s, is not answered");
        let mut late = history();
        late.fact(Fact::Healing).sent(1, &[0]);
        late.now += READY_MAX + ANSWER_MAX;
        late.acked(1, 0).fails_with("after faults had stopped, is not answered at 126s");
    }

    #[test]
    fn every_partition_that_was_not_deleted_is_audited() {
        let mut missing = history();
        missing.audit(0, &[]).fails_with("orders/1 (log 0000000000000004) was not audited");
        let mut refused = history();
        refused.fact(Fact::AuditRefused { partition: PARTITION, why: "damaged".to_owned() });
        refused.fails_with("cannot be read at the end, at 4s: damaged");
        history().fact(Fact::TopicDeleteAsked(TOPIC)).passes();
    }
}
