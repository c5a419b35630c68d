//! Whoever says nothing for its session is out of its group (I16), within one life of its coordinator: members get a new
//! session when it has been loaded, and while a core takes no turns or reads no requests nobody's session goes on.
//!
//! Source: Kafka's documentation of `session.timeout.ms`.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::{Oracle, Violation};
use crate::fact::{At, Fact};

/// From the end of a session to the coordinator's noticing: its tick, the way of the last words, a core that stalls.
const NOTICED_WITHIN: Duration = Duration::from_secs(5);

#[derive(Debug, Default)]
pub(super) struct Sessions {
    /// Dead members by group and id.
    dead: BTreeMap<(String, String), Dead>,
    /// Cores whose members' time stands still.
    unheard: BTreeSet<u8>,
}

#[derive(Debug)]
struct Dead {
    since: Duration,
    session: Duration,
    /// Known once the coordinator has answered something asked after its death: its last words, which renew its
    /// session, are heard by then.
    out_at: Option<Duration>,
}

impl Oracle for Sessions {
    fn name(&self) -> &'static str {
        "sessions"
    }

    fn hear(&mut self, at: &At) -> Result<(), Violation> {
        match &at.fact {
            Fact::MemberSilent { group, member, session } => {
                let dead = Dead { since: at.time, session: *session, out_at: None };
                self.dead.insert((group.clone(), member.clone()), dead);
            }
            Fact::Began { .. } | Fact::Crashed { .. } | Fact::Stopped { .. } => {
                self.dead.clear();
                self.unheard.clear();
            }
            // Who died before has as much longer; how much is the broker's to know.
            Fact::Event { name: "clients_unheard", core, .. } => {
                self.unheard.insert(*core);
                self.dead.clear();
            }
            Fact::Event { name: "clients_heard_again", core, .. } => {
                self.unheard.remove(core);
                self.dead.clear();
            }
            // Long after the start, where its core or its disk had stalled.
            Fact::Event { name: "groups_loaded", .. } => self.dead.clear(),
            Fact::GroupDescribed { group, asked_at, members } if self.unheard.is_empty() => {
                for ((of, member), dead) in &mut self.dead {
                    if of != group || dead.since > *asked_at {
                        continue;
                    }
                    let out_at = *dead.out_at.get_or_insert(at.time + dead.session + NOTICED_WITHIN);
                    if out_at <= *asked_at && members.contains(member) {
                        return Err(Violation(format!(
                            "'{member}' is dead, was to be out of {group} at {out_at:?} and is in it at {:?}",
                            at.time
                        )));
                    }
                }
            }
            _ => {}
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use engine_shard::Level;

    use super::*;
    use crate::oracle::history::History;

    fn silent() -> Fact {
        let session = Duration::from_secs(3);
        Fact::MemberSilent { group: "g".to_owned(), member: "a".to_owned(), session }
    }

    fn described(history: &mut History, members: &[&str]) {
        let members = members.iter().map(|member| (*member).to_owned()).collect();
        let asked_at = history.now;
        history.fact(Fact::GroupDescribed { group: "g".to_owned(), asked_at, members });
    }

    #[test]
    fn a_dead_member_may_stay_for_its_session_and_no_longer() {
        let mut history = History::new(Sessions::default());
        history.fact(silent());
        described(&mut history, &["a", "b"]);
        history.now += Duration::from_secs(20);
        described(&mut history, &["b"]);
        history.passes();
        described(&mut history, &["a", "b"]);
        history.fails_with("'a' is dead, was to be out of g at");
    }

    #[test]
    fn nobody_is_due_out_for_silence_while_the_broker_did_not_listen() {
        let mut history = History::new(Sessions::default());
        history.fact(silent()).event(Level::Warn, "clients_unheard");
        history.fact(silent());
        history.now += Duration::from_secs(20);
        described(&mut history, &["a"]);
        history.event(Level::Info, "clients_heard_again");
        history.now += Duration::from_secs(4);
        described(&mut history, &["a"]);
        history.passes();
    }

    #[test]
    fn a_start_gives_a_new_session() {
        let mut history = History::new(Sessions::default());
        history.fact(silent()).crash();
        history.now += Duration::from_secs(20);
        described(&mut history, &["a"]);
        history.passes();
    }
}
