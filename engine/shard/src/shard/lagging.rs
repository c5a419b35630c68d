//! Measuring how far behind groups are, and when their members last read: here at once, elsewhere by asking.

use engine_api::{FetchError, Lag, PartitionId, Request};
use engine_meta::ClusterState;
use storage_frame::Now;

use super::Shard;
use crate::lags::Place;
use crate::limits::LAGS_PER_ROUND_MAX;
use crate::seam::Effect;

impl Shard {
    /// Looks at as many places of groups as a tick may cost.
    pub(super) fn measure_lags(&mut self, now: Now) {
        if let Some(skip) = self.groups.lags.next_part(now) {
            let (places, is_last) = self.places(skip);
            self.groups.lags.begin_part(now, places, is_last);
        }
        for place in self.groups.lags.take_next() {
            let found = self.roster.find(place.partition).and_then(|key| self.roster.at(key));
            match found {
                Some(partition) => {
                    let measured = partition.measure(now, place.measure());
                    self.note_lag(now, &place, &measured);
                }
                None => {
                    let measure = place.measure();
                    let key = self.groups.lags.ask(place);
                    self.ctx.out.push(Effect::Ask { key, request: Request::MeasureLag(measure) });
                }
            }
        }
    }

    pub(super) fn on_lag(&mut self, now: Now, key: u64, measured: &Result<Lag, FetchError>) {
        if let Some(place) = self.groups.lags.take_asked(key) {
            reach::mark!("shard.lag_from_another_core");
            self.note_lag(now, &place, measured);
        }
    }

    /// Places of all coordinators here but for the first `skip`, as many as a part holds, and whether these are the
    /// last.
    fn places(&self, mut skip: usize) -> (Vec<Place>, bool) {
        let mut places = Vec::new();
        let mut seen = 0;
        for key in self.groups.keys() {
            let Some(coordinator) = self.roster.at(key).and_then(|partition| partition.coordinator()) else {
                continue;
            };
            let count = coordinator.groups().places_count();
            if skip >= count {
                skip -= count;
                continue;
            }
            for at in coordinator.groups().places(std::mem::take(&mut skip)) {
                if seen == LAGS_PER_ROUND_MAX {
                    return (places, false);
                }
                seen += 1;
                if let Some(partition) = partition_of(&self.state, at.topic, at.partition) {
                    places.push(Place {
                        coordinator: key,
                        group: at.group.to_owned(),
                        topic: at.topic.to_owned(),
                        partition,
                        committed: at.committed,
                        reader: at.reader,
                    });
                }
            }
        }
        (places, true)
    }

    fn note_lag(&mut self, now: Now, place: &Place, measured: &Result<Lag, FetchError>) {
        // Not open, or gone: unknown until the next time.
        let Ok(lag) = measured else { return };
        let lag = self.groups.lags.note(now, place, lag);
        if let Some(partition) = self.roster.touch_known(place.coordinator) {
            partition.lag_measured(&mut self.ctx, now, place, lag);
        }
    }
}

fn partition_of(state: &ClusterState, topic: &str, index: u32) -> Option<PartitionId> {
    let topic = state.topic_named(topic)?;
    ((index as usize) < topic.partitions.len()).then_some(PartitionId { topic: topic.id, index })
}
