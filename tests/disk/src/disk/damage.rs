//! Damage at rest, asked for or by rate, and writes that land where or when they should not.

use storage_frame::LogId;
use storage_log::{BLOCK_BYTES, FileName};

use super::{LateWrite, ModelDisk};
use crate::SECTOR_BYTES;
use crate::dice::Dice;
use crate::injected::{FaultKind, Injected, Place, Zone};
use crate::stored::Stored;

impl ModelDisk {
    /// Harms a file of the zone: `BitFlip`, `LatentError` or `LostFile`. `None`: there is nothing to harm.
    ///
    /// # Panics
    /// For another kind of fault.
    pub fn damage(&mut self, kind: FaultKind, zone: Zone, dice: &mut Dice) -> Option<Injected> {
        let places = self.places_in(zone, |_| true);
        self.damage_one_of(kind, zone, &places, dice)
    }

    /// The same, of one log's files.
    ///
    /// # Panics
    /// For another kind of fault.
    pub fn damage_log(
        &mut self,
        log: LogId,
        kind: FaultKind,
        zone: Zone,
        dice: &mut Dice,
    ) -> Option<Injected> {
        let places = self.places_in(zone, |of| of == log);
        self.damage_one_of(kind, zone, &places, dice)
    }

    /// Flips a bit of the first place in the log's files that holds `what`. `None`: none does.
    pub fn flip_bit_in(&mut self, log: LogId, what: &[u8]) -> Option<Injected> {
        let found = self.files(log).find_map(|(name, bytes)| {
            Some((name, bytes.windows(what.len()).position(|window| window == what)? as u64))
        });
        let (name, at) = found?;
        self.flip_bit(log, name, at, 0);
        self.injected.last().cloned()
    }

    /// Flips one bit.
    ///
    /// # Panics
    /// When the file has no such byte.
    pub fn flip_bit(&mut self, log: LogId, name: FileName, at: u64, bit: u8) {
        let file = self.file_mut(log, name).unwrap_or_else(|| panic!("log {log} has no {name}"));
        file[at as usize] ^= 1 << (bit % 8);
        self.record(FaultKind::BitFlip, self.zone_of(log, name), Place::File { log, name }, at..at + 1);
    }

    fn places_in(&self, zone: Zone, is_meant: impl Fn(LogId) -> bool) -> Vec<Place> {
        match zone {
            Zone::Identity => vec![Place::Identity],
            Zone::Spares => self.spares.keys().map(|core| Place::Spare { core: *core }).collect(),
            Zone::Written | Zone::Sealed | Zone::Index | Zone::Checkpoint => {
                let logs = self.logs.iter().filter(|(log, _)| is_meant(**log));
                let files = logs.flat_map(|(log, files)| files.keys().map(move |name| (*log, *name)));
                files
                    .filter(|(log, name)| self.zone_of(*log, *name) == zone)
                    .map(|(log, name)| Place::File { log, name })
                    .collect()
            }
        }
    }

    fn damage_one_of(
        &mut self,
        kind: FaultKind,
        zone: Zone,
        places: &[Place],
        dice: &mut Dice,
    ) -> Option<Injected> {
        if places.is_empty() {
            return None;
        }
        let place = *dice.pick(places);
        let count = self.injected.len();
        self.damage_at(kind, zone, place, dice);
        self.injected.get(count).cloned()
    }

    /// Does nothing where there is nothing.
    pub(super) fn damage_at(&mut self, kind: FaultKind, zone: Zone, place: Place, dice: &mut Dice) {
        let Some(file) = self.stored_mut(place, dice) else { return };
        if file.len() == 0 {
            return;
        }
        // Mostly where it matters: rooms made ahead are larger than what stands in them.
        let bound =
            if file.acknowledged_end > 0 && !dice.one_in(4) { file.acknowledged_end } else { file.len() };
        let at = dice.below(bound.min(file.len()));
        let bytes = match kind {
            FaultKind::BitFlip => {
                file.bytes[at as usize] ^= 1 << dice.below(8);
                at..at + 1
            }
            FaultKind::LatentError => {
                let sector = SECTOR_BYTES as u64;
                let from = at - at % sector;
                let to = (from + sector * (1 + dice.below(16))).min(file.len());
                file.make_unreadable(&(from..to));
                from..to
            }
            FaultKind::LostFile => 0..file.len(),
            FaultKind::Torn
            | FaultKind::Unanswered
            | FaultKind::Undone
            | FaultKind::ReadError
            | FaultKind::WriteError
            | FaultKind::LostWrite
            | FaultKind::Misdirected
            | FaultKind::Overwritten
            | FaultKind::LateWrite
            | FaultKind::NoSpace
            | FaultKind::Slow
            | FaultKind::Stall => panic!("{kind:?} is no damage at rest"),
        };
        self.record(kind, zone, place, bytes);
        if kind == FaultKind::LostFile {
            self.lose(place);
        }
    }

    fn stored_mut(&mut self, place: Place, dice: &mut Dice) -> Option<&mut Stored> {
        match place {
            Place::Identity => self.identity.file.as_mut(),
            Place::File { log, name } => self.logs.get_mut(&log)?.get_mut(&name),
            Place::Spare { core } => {
                let spares = self.spares.get_mut(&core).filter(|spares| !spares.is_empty())?;
                let nth = dice.below(spares.len() as u64) as usize;
                spares.get_mut(nth)
            }
            Place::Directory { .. } | Place::Disk => None,
        }
    }

    fn lose(&mut self, place: Place) {
        match place {
            Place::Identity => self.identity.file = None,
            Place::File { log, name } => {
                self.logs.get_mut(&log).and_then(|files| files.remove(&name));
                self.uncertain.insert((log, name));
            }
            Place::Spare { core } => drop(self.spares.remove(&core)),
            Place::Directory { .. } | Place::Disk => {}
        }
    }

    /// The bytes of a write land at another block, of its own segment or another one.
    pub(super) fn misdirect(
        &mut self,
        log: LogId,
        name: FileName,
        position: u64,
        bytes: &[u8],
        dice: &mut Dice,
    ) {
        let range = position..position + bytes.len() as u64;
        let zone = self.zone_of(log, name);
        self.record(FaultKind::Misdirected, zone, Place::File { log, name }, range);
        let block = BLOCK_BYTES as u64;
        let all = self
            .logs
            .iter()
            .flat_map(|(log, files)| files.iter().map(move |(name, file)| (*log, *name, file)));
        let victims: Vec<(LogId, FileName, u64)> = all
            .filter(|(_, name, file)| matches!(name, FileName::Segment(_)) && file.len() > block)
            .map(|(log, name, file)| (log, name, file.len()))
            .collect();
        // Its own log's files are the likelier neighbours.
        let own: Vec<_> = victims.iter().filter(|(of, ..)| *of == log).copied().collect();
        let victims = if own.is_empty() || dice.one_in(2) { victims } else { own };
        if victims.is_empty() {
            return;
        }
        let (victim_log, victim, victim_bytes) = *dice.pick(&victims);
        let at = dice.below(victim_bytes / block) * block;
        if (victim_log, victim, at) == (log, name, position) {
            return; // Lost, that is.
        }
        let fits = bytes.len().min((victim_bytes - at) as usize);
        let place = Place::File { log: victim_log, name: victim };
        self.record(FaultKind::Overwritten, self.zone_of(victim_log, victim), place, at..at + fits as u64);
        let file = self.logs.get_mut(&victim_log).and_then(|files| files.get_mut(&victim));
        file.expect("chosen from those there are").write_sectors(at, &bytes[..fits], |_| true);
    }

    /// Writes of an earlier life land, sooner or later.
    pub(super) fn land_late_writes(&mut self) {
        if self.late.is_empty() {
            return;
        }
        let number = self.completed_count;
        let mut dice = self.dice("late write lands", number);
        let (now, later): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.late).into_iter().partition(|_| dice.one_in(8));
        self.late = later;
        for write in now {
            self.land(&write);
        }
    }

    fn land(&mut self, write: &LateWrite) {
        let LateWrite { inode, position, bytes } = write;
        let end = position + bytes.len() as u64;
        let all = self
            .logs
            .iter()
            .flat_map(|(log, files)| files.iter().map(move |(name, file)| (*log, *name, file)));
        let found = all
            .filter(|(_, _, file)| file.inode == *inode && file.len() >= end)
            .map(|(log, name, _)| (log, name))
            .next();
        if let Some((log, name)) = found {
            let zone = self.zone_of(log, name);
            self.record(FaultKind::LateWrite, zone, Place::File { log, name }, *position..end);
            let file = self.logs.get_mut(&log).and_then(|files| files.get_mut(&name)).expect("just seen");
            file.write_sectors(*position, bytes, |_| true);
            return;
        }
        let spares = self.spares.values_mut().flatten();
        if let Some(spare) = spares.into_iter().find(|file| file.inode == *inode && file.len() >= end) {
            spare.write_sectors(*position, bytes, |_| true);
        }
    }
}
