//! A line on the terminal while a run is under way: where it is, and the last second's figures. Nothing in a pipe.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

use crate::report::Second;

#[derive(Debug)]
pub(crate) struct Live {
    bar: ProgressBar,
}

const REDRAW: Duration = Duration::from_millis(200);

impl Live {
    /// On stderr, and hidden when that is no terminal.
    pub(crate) fn new() -> Live {
        let bar = ProgressBar::new(0);
        if !bar.is_hidden() {
            bar.enable_steady_tick(REDRAW);
        }
        Live { bar }
    }

    /// The next phase begins; without a duration it ends when it is done.
    pub(crate) fn phase(&self, name: &str, duration: Option<Duration>) {
        let template = match duration {
            Some(_) => "{prefix:14} {wide_bar} {pos}/{len} s\n{msg}",
            None => "{prefix:14} {spinner} {elapsed}\n{msg}",
        };
        self.bar.set_style(ProgressStyle::with_template(template).expect("a template of our own"));
        self.bar.reset();
        self.bar.set_length(duration.map_or(0, |duration| duration.as_secs()));
        self.bar.set_prefix(name.to_owned());
        self.bar.set_message(String::new());
    }

    pub(crate) fn line(&self, line: &Second) {
        if !self.bar.is_hidden() {
            self.bar.set_position(line.at.round() as u64);
            self.bar.set_message(text(line));
        }
    }

    pub(crate) fn clear(&self) {
        self.bar.finish_and_clear();
    }
}

fn text(line: &Second) -> String {
    let rate = |count: u64| if line.seconds > 0.0 { count as f64 / line.seconds } else { 0.0 };
    let mut parts = Vec::new();
    if line.sent > 0 || line.asked > 0 {
        let (asked, sent, acknowledged) = (rate(line.asked), rate(line.sent), rate(line.acknowledged));
        parts.push(format!("asked {asked:.0}/s, sent {sent:.0}/s, acknowledged {acknowledged:.0}/s"));
    }
    if let Some(latency) = line.latency {
        parts
            .push(format!("p50 {} us, p99 {} us, max {} us", latency.p50_us, latency.p99_us, latency.max_us));
    }
    if line.read > 0 {
        parts.push(format!("read {:.0}/s", rate(line.read)));
    }
    if let Some(latency) = line.read_latency.filter(|_| line.sent > 0) {
        parts.push(format!("in hand p50 {} us, p99 {} us", latency.p50_us, latency.p99_us));
    }
    if line.back_filled > 0 {
        parts.push(format!("backlog {:.0}/s", rate(line.back_filled)));
    }
    if line.failed > 0 {
        parts.push(format!("{} failed", line.failed));
    }
    parts.join("; ")
}

#[cfg(test)]
mod tests {
    use super::text;
    use crate::report::{Second, SecondLatency};

    #[test]
    fn a_line_says_what_there_is_to_say() {
        let latency = Some(SecondLatency { p50_us: 90, p99_us: 200, max_us: 5000 });
        let line =
            Second { seconds: 2.0, asked: 200, sent: 100, acknowledged: 50, latency, ..Second::default() };
        assert_eq!(
            text(&line),
            "asked 100/s, sent 50/s, acknowledged 25/s; p50 90 us, p99 200 us, max 5000 us"
        );
        assert_eq!(text(&Second { seconds: 1.0, read: 7, ..Second::default() }), "read 7/s");
    }
}
