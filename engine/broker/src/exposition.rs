//! Prometheus' text format, version 0.0.4: families with help and type, samples with labels.

use std::fmt::Write as _;
use std::time::Duration;

/// The `Content-Type` of a page.
pub(crate) const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// A page being written, family by family.
#[derive(Debug, Default)]
pub(crate) struct Page {
    text: String,
    family: &'static str,
}

/// Label names and values of one sample.
pub(crate) type Labels<'a> = &'a [(&'a str, &'a str)];

impl Page {
    /// Something that only rises; its name ends in `_total`.
    pub(crate) fn counter(&mut self, name: &'static str, help: &str) -> &mut Self {
        debug_assert!(name.ends_with("_total"));
        self.begin(name, "counter", help)
    }

    pub(crate) fn gauge(&mut self, name: &'static str, help: &str) -> &mut Self {
        self.begin(name, "gauge", help)
    }

    pub(crate) fn histogram(&mut self, name: &'static str, help: &str) -> &mut Self {
        self.begin(name, "histogram", help)
    }

    /// A sample of the family begun last.
    pub(crate) fn sample(&mut self, labels: Labels<'_>, value: u64) -> &mut Self {
        self.line("", labels, &value.to_string())
    }

    pub(crate) fn sample_float(&mut self, labels: Labels<'_>, value: f64) -> &mut Self {
        self.line("", labels, &value.to_string())
    }

    /// Buckets that each count their own, in the order of `bounds`; the last one has no bound.
    pub(crate) fn buckets(
        &mut self,
        labels: Labels<'_>,
        bounds: &[Duration],
        buckets: &[u64],
        sum: Duration,
    ) -> &mut Self {
        assert!(buckets.len() == bounds.len() + 1);
        let mut total = 0;
        for (index, count) in buckets.iter().enumerate() {
            total += count;
            let bound = bounds.get(index).map_or("+Inf".to_owned(), |bound| bound.as_secs_f64().to_string());
            let mut with_bound = labels.to_vec();
            with_bound.push(("le", &bound));
            self.line("_bucket", &with_bound, &total.to_string());
        }
        self.line("_sum", labels, &sum.as_secs_f64().to_string());
        self.line("_count", labels, &total.to_string())
    }

    pub(crate) fn into_text(self) -> String {
        self.text
    }

    fn begin(&mut self, name: &'static str, kind: &str, help: &str) -> &mut Self {
        self.family = name;
        let _ = writeln!(self.text, "# HELP {name} {help}\n# TYPE {name} {kind}");
        self
    }

    fn line(&mut self, suffix: &str, labels: Labels<'_>, value: &str) -> &mut Self {
        self.text.push_str(self.family);
        self.text.push_str(suffix);
        for (index, (name, value)) in labels.iter().enumerate() {
            self.text.push(if index == 0 { '{' } else { ',' });
            self.text.push_str(name);
            self.text.push_str("=\"");
            for c in value.chars() {
                match c {
                    '\\' => self.text.push_str("\\\\"),
                    '"' => self.text.push_str("\\\""),
                    '\n' => self.text.push_str("\\n"),
                    c => self.text.push(c),
                }
            }
            self.text.push('"');
        }
        if !labels.is_empty() {
            self.text.push('}');
        }
        self.text.push(' ');
        self.text.push_str(value);
        self.text.push('\n');
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families_samples_and_labels_are_written_as_prometheus_reads_them() {
        let mut page = Page::default();
        page.counter("x_total", "Things.").sample(&[], 3).sample(&[("a", "q\"\\\n"), ("b", "c")], 4);
        page.gauge("y_ratio", "Share.").sample_float(&[], 0.25);
        let expected = "# HELP x_total Things.\n# TYPE x_total counter\nx_total 3\n\
                        x_total{a=\"q\\\"\\\\\\n\",b=\"c\"} 4\n\
                        # HELP y_ratio Share.\n# TYPE y_ratio gauge\ny_ratio 0.25\n";
        assert_eq!(page.into_text(), expected);
    }

    #[test]
    fn buckets_are_made_cumulative() {
        let mut page = Page::default();
        let bounds = [Duration::from_millis(1), Duration::from_secs(1)];
        page.histogram("z_seconds", "Time.").buckets(
            &[("core", "0")],
            &bounds,
            &[1, 2, 3],
            Duration::from_secs(9),
        );
        let expected = "# HELP z_seconds Time.\n# TYPE z_seconds histogram\n\
                        z_seconds_bucket{core=\"0\",le=\"0.001\"} 1\nz_seconds_bucket{core=\"0\",le=\"1\"} 3\n\
                        z_seconds_bucket{core=\"0\",le=\"+Inf\"} 6\nz_seconds_sum{core=\"0\"} 9\n\
                        z_seconds_count{core=\"0\"} 6\n";
        assert_eq!(page.into_text(), expected);
    }
}
