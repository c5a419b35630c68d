//! A line on the terminal while long work is under way; nothing in a pipe.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

const REDRAW: Duration = Duration::from_millis(200);

#[derive(Debug)]
pub(crate) struct Progress {
    bar: ProgressBar,
}

impl Progress {
    /// Counts records on stderr, if that is a terminal.
    #[must_use]
    pub(crate) fn records() -> Self {
        Self::shown("{spinner} {human_pos} records, {per_sec}, {elapsed}")
    }

    /// Counts bytes.
    #[must_use]
    pub(crate) fn bytes() -> Self {
        Self::shown("{spinner} {binary_bytes}, {binary_bytes_per_sec}, {elapsed}")
    }

    #[must_use]
    pub(crate) fn hidden() -> Self {
        Self { bar: ProgressBar::hidden() }
    }

    pub(crate) fn set(&self, count: u64) {
        self.bar.set_position(count);
    }

    pub(crate) fn add(&self, count: u64) {
        self.bar.inc(count);
    }

    pub(crate) fn clear(&self) {
        self.bar.finish_and_clear();
    }

    fn shown(template: &str) -> Self {
        // Draws on stderr, and hides itself when that is no terminal.
        let bar = ProgressBar::new_spinner();
        bar.set_style(ProgressStyle::with_template(template).expect("a template of our own"));
        if !bar.is_hidden() {
            bar.enable_steady_tick(REDRAW);
        }
        Self { bar }
    }
}
