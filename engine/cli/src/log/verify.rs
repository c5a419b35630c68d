//! `millstream log verify`: every frame of every log, its checksums, and that what follows follows.

use std::path::Path;

use serde_json::{Value, json};
use storage_log::FileName;
use storage_log::inspect::{Finding, LogCheck, Severity, Summary};

use super::files::{LogDirectory, find_logs, list_files, name, read};
use crate::args::Format;
use crate::failure::{Exit, Failure};
use crate::output::Output;
use crate::progress::Progress;

pub(crate) fn run(directory: &Path, format: Format) -> Result<(), Failure> {
    let logs = find_logs(directory)?;
    let progress = Progress::bytes();
    let mut out = Output::stdout();
    let mut damaged_count = 0;
    let mut values = Vec::new();
    for log in &logs {
        let verified = verify(log, &progress)?;
        damaged_count += usize::from(verified.is_damaged());
        match format {
            Format::Text => out.write(verified.text(log).as_bytes())?,
            Format::Json => values.push(verified.json(log)),
        }
    }
    progress.clear();
    if format == Format::Json {
        out.json(&Value::Array(values))?;
    }
    out.finish()?;
    eprintln!("{} logs verified, {damaged_count} damaged", logs.len());
    if damaged_count == 0 {
        Ok(())
    } else {
        Err(Failure::new(Exit::Failed, format_args!("{damaged_count} of {} logs are damaged", logs.len())))
    }
}

#[derive(Debug)]
struct Verified {
    summary: Summary,
    findings: Vec<Finding>,
}

fn verify(log: &LogDirectory, progress: &Progress) -> Result<Verified, Failure> {
    let mut check = LogCheck::new(log.log);
    let mut unread = Vec::new();
    for file in list_files(&log.path)? {
        let bytes = match read(&log.path.join(name(file))) {
            Ok(bytes) => bytes,
            Err(error) => {
                unread.push(cannot_read(file, &error));
                continue;
            }
        };
        progress.add(bytes.len() as u64);
        match file {
            FileName::Checkpoint => check.checkpoint(&bytes),
            FileName::Segment(segment) => check.segment(segment, bytes),
            FileName::Index(segment) => check.index(segment, &bytes),
        }
    }
    let (summary, mut findings) = check.finish();
    findings.extend(unread);
    Ok(Verified { summary, findings })
}

fn cannot_read(file: FileName, error: &std::io::Error) -> Finding {
    let severity = match file {
        FileName::Segment(_) => Severity::Damage,
        FileName::Checkpoint | FileName::Index(_) => Severity::Repairable,
    };
    Finding { severity, file, position: None, offset: None, what: format!("cannot be read: {error}") }
}

impl Verified {
    fn is_damaged(&self) -> bool {
        self.findings.iter().any(|finding| finding.severity == Severity::Damage)
    }

    fn text(&self, log: &LogDirectory) -> String {
        let Summary {
            label,
            start,
            end,
            segment_count,
            frame_count,
            record_count,
            frame_bytes,
            closed_in_order,
        } = &self.summary;
        let verdict = if self.is_damaged() { "DAMAGED" } else { "ok" };
        let label = if label.is_empty() { "-" } else { label };
        let closed = if *closed_in_order { "closed in order" } else { "not closed" };
        let mut text = format!(
            "{}  {label}  {verdict}  offsets {start} to {end}, {record_count} records in {frame_count} frames, \
             {segment_count} segments, {frame_bytes} bytes, {closed}\n",
            log.log
        );
        for finding in &self.findings {
            text.push_str(&format!("    {}: {}", severity(finding.severity), name(finding.file)));
            if let Some(position) = finding.position {
                text.push_str(&format!(" at {position}"));
            }
            if let Some(offset) = finding.offset {
                text.push_str(&format!(", offset {offset}"));
            }
            text.push_str(&format!(": {}\n", finding.what));
        }
        text
    }

    fn json(&self, log: &LogDirectory) -> Value {
        let finding = |finding: &Finding| {
            json!({
                "severity": severity(finding.severity),
                "file": name(finding.file),
                "position": finding.position,
                "offset": finding.offset.map(|offset| offset.0),
                "what": finding.what,
            })
        };
        json!({
            "log": log.log.to_string(),
            "label": self.summary.label,
            "damaged": self.is_damaged(),
            "start": self.summary.start.0,
            "end": self.summary.end.0,
            "segments": self.summary.segment_count,
            "frames": self.summary.frame_count,
            "records": self.summary.record_count,
            "bytes": self.summary.frame_bytes,
            "closed_in_order": self.summary.closed_in_order,
            "findings": self.findings.iter().map(finding).collect::<Vec<_>>(),
        })
    }
}

fn severity(severity: Severity) -> &'static str {
    match severity {
        Severity::Note => "note",
        Severity::Repairable => "repairable",
        Severity::Damage => "damage",
    }
}

#[cfg(test)]
mod tests {
    use storage_frame::LogId;

    use super::*;

    fn verified(files: &[(&str, &[u8])]) -> (Verified, String) {
        let dir = tempfile::tempdir().unwrap();
        for (name, bytes) in files {
            std::fs::write(dir.path().join(name), bytes).unwrap();
        }
        let log = LogDirectory { log: LogId(7), path: dir.path().to_owned() };
        let verified = verify(&log, &Progress::hidden()).unwrap();
        let text = verified.text(&log);
        (verified, text)
    }

    #[test]
    fn an_empty_log_is_sound() {
        let (verified, text) = verified(&[]);
        assert!(!verified.is_damaged());
        assert!(text.starts_with("0000000000000007  -  ok  offsets 0 to 0, 0 records"), "{text}");
    }

    #[test]
    fn a_checkpoint_that_is_none_costs_time_and_not_data() {
        let (verified, text) = verified(&[("checkpoint", b"nonsense")]);
        assert!(!verified.is_damaged());
        assert!(text.contains("    repairable: checkpoint"), "{text}");
    }

    #[test]
    fn a_segment_that_is_none_is_damage() {
        let (verified, text) = verified(&[("0000000001.seg", &[0xab; 8192])]);
        assert!(verified.is_damaged());
        assert!(text.contains("DAMAGED") && text.contains("damage: 0000000001.seg at 0"), "{text}");
    }
}
