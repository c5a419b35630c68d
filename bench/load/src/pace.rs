//! Wakes producers when their next records are due, to tens of microseconds: tokio's timers go by milliseconds, which is
//! longer than what is being measured. One thread for all producers.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use crate::schedule::Schedule;

/// Records due within it leave together: waking for each costs more than sending it.
const TICK_MIN: Duration = Duration::from_micros(50);
/// Bounds how long the thread outlives the pace.
const SLEEP_MAX: Duration = Duration::from_millis(50);

/// Dropping it ends the thread.
#[derive(Debug)]
pub(crate) struct Pace {
    wakes: Vec<Arc<Notify>>,
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    over: AtomicBool,
    asked: AtomicU64,
}

impl Pace {
    /// Clones of the producers' schedules. Records due at `duration` or later are not asked for.
    pub(crate) fn start(schedules: Vec<Schedule>, start: Instant, duration: Duration) -> Pace {
        let wakes: Vec<Arc<Notify>> = schedules.iter().map(|_| Arc::default()).collect();
        let pace = Pace { wakes: wakes.clone(), shared: Arc::default() };
        let shared = Arc::clone(&pace.shared);
        thread::spawn(move || tick(schedules, &wakes, &shared, start, duration));
        pace
    }

    /// Notified when something may be due for this producer; its schedule says how much.
    pub(crate) fn wake(&self, producer: usize) -> Arc<Notify> {
        Arc::clone(&self.wakes[producer])
    }

    /// Records that were due so far, sent or not.
    pub(crate) fn asked(&self) -> u64 {
        self.shared.asked.load(Ordering::Relaxed)
    }
}

impl Drop for Pace {
    fn drop(&mut self) {
        self.shared.over.store(true, Ordering::Relaxed);
    }
}

fn tick(
    mut schedules: Vec<Schedule>,
    wakes: &[Arc<Notify>],
    shared: &Shared,
    start: Instant,
    duration: Duration,
) {
    // Without it the kernel may add 50 us to every sleep; with more than that the figures say so themselves.
    let _ = nix::sys::prctl::set_timerslack(1);
    let mut next: BinaryHeap<Reverse<(Duration, usize)>> =
        schedules.iter().enumerate().map(|(index, schedule)| Reverse((schedule.next(), index))).collect();
    while !shared.over.load(Ordering::Relaxed) {
        let now = start.elapsed();
        let mut asked = 0;
        while let Some(Reverse((due, index))) = next.peek().copied()
            && due <= now
        {
            next.pop();
            let schedule = &mut schedules[index];
            while schedule.next() <= now && schedule.next() < duration {
                schedule.pass();
                asked += 1;
            }
            wakes[index].notify_one();
            if schedule.next() < duration {
                next.push(Reverse((schedule.next(), index)));
            }
        }
        shared.asked.fetch_add(asked, Ordering::Relaxed);
        let Some(Reverse((due, _))) = next.peek() else { return };
        thread::sleep(due.saturating_sub(start.elapsed()).clamp(TICK_MIN, SLEEP_MAX));
    }
}
