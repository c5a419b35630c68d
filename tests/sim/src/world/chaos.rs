//! What is done to the node, its disk and its network while faults are on.

use std::time::Duration;

use bytes::Bytes;
use storage_frame::LogId;
use storage_log::{FileName, SegmentId, inspect};
use tests_disk::{Dice, FaultKind, Zone};

use super::{Event, World};
use crate::fact::Fact;
use crate::net::{Cut, Way, Weather};
use crate::plan::HARM;
use crate::scenario::Chaos;
use crate::trace::Detail;

impl World {
    pub(super) fn schedule_chaos(&mut self) {
        if self.plan.chaos.is_empty() || !self.is_chaotic() {
            return;
        }
        let gap = Self::between(&mut self.dice.chaos, self.plan.chaos_gap);
        // Several in a row, at times: a crash while the node recovers from one.
        let gap = if self.dice.chaos.one_in(4) { gap / 50 } else { gap };
        self.queue.push(self.now + gap, Event::Chaos);
    }

    pub(super) fn do_chaos(&mut self) {
        if !self.is_chaotic() {
            return;
        }
        let total: u64 = self.plan.chaos.iter().map(|(_, weight)| weight).sum();
        let mut left = self.dice.chaos.below(total);
        let picked = self.plan.chaos.iter().find(|(_, weight)| {
            let is_it = left < *weight;
            left = left.saturating_sub(*weight);
            is_it
        });
        let what = picked.expect("below the total").0;
        self.trace.note(Detail::Story, || format!("chaos: {}", what.name()));
        self.inflict(what);
        self.schedule_chaos();
    }

    fn inflict(&mut self, what: Chaos) {
        match what {
            Chaos::Crash => self.crash("from outside"),
            Chaos::CrashInTurn => self.fuse = Some(self.dice.chaos.below(40) as u32),
            Chaos::Restart => self.stop(),
            Chaos::StallCore => self.stall_core(),
            Chaos::JumpClock => {
                self.tell(Fact::ClockJumping);
                let hour = 3_600_000;
                self.wall_jump_ms = self.dice.chaos.below(2 * hour) as i64 - hour as i64;
            }
            Chaos::StallDisk => {
                let operations = self.dice.chaos.below(30);
                self.begin_period(|faults| {
                    faults.stall = tests_disk::Rate::one_in(3);
                    faults.stall_operations = operations;
                });
            }
            Chaos::FillDisk => self.begin_period(|faults| faults.full = true),
            Chaos::HarmIndex => self.harm(Zone::Index),
            Chaos::HarmCheckpoint => self.harm(Zone::Checkpoint),
            Chaos::HarmSpare => self.harm(Zone::Spares),
            Chaos::HarmFrames => {
                let zone = *self.dice.chaos.pick(&[Zone::Written, Zone::Sealed]);
                self.harm(zone);
            }
            Chaos::HarmIdentity => self.harm(Zone::Identity),
            Chaos::Cut => {
                let until = self.now + Duration::from_millis(self.dice.chaos.below(15_000));
                let way = *self.dice.chaos.pick(&[Way::Both, Way::ToNodes, Way::FromNodes]);
                self.net.wire().cut(Cut { client: None, way, until });
                self.kafka.tcp().hold(until);
            }
            Chaos::Reset => self.break_pipe(),
            Chaos::Weather => {
                let weather = draw_weather(&mut self.dice.chaos);
                self.net.wire().set_weather(weather);
            }
        }
    }

    /// Faults as planned, and these; the next piece of chaos of this kind may end them.
    fn begin_period(&mut self, change: impl FnOnce(&mut tests_disk::Faults)) {
        let mut faults = self.plan.faults.clone();
        // Every second time it is over.
        if self.disk.faults() == &self.plan.faults {
            change(&mut faults);
        }
        self.disk.set_faults(faults);
    }

    fn stall_core(&mut self) {
        let stall = Duration::from_millis(self.dice.chaos.below(3000));
        let until = self.now + stall;
        let Some(process) = &mut self.process else { return };
        let core = self.dice.chaos.below(process.core_count() as u64) as usize;
        process.cores[core].stalled_until = until;
        if process.cores[core].turn_at.take().is_some() {
            self.wake_at(core, until);
        }
    }

    fn harm(&mut self, zone: Zone) {
        let kind = *self.dice.chaos.pick(&HARM);
        let mut dice = Dice::nth(self.plan.seed, "harm", self.dice.chaos.roll());
        // What cannot be read may be whole: but for an index, a log that meets it waits for somebody to mend the disk.
        let is_borne = kind != FaultKind::LatentError || zone == Zone::Index;
        if self.plan.beyond_promise
            && kind == FaultKind::LostFile
            && matches!(zone, Zone::Written | Zone::Sealed)
        {
            self.lose_segment(zone, &mut dice);
        } else if self.plan.beyond_promise {
            self.disk.damage(kind, zone, &mut dice);
        } else if zone == Zone::Checkpoint && is_borne {
            self.harm_checkpoint(kind, &mut dice);
        } else if is_borne {
            self.disk.damage(kind, zone, &mut dice);
        }
        self.tell_injected();
    }

    /// Not of a process that holds it open; and not the metadata's: without it there is no topic, nor anybody who knows
    /// that there was one.
    fn lose_segment(&mut self, zone: Zone, dice: &mut Dice) {
        let logs: Vec<LogId> = self.disk.logs().filter(|log| *log != LogId(0)).collect();
        if self.process.is_none() && !logs.is_empty() {
            let log = *dice.pick(&logs);
            self.disk.damage_log(log, FaultKind::LostFile, zone, dice);
        }
    }

    /// Of a log whose segments tell again what it told. Where all were retired it alone knows where the log ends, be
    /// they still on their way out.
    fn harm_checkpoint(&mut self, kind: FaultKind, dice: &mut Dice) {
        let logs: Vec<LogId> = self.disk.logs().filter(|log| self.has_live_segment(*log)).collect();
        if !logs.is_empty() {
            let log = *dice.pick(&logs);
            self.disk.damage_log(log, kind, Zone::Checkpoint, dice);
        }
    }

    fn has_live_segment(&self, log: LogId) -> bool {
        let checkpoint = self.disk.file(log, FileName::Checkpoint).map(Bytes::copy_from_slice);
        let known = checkpoint.and_then(|file| inspect::checkpoint(&file).ok());
        let is_live = |id: SegmentId| {
            known.as_ref().is_none_or(|known| known.segments.first().is_some_and(|first| first.segment <= id))
        };
        self.disk.files(log).any(|(name, bytes)| {
            // One made ahead may hold the header of a former life.
            let is_begun = |id: SegmentId| {
                bytes.starts_with(b"MSSEGMNT")
                    && bytes[16..24] == log.0.to_le_bytes()
                    && bytes[24..28] == id.0.to_le_bytes()
            };
            matches!(name, FileName::Segment(id) if is_begun(id) && is_live(id))
        })
    }
}

pub(crate) fn draw_weather(dice: &mut Dice) -> Weather {
    let span = |dice: &mut Dice, ms: u64| Duration::from_micros(dice.below(ms * 1000));
    Weather {
        lost_per_million: *dice.pick(&[0, 10_000, 50_000, 200_000]),
        doubled_per_million: *dice.pick(&[0, 20_000]),
        damaged_per_million: *dice.pick(&[0, 5_000]),
        reordered_per_million: *dice.pick(&[0, 50_000]),
        reorder_span: span(dice, 30),
        congested_per_million: *dice.pick(&[0, 50_000]),
        delay: span(dice, 60),
        jitter: span(dice, 30),
        datagram_bytes_max: *dice.pick(&[1200, 1500, 9000, usize::MAX]),
    }
}
