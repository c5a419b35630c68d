//! Keeps the opening of a log's files and the moving of them apart.
//!
//! A file that is renamed or removed while another operation of the same log opens it would be kept open under a
//! name that is no longer its own.

use std::cell::RefCell;
use std::rc::Rc;

use ahash::AHashMap;
use glommio::sync::RwLock;
use storage_frame::LogId;

#[derive(Default)]
pub(crate) struct Gates {
    /// Entries live as long as somebody holds or waits for them.
    gates: RefCell<AHashMap<LogId, Rc<RwLock<()>>>>,
}

impl Gates {
    /// Runs `open`, which opens a file of `log`. Many may run at once.
    pub(crate) async fn opening<T>(&self, log: LogId, open: impl Future<Output = T>) -> T {
        let gate = self.gate(log);
        let held = gate.read().await.expect("gates are never closed");
        let result = open.await;
        drop(held);
        self.leave(log, gate);
        result
    }

    /// Runs `moving`, which renames or removes files of `log`, with no opening under way.
    pub(crate) async fn moving<T>(&self, log: LogId, moving: impl Future<Output = T>) -> T {
        let gate = self.gate(log);
        let held = gate.write().await.expect("gates are never closed");
        let result = moving.await;
        drop(held);
        self.leave(log, gate);
        result
    }

    #[cfg(test)]
    pub(crate) fn is_empty(&self) -> bool {
        self.gates.borrow().is_empty()
    }

    fn gate(&self, log: LogId) -> Rc<RwLock<()>> {
        Rc::clone(self.gates.borrow_mut().entry(log).or_insert_with(|| Rc::new(RwLock::new(()))))
    }

    fn leave(&self, log: LogId, gate: Rc<RwLock<()>>) {
        let mut gates = self.gates.borrow_mut();
        // The map's own and ours.
        if Rc::strong_count(&gate) == 2 {
            gates.remove(&log);
        }
    }
}
