//! From the first topic to the audit: faults and work, then healing, draining, a last stop and start, and reading
//! everything.
//!
//! ```text
//! Beginning -> Chaos -> Healing -> Draining -> Watching -> Draining -> Resting -> Auditing -> Over
//! topics made  work,    ready      clients     a member                stop or    all is
//!              faults   again      have their  does not                crash,     read
//!                                  answers     read                    ready
//! ```

use std::time::Duration;

use super::{Event, World};
use crate::fact::Fact;
use crate::scenario::Work;
use crate::trace::Detail;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    Beginning,
    Chaos,
    /// The node is to be ready by then.
    Healing {
        until: Duration,
    },
    Draining {
        until: Duration,
        probed: bool,
    },
    /// A member of a group has stopped reading; until the node has noticed.
    Watching {
        until: Duration,
        has_asked: bool,
    },
    /// Stopped or crashed once more; to be ready by then.
    Resting {
        until: Duration,
        life: u32,
    },
    Auditing {
        until: Duration,
    },
    Over,
}

/// How often something is looked at that has to be waited for.
const LOOK: Duration = Duration::from_millis(20);
/// Even with faults the node gets to serve for once.
const BEGUN_WITHIN: Duration = Duration::from_secs(300);
/// Without faults the node is ready within this, and has answered everything within this.
const HEALED_WITHIN: Duration = Duration::from_secs(60);
const DRAINED_WITHIN: Duration = Duration::from_secs(60);
const AUDITED_WITHIN: Duration = Duration::from_secs(60);
/// Three looks at a lag, five seconds apart, and one that told it whole.
const WATCHED_FOR: Duration = Duration::from_secs(35);
const ASKED_BEFORE: Duration = Duration::from_secs(5);

impl World {
    pub(super) fn is_chaotic(&self) -> bool {
        matches!(self.phase, Phase::Beginning | Phase::Chaos)
    }

    /// Whether a node that is gone is started again.
    pub(super) fn comes_back(&self) -> bool {
        self.phase != Phase::Over
    }

    fn enter(&mut self, phase: Phase) {
        self.trace.note(Detail::Story, || format!("phase {phase:?}"));
        self.phase = phase;
    }

    fn is_ready(&self) -> bool {
        self.process.as_ref().is_some_and(|process| process.is_ready() && !process.is_stopping)
    }

    /// The clients' clock.
    pub(super) fn work(&mut self) {
        self.direct.set_moment(self.moment());
        let next = match self.phase {
            Phase::Beginning => self.begin(),
            Phase::Chaos => self.act(),
            Phase::Healing { until } => self.heal(until),
            Phase::Draining { until, probed } => self.drain(until, probed),
            Phase::Watching { until, has_asked } => self.watch(until, has_asked),
            Phase::Resting { until, life } => self.rest(until, life),
            Phase::Auditing { until } => self.audit(until),
            Phase::Over => return,
        };
        self.perform_wishes();
        self.queue.push(self.now + next, Event::Work);
    }

    fn begin(&mut self) -> Duration {
        if self.is_ready() {
            for _ in 0..self.plan.topics {
                self.direct.create_topic();
            }
            for name in self.plan.sdk.iter().flat_map(|sdk| sdk.topics.clone()) {
                self.direct.create_shared_topic(&name);
            }
            for name in self.kafka.topics().to_vec() {
                self.direct.create_shared_topic(&name);
            }
            self.enter(Phase::Chaos);
            self.schedule_chaos();
        } else if self.now > BEGUN_WITHIN {
            self.give_up(format!("the node never served within {BEGUN_WITHIN:?}"));
        }
        LOOK
    }

    /// The clients on the SDK have come to their end.
    fn is_sdk_over(&self) -> bool {
        self.sdk_over.load(std::sync::atomic::Ordering::Relaxed)
    }

    fn act(&mut self) -> Duration {
        if self.actions_left == 0 {
            return self.begin_healing();
        }
        self.actions_left -= 1;
        if self.process.is_some() {
            let total: u64 = self.plan.work.iter().map(|(_, weight)| weight).sum();
            let mut left = self.dice.work.below(total);
            let picked = self.plan.work.iter().find(|(_, weight)| {
                let is_it = left < *weight;
                left = left.saturating_sub(*weight);
                is_it
            });
            let what = picked.expect("below the total").0;
            self.do_work(what);
        }
        if self.dice.work.below(100) < self.plan.rest_percent {
            return Self::between(&mut self.dice.work, self.plan.rest);
        }
        // Bursts: many things at one moment.
        if self.dice.work.one_in(3) {
            Duration::ZERO
        } else {
            Self::between(&mut self.dice.work, self.plan.gap)
        }
    }

    fn do_work(&mut self, what: Work) {
        match what {
            Work::Produce => self.direct.produce(),
            Work::ProducePlain => self.direct.produce_plain(),
            Work::Fetch => self.direct.fetch(),
            Work::Jump => self.direct.jump(),
            Work::Cancel => self.direct.cancel_one(),
            Work::Find => self.direct.find(),
            Work::DeleteRecords => self.direct.delete_records(),
            Work::CreateTopic => self.direct.create_topic(),
            Work::AlterTopic => self.direct.alter_topic(),
            Work::DeleteTopic => self.direct.delete_topic(),
            Work::Describe => self.direct.describe(),
            Work::BeRude => self.direct.be_rude(),
        }
    }

    /// What has to be tried again.
    pub(super) fn retry(&mut self) {
        if self.phase == Phase::Over {
            return;
        }
        if self.process.is_some() {
            self.direct.set_moment(self.moment());
            self.direct.retry();
            self.members.set_moment(self.moment());
            self.members.step();
        }
        self.kafka.set_moment(self.moment());
        self.kafka.step();
        self.perform_wishes();
        self.queue.push(self.now + LOOK, Event::Retry);
    }

    fn begin_healing(&mut self) -> Duration {
        self.fuse = None;
        self.tell(Fact::ClockJumping);
        self.wall_jump_ms = 0;
        self.disk.set_faults(tests_disk::Faults::default());
        self.net.wire().heal();
        self.healed_at = self.now;
        self.tell(Fact::Healing);
        self.members.set_moment(self.moment());
        self.members.calm_down();
        self.kafka.set_moment(self.moment());
        self.kafka.calm_down();
        self.enter(Phase::Healing { until: self.now + HEALED_WITHIN });
        for core in 0..self.process.as_ref().map_or(0, |process| process.core_count()) {
            self.process.as_mut().expect("just seen").cores[core].stalled_until = Duration::ZERO;
            self.wake(core);
        }
        // A log that failed is written again by the next life of the node, as its operator is told.
        if self.has_failed_logs || self.dice.node.one_in(3) {
            if self.dice.node.one_in(2) {
                self.crash("to begin with");
            } else {
                self.stop();
            }
        }
        LOOK
    }

    fn heal(&mut self, until: Duration) -> Duration {
        if self.is_ready() {
            let sdk_end =
                self.plan.sdk.as_ref().map_or(Duration::ZERO, |sdk| sdk.until + crate::sdk::ENDING_MAX);
            let until = self.now.max(sdk_end) + DRAINED_WITHIN;
            self.enter(Phase::Draining { until, probed: false });
        } else if self.now > until {
            self.give_up(format!("the node was not ready {HEALED_WITHIN:?} after the last fault"));
        }
        LOOK
    }

    fn drain(&mut self, until: Duration, probed: bool) -> Duration {
        let is_drained = self.direct.is_drained()
            && self.members.is_settled()
            && self.kafka.is_drained()
            && self.is_sdk_over();
        if is_drained && probed && self.is_watching {
            self.is_watching = false;
            self.enter(Phase::Watching { until: self.now + WATCHED_FOR, has_asked: false });
        } else if is_drained && probed {
            self.direct.cancel_all();
            self.kafka.set_moment(self.moment());
            self.kafka.end();
            self.schedule_pipes();
            let life = self.process.as_ref().map_or(0, |process| process.life);
            if self.dice.node.one_in(3) {
                // What stands in memory is held to its word as well.
                self.begin_audit();
                return LOOK;
            }
            self.enter(Phase::Resting { until: self.now + HEALED_WITHIN, life });
            if self.dice.node.one_in(2) {
                self.crash("at the end");
            } else {
                self.stop();
            }
        } else if is_drained && self.direct.is_resolved() {
            self.kafka.set_moment(self.moment());
            self.is_watching = self.dice.node.one_in(3) && self.kafka.begin_idling();
            self.direct.produce_everywhere();
            self.enter(Phase::Draining { until, probed: true });
        } else if self.now > until {
            self.give_up(format!("{DRAINED_WITHIN:?} without faults: {}", self.undrained()));
        } else if let Some(overdue) = self.direct.overdue(self.healed_at).into_iter().next() {
            self.give_up(format!("not answered: {overdue}"));
        } else if self.direct.is_drained() {
            self.direct.resolve();
        }
        LOOK
    }

    /// Nothing moves but what is needed to stay in a group.
    fn watch(&mut self, until: Duration, has_asked: bool) -> Duration {
        self.kafka.set_moment(self.moment());
        if !has_asked && self.now + ASKED_BEFORE > until {
            self.kafka.look_at_offsets();
            self.enter(Phase::Watching { until, has_asked: true });
        } else if self.now > until {
            self.tell_lags();
            self.kafka.end_idling();
            self.enter(Phase::Draining { until: self.now + DRAINED_WITHIN, probed: true });
        }
        LOOK
    }

    fn tell_lags(&mut self) {
        let Some(process) = &self.process else { return };
        let groups = self.kafka.begun_groups();
        let figures = process.cores.iter().map(|core| core.logic.shard().stats().groups);
        let lags = figures.flat_map(|figures| figures.lags).filter(|lag| groups.contains(&lag.group));
        let told = lags.map(|lag| Fact::LagTold { group: lag.group, topic: lag.topic, records: lag.records });
        for fact in told.collect::<Vec<_>>() {
            self.tell(fact);
        }
    }

    fn undrained(&self) -> String {
        if !self.direct.is_drained() {
            return self.direct.undrained();
        }
        let unsettled = self.members.unsettled().or_else(|| self.kafka.undrained());
        unsettled.unwrap_or_default()
    }

    fn rest(&mut self, until: Duration, life: u32) -> Duration {
        if self.is_ready() && !self.lives_still(life) {
            self.begin_audit();
        } else if self.now > until {
            self.give_up(format!("not ready {HEALED_WITHIN:?} after a stop without faults"));
        }
        LOOK
    }

    fn begin_audit(&mut self) {
        self.direct.begin_audit();
        self.members.begin_audit(self.kafka.begun_groups());
        self.enter(Phase::Auditing { until: self.now + AUDITED_WITHIN });
    }

    fn audit(&mut self, until: Duration) -> Duration {
        self.direct.audit_on();
        if self.direct.is_audited() && self.members.is_audited() {
            self.end();
        } else if self.now > until {
            self.give_up(format!("not everything could be read within {AUDITED_WITHIN:?}"));
        }
        LOOK
    }

    /// The node does not serve. Beyond the promise that may be so, as long as it says why.
    fn give_up(&mut self, why: String) {
        if self.plan.beyond_promise {
            self.trace.note(Detail::Story, || format!("given up: {why}"));
            self.end();
        } else {
            self.fail("healing", why);
        }
    }

    fn end(&mut self) {
        self.enter(Phase::Over);
        self.end_oracles();
        self.done.notify_one();
    }
}
