//! Random lives of a log, one behind the other on one disk, each checked against a simple model: see `story`.
#![allow(clippy::wildcard_enum_match_arm, reason = "a test names what it is about")]

#[allow(unreachable_pub, reason = "shared by the test files")]
mod rig;
#[allow(unreachable_pub, reason = "shared by the test files")]
mod story;

use rig::Rig;
use storage_frame::{Frame, Offset};
use storage_log::LogState;
use story::{Faultiness, Story};
use tests_disk::{Dice, Faults, ModelDisk, Rate, Zone};

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

/// What opening finds: start, end, and the frames.
type Found = (Offset, Offset, Vec<Frame>);

fn found(rig: &mut Rig) -> Found {
    assert_eq!(*rig.log.state(), LogState::Ready);
    (rig.log.start(), rig.log.durable_end(), rig.read_all(1 << 20))
}

fn opened(disk: ModelDisk, of: &Rig) -> Found {
    let mut rig = Rig::on(disk, of.id, of.config.clone(), 1);
    rig.settle();
    found(&mut rig)
}

/// A log's disk at some moment of its life, the power gone.
fn left_by_a_history(seed: u64) -> Rig {
    let disk = ModelDisk::new(seed, Faults::of_crashes());
    let mut story = Story::begin(disk, 1, Faultiness::Crashes, &mut Dice::new(seed, "left"));
    for _ in 0..STEPS / 4 {
        story.step();
    }
    let mut rig = story.rig;
    rig.set_full(false);
    // It would take away what is compared.
    (rig.config.retention_bytes, rig.config.retention_age) = (None, None);
    rig.disk.crash();
    rig
}

/// The first `op_count` operations are done.
fn opening_of(rig: &mut Rig, op_count: u64) {
    for _ in 0..op_count {
        rig.turn();
        if rig.disk.under_way_count() > 0 && *rig.log.state() == LogState::Opening {
            rig.complete(0);
        }
    }
    rig.turn();
}

/// Those behind the first `op_count` fail, so many of them.
fn opening_with_errors(rig: &mut Rig, op_count: u64, failed_count: u64) {
    opening_of(rig, op_count);
    let mut faults = Faults::of_crashes();
    for zone in Zone::ALL {
        faults.in_zone_mut(zone).read_error = Rate::ALWAYS;
        faults.in_zone_mut(zone).write_error = Rate::ALWAYS;
    }
    rig.disk.set_faults(faults);
    opening_of(rig, failed_count);
    rig.disk.set_faults(Faults::of_crashes());
    rig.settle();
}

/// The power goes again at every operation of an opening, or one of them meets an error that passes: what the next
/// one finds is what the first would have found, and in between nothing is taken for less.
#[test]
fn opening_may_be_cut_short_or_meet_an_error_at_every_operation() {
    let (mut cut_count, mut error_count) = (0, 0);
    for seed in 0..40 {
        let left = left_by_a_history(seed);
        let expected = opened(left.disk.clone(), &left);
        for op_count in 0u64.. {
            let mut rig = Rig::on(left.disk.clone(), left.id, left.config.clone(), 1);
            opening_of(&mut rig, op_count);
            if *rig.log.state() != LogState::Opening {
                break;
            }
            let mut cut = rig.disk.clone();
            cut.crash();
            assert_eq!(opened(cut, &left), expected, "seed {seed}, cut at operation {op_count}");
            cut_count += 1;

            // A read that fails once is asked again, one that goes on failing is not.
            for failed_count in [1, 8] {
                let mut rig = Rig::on(left.disk.clone(), left.id, left.config.clone(), 1);
                opening_with_errors(&mut rig, op_count, failed_count);
                error_count += usize::from(*rig.log.state() != LogState::Ready);
                if *rig.log.state() == LogState::Ready {
                    assert_eq!(found(&mut rig), expected, "seed {seed}, error at operation {op_count}");
                }
                rig.disk.crash();
                assert_eq!(opened(rig.disk, &left), expected, "seed {seed}, after an error at {op_count}");
            }
        }
    }
    assert!(cut_count > 150 && error_count > 80, "{cut_count} {error_count}");
}
