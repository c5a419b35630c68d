//! The input: what the machine has of real text.

use std::fs;
use std::process::Command;

/// In `make test`; `make soak` takes everything.
const LINES_MAX: usize = 300_000;

/// Lines of `apt-cache dumpavail`; `/var/lib/dpkg/status` or this repository's own text where there is no apt. Blank
/// lines, repeated lines and bytes that are no UTF-8 included. No newline at their ends.
pub fn real(count_max: usize) -> Vec<Vec<u8>> {
    let text = dumpavail().or_else(|| fs::read("/var/lib/dpkg/status").ok()).unwrap_or_else(own_text);
    let lines = text.strip_suffix(b"\n").unwrap_or(&text).split(|byte| *byte == b'\n');
    let lines: Vec<Vec<u8>> = lines.take(count_max).map(<[u8]>::to_vec).collect();
    assert!(lines.len() >= count_max.min(1000), "only {} lines of real input", lines.len());
    lines
}

/// As many as the run asks for.
pub fn count_max() -> usize {
    if crate::soak() { usize::MAX } else { LINES_MAX }
}

pub fn joined<T: AsRef<[u8]>>(lines: &[T]) -> Vec<u8> {
    let mut text = Vec::with_capacity(lines.iter().map(|line| line.as_ref().len() + 1).sum());
    for line in lines {
        text.extend_from_slice(line.as_ref());
        text.push(b'\n');
    }
    text
}

pub fn split(text: &[u8]) -> Vec<&[u8]> {
    match text.strip_suffix(b"\n") {
        Some(text) => text.split(|byte| *byte == b'\n').collect(),
        None if text.is_empty() => Vec::new(),
        None => text.split(|byte| *byte == b'\n').collect(),
    }
}

fn dumpavail() -> Option<Vec<u8>> {
    let output = Command::new("apt-cache").arg("dumpavail").output().ok()?;
    (output.status.success() && output.stdout.len() > 100_000).then_some(output.stdout)
}

fn own_text() -> Vec<u8> {
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/../../");
    let text: String = ["Cargo.lock", "LICENSE", "engine/ARCHITECTURE.md"]
        .iter()
        .map(|name| fs::read_to_string(format!("{root}{name}")).expect("a file of the repository"))
        .collect();
    text.repeat(20).into_bytes()
}
