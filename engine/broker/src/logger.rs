//! Log lines on stderr: one event a line, logfmt or JSON, UTC to the millisecond.
//!
//! Lines that are identical but for their time are held back after [`REPEATS_MAX`] a second and told as one
//! line with their number, so that a failing disk cannot fill another. At most [`KINDS_MAX`] kinds are counted
//! at a time; kinds above that are written.
//!
//! Lives on: any thread; a line is written whole under one lock. Does not know: what happened.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Write as _;
use std::sync::{Arc, Mutex, PoisonError};

pub use engine_shard::Level;

use crate::utc;

/// Identical lines written within one second.
pub const REPEATS_MAX: u32 = 5;
/// Kinds of lines counted at the same time.
pub const KINDS_MAX: usize = 1000;

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

/// Writes lines; clones write to the same place.
#[derive(Clone)]
pub struct Logger {
    level: Level,
    format: Format,
    inner: Arc<Mutex<Inner>>,
}

struct Inner {
    out: Box<dyn std::io::Write + Send>,
    /// Lines of the second that began at `second`, by their text without the time.
    seen: BTreeMap<String, u32>,
    second: i64,
}

impl Logger {
    #[must_use]
    pub fn stderr(level: Level, format: Format) -> Self {
        Self::to(Box::new(std::io::stderr()), level, format)
    }

    #[must_use]
    pub fn to(out: Box<dyn std::io::Write + Send>, level: Level, format: Format) -> Self {
        let inner = Inner { out, seen: BTreeMap::new(), second: 0 };
        Self { level, format, inner: Arc::new(Mutex::new(inner)) }
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

    /// One line of event `name` at `at_ms`, unless it is below the level or repeats itself too often.
    pub fn log(&self, at_ms: i64, level: Level, name: &str, fields: &[(&str, String)]) {
        if level < self.level {
            return;
        }
        let body = self.body(level, name, fields);
        // A poisoned lock means a panic while writing a line: the next line is still worth writing.
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        let second = at_ms.div_euclid(1000);
        if second != inner.second {
            inner.second = second;
            let held_back =
                std::mem::take(&mut inner.seen).into_iter().filter(|(_, count)| *count > REPEATS_MAX);
            for (body, count) in held_back {
                let repeated = [("repeated", (count - REPEATS_MAX).to_string()), ("line", body)];
                let body = self.body(Level::Warn, "lines_held_back", &repeated);
                inner.write(self.format, at_ms, &body);
            }
        }
        if inner.seen.len() < KINDS_MAX || inner.seen.contains_key(&body) {
            let count = inner.seen.entry(body.clone()).or_default();
            *count = count.saturating_add(1);
            if *count > REPEATS_MAX {
                return;
            }
        }
        inner.write(self.format, at_ms, &body);
    }

    fn body(&self, level: Level, name: &str, fields: &[(&str, String)]) -> String {
        let mut body = String::new();
        let pairs = [("level", level_name(level)), ("event", name)];
        let pairs = pairs.into_iter().chain(fields.iter().map(|(key, value)| (*key, value.as_str())));
        for (key, value) in pairs {
            match self.format {
                Format::Logfmt => push_logfmt(&mut body, key, value),
                Format::Json => push_json(&mut body, key, value),
            }
        }
        body
    }
}

impl Inner {
    fn write(&mut self, format: Format, at_ms: i64, body: &str) {
        let ts = utc::rfc3339(at_ms);
        // Nobody can be told that stderr is gone.
        let _ = match format {
            Format::Logfmt => self.out.write_all(format!("ts={ts}{body}\n").as_bytes()),
            Format::Json => self.out.write_all(format!("{{\"ts\":\"{ts}\"{body}}}\n").as_bytes()),
        };
    }
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
