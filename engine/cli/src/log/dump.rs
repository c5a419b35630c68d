//! `millstream log dump`: one file of a log, in words.

use std::path::Path;

use bytes::Bytes;
use engine_broker::utc::rfc3339;
use serde_json::{Value, json};
use storage_frame::FrameHeader;
use storage_log::FileName;
use storage_log::inspect::{self, CheckpointInfo, FrameAt, IndexInfo, SegmentInfo, SegmentWalk, Stop};

use super::files::{parse_name, read, unreadable};
use crate::args::Format;
use crate::failure::{Exit, Failure};
use crate::output::Output;

pub(crate) fn run(path: &Path, format: Format) -> Result<(), Failure> {
    let kind = path.file_name().and_then(|name| name.to_str()).and_then(parse_name);
    let Some(kind) = kind else {
        let message = format_args!("{} is none of a log's files", path.display());
        return Err(
            Failure::new(Exit::Usage, message).with_hint("name a <ten digits>.seg or .idx, or a checkpoint")
        );
    };
    let file = read(path).map_err(|e| unreadable(path, &e))?;
    let unusable = |why: &dyn std::fmt::Display| Failure::failed(format_args!("{}: {why}", path.display()));
    let mut out = Output::stdout();
    let ended = match kind {
        FileName::Segment(_) => {
            let walk = SegmentWalk::open(file).map_err(|why| unusable(&why))?;
            dump_segment(walk, format, &mut out)
        }
        FileName::Index(_) => {
            dump_index(&inspect::index(&file).map_err(|why| unusable(&why))?, format, &mut out)
        }
        FileName::Checkpoint => dump_checkpoint(&file, format, &mut out, unusable),
    };
    ended.and(out.finish())
}

/// One line a frame: an object each as JSON, for files are long.
fn dump_segment(mut walk: SegmentWalk, format: Format, out: &mut Output) -> Result<(), Failure> {
    let line = |out: &mut Output, text: &dyn Fn() -> String, json: &dyn Fn() -> Value| match format {
        Format::Text => out.line(&text()),
        Format::Json => out.line(&json().to_string()),
    };
    let info = walk.info().clone();
    line(out, &|| segment_text(&info), &|| segment_json(&info))?;
    for at in walk.by_ref() {
        line(out, &|| frame_text(&at), &|| frame_json(&at))?;
    }
    let (position, offset) = (walk.position(), walk.next_offset());
    let why = match walk.stop() {
        Some(Stop::Bad(why)) => why.clone(),
        Some(Stop::End) | None => "nothing follows".to_owned(),
    };
    line(
        out,
        &|| format!("{position:>10}  end at offset {offset}: {why}"),
        &|| json!({"end": {"position": position, "offset": offset.0, "why": why}}),
    )?;
    match walk.later_write() {
        None => Ok(()),
        Some((later, _)) => Err(Failure::failed(format_args!(
            "damaged at {position}: a later write begins at {later}, so what stood there had been stored"
        ))),
    }
}

fn segment_text(info: &SegmentInfo) -> String {
    let stands_for = info
        .stands_for
        .map_or(String::new(), |(first, last)| format!("  compacted from {} to {}", first.0, last.0));
    format!(
        "log {}  segment {}  label {}  generation {}  base offset {}  created {}  segment before ends at {}{stands_for}",
        info.log,
        info.segment.0,
        info.label,
        info.generation,
        info.base_offset,
        rfc3339(info.created.0),
        info.previous_end
    )
}

fn segment_json(info: &SegmentInfo) -> Value {
    json!({"segment": {
        "log": info.log.to_string(),
        "segment": info.segment.0,
        "label": info.label,
        "generation": info.generation,
        "base_offset": info.base_offset.0,
        "created": info.created.0,
        "previous_end": info.previous_end,
        "stands_for": info.stands_for.map(|(first, last)| [first.0, last.0]),
    }})
}

fn frame_text(at: &FrameAt) -> String {
    let header = at.frame.header();
    let time = |at| if header.has_no_records() { "-".to_owned() } else { rfc3339(at) };
    let mut text = format!(
        "{:>10}  offsets {} to {}  epoch {}  records {}  payload {} bytes  {:?} {:?}  time {} to {}",
        at.position,
        header.base_offset,
        last_offset(header),
        header.leader_epoch,
        header.record_count,
        header.payload_bytes,
        header.encoding,
        header.codec,
        time(header.first_timestamp.0),
        time(header.max_timestamp.0),
    );
    if let Some(producer) = header.producer {
        text.push_str(&format!(
            "  producer {} epoch {} sequence {}",
            producer.id, producer.epoch, producer.base_sequence
        ));
    }
    if let Some(compaction) = header.compaction {
        text.push_str(match () {
            () if header.has_no_records() => "  compacted, none left",
            () if compaction.holes => "  compacted, with holes",
            () => "  compacted",
        });
        if let Some(at) = compaction.tombstones_at {
            text.push_str(&format!("  tombstones since {}", rfc3339(at.0)));
        }
    }
    if at.starts_write {
        text.push_str("  starts a write");
    }
    text
}

fn frame_json(at: &FrameAt) -> Value {
    let header = at.frame.header();
    let mut value = json!({
        "position": at.position,
        "base_offset": header.base_offset.0,
        "last_offset": last_offset(header),
        "leader_epoch": header.leader_epoch.0,
        "records": header.record_count,
        "payload_bytes": header.payload_bytes,
        "payload_crc": header.payload_crc,
        "encoding": format!("{:?}", header.encoding),
        "codec": format!("{:?}", header.codec),
        "append_time": header.append_time,
        "first_timestamp": header.first_timestamp.0,
        "max_timestamp": header.max_timestamp.0,
        "starts_write": at.starts_write,
    });
    if let Some(producer) = header.producer {
        value["producer"] =
            json!({"id": producer.id, "epoch": producer.epoch, "base_sequence": producer.base_sequence});
    }
    if let Some(compaction) = header.compaction {
        value["compaction"] = json!({
            "holes": compaction.holes,
            "is_empty": header.has_no_records(),
            "tombstones_at": compaction.tombstones_at.map(|at| at.0),
        });
    }
    value
}

fn last_offset(header: &FrameHeader) -> u64 {
    header.end_offset().0 - 1
}

fn dump_index(info: &IndexInfo, format: Format, out: &mut Output) -> Result<(), Failure> {
    match format {
        Format::Text => {
            out.line(&format!(
                "log {}  index of segment {}  generation {}  base offset {}  frames indexed up to {}",
                info.log, info.segment.0, info.generation, info.base_offset, info.end_position
            ))?;
            for (offset, position) in &info.entries {
                out.line(&format!("{position:>10}  offset {offset}"))?;
            }
            Ok(())
        }
        Format::Json => {
            let entries = info
                .entries
                .iter()
                .map(|(offset, position)| json!({"offset": offset.0, "position": position}));
            out.json(&json!({
                "log": info.log.to_string(),
                "segment": info.segment.0,
                "generation": info.generation,
                "base_offset": info.base_offset.0,
                "end_position": info.end_position,
                "entries": entries.collect::<Vec<_>>(),
            }))
        }
    }
}

fn dump_checkpoint(
    file: &Bytes,
    format: Format,
    out: &mut Output,
    unusable: impl Fn(&dyn std::fmt::Display) -> Failure,
) -> Result<(), Failure> {
    let info = inspect::checkpoint(file).map_err(|why| unusable(&why))?;
    match format {
        Format::Text => out.write(checkpoint_text(&info).as_bytes()),
        Format::Json => out.json(&checkpoint_json(&info)),
    }
}

fn checkpoint_text(info: &CheckpointInfo) -> String {
    let closed = if info.closed_in_order { "closed in order" } else { "not closed" };
    let mut text = format!(
        "log {}  checkpoint {}  start {}  durable end {}  scan from {}  {closed}  owner's state {} bytes\n",
        info.log,
        info.sequence,
        info.start,
        info.durable_end,
        info.scan_from,
        info.app_state_bytes.unwrap_or(0)
    );
    for segment in &info.segments {
        let newest = segment.max_timestamp.map_or("-".to_owned(), |at| rfc3339(at.0));
        text.push_str(&format!(
            "segment {}  generation {}  base offset {}  frames up to {}  newest record {newest}\n",
            segment.segment.0, segment.generation, segment.base_offset, segment.end_position
        ));
    }
    text
}

fn checkpoint_json(info: &CheckpointInfo) -> Value {
    let segment = |segment: &inspect::ListedSegment| {
        json!({
            "segment": segment.segment.0,
            "generation": segment.generation,
            "base_offset": segment.base_offset.0,
            "end_position": segment.end_position,
            "max_timestamp": segment.max_timestamp.map(|at| at.0),
        })
    };
    json!({
        "log": info.log.to_string(),
        "sequence": info.sequence,
        "start": info.start.0,
        "durable_end": info.durable_end.0,
        "scan_from": info.scan_from.0,
        "closed_in_order": info.closed_in_order,
        "app_state_bytes": info.app_state_bytes,
        "segments": info.segments.iter().map(segment).collect::<Vec<_>>(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_file_of_a_log_is_refused_by_name() {
        let refused = |path: &str| run(Path::new(path), Format::Text).unwrap_err().exit;
        assert_eq!(refused("/etc/hostname"), Exit::Usage);
        assert_eq!(refused("/nowhere/0000000001.seg"), Exit::NotFound);
    }

    #[test]
    fn files_that_are_not_what_their_name_says_fail() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["0000000001.seg", "0000000001.idx", "checkpoint"] {
            let path = dir.path().join(name);
            std::fs::write(&path, [0x5a; 8192]).unwrap();
            let failure = run(&path, Format::Text).unwrap_err();
            assert_eq!(failure.exit, Exit::Failed, "{name}");
            assert!(failure.message.contains(name), "{}", failure.message);
        }
    }
}
