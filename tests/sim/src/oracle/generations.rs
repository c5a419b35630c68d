//! A generation means one thing (I12): one leader, one set of members, each partition in at most one member's hands,
//! whatever crashes lie between two tellings. Groups of the run have committed offsets before their first member, so
//! none is forgotten and counts from the beginning again.
//!
//! Source: KIP-62 and KIP-345 (fencing by generation), and what readers of a shared queue rely on.

use std::collections::BTreeMap;

use super::{Oracle, Violation};
use crate::fact::{At, ClientId, Fact};

#[derive(Debug, Default)]
pub(super) struct Generations {
    known: BTreeMap<(String, i32), Generation>,
    /// The last one in which each member knew what it owns. One that nobody was assigned anything in may end with the
    /// life of the node: the one before it goes on then.
    last: BTreeMap<(String, String), i32>,
}

#[derive(Debug, Default)]
struct Generation {
    leader: Option<String>,
    /// As its leader was told.
    members: Option<Vec<String>>,
    owners: BTreeMap<(String, u32), (String, ClientId)>,
}

impl Oracle for Generations {
    fn name(&self) -> &'static str {
        "generations"
    }

    fn hear(&mut self, at: &At) -> Result<(), Violation> {
        match &at.fact {
            Fact::GroupJoined { group, generation, leader, members, .. } => {
                let known = self.known.entry((group.clone(), *generation)).or_default();
                let first = known.leader.get_or_insert_with(|| leader.clone());
                if first != leader {
                    return Err(Violation(format!(
                        "generation {generation} of {group} is led by '{first}' and by '{leader}'"
                    )));
                }
                if members.is_empty() {
                    return Ok(());
                }
                let mut members = members.clone();
                members.sort();
                let first = known.members.get_or_insert_with(|| members.clone());
                if *first != members {
                    return Err(Violation(format!(
                        "generation {generation} of {group} has members {first:?} and {members:?}"
                    )));
                }
                Ok(())
            }
            Fact::GroupAssigned { group, client, member, generation, owned } => {
                self.check_rising(group, member, *generation)?;
                let known = self.known.entry((group.clone(), *generation)).or_default();
                for place in owned {
                    let owner = known.owners.entry(place.clone()).or_insert((member.clone(), *client));
                    if owner.0 != *member {
                        return Err(Violation(format!(
                            "{}/{} is owned in generation {generation} of {group} by '{}' (client {}) and by \
                             '{member}' (client {})",
                            place.0, place.1, owner.0, owner.1.0, client.0
                        )));
                    }
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }
}

impl Generations {
    /// A member is never assigned anything in an older generation than before.
    fn check_rising(&mut self, group: &str, member: &str, generation: i32) -> Result<(), Violation> {
        let before = self.last.insert((group.to_owned(), member.to_owned()), generation);
        match before {
            Some(before) if before > generation => Err(Violation(format!(
                "member '{member}' of {group} knew what it owns in generation {before} and then in {generation}"
            ))),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oracle::history::History;

    fn joined(member: &str, generation: i32, members: &[&str]) -> Fact {
        Fact::GroupJoined {
            group: "g".to_owned(),
            client: ClientId(1),
            member: member.to_owned(),
            generation,
            leader: "a".to_owned(),
            members: members.iter().map(|member| (*member).to_owned()).collect(),
        }
    }

    fn assigned(member: &str, generation: i32, partition: u32) -> Fact {
        Fact::GroupAssigned {
            group: "g".to_owned(),
            client: ClientId(1),
            member: member.to_owned(),
            generation,
            owned: vec![("t".to_owned(), partition)],
        }
    }

    #[test]
    fn a_partition_with_one_owner_at_a_time_passes() {
        let mut history = History::new(Generations::default());
        history.fact(joined("a", 1, &["a", "b"])).fact(joined("b", 1, &[]));
        history.fact(assigned("a", 1, 0)).fact(assigned("b", 1, 1)).fact(assigned("b", 2, 0)).passes();
    }

    #[test]
    fn a_partition_with_two_owners_fails() {
        let mut history = History::new(Generations::default());
        history.fact(assigned("a", 1, 0)).crash().fact(assigned("b", 1, 0));
        history.fails_with("t/0 is owned in generation 1 of g by 'a'");
    }

    #[test]
    fn a_generation_with_other_members_than_before_fails() {
        let mut history = History::new(Generations::default());
        history.fact(joined("a", 1, &["a", "b"])).crash().fact(joined("a", 1, &["a"]));
        history.fails_with("generation 1 of g has members [\"a\", \"b\"] and [\"a\"]");
    }

    #[test]
    fn a_generation_that_falls_fails() {
        let mut history = History::new(Generations::default());
        history.fact(assigned("a", 3, 0)).fact(assigned("a", 2, 0));
        history.fails_with("knew what it owns in generation 3 and then in 2");
    }
}
