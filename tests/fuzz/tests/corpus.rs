//! The committed corpus, what the real writers make today, and mutations of both through every target.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use tests_fuzz::samples::samples;
use tests_fuzz::{TARGETS, Target, target};

/// Memory is counted for the whole process: one test at a time.
static ONE: Mutex<()> = Mutex::new(());
/// Of all inputs of a target together; the same ones in every run.
const MUTATIONS: u64 = 3000;
/// A mutation of an input this long is worth less than its time.
const MUTATED_BYTES_MAX: usize = 8 << 10;

fn corpus(target: &Target) -> Vec<(PathBuf, Vec<u8>)> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target.name);
    let entries = fs::read_dir(&directory).unwrap_or_else(|e| panic!("{}: {e}", directory.display()));
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths.into_iter().map(|path| (path.clone(), fs::read(path).unwrap())).collect()
}

#[test]
fn whatever_the_corpus_holds_and_comes_close_to_it_is_read_as_promised() {
    let _one = ONE.lock().unwrap_or_else(PoisonError::into_inner);
    for target in TARGETS {
        let mut inputs: Vec<Vec<u8>> = Vec::new();
        for (path, bytes) in corpus(target) {
            println!("{}", path.display());
            target.check(&bytes);
            inputs.push(bytes);
        }
        let own = samples().into_iter().filter(|sample| sample.target == target.name);
        inputs.extend(own.map(|sample| sample.bytes));
        assert!(!inputs.is_empty(), "nothing to start {} with", target.name);
        mutated(target, &inputs);
    }
}

#[test]
fn every_sample_has_a_target_and_every_target_samples() {
    let _one = ONE.lock().unwrap_or_else(PoisonError::into_inner);
    assert!(samples().iter().all(|sample| target(sample.target).name == sample.target));
    let has_samples = |target: &&Target| samples().iter().any(|sample| sample.target == target.name);
    assert!(TARGETS.iter().all(|target| has_samples(&target)));
}

fn mutated(target: &Target, inputs: &[Vec<u8>]) {
    let mut dice = Dice(1);
    let slow = ["quic", "command_line"].contains(&target.name);
    for nth in 0..if slow { MUTATIONS / 20 } else { MUTATIONS } {
        let mut bytes = inputs[dice.below(inputs.len())].clone();
        bytes.truncate(MUTATED_BYTES_MAX);
        if nth >= inputs.len() as u64 {
            let other = &inputs[dice.below(inputs.len())];
            for _ in 0..1 + dice.below(4) {
                mutate(&mut bytes, other, &mut dice);
            }
        }
        let shown = bytes.clone();
        let outcome = std::panic::catch_unwind(|| target.check(&shown));
        assert!(outcome.is_ok(), "{} fails with {}", target.name, bytes.escape_ascii());
    }
}

fn mutate(bytes: &mut Vec<u8>, other: &[u8], dice: &mut Dice) {
    let at = dice.below(bytes.len() + 1);
    let count = dice.below(8).min(bytes.len() - at);
    match dice.below(6) {
        0 if at < bytes.len() => bytes[at] ^= 1 << dice.below(8),
        1 if at < bytes.len() => bytes[at] = [0, 1, 0x7f, 0x80, 0xff][dice.below(5)],
        2 => drop(bytes.drain(at..at + count)),
        3 => {
            let repeated = bytes[at..at + count].repeat(2);
            bytes.splice(at..at + count, repeated);
        }
        4 => {
            let from = dice.below(other.len() + 1);
            let piece = &other[from..(from + dice.below(64)).min(other.len())];
            bytes.splice(at..at, piece.iter().copied());
        }
        _ => bytes.truncate(at),
    }
}

/// splitmix64.
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((z ^ (z >> 31)) % bound.max(1) as u64) as usize
    }
}
