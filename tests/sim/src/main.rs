//! The simulator's command line.
#![forbid(unsafe_code)]
#![expect(
    clippy::disallowed_methods,
    reason = "a fresh seed and how long it took are of the real clock, which no run sees"
)]

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use clap::{Parser, Subcommand};
use tests_sim::plan::Run;
use tests_sim::reached;
use tests_sim::run::{self, Outcome};
use tests_sim::scenario::{self, Scenario};
use tests_sim::shrink;
use tests_sim::trace::Detail;

#[derive(Debug, Parser)]
#[command(name = "millstream-sim", about = "Runs a whole node, its disk, network and clients from one seed")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Many seeds, over all scenarios in turn
    Run {
        /// How many
        #[arg(long, default_value_t = 100)]
        seeds: u64,
        /// The first one; absent: another each time
        #[arg(long)]
        from: Option<u64>,
        /// Only these, separated by commas
        #[arg(long, value_delimiter = ',')]
        scenario: Vec<String>,
        /// Threads
        #[arg(long, default_value_t = 2)]
        jobs: usize,
        /// Stop beginning new seeds after so many seconds
        #[arg(long)]
        seconds_max: Option<u64>,
        /// One in so many runs is done twice and must be the same, byte for byte
        #[arg(long, default_value_t = 20)]
        twice: u64,
        /// Stop at so many failures
        #[arg(long, default_value_t = 5)]
        failures_max: u64,
        /// List the marked paths that no run has taken; one that is not explained is a failure
        #[arg(long)]
        reach: bool,
        /// Print the first failing seed's count and nothing else; for the mutants
        #[arg(long)]
        terse: bool,
    },
    /// One seed again
    Replay {
        #[arg(long)]
        seed: u64,
        #[arg(long)]
        scenario: String,
        /// How much to print
        #[arg(long, value_enum, default_value = "story")]
        trace: Detail,
        /// Faults and actions to switch off
        #[arg(long, value_delimiter = ',')]
        off: Vec<String>,
        /// At most so many actions of clients
        #[arg(long)]
        actions: Option<u64>,
    },
    /// Makes a failing run smaller while it goes on failing
    Shrink {
        #[arg(long)]
        seed: u64,
        #[arg(long)]
        scenario: String,
    },
    /// The scenarios there are
    List,
}

fn main() -> ExitCode {
    run::catch_panics();
    match Cli::parse().command {
        Command::Run { seeds, from, scenario, jobs, seconds_max, twice, failures_max, reach, terse } => {
            let names = if scenario.is_empty() {
                scenario::ALL.iter().map(|(name, _)| (*name).to_owned()).collect()
            } else {
                scenario
            };
            let from = from.unwrap_or_else(fresh_seed);
            let many = Many { seeds, from, names, jobs, seconds_max, twice, failures_max, reach, terse };
            many.run()
        }
        Command::Replay { seed, scenario, trace, off, actions } => {
            let run = Run { scenario, seed, off: off.into_iter().collect(), actions_max: actions };
            with_scenario(&run.scenario.clone(), |scenario| {
                let outcome = run::run(&run, scenario, trace, true);
                println!("trace {}", outcome.digest);
                report(&run, &outcome)
            })
        }
        Command::Shrink { seed, scenario } => {
            let run = Run { scenario, seed, off: Default::default(), actions_max: None };
            with_scenario(&run.scenario.clone(), |scenario| match shrink::shrink(&run, scenario) {
                Some((small, outcome)) => report(&small, &outcome),
                None => {
                    println!("seed {seed} does not fail");
                    ExitCode::SUCCESS
                }
            })
        }
        Command::List => {
            for (name, _) in scenario::ALL {
                with_scenario(name, |scenario| {
                    println!("{name:<12} {}", scenario.about);
                    ExitCode::SUCCESS
                });
            }
            ExitCode::SUCCESS
        }
    }
}

/// Another one each time, and readable.
fn fresh_seed() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(1, |since| since.as_millis() as u64 % 1_000_000_000 * 1000)
}

fn with_scenario(name: &str, act: impl FnOnce(&Scenario) -> ExitCode) -> ExitCode {
    match scenario::load(name) {
        Ok(scenario) => act(&scenario),
        Err(error) => {
            eprintln!("{error}");
            ExitCode::from(2)
        }
    }
}

fn report(run: &Run, outcome: &Outcome) -> ExitCode {
    match &outcome.failure {
        None => {
            println!("seed {} of {}: well", run.seed, run.scenario);
            ExitCode::SUCCESS
        }
        Some(failure) => {
            println!("seed {} of {} FAILED at {:?}: {}", run.seed, run.scenario, failure.at, failure.oracle);
            println!("  {}", failure.what);
            println!("  again: {}", run.command());
            ExitCode::FAILURE
        }
    }
}

struct Many {
    seeds: u64,
    from: u64,
    names: Vec<String>,
    jobs: usize,
    seconds_max: Option<u64>,
    twice: u64,
    failures_max: u64,
    reach: bool,
    terse: bool,
}

#[derive(Default)]
struct Sum {
    runs: u64,
    simulated: Duration,
    events: u64,
    crashes: u64,
    twice: u64,
    failures: u64,
    first_failure: Option<u64>,
    reached: BTreeMap<&'static str, u64>,
}

impl Many {
    fn run(&self) -> ExitCode {
        let mut scenarios = Vec::new();
        for name in &self.names {
            match scenario::load(name) {
                Ok(scenario) => scenarios.push((name.clone(), scenario)),
                Err(error) => {
                    eprintln!("{error}");
                    return ExitCode::from(2);
                }
            }
        }
        if !self.terse {
            println!(
                "seeds {} to {}, scenarios {}",
                self.from,
                self.from + self.seeds - 1,
                self.names.join(", ")
            );
        }
        let begun = Instant::now();
        let next = AtomicU64::new(0);
        let sum = Mutex::new(Sum::default());
        std::thread::scope(|scope| {
            for _ in 0..self.jobs {
                scope.spawn(|| self.work(&scenarios, &next, &sum, begun));
            }
        });
        let sum = sum.into_inner().unwrap_or_else(PoisonError::into_inner);
        self.print(&sum, begun.elapsed())
    }

    fn work(&self, scenarios: &[(String, Scenario)], next: &AtomicU64, sum: &Mutex<Sum>, begun: Instant) {
        let lock = || sum.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            let nth = next.fetch_add(1, Ordering::Relaxed);
            let is_late = self.seconds_max.is_some_and(|max| begun.elapsed().as_secs() >= max);
            if nth >= self.seeds || is_late || lock().failures >= self.failures_max {
                return;
            }
            let (name, scenario) = &scenarios[(nth % scenarios.len() as u64) as usize];
            let run = Run {
                scenario: name.clone(),
                seed: self.from + nth,
                off: Default::default(),
                actions_max: None,
            };
            let is_twice = self.twice > 0 && nth.is_multiple_of(self.twice);
            let mut outcome = run::run(&run, scenario, Detail::Nothing, is_twice);
            if is_twice && outcome.failure.is_none() {
                let again = run::run(&run, scenario, Detail::Nothing, true);
                if again.digest != outcome.digest {
                    outcome.failure = Some(tests_sim::world::Failure {
                        oracle: "determinism".to_owned(),
                        at: outcome.simulated,
                        what: format!("two runs of one seed differ: {} and {}", outcome.digest, again.digest),
                    });
                }
            }
            let mut sum = lock();
            sum.runs += 1;
            sum.simulated += outcome.simulated;
            sum.events += outcome.counts.events;
            sum.crashes += outcome.counts.crashes;
            sum.twice += u64::from(is_twice);
            for (mark, count) in &outcome.reached {
                *sum.reached.entry(mark).or_default() += count;
            }
            if outcome.failure.is_some() {
                sum.failures += 1;
                sum.first_failure = Some(sum.first_failure.map_or(nth, |first| first.min(nth)));
                if !self.terse {
                    report(&run, &outcome);
                } else if let Some(failure) = &outcome.failure {
                    println!(
                        "found by {} with seed {} of {name}: {}",
                        failure.oracle, run.seed, failure.what
                    );
                }
            }
        }
    }

    fn print(&self, sum: &Sum, took: Duration) -> ExitCode {
        if self.terse {
            match sum.first_failure {
                Some(nth) => println!("found after {} seeds", nth + 1),
                None => println!("not found in {} seeds", sum.runs),
            }
            return if sum.failures == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE };
        }
        let minutes = took.as_secs_f64() / 60.0;
        let hours = sum.simulated.as_secs_f64() / 3600.0;
        println!(
            "{} runs in {:.0} s: {:.1} a second, {:.2} simulated hours a minute, {} events, {} crashes, {} done twice, {} failed",
            sum.runs,
            took.as_secs_f64(),
            sum.runs as f64 / took.as_secs_f64(),
            hours / minutes,
            sum.events,
            sum.crashes,
            sum.twice,
            sum.failures
        );
        let reached = !self.reach || print_reached(&sum.reached);
        if sum.failures == 0 && reached { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }
}

/// Whether every mark was passed or is explained.
fn print_reached(passed: &BTreeMap<&'static str, u64>) -> bool {
    match reached::report(passed) {
        Ok(report) => {
            println!("{report}");
            report.is_well()
        }
        Err(error) => {
            eprintln!("{error}");
            false
        }
    }
}
