//! One thing whose cost is known, and how often it is done to find out.

use crate::meter::Meter;

/// Does the thing once.
pub type Step = Box<dyn FnMut(&mut Meter)>;

/// See the module. Everything it works on is made anew by `prepare`, always the same.
#[derive(Clone, Copy)]
pub struct Case {
    /// Room, what is done, to how much. Never renamed lightly: the history knows it by its name.
    pub name: &'static str,
    /// That one step goes through; 0: it is not about records.
    pub records: u32,
    /// Before counting: until memory, windows and files have the size they keep.
    pub warm_up: u32,
    /// Counted. Enough for what happens only now and then (an index entry, a larger table) to have its share.
    pub steps: u32,
    pub prepare: fn() -> Step,
}

impl std::fmt::Debug for Case {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Case").field("name", &self.name).finish_non_exhaustive()
    }
}

impl Case {
    /// All of it, for callgrind to count.
    pub fn run(&self) {
        self.run_steps(self.warm_up, self.steps);
    }

    /// As little of it as shows that it works.
    pub fn try_out(&self) {
        self.run_steps(1, 1);
    }

    fn run_steps(&self, warm_up: u32, steps: u32) {
        let mut step = (self.prepare)();
        let mut meter = Meter::default();
        (0..warm_up).for_each(|_| step(&mut meter));
        meter.warmed_up();
        (0..steps).for_each(|_| step(&mut meter));
    }
}
