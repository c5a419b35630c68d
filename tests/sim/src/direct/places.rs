//! Finding offsets by time and place, and deleting the beginnings of partitions.

use std::time::Duration;

use engine_api::{
    DeleteRecords, DeleteRecordsError, FetchError, FindOffset, FoundOffset, PartitionId, Place, Request,
};
use storage_frame::{Offset, TimestampMs};

use super::{Asked, Direct};
use crate::fact::Fact;

impl Direct {
    pub fn find(&mut self) {
        let Some((_, partition)) = self.any_partition() else { return };
        let place = match self.dice.below(6) {
            0 => Place::Start,
            1 => Place::End,
            2 => Place::Timestamp(TimestampMs(self.moment.wall.0 - self.dice.below(60_000) as i64)),
            // Exactly that of a frame, or one beside it.
            _ => {
                Place::Timestamp(TimestampMs(self.time_heard.0.saturating_add(self.dice.below(3) as i64 - 1)))
            }
        };
        self.ask(Asked::Find { partition, place }, Request::FindOffset(FindOffset { partition, place }));
    }

    /// Looks a partition up by many times at once: nothing moves while everybody is quiet.
    pub(super) fn find_many(&mut self, partition: PartitionId, times: &[TimestampMs]) {
        let places = times.iter().map(|time| Place::Timestamp(*time)).chain([Place::Start, Place::End]);
        for place in places.collect::<Vec<_>>() {
            self.ask(Asked::Find { partition, place }, Request::FindOffset(FindOffset { partition, place }));
        }
    }

    pub(super) fn on_found(
        &mut self,
        partition: PartitionId,
        place: Place,
        asked_at: Duration,
        answer: Result<FoundOffset, FetchError>,
    ) {
        let Ok(found) = answer else { return };
        self.wishes.facts.push(Fact::Found {
            partition,
            place,
            asked_at,
            offset: found.offset,
            timestamp: found.timestamp,
            log_start: found.log_start,
            high_watermark: found.high_watermark,
        });
    }

    pub fn delete_records(&mut self) {
        let Some((_, partition)) = self.any_partition() else { return };
        // Mostly within what is there, as far as the lanes can guess; sometimes beyond.
        let before = Offset(self.dice.below(1 + self.next_batch * 2));
        self.wishes.facts.push(Fact::DeleteAsked { partition, before });
        let delete = DeleteRecords { partition, before };
        self.ask(Asked::DeleteRecords { partition, before }, Request::DeleteRecords(delete));
    }

    pub(super) fn on_records_deleted(
        &mut self,
        partition: PartitionId,
        before: Offset,
        answer: Result<Offset, DeleteRecordsError>,
    ) {
        let fact = match answer {
            Ok(_) => Fact::Deleted { partition, before },
            // Nobody knows.
            Err(DeleteRecordsError::StorageFailed { .. } | DeleteRecordsError::ShuttingDown) => return,
            Err(error) => Fact::DeleteRefused { partition, before, why: error.to_string() },
        };
        self.wishes.facts.push(fact);
    }
}
