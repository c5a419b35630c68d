//! Results read back from files.

use std::fs;
use std::path::Path;

use serde::Deserialize;

use crate::machine::Machine;
use crate::report::TrafficReport;

/// A result of a run against a system, as `--json` wrote it.
#[derive(Debug, Clone, Deserialize)]
pub struct Saved {
    pub version: String,
    pub machine: Machine,
    pub result: SavedFigures,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SavedFigures {
    Traffic(Box<TrafficReport>),
}

impl Saved {
    pub fn read(path: &Path) -> Result<Saved, String> {
        let text = fs::read(path).map_err(|error| format!("{}: {error}", path.display()))?;
        Saved::of(&text).map_err(|error| {
            format!("{}: no result of produce, consume, e2e or mixed: {error}", path.display())
        })
    }

    fn of(text: &[u8]) -> Result<Saved, serde_json::Error> {
        serde_json::from_slice(text)
    }

    pub fn traffic(&self) -> &TrafficReport {
        let SavedFigures::Traffic(report) = &self.result;
        report
    }
}

#[cfg(test)]
mod tests {
    use super::Saved;
    use crate::report::samples::traffic;
    use crate::report::{Figures, Report};

    #[test]
    fn what_was_written_is_read_back() {
        let report = Report::new(Figures::Traffic(Box::new(traffic(1.0))));
        let saved = Saved::of(&serde_json::to_vec(&report).unwrap()).unwrap();
        assert_eq!(*saved.traffic(), traffic(1.0));
        assert_eq!((saved.version.as_str(), saved.machine), (report.version, report.machine));
    }

    #[test]
    fn what_is_no_result_is_refused() {
        for wrong in ["", "{}", "{\"version\":\"1\",\"machine\":{},\"result\":{\"quic\":{}}}"] {
            assert!(Saved::of(wrong.as_bytes()).is_err(), "{wrong}");
        }
    }
}
