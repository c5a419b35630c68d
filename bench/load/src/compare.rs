//! Two results side by side: what was different about the runs, then every figure both have.

use std::fmt;

use serde::Serialize;
use serde_json::Value;

use crate::checker::Verdict;
use crate::latency::LatencySummary;
use crate::report::{Phase, TrafficReport};
use crate::saved::Saved;

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Comparison {
    pub threshold_percent: f64,
    /// Of setup, system and machine: figures of unlike runs are not to be compared without knowing it.
    pub differences: Vec<Difference>,
    pub rows: Vec<Row>,
    /// Phases that only one of them has.
    pub alone: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Difference {
    pub what: String,
    pub a: String,
    pub b: String,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Row {
    pub phase: String,
    pub figure: &'static str,
    pub a: f64,
    pub b: f64,
    /// B by A.
    pub ratio: f64,
    pub change: Change,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Change {
    None,
    Better,
    Worse,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wanted {
    More,
    Less,
    /// Says what the others were measured at.
    Neither,
}

/// What says when and by which words a run was started; everything else makes it another run.
const OF_THE_MOMENT: [&str; 2] = ["command", "started"];

pub fn compare(a: &Saved, b: &Saved, threshold_percent: f64) -> Comparison {
    let mut differences = Vec::new();
    let (one, other) = (a.traffic(), b.traffic());
    let json = |value: Result<Value, _>| value.unwrap_or(Value::Null);
    differ(
        "",
        &json(serde_json::to_value(&one.setup)),
        &json(serde_json::to_value(&other.setup)),
        &mut differences,
    );
    differ(
        "system",
        &json(serde_json::to_value(&one.system)),
        &json(serde_json::to_value(&other.system)),
        &mut differences,
    );
    differ(
        "machine",
        &json(serde_json::to_value(&a.machine)),
        &json(serde_json::to_value(&b.machine)),
        &mut differences,
    );
    let mut rows = Vec::new();
    for phase in &one.phases {
        if let Some(same) = other.phases.iter().find(|other| other.name == phase.name) {
            rows.extend(phase_rows(phase, same, threshold_percent));
        }
    }
    rows.extend(knee_row(one, other, threshold_percent));
    rows.extend(verdict_rows(one, other, threshold_percent));
    if one.verdict.is_some() != other.verdict.is_some() {
        let [a, b] = [one, other].map(|report| report.verdict.is_some().to_string());
        differences.push(Difference { what: "verified".to_owned(), a, b });
    }
    Comparison { threshold_percent, differences, rows, alone: alone(one, other) }
}

fn differ(at: &str, a: &Value, b: &Value, into: &mut Vec<Difference>) {
    match (a, b) {
        (Value::Object(one), Value::Object(other)) => {
            for (name, value) in one.iter().filter(|(name, _)| !OF_THE_MOMENT.contains(&name.as_str())) {
                let at = if at.is_empty() { name.clone() } else { format!("{at}.{name}") };
                differ(&at, value, other.get(name).unwrap_or(&Value::Null), into);
            }
        }
        (one, other) if one == other => {}
        (one, other) => into.push(Difference { what: at.to_owned(), a: plain(one), b: plain(other) }),
    }
}

fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

fn alone(a: &TrafficReport, b: &TrafficReport) -> Vec<String> {
    let lacks = |other: &TrafficReport, phase: &Phase| !other.phases.iter().any(|one| one.name == phase.name);
    let of = |one: &TrafficReport, other: &TrafficReport, side: &str| {
        let names = one.phases.iter().filter(|phase| lacks(other, phase));
        names.map(|phase| format!("{} ({side})", phase.name)).collect::<Vec<_>>()
    };
    [of(a, b, "A"), of(b, a, "B")].concat()
}

fn phase_rows(a: &Phase, b: &Phase, threshold_percent: f64) -> Vec<Row> {
    let (of_a, of_b) = (figures(a), figures(b));
    let both = of_a.into_iter().filter_map(|(figure, wanted, a)| {
        let (_, _, b) = of_b.iter().find(|(name, ..)| *name == figure)?;
        Some((figure, wanted, a, *b))
    });
    both.map(|(figure, wanted, of_a, of_b)| row(&a.name, figure, wanted, (of_a, of_b), threshold_percent))
        .collect()
}

fn knee_row(a: &TrafficReport, b: &TrafficReport, threshold_percent: f64) -> Option<Row> {
    let of = |report: &TrafficReport| report.knee.as_ref()?.records_per_second;
    Some(row("knee", "records/s borne", Wanted::More, (of(a)?, of(b)?), threshold_percent))
}

fn verdict_rows(a: &TrafficReport, b: &TrafficReport, threshold_percent: f64) -> Vec<Row> {
    let (Some(a), Some(b)) = (&a.verdict, &b.verdict) else { return Vec::new() };
    let counts = |verdict: &Verdict| {
        let Verdict { lost, doubled, reordered, damaged, .. } = verdict;
        [*lost, *doubled, *reordered, *damaged].map(|count| count as f64)
    };
    let pairs = counts(a).into_iter().zip(counts(b));
    let named = ["lost", "doubled", "out of order", "damaged"].into_iter().zip(pairs);
    named.map(|(figure, pair)| row("verified", figure, Wanted::Less, pair, threshold_percent)).collect()
}

fn row(phase: &str, figure: &'static str, wanted: Wanted, (a, b): (f64, f64), threshold_percent: f64) -> Row {
    let ratio = if a == b { 1.0 } else { b / a };
    let change = if wanted == Wanted::Neither || (ratio - 1.0).abs() * 100.0 <= threshold_percent {
        Change::None
    } else if (ratio > 1.0) == (wanted == Wanted::More) {
        Change::Better
    } else {
        Change::Worse
    };
    Row { phase: phase.to_owned(), figure, a, b, ratio, change }
}

fn figures(phase: &Phase) -> Vec<(&'static str, Wanted, f64)> {
    use Wanted::{Less, More, Neither};
    let mut all = Vec::new();
    if let Some(produced) = &phase.produced {
        all.push(("records/s acknowledged", More, produced.records_per_second));
        all.extend(produced.achieved.map(|share| ("achieved of asked", More, share)));
        all.extend(produced.latency.iter().flat_map(|latency| latencies(ACKNOWLEDGED, latency)));
        all.push(("failed", Less, produced.failed.values().sum::<u64>() as f64));
        all.push(("unsent", Less, produced.unsent as f64));
    }
    for read in &phase.read {
        let figure = match read.name.as_str() {
            "tail" => "records/s at the tail",
            "back-fill" => "records/s of the backlog",
            _ => "records/s read",
        };
        all.push((figure, More, read.records_per_second));
        all.extend(read.latency.iter().flat_map(|latency| latencies(IN_HAND, latency)));
    }
    if let Some(cost) = &phase.cost {
        if let Some(per) = &cost.per_million {
            all.push(("broker CPU s per million", Less, per.cpu_seconds));
            all.extend(per.written_bytes.map(|bytes| ("bytes written per million", Less, bytes)));
            all.extend(per.device_writes.map(|writes| ("device writes per million", Less, writes)));
        }
        all.push(("broker resident bytes", Less, cost.used.resident_bytes as f64));
    }
    let busy = &phase.busy;
    all.extend(busy.broker_cores.map(|cores| ("cores busy: broker", Neither, cores)));
    all.push(("cores busy: generator", Neither, busy.generator_cores));
    all.push(("cores busy: others", Neither, busy.others_cores));
    all.push(("cores taken by the host", Neither, busy.steal_cores));
    all
}

const ACKNOWLEDGED: [&str; 6] = ["p50 us", "p90 us", "p99 us", "p99.9 us", "p99.99 us", "max us"];
const IN_HAND: [&str; 6] = [
    "in hand p50 us",
    "in hand p90 us",
    "in hand p99 us",
    "in hand p99.9 us",
    "in hand p99.99 us",
    "in hand max us",
];

fn latencies(names: [&'static str; 6], latency: &LatencySummary) -> Vec<(&'static str, Wanted, f64)> {
    let LatencySummary { p50_us, p90_us, p99_us, p999_us, p9999_us, max_us, .. } = *latency;
    let all = [p50_us, p90_us, p99_us, p999_us, p9999_us, max_us];
    names.into_iter().zip(all).map(|(name, us)| (name, Wanted::Less, us as f64)).collect()
}

impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for Difference { what, a, b } in &self.differences {
            writeln!(f, "differs: {what}: A {a}, B {b}")?;
        }
        for name in &self.alone {
            writeln!(f, "in one of them only: {name}")?;
        }
        let (mut better, mut worse) = (0, 0);
        let mut phase = "";
        for row in &self.rows {
            if row.phase != phase {
                writeln!(f, "== {}\n{:<28} {:>14} {:>14} {:>8}", row.phase, "", "A", "B", "B/A")?;
                phase = &row.phase;
            }
            let mark = match row.change {
                Change::None => "",
                Change::Better => "  better",
                Change::Worse => "  WORSE",
            };
            better += usize::from(row.change == Change::Better);
            worse += usize::from(row.change == Change::Worse);
            let (a, b) = (figure(row.a), figure(row.b));
            writeln!(f, "{:<28} {a:>14} {b:>14} {:>8.3}{mark}", row.figure, row.ratio)?;
        }
        write!(f, "{better} better, {worse} worse by more than {} %", self.threshold_percent)
    }
}

/// Digits enough to tell figures apart, no more.
fn figure(value: f64) -> String {
    if value.abs() >= 100.0 || value == 0.0 { format!("{value:.0}") } else { format!("{value:.3}") }
}

#[cfg(test)]
mod tests {
    use super::{Change, Comparison, Verdict, compare};
    use crate::report::samples::saved;

    fn change(comparison: &Comparison, figure: &str) -> (f64, Change) {
        let row = comparison.rows.iter().find(|row| row.figure == figure).unwrap();
        (row.ratio, row.change)
    }

    #[test]
    fn a_result_is_like_itself() {
        let comparison = compare(&saved(1.0), &saved(1.0), 5.0);
        assert_eq!((comparison.differences.len(), comparison.alone.len()), (0, 0));
        assert!(comparison.rows.len() > 10);
        assert!(comparison.rows.iter().all(|row| row.ratio == 1.0 && row.change == Change::None));
    }

    #[test]
    fn more_records_are_better_and_more_time_is_worse() {
        let comparison = compare(&saved(1.0), &saved(2.0), 5.0);
        assert_eq!(change(&comparison, "records/s acknowledged"), (2.0, Change::Better));
        assert_eq!(change(&comparison, "p99 us"), (2.0, Change::Worse));
        assert_eq!(change(&comparison, "broker CPU s per million"), (2.0, Change::Worse));
        let back = compare(&saved(2.0), &saved(1.0), 5.0);
        assert_eq!(change(&back, "p99 us"), (0.5, Change::Better));
        assert!(back.to_string().contains("better"));
    }

    #[test]
    fn changes_within_the_threshold_are_not_marked() {
        let comparison = compare(&saved(1.0), &saved(1.04), 5.0);
        assert!(comparison.rows.iter().all(|row| row.change == Change::None));
        let strict = compare(&saved(1.0), &saved(1.04), 3.0);
        assert!(strict.rows.iter().any(|row| row.change != Change::None));
    }

    #[test]
    fn what_was_lost_or_not_sent_is_compared_and_a_busy_machine_is_shown() {
        let with = |lost, unsent, others_cores| {
            let mut one = saved(1.0);
            let crate::saved::SavedFigures::Traffic(report) = &mut one.result;
            let first_lost = Vec::new();
            report.verdict = Some(Verdict {
                checked: 10,
                lost,
                doubled: 0,
                reordered: 0,
                damaged: 0,
                foreign: 0,
                first_lost,
            });
            report.phases[0].produced.as_mut().unwrap().unsent = unsent;
            report.phases[0].busy.others_cores = others_cores;
            one
        };
        let comparison = compare(&with(0, 0, 0.5), &with(3, 7, 1.5), 5.0);
        assert_eq!(change(&comparison, "lost").1, Change::Worse);
        assert_eq!(change(&comparison, "unsent").1, Change::Worse);
        assert_eq!(change(&comparison, "doubled"), (1.0, Change::None));
        assert_eq!(change(&comparison, "cores busy: others"), (3.0, Change::None));
        assert_eq!(change(&compare(&with(3, 0, 0.5), &with(0, 0, 0.5), 5.0), "lost").1, Change::Better);
        let unverified = compare(&with(0, 0, 0.5), &saved(1.0), 5.0);
        assert_eq!(unverified.differences[0].what, "verified");
    }

    #[test]
    fn unlike_runs_are_told() {
        let mut other = saved(1.0);
        let crate::saved::SavedFigures::Traffic(report) = &mut other.result;
        report.setup.partitions = 99;
        report.system.durability = "none at all".to_owned();
        report.phases[0].name = "another".to_owned();
        let comparison = compare(&saved(1.0), &other, 5.0);
        let what: Vec<&str> = comparison.differences.iter().map(|one| one.what.as_str()).collect();
        assert_eq!(what, ["partitions", "system.durability"]);
        assert_eq!(comparison.alone, ["measured (A)", "another (B)"]);
    }
}
