//! Making a failing run smaller: faults and actions are switched off one by one, and the end is cut, while the same
//! oracle goes on failing.

use crate::plan::Run;
use crate::run::{Outcome, run};
use crate::scenario::Scenario;
use crate::trace::Detail;

/// `None`: it does not fail.
#[must_use]
pub fn shrink(whole: &Run, scenario: &Scenario) -> Option<(Run, Outcome)> {
    let mut outcome = run(whole, scenario, Detail::Nothing, false);
    let oracle = outcome.failure.as_ref()?.oracle.clone();
    let mut small = whole.clone();
    let try_it = |candidate: Run, small: &mut Run, outcome: &mut Outcome| {
        let tried = run(&candidate, scenario, Detail::Nothing, false);
        let fails_alike = tried.failure.as_ref().is_some_and(|failure| failure.oracle == oracle);
        if fails_alike {
            println!("smaller: {}", candidate.command());
            *small = candidate;
            *outcome = tried;
        }
        fails_alike
    };
    // Fewer actions, by halves and then by less.
    let mut actions = small.actions_max.unwrap_or(scenario.actions[1]);
    let mut step = actions / 2;
    while step > 0 {
        let candidate = Run { actions_max: Some(actions - step), ..small.clone() };
        if try_it(candidate, &mut small, &mut outcome) {
            actions -= step;
        } else {
            step /= 2;
        }
        step = step.min(actions / 2);
    }
    for name in outcome.on.clone() {
        let mut candidate = small.clone();
        candidate.off.insert(name.to_owned());
        try_it(candidate, &mut small, &mut outcome);
    }
    Some((small, outcome))
}
