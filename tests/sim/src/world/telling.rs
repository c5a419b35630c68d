//! Facts: to the trace and to every oracle.

use engine_shard::Level;
use tests_disk::{FaultKind, Promise};

use super::World;
use crate::fact::{At, Fact};
use crate::oracle::log_of;
use crate::trace::Detail;

impl World {
    pub(super) fn tell(&mut self, fact: Fact) {
        self.counts.facts += 1;
        let is_story = matches!(
            &fact,
            Fact::Began { .. }
                | Fact::Ready { .. }
                | Fact::Crashed { .. }
                | Fact::Stopped { .. }
                | Fact::Refusing { .. }
                | Fact::Injected { .. }
                | Fact::Healing
                | Fact::Event { level: Level::Info | Level::Warn | Level::Error, .. }
        );
        let detail = if is_story { Detail::Story } else { Detail::Facts };
        self.trace.note(detail, || format!("{fact:?}"));
        if let Fact::Topic(topic) = &fact {
            self.hearsay.learn(topic);
            self.kafka.learn(topic);
        }
        if let Fact::Event { level: Level::Error, name: "log_failed", fields, .. } = &fact {
            self.failed_logs.extend(log_of(fields));
        }
        let at = At { time: self.now, wall: self.node_wall(), fact };
        let mut oracles = std::mem::take(&mut self.oracles);
        for oracle in &mut oracles {
            if let Err(violation) = oracle.hear(&at) {
                self.violated(oracle.name(), &violation);
            }
        }
        self.oracles = oracles;
    }

    pub(super) fn end_oracles(&mut self) {
        let mut oracles = std::mem::take(&mut self.oracles);
        for oracle in &mut oracles {
            if let Err(violation) = oracle.end() {
                self.violated(oracle.name(), &violation);
            }
        }
        self.oracles = oracles;
    }

    /// What the disk did wrong since it was last asked.
    pub(super) fn tell_injected(&mut self) {
        let new = self.disk.injected()[self.injected_told..].to_vec();
        self.injected_told += new.len();
        for injected in new {
            self.has_failed_logs |= matches!(
                injected.kind,
                FaultKind::ReadError | FaultKind::WriteError | FaultKind::LatentError | FaultKind::LostFile
            );
            self.was_full |= injected.kind == FaultKind::NoSpace;
            let beyond_promise = injected.promise() == Promise::Noticed;
            let what = format!(
                "{:?} in {:?} at {:?}, bytes {:?}{}",
                injected.kind,
                injected.zone,
                injected.place,
                injected.bytes,
                if injected.hits_acknowledged { ", acknowledged" } else { "" }
            );
            let kind = Some((injected.kind, injected.zone));
            self.tell(Fact::Injected { log: injected.log(), kind, beyond_promise, what });
        }
    }
}
