//! Whether this node's cores listen to their clients, and the time that members of groups are measured by: it stands
//! still while one does not, for what a member says meanwhile is not heard.
//!
//! ```text
//! real time   ----+------------------+--+-----> a core falls silent; it is noticed; it listens again
//!             heard          unheard  grace
//! heard time  ----+=== stands still ====+-----> nobody's session ends in between
//! ```
//! A core is silent while it reads no requests (memory short, a link full), while it does not run, or the process does
//! not. Every core says twice a second that it listens; what it says, all others take in. That a whole process stood
//! still shows in the time from one input to the next.
//!
//! What must hold: heard time never goes back, and never faster than real time.

use std::time::Duration;

use engine_api::CoreId;

/// From one word of a core that it listens to the next.
pub(crate) const LISTENING_EVERY: Duration = Duration::from_millis(500);
/// A core that has not been heard of for that long is silent. Far below what a session may be by default.
const SILENCE_MAX: Duration = Duration::from_secs(2);
/// What came while nobody listened is read first. As long as it took to notice.
const GRACE: Duration = SILENCE_MAX;

#[derive(Debug)]
pub(crate) struct Hearing {
    me: usize,
    /// When each core listened last, as far as is known.
    listened: Vec<Duration>,
    is_paused: bool,
    heard: Duration,
    /// Real time that has been looked at.
    seen: Duration,
    /// Heard time stands still until then.
    stands_until: Duration,
    standing_since: Option<Duration>,
    said: Duration,
}

/// Of heard time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Change {
    Stands,
    /// After so long.
    GoesOn(Duration),
}

impl Hearing {
    pub(crate) fn new(me: CoreId, cores: u8, now: Duration) -> Self {
        Self {
            me: usize::from(me.0),
            listened: vec![now; usize::from(cores)],
            is_paused: false,
            heard: now,
            seen: now,
            stands_until: now,
            standing_since: None,
            said: now,
        }
    }

    /// Told with every input, before anything follows from it.
    pub(crate) fn pass(&mut self, now: Duration) -> Option<Change> {
        let passed = now.saturating_sub(self.seen);
        self.seen = self.seen.max(now);
        if passed > SILENCE_MAX {
            reach::mark!("shard.core_stood_still");
            self.stands_until = now + GRACE;
        }
        if now >= self.stands_until {
            self.heard += passed;
        }
        if !self.is_paused {
            self.listened[self.me] = self.seen;
        }
        match (self.standing_since, now < self.stands_until) {
            (None, true) => {
                self.standing_since = Some(now);
                Some(Change::Stands)
            }
            (Some(since), false) => {
                self.standing_since = None;
                Some(Change::GoesOn(now.saturating_sub(since)))
            }
            (None, false) | (Some(_), true) => None,
        }
    }

    /// Told ten times a second. `true`: the other cores are to be told that this one listens.
    pub(crate) fn look(&mut self, now: Duration) -> bool {
        if self.listened.iter().any(|at| now.saturating_sub(*at) > SILENCE_MAX) {
            reach::mark!("shard.core_does_not_listen");
            self.stands_until = now + GRACE;
        }
        let is_due = self.listened.len() > 1 && !self.is_paused && now >= self.said + LISTENING_EVERY;
        if is_due {
            self.said = now;
        }
        is_due
    }

    /// This core's clients are not read, or are again.
    pub(crate) fn pause(&mut self, is_paused: bool) {
        self.is_paused = is_paused;
    }

    /// Another core listens.
    pub(crate) fn on_listening(&mut self, core: CoreId) {
        self.listened[usize::from(core.0)] = self.seen;
    }

    /// The time that members of groups are measured by.
    pub(crate) fn heard(&self) -> Duration {
        self.heard
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TICK: Duration = Duration::from_millis(10);

    struct World {
        now: Duration,
        hearing: Hearing,
        changes: Vec<Change>,
    }

    impl World {
        fn new() -> Self {
            let now = Duration::from_secs(100);
            Self { now, hearing: Hearing::new(CoreId(0), 2, now), changes: Vec::new() }
        }

        /// Heard time that passes in `span`, with ticks; the other core may say that it listens.
        fn pass(&mut self, span: Duration, other_listens: bool) -> Duration {
            let before = self.hearing.heard();
            let end = self.now + span;
            while self.now < end {
                self.now += TICK;
                self.changes.extend(self.hearing.pass(self.now));
                if other_listens {
                    self.hearing.on_listening(CoreId(1));
                }
                self.hearing.look(self.now);
            }
            self.hearing.heard() - before
        }
    }

    /// But for the ticks at both ends.
    #[track_caller]
    fn about(passed: Duration, expect: Duration) {
        assert!(passed.abs_diff(expect) <= 2 * TICK, "{passed:?}, not {expect:?}");
    }

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn time_passes_as_it_is_while_all_cores_listen() {
        let mut world = World::new();
        assert_eq!((world.pass(seconds(60), true), world.changes), (seconds(60), vec![]));
    }

    #[test]
    fn time_does_not_pass_while_another_core_is_silent_and_a_little_longer() {
        let mut world = World::new();
        world.pass(seconds(5), true);
        about(world.pass(seconds(60), false), SILENCE_MAX);
        about(world.pass(seconds(60), true), seconds(60) - GRACE);
    }

    #[test]
    fn time_does_not_pass_while_this_core_reads_no_requests() {
        let mut world = World::new();
        world.hearing.pause(true);
        about(world.pass(seconds(60), true), SILENCE_MAX);
        world.hearing.pause(false);
        about(world.pass(seconds(60), true), seconds(60) - GRACE);
        // A moment is not worth a word.
        world.hearing.pause(true);
        assert_eq!(world.pass(seconds(1), true), seconds(1));
    }

    #[test]
    fn time_in_which_this_core_did_not_run_has_not_passed() {
        let mut world = World::new();
        world.pass(seconds(5), true);
        world.now += seconds(3600);
        about(world.pass(GRACE, true), Duration::ZERO);
        about(world.pass(seconds(9), true), seconds(9));
        assert_eq!(world.changes, [Change::Stands, Change::GoesOn(GRACE)]);
    }

    #[test]
    fn the_others_are_told_twice_a_second_unless_there_are_none_or_nobody_is_listened_to() {
        let told = |cores: u8, is_paused: bool| {
            let mut hearing = Hearing::new(CoreId(0), cores, Duration::ZERO);
            hearing.pause(is_paused);
            (1..=100).filter(|tick| hearing.look(*tick * Duration::from_millis(100))).count()
        };
        assert_eq!((told(2, false), told(2, true), told(1, false)), (20, 0, 0));
    }
}
