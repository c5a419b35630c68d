//! Which marks of the sources a run of many seeds has passed, and what is known about those it has not.
//!
//! A mark never passed is a workload or a fault that the simulator lacks, or code that nothing can reach. What is
//! known to be neither stands in `reach-explained.toml` with its reason; an explanation of a mark that is passed after
//! all, or that is no longer there, is an error.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use reach::Place;

#[derive(Debug, Default)]
pub struct Report {
    pub declared_count: usize,
    pub passed_count: usize,
    pub explained_count: usize,
    /// Neither passed nor explained, or passed and not in the sources that were read.
    pub unexplained: Vec<(String, Option<Place>)>,
    /// Explained, and not there: a mark seldom passed may be explained and passed all the same.
    pub stale: Vec<String>,
}

/// The sources this simulator was built from, and their explanations.
///
/// # Errors
/// What cannot be read, or does not add up.
pub fn report(passed: &BTreeMap<&'static str, u64>) -> Result<Report, String> {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let root = here.ancestors().nth(2).expect("two levels below the root");
    let declared = reach::declared(root).map_err(|error| error.to_string())?;
    Ok(compare(&declared, &explained()?, passed))
}

fn explained() -> Result<BTreeMap<String, String>, String> {
    toml::from_str(include_str!("../reach-explained.toml")).map_err(|error| error.to_string())
}

fn compare(
    declared: &BTreeMap<String, Place>,
    explained: &BTreeMap<String, String>,
    passed: &BTreeMap<&'static str, u64>,
) -> Report {
    let is_passed = |name: &str| passed.contains_key(name);
    let missing = declared.iter().filter(|(name, _)| !is_passed(name) && !explained.contains_key(*name));
    let unknown = passed.keys().filter(|name| !declared.contains_key(**name));
    let stale = explained.keys().filter(|name| !declared.contains_key(*name));
    Report {
        declared_count: declared.len(),
        passed_count: passed.len(),
        explained_count: explained.len(),
        unexplained: missing
            .map(|(name, place)| (name.clone(), Some(place.clone())))
            .chain(unknown.map(|name| ((*name).to_owned(), None)))
            .collect(),
        stale: stale.cloned().collect(),
    }
}

impl Report {
    #[must_use]
    pub fn is_well(&self) -> bool {
        self.unexplained.is_empty() && self.stale.is_empty()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (passed, declared) = (self.passed_count, self.declared_count);
        write!(f, "reach: {passed} of {declared} marks passed, {} explained", self.explained_count)?;
        for (name, place) in &self.unexplained {
            match place {
                Some(Place { path, line }) => {
                    write!(f, "\n  never passed: {name}, {}:{line}", path.display())?
                }
                None => write!(f, "\n  passed and not in the sources: {name}")?,
            }
        }
        for name in &self.stale {
            write!(f, "\n  explained, and not there: {name}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn explanations_are_of_marks_that_are_there() {
        let report = report(&BTreeMap::new()).expect("sources and explanations are readable");
        assert_eq!(report.stale, Vec::<String>::new());
        assert!(explained().expect("readable").values().all(|why| why.len() > 20));
    }

    #[test]
    fn what_is_neither_passed_nor_explained_is_told() {
        let place = |line| Place { path: "a.rs".into(), line };
        let declared = [("log.a_a", 1), ("log.b_b", 2), ("log.c_c", 3)];
        let declared = declared.map(|(name, line)| (name.to_owned(), place(line))).into();
        let explained =
            ["log.b_b", "log.a_a", "log.gone_by"].map(|n| (n.to_owned(), "why".to_owned())).into();
        let report = compare(&declared, &explained, &BTreeMap::from([("log.a_a", 5), ("log.new_one", 1)]));
        assert_eq!(
            report.unexplained,
            [("log.c_c".to_owned(), Some(place(3))), ("log.new_one".to_owned(), None)]
        );
        assert_eq!(report.stale, ["log.gone_by"]);
        assert!(!report.is_well());
    }
}
