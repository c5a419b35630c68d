//! The node's process: started on what the disk holds, killed at any moment, stopped in order.

use std::time::Duration;

use bytes::Bytes;
use engine_api::{CoreId, NodeId};
use engine_meta::identity::{Fresh, Identity, Wanted};
use engine_shard::ShardConfig;
use net_quic::ServerConfig;
use storage_frame::LogId;
use storage_log::inspect::{SegmentError, SegmentWalk};
use storage_log::{BLOCK_BYTES, FileName};
use tests_disk::Dice;

use super::{Event, Process, World, node_address};
use crate::fact::Fact;
use crate::members::groups_config;

/// Until a process that could not start is started again.
const START_AGAIN: Duration = Duration::from_millis(500);

impl World {
    pub(super) fn start(&mut self) {
        if self.process.is_some() {
            return;
        }
        self.lives += 1;
        self.counts.lives += 1;
        self.has_failed_logs = false;
        self.failed_logs.clear();
        self.was_full = false;
        let identity = match self.begin_life() {
            Ok(Some(identity)) => identity,
            // Killed before it began.
            Ok(None) => return self.start_in(START_AGAIN),
            Err(why) => {
                self.tell_injected();
                self.tell(Fact::Refusing { life: self.lives, why });
                return self.start_in(START_AGAIN);
            }
        };
        self.tell_injected();
        let cores = self.core_count();
        self.disk.begin_life(cores);
        let life = self.lives;
        self.tell(Fact::Began { life, cores });
        let seed = Dice::nth(self.plan.seed, "life", u64::from(self.lives)).roll();
        let shard = ShardConfig {
            node: NodeId(0),
            core: CoreId(0),
            cores,
            cluster_id: identity.cluster_id,
            incarnation: identity.incarnation,
            address: node_address().to_string(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            seed,
            memory_bytes_max: self.plan.memory_bytes,
            free_bytes_min: 1000,
            opens_max: self.plan.opens,
            metadata_snapshot_bytes: self.plan.metadata_snapshot_bytes,
            topic_defaults: Vec::new(),
            offsets_partitions: self.plan.offsets_partitions,
            groups: groups_config(self.plan.groups.as_ref()),
        };
        let quic = ServerConfig {
            core: CoreId(0),
            tls: crate::net::tls::server(),
            secret: [7; 32],
            idle_timeout: Duration::from_secs(10),
            connections_max: self.plan.connections_max,
            message_bytes_max: 4 << 20,
            receive_window_bytes: 1 << 20,
            send_buffer_bytes: self.plan.send_buffer_bytes,
            seed: Some(seed),
        };
        let now = self.node_now(self.now);
        self.process = Some(Process::new(life, self.now, now, &shard, &quic, self.plan.link_messages));
        self.net.wire().set_up(node_address(), cores, true);
        for core in 0..cores {
            self.queue.push(self.now, Event::Tick { life, core });
            self.queue.push(self.now, Event::FreeSpace { life, core });
            self.wake(usize::from(core));
        }
    }

    pub(super) fn start_in(&mut self, delay: Duration) {
        self.queue.push(self.now + delay, Event::Start);
    }

    /// `None`: it was killed in between.
    fn begin_life(&mut self) -> Result<Option<Identity>, String> {
        let found = self.disk.identity().map_err(|error| error.to_string())?;
        let has_logs = self.disk.logs().next().is_some();
        let fresh = Fresh { cluster_id: 77, directory_id: 78, created_ms: self.node_wall().0 };
        let wanted = Wanted { node_id: 0, cluster_id: None };
        let identity = Identity::begin_life(found.as_deref(), has_logs, wanted, fresh);
        let identity = identity.map_err(|error| error.to_string())?;
        self.disk.begin_identity(Bytes::copy_from_slice(&identity.encode()));
        if self.plan.on.contains("crash") && self.is_chaotic() && self.dice.node.one_in(20) {
            self.disk.crash();
            return Ok(None);
        }
        self.disk.end_identity().map_err(|error| error.to_string())?;
        Ok(Some(identity))
    }

    /// Mostly as many as before.
    fn core_count(&mut self) -> u8 {
        let [least, most] = self.plan.cores;
        let epoch = u64::from(self.lives) / 4;
        Dice::nth(self.plan.seed, "cores", epoch).between(least, most + 1) as u8
    }

    pub(super) fn crash(&mut self, when: &str) {
        let Some(process) = self.process.take() else { return };
        self.counts.crashes += 1;
        self.fuse = None;
        self.net.wire().set_up(node_address(), 1, false);
        let life = process.life;
        drop(process);
        self.trace.note(crate::trace::Detail::Story, || format!("life {life} is killed {when}"));
        self.disk.crash();
        if !self.plan.beyond_promise {
            self.drop_harmed_spares();
        }
        self.tell_injected();
        self.tell(Fact::Crashed { life });
        self.lose_node(|_| true);
    }

    /// A spare whose header has rotted has its new name before its log looks at it and removes it. A kill in between
    /// leaves what cannot be told from a segment whose own header has rotted, and nothing mends (`FOUND.md`, "Open").
    fn drop_harmed_spares(&mut self) {
        let mut harmed = Vec::new();
        for log in self.disk.logs() {
            for (name, bytes) in self.disk.files(log) {
                let first = Bytes::copy_from_slice(&bytes[..bytes.len().min(BLOCK_BYTES)]);
                let is_segment = matches!(name, FileName::Segment(_));
                if is_segment && matches!(SegmentWalk::open(first), Err(SegmentError::Header(_))) {
                    harmed.push((log, name));
                }
            }
        }
        for (log, name) in harmed {
            self.disk.take_file(log, name);
        }
    }

    /// Begins to stop in order.
    pub(super) fn stop(&mut self) {
        let Some(process) = &mut self.process else { return };
        process.is_stopping = true;
        let cores = process.core_count();
        for core in 0..cores {
            self.process.as_mut().expect("just seen").cores[core].logic.stop();
            self.wake(core);
        }
    }

    pub(super) fn on_core_stopped(&mut self) {
        let instant = self.instant();
        let process = self.process.as_mut().expect("it lives");
        process.stopped_count += 1;
        if !process.is_stopped() {
            return;
        }
        for core in 0..process.core_count() {
            let process = self.process.as_mut().expect("it lives");
            process.cores[core].logic.all_stopped(instant);
            self.wake(core);
        }
    }

    /// Every core has ended.
    pub(super) fn on_ended(&mut self) {
        let Some(process) = self.process.take() else { return };
        self.fuse = None;
        self.net.wire().set_up(node_address(), 1, false);
        if self.disk.under_way_count() > 0 {
            self.fail("world", "the node ended with disk operations under way".to_owned());
        }
        self.tell(Fact::Stopped { life: process.life });
        // A stop waits for no space: what is in memory only goes with the process then. So does what a log has that
        // writes no more.
        let was_full = self.was_full || self.disk.free_bytes() == 0;
        let failed = std::mem::take(&mut self.failed_logs);
        self.lose_node(|log| was_full || failed.contains(&log));
    }

    fn lose_node(&mut self, loses_memory: impl Fn(LogId) -> bool) {
        self.sent_to.clear();
        self.cancelled.clear();
        self.direct.set_moment(self.moment());
        self.direct.on_node_lost(loses_memory);
        self.members.set_moment(self.moment());
        self.members.on_node_lost();
        self.kafka.set_moment(self.moment());
        self.kafka.on_node_lost();
        self.lose_pipes();
        self.perform_wishes();
        let delay = match self.dice.node.below(4) {
            0 => Duration::ZERO,
            1 => Duration::from_millis(self.dice.node.below(3000)),
            _ => Duration::from_millis(self.dice.node.below(100)),
        };
        if self.comes_back() {
            self.start_in(delay);
        }
    }
}
