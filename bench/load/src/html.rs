//! Results as one page that opens from a file: no script, nothing fetched, plots drawn by [`crate::svg`].

use std::fmt::Write as _;

use crate::knee::Shown;
use crate::latency::LatencySummary;
use crate::report::{Phase, Second, Setup, TrafficReport};
use crate::saved::Saved;
use crate::svg::{Axis, COLOURS, Line, Plot, Scale, escape};

/// One page for all of `results`, told apart by letters where there are several.
pub(crate) fn page(results: &[Saved]) -> String {
    let named: Vec<(String, &Saved)> =
        results.iter().enumerate().map(|(at, saved)| (name(at, saved), saved)).collect();
    let mut page = String::from("<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\">");
    page.push_str("<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">");
    page.push_str("<title>millstream bench</title><style>");
    page.push_str(STYLE);
    page.push_str("</style></head><body><h1>millstream bench</h1>");
    page.push_str(
        "<p>Latency counts from the moment a record was meant to be sent, whatever held it up.</p>",
    );
    table(&named, &mut page);
    page.push_str("<section class=\"plots\">");
    page.push_str(&percentiles(&named).draw());
    page.push_str(&rate_against_latency(&named).draw());
    for (name, saved) in &named {
        page.push_str(&throughput(name, saved.traffic()).draw());
        page.push_str(&latency_over_time(name, saved.traffic()).draw());
    }
    page.push_str("</section>");
    named.iter().for_each(|(name, saved)| facts(name, saved, &mut page));
    page.push_str("</body></html>\n");
    page
}

fn name(at: usize, saved: &Saved) -> String {
    let traffic = saved.traffic();
    let letter = char::from(b'A' + (at % 26) as u8);
    format!("{letter}: {} {}, {} B", traffic.setup.driver, traffic.kind, traffic.setup.record_bytes)
}

/// Phases that are not just there to fill a topic, and had answers or readers.
fn shown(traffic: &TrafficReport) -> impl Iterator<Item = &Phase> {
    traffic.phases.iter().filter(|phase| phase.name != "fill")
}

const COLUMNS: [&str; 12] = [
    "phase",
    "asked/s",
    "records/s",
    "MB/s",
    "achieved",
    "p50",
    "p99",
    "p99.9",
    "p99.99",
    "max",
    "failed",
    "broker CPU s/million",
];

fn table(named: &[(String, &Saved)], page: &mut String) {
    page.push_str("<div class=\"wide\"><table><thead><tr>");
    COLUMNS.iter().for_each(|column| _ = write!(page, "<th>{}</th>", escape(column)));
    page.push_str("</tr></thead>");
    for (name, saved) in named {
        let _ = write!(page, "<tbody><tr><th colspan=\"{}\">{}</th></tr>", COLUMNS.len(), escape(name));
        saved.traffic().phases.iter().for_each(|phase| rows(phase, page));
        page.push_str("</tbody>");
    }
    page.push_str("</table></div>");
    for (name, saved) in named {
        if let Some(knee) = &saved.traffic().knee {
            let borne = knee
                .records_per_second
                .map_or("none of the rates".to_owned(), |rate| format!("{}/s", short(rate)));
            let _ = write!(page, "<p>{}: knee at <b>{borne}</b></p>", escape(name));
        }
        if let Some(verdict) = &saved.traffic().verdict {
            let is = if verdict.is_good() {
                "every acknowledged record is there, once, whole and in order"
            } else {
                "RECORDS ARE WRONG"
            };
            let _ = write!(
                page,
                "<p>{}: {is} ({} checked, {} lost, {} doubled, {} out of order, {} damaged)</p>",
                escape(name),
                verdict.checked,
                verdict.lost,
                verdict.doubled,
                verdict.reordered,
                verdict.damaged
            );
        }
    }
}

fn rows(phase: &Phase, page: &mut String) {
    let cpu = phase.cost.as_ref().and_then(|cost| cost.per_million.as_ref());
    let cpu = cpu.map_or(String::new(), |per| format!("{:.3}", per.cpu_seconds));
    if let Some(produced) = &phase.produced {
        let asked = produced.asked_rate.map_or("max".to_owned(), short);
        let achieved = produced.achieved.map_or(String::new(), |share| format!("{:.1} %", share * 100.0));
        let failed = produced.failed.values().sum::<u64>() + produced.unsent;
        let rates =
            [asked, short(produced.records_per_second), format!("{:.1}", produced.mb_per_second), achieved];
        row(&phase.name, &rates, produced.latency.as_ref(), [failed.to_string(), cpu.clone()], page);
    }
    for read in &phase.read {
        let rates = [
            String::new(),
            short(read.records_per_second),
            format!("{:.1}", read.mb_per_second),
            String::new(),
        ];
        let name = format!("{}: read by {}", phase.name, read.name);
        let cpu = if phase.produced.is_none() { cpu.clone() } else { String::new() };
        row(&name, &rates, read.latency.as_ref(), [String::new(), cpu], page);
    }
}

fn row(
    name: &str,
    rates: &[String; 4],
    latency: Option<&LatencySummary>,
    ends: [String; 2],
    page: &mut String,
) {
    let times = latency.map_or([const { String::new() }; 5], |l| {
        [l.p50_us, l.p99_us, l.p999_us, l.p9999_us, l.max_us].map(|us| time(us as f64))
    });
    let _ = write!(page, "<tr><td>{}</td>", escape(name));
    let cells = rates.iter().chain(&times).chain(&ends);
    cells.for_each(|cell| _ = write!(page, "<td>{}</td>", escape(cell)));
    page.push_str("</tr>");
}

fn percentiles(named: &[(String, &Saved)]) -> Plot {
    let mut lines = Vec::new();
    for (name, saved) in named {
        for phase in shown(saved.traffic()) {
            let of_produce = phase.produced.iter().map(|produced| ("", &produced.curve));
            let of_read = phase.read.iter().map(|read| (", in hand", &read.curve));
            for (what, curve) in of_produce.chain(of_read).filter(|(_, curve)| !curve.is_empty()) {
                let points = curve.iter().map(|point| (point.percent, point.us as f64)).collect();
                let label = format!("{} {}{what}", &name[..1], phase.name);
                lines.push(Line {
                    name: label,
                    points,
                    colour: lines.len(),
                    dashed: lines.len() >= COLOURS,
                    dots: false,
                });
            }
        }
    }
    // More than two lines of a colour cannot be told apart.
    let left = lines.len().saturating_sub(LINES_MAX);
    lines.truncate(LINES_MAX);
    let left = (left > 0).then(|| format!("{left} more are not drawn; their figures are in the table."));
    Plot {
        title: "Latency by share of records".to_owned(),
        x: Axis {
            name: "records that took no longer, %".to_owned(),
            scale: Scale::Nines,
            number: |percent| format!("{percent}"),
        },
        y: time_axis(),
        lines,
        level: None,
        crossed: Vec::new(),
        notes: left.into_iter().collect(),
    }
}

const LINES_MAX: usize = 2 * COLOURS;

fn rate_against_latency(named: &[(String, &Saved)]) -> Plot {
    let (mut lines, mut crossed) = (Vec::new(), Vec::new());
    let mut level = None;
    for (name, saved) in named {
        let mut steps: Vec<Step> = saved.traffic().phases.iter().filter_map(Step::of).collect();
        steps.sort_by(|a, b| a.rate.total_cmp(&b.rate));
        // One rate is no curve.
        if steps.first().map(|step| step.rate) == steps.last().map(|step| step.rate) {
            continue;
        }
        if let Some(knee) = &saved.traffic().knee {
            level = Some((knee.p999_us_max as f64, "bound on p99.9".to_owned()));
        }
        let of = |label: &str, at: fn(&LatencySummary) -> u64| {
            let points: Vec<_> = steps.iter().map(|step| (step.rate, at(&step.latency) as f64)).collect();
            (format!("{} {label}", &name[..1]), points)
        };
        for (name, points) in [of("p50", |l| l.p50_us), of("p99", |l| l.p99_us), of("p99.9", |l| l.p999_us)] {
            let behind = points.iter().zip(&steps).filter(|(_, step)| step.fell_behind);
            crossed.extend(behind.map(|(point, _)| *point));
            lines.push(Line {
                name,
                points,
                colour: lines.len(),
                dashed: lines.len() >= COLOURS,
                dots: true,
            });
        }
    }
    Plot {
        title: "Rate against latency".to_owned(),
        x: Axis { name: "asked, records/s".to_owned(), scale: Scale::Log, number: short },
        y: time_axis(),
        notes: (!crossed.is_empty())
            .then(|| "Crossed out: fell behind the rate asked for, or lost records.".to_owned())
            .into_iter()
            .collect(),
        lines,
        level,
        crossed,
    }
}

struct Step {
    rate: f64,
    latency: LatencySummary,
    fell_behind: bool,
}

impl Step {
    fn of(phase: &Phase) -> Option<Step> {
        let produced = phase.produced.as_ref()?;
        let tail = phase.read.iter().find_map(|read| read.latency);
        let fell_behind = Shown::by(phase).is_some_and(|shown| !shown.keeps_up());
        Some(Step { rate: produced.asked_rate?, latency: tail.or(produced.latency)?, fell_behind })
    }
}

/// Short last lines would be rates of a moment.
const LINE_SECONDS_MIN: f64 = 0.25;

/// Phases one after the other.
fn seconds(traffic: &TrafficReport) -> Vec<(f64, &Second)> {
    let mut before = 0.0;
    let mut all = Vec::new();
    for phase in shown(traffic) {
        let long = phase.series.iter().filter(|second| second.seconds >= LINE_SECONDS_MIN);
        all.extend(long.map(|second| (before + second.at, second)));
        before += phase.series.last().map_or(0.0, |second| second.at);
    }
    all
}

fn throughput(name: &str, traffic: &TrafficReport) -> Plot {
    let seconds = seconds(traffic);
    let line = |name: &str, colour, dashed, of: fn(&Second) -> u64| Line {
        name: name.to_owned(),
        points: seconds.iter().map(|(at, second)| (*at, of(second) as f64 / second.seconds)).collect(),
        colour,
        dashed,
        dots: false,
    };
    let mut lines = vec![
        line("asked", 1, true, |second| second.asked),
        line("acknowledged", 0, false, |second| second.acknowledged),
        line("read at the tail", 2, false, |second| second.read),
        line("read of the backlog", 3, false, |second| second.back_filled),
    ];
    lines.retain(|line| line.points.iter().any(|(_, rate)| *rate > 0.0));
    Plot {
        title: format!("{name}: throughput over time"),
        x: Axis { name: "seconds".to_owned(), scale: Scale::Linear, number: |at| format!("{at}") },
        y: Axis { name: "records/s".to_owned(), scale: Scale::Linear, number: short },
        lines,
        level: None,
        crossed: Vec::new(),
        notes: Vec::new(),
    }
}

fn latency_over_time(name: &str, traffic: &TrafficReport) -> Plot {
    let seconds = seconds(traffic);
    let in_hand = seconds.iter().any(|(_, second)| second.read_latency.is_some() && second.sent > 0);
    let line = |name: &str, colour, of: fn(&crate::report::SecondLatency) -> u64| {
        let latency = |second: &Second| if in_hand { second.read_latency } else { second.latency };
        let points = seconds.iter().filter_map(|(at, second)| Some((*at, of(&latency(second)?) as f64)));
        Line { name: name.to_owned(), points: points.collect(), colour, dashed: false, dots: false }
    };
    let what = if in_hand { "until in hand" } else { "until acknowledged" };
    // Reading a backlog has no latency to speak of.
    let lines = if traffic.phases.iter().all(|phase| phase.produced.is_none() || phase.name == "fill") {
        Vec::new()
    } else {
        vec![line("p50", 0, |l| l.p50_us), line("p99", 1, |l| l.p99_us), line("max", 2, |l| l.max_us)]
    };
    Plot {
        title: format!("{name}: latency over time, {what}"),
        x: Axis { name: "seconds".to_owned(), scale: Scale::Linear, number: |at| format!("{at}") },
        y: time_axis(),
        lines,
        level: None,
        crossed: Vec::new(),
        notes: Vec::new(),
    }
}

fn time_axis() -> Axis {
    Axis { name: "latency".to_owned(), scale: Scale::Log, number: time }
}

fn facts(name: &str, saved: &Saved, page: &mut String) {
    let TrafficReport { setup, system, .. } = saved.traffic();
    let _ = write!(page, "<section><h2>{}</h2><dl>", escape(name));
    let mut fact = |name: &str, value: &str| _ = write!(page, "<dt>{name}</dt><dd>{}</dd>", escape(value));
    fact("durability in force", &system.durability);
    fact("replication", &system.replication);
    fact("system", &system.system);
    fact("client", &system.client);
    fact("batching", &format!("{} B, linger {} us; {}", setup.batch_bytes, setup.linger_us, system.batching));
    system.notes.iter().for_each(|note| fact("note", note));
    fact("load", &load(setup));
    fact("machine", &saved.machine.to_string());
    if !setup.broker_cores.is_empty() {
        let disk = setup.broker_disk.as_deref().unwrap_or("disk not found");
        fact(
            "broker on this machine",
            &format!("allowed cores {}; {disk}", setup.broker_cores.join(" and ")),
        );
    }
    for phase in &saved.traffic().phases {
        let busy = &phase.busy;
        let broker = busy.broker_cores.map_or("not watched".to_owned(), |cores| format!("{cores:.2}"));
        fact(
            &format!("cores busy, {}", escape(&phase.name)),
            &format!(
                "broker {broker}, generator {:.2}, others {:.2}, taken by the host {:.2}",
                busy.generator_cores, busy.others_cores, busy.steal_cores
            ),
        );
    }
    fact("started", &setup.started);
    fact("command", &setup.command);
    fact("load generator", &saved.version);
    page.push_str("</dl></section>");
}

fn load(setup: &Setup) -> String {
    format!(
        "{} B records (mean {:.0}), keys {}, compress to 1/{}, arrivals {}; {} producers, {} consumers, {} groups; {} \
         partitions, spread: {}; acks={}, durability={} asked for, compression {}; window {} records, {} B; {} s of \
         warm-up not counted",
        setup.record_bytes,
        setup.record_bytes_mean,
        setup.keys,
        setup.compress_ratio,
        setup.arrivals,
        setup.producers,
        setup.consumers,
        setup.groups,
        setup.partitions,
        setup.spread,
        setup.acks,
        setup.durability,
        setup.compression,
        setup.window,
        setup.memory_bytes,
        setup.warm_up_seconds
    )
}

/// `12.5k`.
fn short(number: f64) -> String {
    let (number, unit) = match number.abs() {
        1e6.. => (number / 1e6, "m"),
        1e3.. => (number / 1e3, "k"),
        _ => (number, ""),
    };
    let digits = if number.abs() >= 100.0 {
        0
    } else if number.abs() >= 10.0 {
        1
    } else {
        2
    };
    let text = format!("{number:.digits$}");
    let text = if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { &text };
    format!("{text}{unit}")
}

/// Of microseconds.
fn time(us: f64) -> String {
    match us {
        1e6.. => format!("{} s", short(us / 1e6)),
        1e3.. => format!("{} ms", short(us / 1e3)),
        _ => format!("{} us", short(us)),
    }
}

const STYLE: &str = "\
:root{color-scheme:light dark;--paper:#fff;--ink:#1b1f24;--faint:#6a737d;--rule:#d7dce1;--s0:#0b62c4;--s1:#c2410c;\
--s2:#15803d;--s3:#7c3aed;--s4:#b45309;--s5:#0e7490;--s6:#be185d;--s7:#4d7c0f}\
@media (prefers-color-scheme:dark){:root{--paper:#12161b;--ink:#e6e9ed;--faint:#9aa4af;--rule:#313943;--s0:#6cb2ff;\
--s1:#ff9a62;--s2:#5fd68b;--s3:#b79cff;--s4:#f2b84b;--s5:#5ad1e6;--s6:#ff8fc0;--s7:#b4dc5a}}\
body{margin:0 auto;max-width:84rem;padding:1rem;background:var(--paper);color:var(--ink);\
font:15px/1.45 system-ui,sans-serif}\
h1{font-size:1.4rem;margin:0}h2{font-size:1.1rem;margin:2rem 0 .5rem}p{margin:.4rem 0}\
.wide{overflow-x:auto;margin:1rem 0}table{border-collapse:collapse;font-variant-numeric:tabular-nums;white-space:nowrap}\
th,td{padding:.25rem .6rem;text-align:right;border-bottom:1px solid var(--rule)}\
td:first-child,th:first-child{text-align:left}thead th{color:var(--faint);font-weight:600}\
.plots{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,32rem),1fr));gap:1.5rem}\
figure{margin:0;min-width:0}figcaption{font-weight:600}svg{width:100%;height:auto;display:block}\
svg text{fill:var(--faint);font-size:12px}svg text.x{text-anchor:middle}svg text.y{text-anchor:end}\
.grid{stroke:var(--rule);stroke-width:1}.level{stroke:var(--ink);stroke-dasharray:2 4}\
.cross{stroke:var(--ink);stroke-width:2;fill:none}\
text.level{stroke:none;fill:var(--ink)}polyline{fill:none;stroke-width:2;stroke-linejoin:round}\
polyline.dashed{stroke-dasharray:6 4}\
.legend{list-style:none;display:flex;flex-wrap:wrap;gap:.2rem 1rem;margin:.2rem 0 0;padding:0;color:var(--faint)}\
.legend i{display:inline-block;width:1.4rem;border-top:3px solid;vertical-align:middle;margin-right:.4rem}\
.legend i.dashed{border-top-style:dashed}\
polyline.s0,circle.s0,i.s0{stroke:var(--s0);border-color:var(--s0)}polyline.s1,circle.s1,i.s1{stroke:var(--s1);border-color:var(--s1)}\
polyline.s2,circle.s2,i.s2{stroke:var(--s2);border-color:var(--s2)}polyline.s3,circle.s3,i.s3{stroke:var(--s3);border-color:var(--s3)}\
polyline.s4,circle.s4,i.s4{stroke:var(--s4);border-color:var(--s4)}polyline.s5,circle.s5,i.s5{stroke:var(--s5);border-color:var(--s5)}\
polyline.s6,circle.s6,i.s6{stroke:var(--s6);border-color:var(--s6)}polyline.s7,circle.s7,i.s7{stroke:var(--s7);border-color:var(--s7)}\
circle{fill:var(--paper);stroke-width:2}\
dl{display:grid;grid-template-columns:minmax(8rem,max-content) 1fr;gap:.2rem 1rem;margin:0}dt{color:var(--faint)}\
dd{margin:0;overflow-wrap:anywhere}\
@media (max-width:40rem){svg text{font-size:17px}dl{grid-template-columns:1fr}dd{margin-bottom:.4rem}}";

#[cfg(test)]
mod tests {
    use super::{page, short, time};
    use crate::report::samples::{phase, saved};
    use crate::saved::SavedFigures;

    #[test]
    fn a_page_needs_nothing_but_itself() {
        let page = page(&[saved(1.0), saved(2.0)]);
        assert!(page.starts_with("<!doctype html>") && page.ends_with("</html>\n"));
        for fetched in ["http:", "https:", "src=", "href=", "<script", "url(", "@import"] {
            assert!(!page.contains(fetched), "{fetched}");
        }
        assert!(page.contains("a broker &lt;1&gt;") && !page.contains("broker <1>"));
        // Percentiles, and throughput and latency of each.
        assert_eq!(page.matches("<svg").count(), 5);
        assert!(page.contains("on disk"));
    }

    #[test]
    fn steps_are_drawn_as_rate_against_latency() {
        let mut one = saved(1.0);
        let SavedFigures::Traffic(report) = &mut one.result;
        let mut faster = phase("2000/s", 3.0);
        faster.produced.as_mut().unwrap().asked_rate = Some(2000.0);
        report.phases.push(faster);
        let page = page(&[one]);
        assert!(page.contains("Rate against latency") && page.contains("bound on p99.9"));
        assert!(!page.contains("class=\"cross\""));
    }

    #[test]
    fn steps_that_fell_behind_are_crossed_out() {
        let mut one = saved(1.0);
        let SavedFigures::Traffic(report) = &mut one.result;
        let mut faster = phase("2000/s", 3.0);
        let produced = faster.produced.as_mut().unwrap();
        (produced.asked_rate, produced.achieved) = (Some(2000.0), Some(0.98));
        report.phases.push(faster);
        let page = page(&[one]);
        // In each of p50, p99 and p99.9.
        assert_eq!(page.matches("class=\"cross\"").count(), 3);
        assert!(page.contains("fell behind"));
    }

    #[test]
    fn lines_that_are_not_drawn_are_told_of() {
        let mut one = saved(1.0);
        let SavedFigures::Traffic(report) = &mut one.result;
        report.phases = (0..10).map(|at| phase(&format!("step {at}"), 1.0)).collect();
        // Ten acknowledged and ten in hand; sixteen can be told apart.
        assert!(page(&[one]).contains("4 more are not drawn"));
        assert!(!page(&[saved(1.0)]).contains("not drawn"));
    }

    #[test]
    fn numbers_are_short() {
        assert_eq!(
            [short(0.5), short(12_345.0), short(1e6), short(99_999.0)],
            ["0.5", "12.3k", "1m", "100k"]
        );
        assert_eq!([time(950.0), time(1500.0), time(2e6)], ["950 us", "1.5 ms", "2 s"]);
        assert_eq!([short(100.0), short(10.0), short(0.0)], ["100", "10", "0"]);
    }
}
