//! A line of JSON for each landing, and what has moved since the last one.

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::callgrind::Cost;

/// More than this many percent of the last landing's count is news.
pub const NEWS_PERCENT: f64 = 5.0;

/// One landing.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Landing {
    /// YYYY-MM-DD, UTC.
    pub date: String,
    /// What was measured; the line itself lands with the commit behind it.
    pub commit: String,
    pub machine: String,
    pub rustc: String,
    pub valgrind: String,
    /// Of one step, by case.
    pub instructions: BTreeMap<String, u64>,
    /// What `make bench` found, if it was run: figures by name.
    #[serde(default, skip_serializing_if = "serde_json::Map::is_empty")]
    pub targets: serde_json::Map<String, serde_json::Value>,
}

/// Why there is no history to look at or to write to.
#[derive(Debug, thiserror::Error)]
pub enum HistoryError {
    #[error("{path}: {source}")]
    Io { path: String, source: io::Error },
    #[error("{path}, line {line}: {source}")]
    Line { path: String, line: usize, source: serde_json::Error },
}

fn io_error(path: &Path) -> impl FnOnce(io::Error) -> HistoryError {
    let path = path.display().to_string();
    |source| HistoryError::Io { path, source }
}

/// The last line; nothing in a file that is not there yet.
///
/// # Errors
/// [`HistoryError`].
pub fn last(path: &Path) -> Result<Option<Landing>, HistoryError> {
    let text = match fs::read_to_string(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        read => read.map_err(io_error(path))?,
    };
    let Some((nth, line)) = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()).last()
    else {
        return Ok(None);
    };
    let path = path.display().to_string();
    serde_json::from_str(line).map(Some).map_err(|source| HistoryError::Line { path, line: nth + 1, source })
}

/// # Errors
/// [`HistoryError`].
pub fn append(path: &Path, landing: &Landing) -> Result<(), HistoryError> {
    let mut line = serde_json::to_vec(landing).expect("names and numbers");
    line.push(b'\n');
    let file = OpenOptions::new().append(true).create(true).open(path);
    file.and_then(|mut file| file.write_all(&line)).map_err(io_error(path))
}

/// How a case's count stands to the last landing's.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Move {
    /// Not in the last landing.
    New,
    Same {
        percent: f64,
    },
    Worse {
        percent: f64,
    },
    Better {
        percent: f64,
    },
}

impl Landing {
    pub fn compare(&self, cost: &Cost) -> Move {
        let Some(&before) = self.instructions.get(cost.name) else { return Move::New };
        let percent = (cost.instructions as f64 - before as f64) * 100.0 / before as f64;
        if percent > NEWS_PERCENT {
            Move::Worse { percent }
        } else if percent < -NEWS_PERCENT {
            Move::Better { percent }
        } else {
            Move::Same { percent }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn landing(commit: &str, count: u64) -> Landing {
        Landing {
            date: "2026-01-02".to_owned(),
            commit: commit.to_owned(),
            machine: "X".to_owned(),
            rustc: "1".to_owned(),
            valgrind: "3".to_owned(),
            instructions: [("a/b".to_owned(), count)].into(),
            targets: serde_json::Map::new(),
        }
    }

    #[test]
    fn the_last_line_is_compared_with_and_lines_behind_it_are_added() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("landings.jsonl");
        assert_eq!(last(&path).unwrap(), None);
        let mut second = landing("two", 200);
        second.targets.insert("append_ratio".to_owned(), 0.97.into());
        for landing in [&landing("one", 100), &second] {
            append(&path, landing).unwrap();
        }
        assert_eq!(last(&path).unwrap(), Some(second));
        assert_eq!(fs::read_to_string(&path).unwrap().lines().count(), 2);
    }

    #[test]
    fn a_line_that_is_none_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("landings.jsonl");
        fs::write(&path, "{}\n").unwrap();
        assert!(last(&path).unwrap_err().to_string().contains("line 1"));
    }

    #[test]
    fn more_than_five_percent_is_news() {
        let landing = landing("one", 1000);
        let cost = |name, instructions| Cost { name, instructions, records: 0 };
        let check = |instructions, expect: fn(Move) -> bool| {
            let moved = landing.compare(&cost("a/b", instructions));
            assert!(expect(moved), "{moved:?}");
        };
        check(1050, |moved| matches!(moved, Move::Same { .. }));
        check(1051, |moved| matches!(moved, Move::Worse { .. }));
        check(950, |moved| matches!(moved, Move::Same { .. }));
        check(949, |moved| matches!(moved, Move::Better { .. }));
        assert_eq!(landing.compare(&cost("c", 1)), Move::New);
    }
}
