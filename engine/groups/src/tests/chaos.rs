//! Members that join, work, die, come back and haunt, with a coordinator that crashes and a disk that is late or
//! refuses, in any order; what must hold is looked at after every step, and in the end everything must heal.

use std::collections::BTreeMap;
use std::time::Duration;

use engine_api::*;
use proptest::prelude::*;

use super::harness::*;

const PARTITIONS: u32 = 3;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Classic,
    Static,
    Native,
}

#[derive(Debug, Default)]
struct Client {
    instance: Option<String>,
    member: String,
    joined: Option<Joined>,
    /// What it works on, from the answer that said so until it gives up.
    hands: Option<Vec<u32>>,
    waits: Option<(u64, What)>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum What {
    Join,
    Sync,
    Beat,
    Commit(u32, u64),
}

struct Chaos {
    h: Harness,
    dice: Dice,
    kind: Kind,
    clients: Vec<Client>,
    /// Identities that somebody else may still act with.
    ghosts: Vec<Joined>,
    /// Owner of each partition in each generation, and the leader; under the name that a static member keeps.
    owners: BTreeMap<(i32, u32), String>,
    leaders: BTreeMap<i32, String>,
    next_offset: u64,
    acknowledged: BTreeMap<u32, u64>,
    seen: BTreeMap<u32, u64>,
    open: Vec<u64>,
}

struct Dice(u64);

impl Dice {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % n
    }
}

impl Chaos {
    fn new(seed: u64) -> Self {
        let mut dice = Dice(seed);
        let kind = [Kind::Classic, Kind::Static, Kind::Native][dice.below(3) as usize];
        let delay = Duration::from_millis(dice.below(2) * 500);
        let h = Harness::with(crate::GroupsConfig { initial_rebalance_delay: delay, seed, ..config() });
        let clients = (0..1 + dice.below(5)).map(|n| Client {
            instance: (kind == Kind::Static).then(|| format!("i{n}")),
            ..Client::default()
        });
        Self {
            clients: clients.collect(),
            h,
            dice,
            kind,
            ghosts: Vec::new(),
            owners: BTreeMap::new(),
            leaders: BTreeMap::new(),
            next_offset: 1,
            acknowledged: BTreeMap::new(),
            seen: BTreeMap::new(),
            open: Vec::new(),
        }
    }

    fn ask(&mut self, n: usize, ask: GroupAsk, what: What) {
        let key = self.h.ask("g", ask);
        self.open.push(key);
        self.clients[n].waits = Some((key, what));
    }

    fn id(&self, n: usize) -> MemberId {
        let client = &self.clients[n];
        let generation = client.joined.as_ref().map_or(-1, |joined| joined.generation);
        MemberId { instance: client.instance.clone(), ..id(&client.member, generation) }
    }

    /// What the client does next of its own.
    fn act(&mut self, n: usize) {
        self.take_answer(n);
        if self.clients[n].waits.is_some() {
            return;
        }
        let client = &self.clients[n];
        match (&client.joined, &client.hands) {
            (None, _) => self.join(n),
            (Some(_), None) => self.sync(n),
            (Some(_), Some(hands)) => {
                // Commits do not tell of a rebalance; heartbeats do.
                let partition = hands.get(self.dice.below(2 * u64::from(PARTITIONS)) as usize).copied();
                match partition {
                    Some(partition) => {
                        let offset = self.next_offset;
                        self.next_offset += 1;
                        let ask = commit(self.id(n), &[("t", partition, offset)]);
                        self.ask(n, ask, What::Commit(partition, offset));
                    }
                    None => self.ask(n, GroupAsk::Heartbeat(self.id(n)), What::Beat),
                }
            }
        }
    }

    fn join(&mut self, n: usize) {
        let client = &mut self.clients[n];
        client.hands = None;
        let (member, instance) = (client.member.clone(), client.instance.clone());
        let base = match self.kind {
            Kind::Native => native(&member, &["t"], Assignor::Sticky),
            Kind::Classic | Kind::Static => classic(&member),
        };
        let member_id_required = self.dice.below(2) == 0;
        let join =
            JoinGroup { instance, member_id_required, rebalance_timeout: Duration::from_secs(20), ..base };
        self.ask(n, GroupAsk::Join(join), What::Join);
    }

    fn sync(&mut self, n: usize) {
        let joined = self.clients[n].joined.clone().expect("it has joined");
        let mut parts: Vec<Vec<u32>> = vec![Vec::new(); joined.members.len()];
        if !joined.members.is_empty() {
            for partition in 0..PARTITIONS {
                parts[partition as usize % joined.members.len()].push(partition);
            }
        }
        let assignments =
            joined.members.iter().zip(&parts).map(|((id, ..), part)| (id.clone(), assignment("t", part)));
        let sync = SyncGroup {
            member: self.id(n),
            protocol_type: joined.protocol_type.clone(),
            protocol: joined.protocol.clone(),
            assignments: if joined.skip_assignment { Vec::new() } else { assignments.collect() },
        };
        self.ask(n, GroupAsk::Sync(sync), What::Sync);
    }

    fn take_answer(&mut self, n: usize) {
        let Some((key, what)) = self.clients[n].waits.clone() else { return };
        let Some(answer) = self.h.answers.get(&key).cloned() else { return };
        self.clients[n].waits = None;
        match answer {
            Ok(GroupAnswer::Joined(joined)) => self.on_joined(n, joined),
            Ok(GroupAnswer::Synced(synced)) => {
                let owned = crate::consumer::owned(&synced.assignment).expect("ours");
                self.take_in_hands(n, owned.get("t").cloned().unwrap_or_default());
            }
            Ok(GroupAnswer::Committed(_)) => {
                let What::Commit(partition, offset) = what else { panic!("{what:?}") };
                let acknowledged = self.acknowledged.entry(partition).or_default();
                *acknowledged = offset.max(*acknowledged);
            }
            Ok(_) => {}
            Err(GroupError::MemberIdRequired { member }) => self.clients[n].member = member,
            Err(GroupError::UnknownMember { .. } | GroupError::Fenced { .. }) => {
                let client = &mut self.clients[n];
                client.member = String::new();
                self.give_up(n);
            }
            Err(GroupError::StorageFailed { .. }) if what != What::Join => {}
            Err(_) => self.give_up(n),
        }
    }

    fn on_joined(&mut self, n: usize, joined: Joined) {
        let name = self.name(n, &joined.member);
        if joined.leader == joined.member && !joined.skip_assignment {
            let leader = self.leaders.entry(joined.generation).or_insert_with(|| name.clone());
            assert_eq!(*leader, name, "two led generation {}", joined.generation);
        }
        self.clients[n].member = joined.member.clone();
        self.clients[n].joined = Some(joined.clone());
        if self.kind == Kind::Native {
            let owned = joined.assignment.first().map_or(Vec::new(), |(_, owned)| owned.clone());
            self.take_in_hands(n, owned);
        }
    }

    fn name(&self, n: usize, member: &str) -> String {
        self.clients[n].instance.clone().unwrap_or_else(|| member.to_owned())
    }

    /// A partition is at most one member's in a generation.
    fn take_in_hands(&mut self, n: usize, owned: Vec<u32>) {
        let joined = self.clients[n].joined.clone().expect("it has joined");
        let name = self.name(n, &joined.member);
        for partition in &owned {
            let owner = self.owners.entry((joined.generation, *partition)).or_insert_with(|| name.clone());
            assert_eq!(
                *owner, name,
                "partition {partition} of generation {} has two owners",
                joined.generation
            );
        }
        self.clients[n].hands = Some(owned);
    }

    fn give_up(&mut self, n: usize) {
        let client = &mut self.clients[n];
        client.hands = None;
        self.ghosts.extend(client.joined.take());
    }

    fn die(&mut self, n: usize) {
        let instance = self.clients[n].instance.clone();
        let dead = std::mem::replace(&mut self.clients[n], Client { instance, ..Client::default() });
        self.ghosts.extend(dead.joined);
        if let Some((key, _)) = dead.waits
            && self.dice.below(2) == 0
        {
            self.h.cancel(key);
            self.open.retain(|open| *open != key);
        }
    }

    /// Somebody acts under an identity that was given up.
    fn haunt(&mut self) {
        if self.ghosts.is_empty() {
            return;
        }
        let ghost = &self.ghosts[self.dice.below(self.ghosts.len() as u64) as usize];
        let (member, generation) = (ghost.member.clone(), ghost.generation);
        let described = self.h.describe("g");
        let is_member = described.members.iter().any(|known| known.member == member);
        let may_commit = matches!(described.state, GroupState::Stable | GroupState::PreparingRebalance);
        if is_member && generation == described.generation && may_commit {
            return;
        }
        let answer = self.h.answered("g", commit(id(&member, generation), &[("t", 0, 1)]));
        assert!(answer.is_err(), "a zombie of generation {generation} has committed");
    }

    fn crash(&mut self) {
        for client in &mut self.clients {
            if let Some((key, _)) = client.waits.take() {
                self.open.retain(|open| *open != key);
            }
        }
        self.open.retain(|open| self.h.answers.contains_key(open));
        self.h.restart();
    }

    fn check(&mut self) {
        for n in 0..self.clients.len() {
            self.take_answer(n);
        }
        for partition in 0..PARTITIONS {
            let now = self.h.committed("g", "t", partition).map_or(0, |committed| committed.offset.0);
            let seen = self.seen.insert(partition, now).unwrap_or(0);
            assert!(now >= seen, "the offset of {partition} went from {seen} back to {now}");
            let acknowledged = self.acknowledged.get(&partition).copied().unwrap_or(0);
            assert!(
                now >= acknowledged,
                "offset {acknowledged} of {partition} was acknowledged, {now} is there"
            );
        }
        self.check_hands();
        let (counted, found) = self.h.groups.bytes_counted_and_found();
        assert_eq!(counted, found, "bytes held");
    }

    /// Whoever is a member still and works on a partition has it to itself.
    fn check_hands(&mut self) {
        if self.kind != Kind::Native {
            return;
        }
        let described = self.h.describe("g");
        for client in &self.clients {
            let (Some(hands), Some(joined)) = (&client.hands, &client.joined) else { continue };
            let is_waiting = matches!(client.waits, Some((_, What::Join)));
            if is_waiting || !described.members.iter().any(|known| known.member == client.member) {
                continue;
            }
            for other in described.members.iter().filter(|known| known.member != client.member) {
                let owned = other.owned.first().map_or(&[][..], |(_, owned)| owned);
                let both = hands.iter().find(|partition| owned.contains(partition));
                assert_eq!(
                    both, None,
                    "{} works on it since generation {}",
                    client.member, joined.generation
                );
            }
        }
    }

    fn step(&mut self) {
        let n = self.dice.below(self.clients.len() as u64) as usize;
        match self.dice.below(100) {
            0..=54 => self.act(n),
            55..=58 => self.die(n),
            59 => {
                let leaving = Leaving {
                    member: self.clients[n].member.clone(),
                    instance: self.clients[n].instance.clone(),
                    reason: None,
                };
                self.h.answered("g", GroupAsk::Leave(vec![leaving])).expect("each has its answer");
                self.clients[n].waits = None;
                self.clients[n].member = String::new();
                self.give_up(n);
            }
            60..=66 => self.haunt(),
            67..=76 => self.h.pass(Duration::from_millis(200)),
            77..=78 => self.h.pass(Duration::from_secs(6)),
            79 => self.h.pass(Duration::from_secs(25)),
            80..=92 => {
                self.h.store_one();
                self.h.settle();
            }
            93 => self.h.is_fast = !self.h.is_fast,
            94..=95 => {
                if !self.h.unstored.is_empty() {
                    self.h.fail_store();
                }
            }
            96 => self.crash(),
            97 => {
                if let Some((key, _)) = self.clients[n].waits.take() {
                    self.h.cancel(key);
                    self.open.retain(|open| *open != key);
                    self.give_up(n);
                }
            }
            _ => self.h.pass(Duration::from_secs(1)),
        }
        self.h.settle();
        self.check();
    }

    /// Everybody behaves: in bounded time all work, and everything is somebody's.
    fn heal(&mut self) {
        self.h.is_fast = true;
        self.h.settle();
        for _ in 0..120 {
            for n in 0..self.clients.len() {
                self.act(n);
                self.take_answer(n);
            }
            self.h.pass(Duration::from_millis(500));
            self.check();
        }
        let described = self.h.describe("g");
        assert_eq!(described.state, GroupState::Stable, "{described:?}");
        let mut owned: Vec<u32> =
            self.clients.iter().flat_map(|client| client.hands.clone().expect("it works")).collect();
        owned.sort_unstable();
        assert_eq!(owned, (0..PARTITIONS).collect::<Vec<_>>());
        for key in &self.open {
            assert!(self.h.answers.contains_key(key), "request {key} was never answered");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { max_shrink_iters: 0, ..ProptestConfig::with_cases(300) })]

    #[test]
    fn whatever_happens_the_rules_hold_and_it_heals(seed: u64, steps in 20usize..300) {
        let mut chaos = Chaos::new(seed);
        for _ in 0..steps {
            chaos.step();
        }
        chaos.heal();
    }
}
