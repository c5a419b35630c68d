//! tokio on virtual time, and the world moved along with it.
//!
//! tokio's paused clock is the simulation's time: when no task can run, it jumps to the next timer. The world, which
//! knows nothing of tokio, is one of the tasks: it is run up to now whenever its next event is due or a client has
//! sent something. tokio's timers go by whole milliseconds, so clients act at those; the world's own events happen
//! at their exact times, in order, only somewhat later than the task that waits for them.

use std::future::Future;
use std::time::Duration;

use tokio::runtime::{Builder, Runtime};
use tokio::time::sleep_until;

use super::Net;
use crate::dice::Dice;

/// Everything on the other side of the wire.
pub trait World {
    /// When its next event is due, the wire's arrivals included.
    fn next_at(&mut self) -> Option<Duration>;

    /// Does everything due by `now`, in order of time.
    fn run_to(&mut self, now: Duration);
}

/// Runs `future` on one thread, with a clock that moves only when nothing else does. Without `--cfg tokio_unstable`
/// tokio draws some orders from the system's chance, and a run cannot be had again byte for byte.
///
/// # Panics
/// As `future` does, and when tokio's runtime cannot be made.
pub fn block_on<F: Future>(seed: u64, future: F) -> F::Output {
    runtime(seed).block_on(future)
}

#[cfg(tokio_unstable)]
fn runtime(seed: u64) -> Runtime {
    let mut bytes = [0; 32];
    Dice::new(seed, "tokio").fill(&mut bytes);
    let seed = tokio::runtime::RngSeed::from_bytes(&bytes);
    let mut builder = Builder::new_current_thread();
    builder.enable_time().start_paused(true).rng_seed(seed).build().expect("a runtime")
}

#[cfg(not(tokio_unstable))]
fn runtime(_: u64) -> Runtime {
    // Nothing takes the seed here; named, so that both builds compile the same.
    let _: fn(u64, &str) -> Dice = Dice::new;
    Builder::new_current_thread().enable_time().start_paused(true).build().expect("a runtime")
}

/// Whether [`block_on`] gives the same run for the same seed.
#[must_use]
pub fn is_exact() -> bool {
    cfg!(tokio_unstable)
}

/// Moves `world` along until `until` is ready; returns what it gave.
pub async fn drive<T>(net: &Net, world: &mut impl World, until: impl Future<Output = T>) -> T {
    let mut until = std::pin::pin!(until);
    loop {
        world.run_to(net.now());
        let next = world.next_at();
        let next = async {
            match next {
                Some(at) => sleep_until(net.start + at).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            result = &mut until => {
                world.run_to(net.now());
                return result;
            }
            () = net.sent.notified() => {}
            () = next => {}
        }
    }
}
