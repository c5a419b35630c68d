//! How far deletes of records may have raised each partition's start: what was asked for and not refused.

use std::collections::BTreeMap;

use engine_api::PartitionId;

use crate::fact::{At, Fact};

#[derive(Debug, Default)]
pub(super) struct Deletes {
    /// How often each offset was asked for.
    asked: BTreeMap<PartitionId, BTreeMap<u64, u32>>,
}

impl Deletes {
    pub(super) fn hear(&mut self, at: &At) {
        match &at.fact {
            Fact::DeleteAsked { partition, before } => {
                *self.asked.entry(*partition).or_default().entry(before.0).or_default() += 1;
            }
            Fact::DeleteRefused { partition, before, .. } => {
                let asked = self.asked.entry(*partition).or_default();
                if let Some(count) = asked.get_mut(&before.0) {
                    *count -= 1;
                    if *count == 0 {
                        asked.remove(&before.0);
                    }
                }
            }
            _ => {}
        }
    }

    /// No delete raised the start above it.
    pub(super) fn before(&self, partition: PartitionId) -> u64 {
        let asked = self.asked.get(&partition).and_then(|asked| asked.keys().next_back());
        asked.copied().unwrap_or(0)
    }
}
