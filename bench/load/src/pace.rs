//! Wakes a task when the next record is due, to tens of microseconds: tokio's timers go by milliseconds, which is
//! longer than what is being measured.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use crate::schedule::Schedule;

/// Records due within it leave together: waking for each costs more than sending it.
const TICK_MIN: Duration = Duration::from_micros(50);
/// Bounds how long the thread outlives the pace.
const SLEEP_MAX: Duration = Duration::from_millis(50);

/// A thread that sleeps; it ends with this value.
#[derive(Debug)]
pub(crate) struct Pace {
    due: Arc<Notify>,
    over: Arc<AtomicBool>,
}

impl Pace {
    pub(crate) fn start(schedule: Schedule, start: Instant) -> Pace {
        let pace = Pace { due: Arc::default(), over: Arc::default() };
        let (due, over) = (Arc::clone(&pace.due), Arc::clone(&pace.over));
        thread::spawn(move || tick(schedule, start, &due, &over));
        pace
    }

    /// Returns when something may be due; the schedule says how much.
    pub(crate) async fn due(&self) {
        self.due.notified().await;
    }
}

impl Drop for Pace {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
    }
}

fn tick(schedule: Schedule, start: Instant, due: &Notify, over: &AtomicBool) {
    // Without it the kernel may add 50 us to every sleep; with more than that the figures say so themselves.
    let _ = nix::sys::prctl::set_timerslack(1);
    while !over.load(Ordering::Relaxed) {
        due.notify_one();
        let elapsed = start.elapsed();
        let next = schedule.due(schedule.due_count(elapsed));
        thread::sleep(next.saturating_sub(elapsed).clamp(TICK_MIN, SLEEP_MAX));
    }
}
