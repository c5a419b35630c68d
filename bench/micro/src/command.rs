//! The command line.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use crate::callgrind::{self, Cost};
use crate::case::Case;
use crate::cases;
use crate::history::{self, Landing, Move};
use crate::table;

const USAGE: &str = "\
millstream-micro list                              the cases
millstream-micro run CASE                          a case as it is counted, without counting
millstream-micro measure [--only PART] [--keep DIR]   counts, of all cases or those with PART in their names;
                                                   profiles for callgrind_annotate in DIR
millstream-micro check HISTORY [--only PART]       counts against the last line; fails when one is worse by more than 5 %
millstream-micro append HISTORY --date D --commit C --rustc R [--targets FILE]
                                                   counts as a new line; FILE holds a JSON object of other figures";

const FAILED: u8 = 1;
const MISUSED: u8 = 2;

/// Reads the process's arguments and does what they say.
pub fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let Some(asked) = Asked::parse(&args) else {
        eprintln!("{USAGE}");
        return ExitCode::from(MISUSED);
    };
    match asked.carry_out() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(FAILED),
        Err(error) => {
            eprintln!("millstream-micro: {error}");
            ExitCode::from(FAILED)
        }
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Asked {
    List,
    Run { case: String },
    Measure { only: String, keep: Option<PathBuf> },
    Check { history: PathBuf, only: String },
    Append { history: PathBuf, about: About, targets: Option<PathBuf> },
}

/// What the program cannot know by itself.
#[derive(Debug, PartialEq, Eq)]
struct About {
    date: String,
    commit: String,
    rustc: String,
}

impl Asked {
    /// `None`: not to be understood.
    fn parse(args: &[String]) -> Option<Self> {
        let (verb, rest) = args.split_first()?;
        let takes_place = matches!(verb.as_str(), "run" | "check" | "append");
        let (place, rest) = if takes_place { rest.split_first()? } else { (verb, rest) };
        let mut flags = BTreeMap::new();
        for pair in rest.chunks(2) {
            let [flag, value] = pair else { return None };
            flags.insert(flag.as_str(), value.clone());
        }
        let only = flags.remove("--only");
        let asked = match verb.as_str() {
            "list" => Self::List,
            "run" => Self::Run { case: place.clone() },
            "measure" => Self::Measure {
                only: only.clone().unwrap_or_default(),
                keep: flags.remove("--keep").map(PathBuf::from),
            },
            "check" => Self::Check { history: place.into(), only: only.clone().unwrap_or_default() },
            "append" => {
                let about = About {
                    date: flags.remove("--date")?,
                    commit: flags.remove("--commit")?,
                    rustc: flags.remove("--rustc")?,
                };
                let targets = flags.remove("--targets").map(PathBuf::from);
                Self::Append { history: place.into(), about, targets }
            }
            _ => return None,
        };
        let is_partial = matches!(asked, Self::Measure { .. } | Self::Check { .. });
        (flags.is_empty() && (only.is_none() || is_partial)).then_some(asked)
    }

    /// `false`: something got worse.
    fn carry_out(self) -> Result<bool, Box<dyn std::error::Error>> {
        match self {
            Self::List => {
                cases::all().iter().for_each(|case| println!("{}", case.name));
                Ok(true)
            }
            Self::Run { case } => {
                let found = cases::all().into_iter().find(|other| other.name == case);
                found.ok_or_else(|| format!("no case '{case}': see `millstream-micro list`"))?.run();
                Ok(true)
            }
            Self::Measure { only, keep } => {
                measure(&only, None, keep.as_deref())?;
                Ok(true)
            }
            Self::Check { history, only } => check(&history, &only),
            Self::Append { history, about, targets } => {
                append(&history, about, targets.as_deref())?;
                Ok(true)
            }
        }
    }
}

/// Counts and shows the cases with `only` in their names.
fn measure(
    only: &str,
    last: Option<&Landing>,
    keep: Option<&Path>,
) -> Result<Vec<Cost>, Box<dyn std::error::Error>> {
    if cfg!(debug_assertions) {
        return Err("built with debug assertions, which would be counted: build with --profile micro".into());
    }
    if let Some(dir) = keep {
        fs::create_dir_all(dir)?;
    }
    let asked: Vec<Case> = cases::all().into_iter().filter(|case| case.name.contains(only)).collect();
    if asked.is_empty() {
        return Err(format!("no case has '{only}' in its name: see `millstream-micro list`").into());
    }
    println!("{}", table::head(last));
    let mut costs = Vec::new();
    for case in &asked {
        let file = keep.map(|dir| dir.join(case.name.replace(['/', ' '], "-")));
        let cost = callgrind::count(case, file.as_deref())?;
        println!("{}", table::row(&cost, last));
        costs.push(cost);
    }
    Ok(costs)
}

fn check(history: &Path, only: &str) -> Result<bool, Box<dyn std::error::Error>> {
    let last = history::last(history)?.ok_or("there is no line to check against: append one first")?;
    let costs = measure(only, Some(&last), None)?;
    let (machine, valgrind) = (machine(), valgrind());
    for (what, then, now) in [("machine", &last.machine, &machine), ("valgrind", &last.valgrind, &valgrind)] {
        if then != now {
            println!("{what} then: {then}; now: {now}");
        }
    }
    for gone in last.instructions.keys().filter(|name| name.contains(only)) {
        if !costs.iter().any(|cost| cost.name == gone) {
            println!("{gone}: not measured any more");
        }
    }
    let moved = |is: fn(&Move) -> bool| costs.iter().filter(|cost| is(&last.compare(cost))).count();
    let worse = moved(|moved| matches!(moved, Move::Worse { .. }));
    let better = moved(|moved| matches!(moved, Move::Better { .. }));
    println!(
        "{} cases: {worse} worse, {better} better by more than {} %",
        costs.len(),
        history::NEWS_PERCENT
    );
    Ok(worse == 0)
}

fn append(history: &Path, about: About, targets: Option<&Path>) -> Result<(), Box<dyn std::error::Error>> {
    // Read first: counting takes minutes.
    let targets = match targets {
        None => serde_json::Map::new(),
        Some(path) => {
            let text = fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
            serde_json::from_str(&text).map_err(|error| format!("{}: {error}", path.display()))?
        }
    };
    let last = history::last(history)?;
    let costs = measure("", last.as_ref(), None)?;
    let landing = Landing {
        date: about.date,
        commit: about.commit,
        machine: machine(),
        rustc: about.rustc,
        valgrind: valgrind(),
        instructions: costs.iter().map(|cost| (cost.name.to_owned(), cost.instructions)).collect(),
        targets,
    };
    Ok(history::append(history, &landing)?)
}

/// The processor's name.
fn machine() -> String {
    let cpus = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let named = cpus.lines().find_map(|line| line.strip_prefix("model name")?.split_once(':'));
    named.map_or(std::env::consts::ARCH, |(_, name)| name.trim()).to_owned()
}

fn valgrind() -> String {
    let output = Command::new("valgrind").arg("--version").output();
    let said = output.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned());
    said.unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(args: &str, expect: Option<Asked>) {
        let args: Vec<String> = args.split(' ').map(ToString::to_string).collect();
        assert_eq!(Asked::parse(&args), expect);
    }

    #[test]
    fn arguments_are_understood_whole_or_not_at_all() {
        check("list", Some(Asked::List));
        check("run a/b", Some(Asked::Run { case: "a/b".to_owned() }));
        check("measure", Some(Asked::Measure { only: String::new(), keep: None }));
        let keep = Some(PathBuf::from("d"));
        check("measure --keep d --only log/", Some(Asked::Measure { only: "log/".to_owned(), keep }));
        check("check h", Some(Asked::Check { history: "h".into(), only: String::new() }));
        let about = About { date: "d".to_owned(), commit: "c".to_owned(), rustc: "r".to_owned() };
        let append = Asked::Append { history: "h".into(), about, targets: None };
        check("append h --date d --commit c --rustc r", Some(append));
        for wrong in
            ["", "run", "check", "measure --only", "measure --pace 1", "append h --date d", "list --only x"]
        {
            check(wrong, None);
        }
    }
}
