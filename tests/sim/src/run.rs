//! One run from its seed to its outcome.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::net::{Net, Wire, drive, runtime};
use crate::plan::{Plan, Run};
use crate::scenario::Scenario;
use crate::sdk;
use crate::trace::{Detail, Digest, Trace};
use crate::world::{Counts, Failure, World};

/// What became of a run.
#[derive(Debug, Clone)]
pub struct Outcome {
    pub failure: Option<Failure>,
    pub simulated: Duration,
    pub counts: Counts,
    /// Of the whole trace, where it was asked for.
    pub digest: Digest,
    /// Marks passed, by name.
    pub reached: BTreeMap<&'static str, u64>,
    /// What could be switched off and was on.
    pub on: Vec<&'static str>,
}

/// Where the last panic of this process's threads was: its payload alone does not tell.
static PANICKED_AT: Mutex<String> = Mutex::new(String::new());

/// Panics are told with their run, not where they happen.
pub fn catch_panics() {
    std::panic::set_hook(Box::new(|panic| {
        let text = panic.to_string();
        *PANICKED_AT.lock().unwrap_or_else(PoisonError::into_inner) = text;
    }));
}

/// Tells that the clients are done, however they came to it.
struct Over(Arc<AtomicBool>);

impl Drop for Over {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Does a run. A panic anywhere in it is its failure.
#[must_use]
pub fn run(run: &Run, scenario: &Scenario, detail: Detail, is_hashed: bool) -> Outcome {
    drop(reach::take());
    let plan = Plan::draw(run, scenario);
    let on = plan.on.iter().copied().collect();
    let seed = run.seed;
    let done = catch_unwind(AssertUnwindSafe(|| {
        runtime::block_on(seed, async {
            let net = Net::new(Wire::new(seed));
            let mut world = World::new(plan, net.clone(), Trace::new(detail, is_hashed));
            let done = world.done();
            let sdk = world.sdk().map(|(plan, journal, over)| {
                let net = net.clone();
                tokio::spawn(async move {
                    let _over = Over(over);
                    sdk::run(&net, &plan, seed, &journal).await;
                })
            });
            drive(&net, &mut world, done.notified()).await;
            if let Some(sdk) = sdk.filter(tokio::task::JoinHandle::is_finished)
                && let Err(error) = sdk.await
                && error.is_panic()
            {
                std::panic::resume_unwind(error.into_panic());
            }
            (world.outcome().err(), world.now(), world.counts(), world.trace().digest())
        })
    }));
    let reached = reach::take();
    match done {
        Ok((failure, simulated, counts, digest)) => {
            Outcome { failure, simulated, counts, digest, reached, on }
        }
        Err(_) => {
            let what = std::mem::take(&mut *PANICKED_AT.lock().unwrap_or_else(PoisonError::into_inner));
            if detail > Detail::Nothing {
                println!("PANIC: {what}");
            }
            let failure = Failure { oracle: "panic".to_owned(), at: Duration::ZERO, what };
            let counts = Counts::default();
            let digest = Digest { lines: 0, hash: 0 };
            Outcome { failure: Some(failure), simulated: Duration::ZERO, counts, digest, reached, on }
        }
    }
}
