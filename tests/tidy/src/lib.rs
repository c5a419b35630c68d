//! The house plan as code: reads the tree and says which file breaks which rule.
//!
//! - [`plan`]: the rooms, their kinds, and the arrows between them. A new room or arrow is drawn here first.
//! - [`tree`]: the files of the repository.
//! - [`source`]: a Rust file without comments, literals and test code, as paths and words.
//! - [`manifest`], [`names`], [`hygiene`], [`docs`]: the rules; each returns what it found broken.
//!
//! The rules see names, not types: `use std::time::Instant as Watch` gets past them. Clippy's disallowed methods
//! (root `.clippy.toml`) resolve types and close that gap.
#![forbid(unsafe_code)]

pub mod docs;
pub mod hygiene;
pub mod manifest;
pub mod names;
pub mod plan;
pub mod source;
pub mod tree;

use std::fmt;

/// One broken rule in one file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Broken {
    pub path: String,
    pub rule: &'static str,
    pub what: String,
}

impl Broken {
    pub(crate) fn in_file(file: &tree::File, rule: &'static str, what: String) -> Self {
        Self { path: file.path.clone(), rule, what }
    }
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}: {}", self.path, self.rule, self.what)
    }
}

/// Panics with one line per broken rule.
pub fn assert_none(broken: &[Broken]) {
    let lines: Vec<String> = broken.iter().map(Broken::to_string).collect();
    assert!(lines.is_empty(), "{} broken\n{}", lines.len(), lines.join("\n"));
}
