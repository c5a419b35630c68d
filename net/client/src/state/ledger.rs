//! What all lanes of a producer draw on and must give back: memory, and batches that somebody waits for.

use std::collections::BTreeMap;

/// Memory in use and batches without a verdict, over all lanes of a producer.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    charged_bytes: usize,
    /// Batch number to parts without a verdict: more than one after a split.
    unsettled: BTreeMap<u64, u32>,
    /// Something was released or settled since the flag was last taken.
    changed: bool,
    pub(crate) retries_count: u64,
    pub(crate) identities_count: u64,
}

impl Ledger {
    pub(crate) fn charged_bytes(&self) -> usize {
        self.charged_bytes
    }

    pub(crate) fn charge(&mut self, bytes: usize) {
        self.charged_bytes += bytes;
    }

    pub(crate) fn release(&mut self, bytes: usize) {
        assert!(bytes <= self.charged_bytes, "released memory was charged");
        self.charged_bytes -= bytes;
        self.changed = true;
    }

    pub(crate) fn add_unsettled(&mut self, number: u64, parts: u32) {
        *self.unsettled.entry(number).or_insert(0) += parts;
    }

    pub(crate) fn settle(&mut self, number: u64) {
        let parts = self.unsettled.get_mut(&number).expect("a batch is settled once");
        *parts -= 1;
        if *parts == 0 {
            self.unsettled.remove(&number);
        }
        self.changed = true;
    }

    pub(crate) fn oldest_unsettled(&self) -> Option<u64> {
        self.unsettled.first_key_value().map(|(number, _)| *number)
    }

    pub(crate) fn take_changed(&mut self) -> bool {
        std::mem::take(&mut self.changed)
    }
}
