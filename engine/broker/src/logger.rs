//! Log lines on stderr: one event a line, logfmt or JSON, UTC to the millisecond.
//!
//! Whoever logs never waits: lines go through a queue of [`QUEUE_MAX`] to a thread that writes them, and what
//! finds it full is dropped and counted, for a core must not stand still because nobody reads its log. Lines
//! that are identical but for their time are held back after [`REPEATS_MAX`] a second and told as one line with
//! their number, so that a failing disk cannot fill another. At most [`KINDS_MAX`] kinds are counted at a time;
//! kinds above that are written.
//!
//! Does not know: what happened.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;
use std::time::Duration;

pub use engine_shard::Level;

use crate::utc;

/// Identical lines written within one second.
pub const REPEATS_MAX: u32 = 5;
/// Kinds of lines counted at the same time.
pub const KINDS_MAX: usize = 1000;
/// Lines on their way to the thread that writes them.
pub const QUEUE_MAX: usize = 4096;

/// The end of the process waits no longer for a reader of its log.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(1);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    Logfmt,
    Json,
}

impl Format {
    /// # Errors
    /// What would have been understood.
    pub fn parse(text: &str) -> Result<Self, String> {
        match text {
            "logfmt" => Ok(Self::Logfmt),
            "json" => Ok(Self::Json),
            _ => Err(format!("'{text}' is not a log format: logfmt or json")),
        }
    }
}

/// # Errors
/// What would have been understood.
pub fn parse_level(text: &str) -> Result<Level, String> {
    match text {
        "debug" => Ok(Level::Debug),
        "info" => Ok(Level::Info),
        "warn" => Ok(Level::Warn),
        "error" => Ok(Level::Error),
        _ => Err(format!("'{text}' is not a log level: debug, info, warn or error")),
    }
}

fn level_name(level: Level) -> &'static str {
    match level {
        Level::Debug => "debug",
        Level::Info => "info",
        Level::Warn => "warn",
        Level::Error => "error",
    }
}

/// Takes lines; clones write to the same place.
#[derive(Debug, Clone)]
pub struct Logger {
    level: Level,
    format: Format,
    queue: SyncSender<Message>,
    dropped_count: Arc<AtomicU64>,
}

enum Message {
    Line { at_ms: i64, body: String },
    Flush(SyncSender<()>),
}

impl Logger {
    /// # Errors
    /// The system's: no thread to be had.
    pub fn stderr(level: Level, format: Format) -> std::io::Result<Self> {
        Self::to(std::io::stderr(), level, format)
    }

    /// # Errors
    /// The system's: no thread to be had.
    pub fn to(
        out: impl std::io::Write + Send + 'static,
        level: Level,
        format: Format,
    ) -> std::io::Result<Self> {
        let (queue, lines) = sync_channel(QUEUE_MAX);
        let dropped_count = Arc::new(AtomicU64::new(0));
        let writer = Writer {
            out: Box::new(out),
            format,
            dropped_count: Arc::clone(&dropped_count),
            seen: BTreeMap::new(),
            second: 0,
        };
        thread::Builder::new().name("log".to_owned()).spawn(move || writer.run(&lines))?;
        Ok(Self { level, format, queue, dropped_count })
    }

    pub fn info(&self, name: &str, fields: &[(&str, String)]) {
        self.log(utc::now_ms(), Level::Info, name, fields);
    }

    pub fn warn(&self, name: &str, fields: &[(&str, String)]) {
        self.log(utc::now_ms(), Level::Warn, name, fields);
    }

    pub fn error(&self, name: &str, fields: &[(&str, String)]) {
        self.log(utc::now_ms(), Level::Error, name, fields);
    }

    /// One line of event `name` at `at_ms`, unless it is below the level, repeats itself too often, or nobody
    /// writes lines as fast as they come.
    pub fn log(&self, at_ms: i64, level: Level, name: &str, fields: &[(&str, String)]) {
        if level < self.level {
            return;
        }
        let body = body(self.format, level, name, fields);
        if self.queue.try_send(Message::Line { at_ms, body }).is_err() {
            self.dropped_count.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Waits until what was logged before is written, for a second at most.
    pub fn flush(&self) {
        let (done, written) = sync_channel(1);
        if self.queue.try_send(Message::Flush(done)).is_ok() {
            // Nobody can be told that nobody reads.
            let _ = written.recv_timeout(FLUSH_TIMEOUT);
        }
    }
}

/// The thread that writes.
struct Writer {
    out: Box<dyn std::io::Write + Send>,
    format: Format,
    dropped_count: Arc<AtomicU64>,
    /// Lines of the second that began at `second`, by their text without the time.
    seen: BTreeMap<String, u32>,
    second: i64,
}

impl Writer {
    fn run(mut self, lines: &Receiver<Message>) {
        while let Ok(message) = lines.recv() {
            match message {
                Message::Line { at_ms, body } => self.take(at_ms, body),
                Message::Flush(done) => drop(done.send(())),
            }
        }
    }

    fn take(&mut self, at_ms: i64, line: String) {
        let dropped_count = self.dropped_count.swap(0, Ordering::Relaxed);
        if dropped_count > 0 {
            let fields = [("count", dropped_count.to_string())];
            self.write(at_ms, &body(self.format, Level::Warn, "lines_dropped", &fields));
        }
        let second = at_ms.div_euclid(1000);
        if second != self.second {
            self.second = second;
            for (line, count) in std::mem::take(&mut self.seen) {
                if count > REPEATS_MAX {
                    let fields = [("repeated", (count - REPEATS_MAX).to_string()), ("line", line)];
                    self.write(at_ms, &body(self.format, Level::Warn, "lines_held_back", &fields));
                }
            }
        }
        if self.is_one_too_many(&line) {
            return;
        }
        self.write(at_ms, &line);
    }

    fn is_one_too_many(&mut self, line: &str) -> bool {
        if let Some(count) = self.seen.get_mut(line) {
            *count = count.saturating_add(1);
            return *count > REPEATS_MAX;
        }
        if self.seen.len() < KINDS_MAX {
            self.seen.insert(line.to_owned(), 1);
        }
        false
    }

    fn write(&mut self, at_ms: i64, body: &str) {
        let ts = utc::rfc3339(at_ms);
        // Nobody can be told that stderr is gone.
        let _ = match self.format {
            Format::Logfmt => self.out.write_all(format!("ts={ts}{body}\n").as_bytes()),
            Format::Json => self.out.write_all(format!("{{\"ts\":\"{ts}\"{body}}}\n").as_bytes()),
        };
    }
}

/// A line without its time.
fn body(format: Format, level: Level, name: &str, fields: &[(&str, String)]) -> String {
    let mut body = String::new();
    let pairs = [("level", level_name(level)), ("event", name)];
    let pairs = pairs.into_iter().chain(fields.iter().map(|(key, value)| (*key, value.as_str())));
    for (key, value) in pairs {
        match format {
            Format::Logfmt => push_logfmt(&mut body, key, value),
            Format::Json => push_json(&mut body, key, value),
        }
    }
    body
}

fn push_logfmt(out: &mut String, key: &str, value: &str) {
    let plain = !value.is_empty()
        && value
            .chars()
            .all(|c| c.is_ascii_graphic() && c != '"' && c != '=' && c != '\\' || c.is_alphanumeric());
    out.push(' ');
    out.push_str(key);
    out.push('=');
    if plain { out.push_str(value) } else { push_quoted(out, value) }
}

fn push_json(out: &mut String, key: &str, value: &str) {
    out.push(',');
    push_quoted(out, key);
    out.push(':');
    push_quoted(out, value);
}

fn push_quoted(out: &mut String, text: &str) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if c.is_control() => {
                let _ = write!(out, "\\u{:04x}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out.push('"');
}

#[cfg(test)]
mod tests;
