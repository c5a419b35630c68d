//! Every rebalance ends (I15): once faults have stopped and the node is ready, whoever joins is told what it owns within
//! a stated time.
//!
//! Source: what an operator expects of `group describe`: no group stays in `PreparingRebalance`.

use std::collections::BTreeMap;
use std::time::Duration;

use super::{Oracle, Rules, Violation};
use crate::fact::{At, ClientId, Fact};

/// From joining, or the end of faults, to knowing what one owns: the longest session and rebalance timeouts of a run,
/// twice, and what a disk takes.
const REGROUP_MAX: Duration = Duration::from_secs(40);

#[derive(Debug)]
pub(super) struct Regrouping {
    rules: Rules,
    calm_since: Option<Duration>,
    joining: BTreeMap<ClientId, (String, Duration)>,
    now: Duration,
}

impl Regrouping {
    pub(super) fn new(rules: Rules) -> Self {
        Self { rules, calm_since: None, joining: BTreeMap::new(), now: Duration::ZERO }
    }

    fn check(&self) -> Result<(), Violation> {
        let Some(calm_since) = self.calm_since else { return Ok(()) };
        for (client, (group, since)) in &self.joining {
            if self.now.saturating_sub(calm_since.max(*since)) > REGROUP_MAX {
                return Err(Violation(format!(
                    "client {} joins {group} since {since:?}, faults stopped at {calm_since:?}, and is told nothing",
                    client.0
                )));
            }
        }
        Ok(())
    }
}

impl Oracle for Regrouping {
    fn name(&self) -> &'static str {
        "regrouping"
    }

    fn hear(&mut self, at: &At) -> Result<(), Violation> {
        self.now = at.time;
        match &at.fact {
            Fact::Healing => self.calm_since = Some(at.time),
            // Those who wait have to begin again.
            Fact::Ready { .. } if self.calm_since.is_some() => self.calm_since = Some(at.time),
            Fact::GroupJoining { group, client } => {
                self.joining.entry(*client).or_insert_with(|| (group.clone(), at.time));
            }
            Fact::GroupAssigned { client, .. } => {
                if !self.rules.beyond_promise {
                    self.check()?;
                }
                self.joining.remove(client);
            }
            Fact::GroupLeft { client, .. } => {
                self.joining.remove(client);
            }
            _ => {}
        }
        Ok(())
    }

    fn end(&mut self) -> Result<(), Violation> {
        if self.rules.beyond_promise {
            return Ok(());
        }
        self.check()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oracle::history::History;

    fn joining() -> Fact {
        Fact::GroupJoining { group: "g".to_owned(), client: ClientId(1) }
    }

    fn assigned() -> Fact {
        Fact::GroupAssigned {
            group: "g".to_owned(),
            client: ClientId(1),
            member: "a".to_owned(),
            generation: 1,
            owned: Vec::new(),
        }
    }

    #[test]
    fn a_member_that_is_told_in_time_passes() {
        let mut history = History::new(Regrouping::new(Rules::default()));
        history.fact(joining());
        history.now += REGROUP_MAX;
        history.fact(Fact::Healing).fact(assigned()).passes();
    }

    #[test]
    fn a_member_that_is_told_too_late_or_never_fails() {
        let mut late = History::new(Regrouping::new(Rules::default()));
        late.fact(Fact::Healing).fact(joining());
        late.now += REGROUP_MAX;
        late.fact(assigned()).fails_with("client 1 joins g since");
        let mut never = History::new(Regrouping::new(Rules::default()));
        never.fact(Fact::Healing).fact(joining());
        never.now += REGROUP_MAX;
        never.fact(Fact::GroupLeft { group: "g".to_owned(), client: ClientId(2) });
        never.fails_with("and is told nothing");
    }
}
