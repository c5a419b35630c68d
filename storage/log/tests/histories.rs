//! Random lives of a log, one behind the other on one disk, each checked against a simple model: see `story`.
#![allow(clippy::wildcard_enum_match_arm, reason = "a test names what it is about")]

#[allow(unreachable_pub, reason = "shared by the test files")]
mod rig;
#[allow(unreachable_pub, reason = "shared by the test files")]
mod story;

use story::{Faultiness, Story};
use tests_disk::{Dice, Faults, ModelDisk};

/// Says at the end of a failed run how to repeat it.
struct Told(&'static str, u64);

impl Drop for Told {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}: LOG_SEED={}", self.0, self.1);
        }
    }
}

const STEPS: u64 = 400;

fn run(seed: u64, faultiness: Faultiness) {
    let mut dice = Dice::new(seed, "run");
    let mut disk = ModelDisk::new(seed, Faults::of_crashes());
    for id in 1..=3 {
        let mut story = Story::begin(disk, id, faultiness, &mut dice);
        for _ in 0..STEPS {
            story.step();
        }
        disk = story.end();
    }
}

/// `LOG_SEED=8131` repeats one run, `LOG_SEEDS=100000` makes it a long one.
fn run_all(name: &'static str, faultiness: Faultiness) {
    let told = |name: &str| std::env::var(name).ok().and_then(|seed| seed.parse().ok());
    let seeds = match told("LOG_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..told("LOG_SEEDS").unwrap_or(60),
    };
    for seed in seeds {
        let _told = Told(name, seed);
        run(seed, faultiness);
    }
}

#[test]
fn random_histories_with_crashes_keep_their_promises() {
    run_all("crashes", Faultiness::Crashes);
}

#[test]
fn random_histories_with_faults_a_node_bears_keep_their_promises() {
    run_all("promised", Faultiness::Promised);
}
