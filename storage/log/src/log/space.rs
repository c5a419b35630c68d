//! "No space left": what was asked is asked again at a tick, less often the longer it lasts.

use std::time::Duration;

const RETRY_FIRST: Duration = Duration::from_millis(10);
const RETRY_MAX: Duration = Duration::from_secs(1);

#[derive(Debug, Default)]
pub(super) struct Space {
    is_out: bool,
    /// Nothing that takes space is asked for until the next retry.
    is_waiting: bool,
    retry_at: Duration,
    pause: Duration,
}

impl Space {
    pub(super) fn is_out(&self) -> bool {
        self.is_out
    }

    pub(super) fn is_waiting(&self) -> bool {
        self.is_waiting
    }

    pub(super) fn on_refused(&mut self, now: Duration) {
        self.is_out = true;
        self.is_waiting = true;
        self.pause = (self.pause * 2).clamp(RETRY_FIRST, RETRY_MAX);
        self.retry_at = now + self.pause;
    }

    /// What was refused may be asked for at once, whatever its time.
    pub(super) fn retry_now(&mut self) {
        self.is_waiting = false;
    }

    pub(super) fn on_granted(&mut self) {
        reach::mark!("log.space_granted_again", self.is_out);
        *self = Self::default();
    }

    pub(super) fn on_tick(&mut self, now: Duration) {
        if now >= self.retry_at {
            self.is_waiting = false;
        }
    }
}
