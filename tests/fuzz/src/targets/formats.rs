//! Small formats of settings and of the command line (`engine/broker`, `engine/meta`, `engine/cli`): which one,
//! then its text.

use std::collections::BTreeMap;

use bytes::Bytes;
use engine_broker::cores::CoreChoice;
use engine_broker::utc;
use engine_meta::config::{canonical, describe, effective};
use engine_meta::name::name_fault;
use millstream_cli::lines::{Lines, split};
use millstream_cli::record_json::write_record;
use millstream_client::{TimestampMs, Trust};
use storage_frame::{BatchBuilder, FRAME_BYTES_MAX};
use storage_log::FileName;
use storage_recordbatch::Records;

use crate::script::Script;

pub fn formats(data: &[u8]) {
    let mut script = Script::new(data);
    let which = script.u8() % 8;
    let rest = script.rest();
    let text = String::from_utf8_lossy(rest);
    match which {
        0 => moment(&text),
        1 => cores(&text),
        2 => topic_configs(&text),
        3 => names(&text),
        4 => fingerprint(&text),
        5 => lines(rest),
        6 => record(rest),
        _ => key_and_value(rest),
    }
}

fn moment(text: &str) {
    let Some(ms) = utc::parse(text) else { return };
    // RFC 3339 has years of four digits.
    if utc::rfc3339(ms).len() == "2026-03-01T12:30:00.250Z".len() {
        assert_eq!(utc::parse(&utc::rfc3339(ms)), Some(ms));
    }
}

fn cores(text: &str) {
    match text.parse::<CoreChoice>() {
        Ok(CoreChoice::Count(count)) => assert!(count > 0),
        Ok(CoreChoice::List(list)) => {
            assert!(!list.is_empty() && list.len() <= 256);
            let again: CoreChoice =
                format!("{},", engine_broker::cores::list(&list)).parse().expect("our own");
            assert_eq!(again, CoreChoice::List(list));
        }
        Ok(CoreChoice::All) => assert_eq!(text, "all"),
        Err(error) => assert!(error.to_string().contains("cores")),
    }
}

/// `key=value`, one a line.
fn topic_configs(text: &str) {
    let pairs: Vec<(&str, &str)> = text.split('\n').filter_map(|line| line.split_once('=')).collect();
    let Ok(checked) = canonical(pairs.iter().copied()) else { return };
    let again = canonical(checked.iter().map(|(key, value)| (key.as_str(), value.as_str())));
    assert_eq!(again.as_ref(), Ok(&checked), "canonical values are canonical");
    let config = effective(&[], &checked);
    assert!(config.batch_bytes_max() > 0);
    let entries: BTreeMap<String, String> =
        describe(&[], &checked).into_iter().map(|entry| (entry.key, entry.value)).collect();
    for (key, value) in &checked {
        assert_eq!(entries.get(key), Some(value), "what was set is in force");
    }
}

fn names(text: &str) {
    if name_fault(text).is_none() {
        assert!(text.is_ascii() && (1..=249).contains(&text.len()) && !text.contains('/'));
    }
    if let Some(name) = FileName::parse(text) {
        assert_eq!(name.to_string(), text, "one file has one name");
    }
}

fn fingerprint(text: &str) {
    let Some(trust) = Trust::fingerprint(text) else { return };
    let Trust::Fingerprint(bytes) = &trust else { panic!("{trust:?}") };
    let plain: String = bytes.iter().map(|byte| format!("{byte:02X}")).collect();
    assert_eq!(Trust::fingerprint(&plain), Some(trust));
}

/// The limit and the size of blocks, then the input.
fn lines(data: &[u8]) {
    let mut script = Script::new(data);
    let line_bytes_max = usize::from(script.u8());
    let block_bytes = 1 + usize::from(script.u8());
    let input = script.rest();
    let mut lines = Lines::new(line_bytes_max);
    let mut found = Vec::new();
    for block in input.chunks(block_bytes) {
        lines.add(block.to_vec());
        while let Some(range) = lines.next_range() {
            found.push(lines.bytes(range).to_vec());
        }
    }
    found.extend(lines.last_range().map(|range| lines.bytes(range).to_vec()));

    let text = input.strip_suffix(b"\n").unwrap_or(input);
    let expected = text.split(|byte| *byte == b'\n').filter(|_| !input.is_empty());
    let (short, long): (Vec<_>, Vec<_>) = expected.partition(|line| line.len() <= line_bytes_max);
    assert_eq!(found, short);
    assert_eq!(lines.too_long_count, long.len() as u64);
}

/// Key, value and a header out of the input.
fn record(data: &[u8]) {
    let mut script = Script::new(data);
    let shape = script.u8();
    let mut piece = |bit: u8| {
        let bytes = script.u8();
        (shape & bit != 0).then(|| script.bytes(bytes.into()))
    };
    let (key, value, header) = (piece(1), piece(2), piece(4));
    let name = String::from_utf8_lossy(script.rest());
    let mut batch = BatchBuilder::new();
    let headers = (shape & 8 != 0).then_some((name.as_ref(), header));
    if batch.push(TimestampMs(5), key, value, headers).is_err() {
        return;
    }
    let records = Records::open(&batch.seal(None), FRAME_BYTES_MAX).expect("our own");
    let mut line = Vec::new();
    let only = records.iter().next().expect("one record").expect("a good one");
    write_record(&mut line, "t", 3, &only);
    assert!(!line.contains(&b'\n'), "one record, one line");
    let json: serde_json::Value = serde_json::from_slice(&line).expect("JSON");
    assert_eq!(json["offset"], 0);
    for (name, bytes) in [("key", key), ("value", value)] {
        same(&json, name, bytes);
    }
    if let Some((name, value)) = headers {
        assert_eq!(json["headers"][0]["name"], name);
        same(&json["headers"][0], "value", value);
    }
}

fn same(json: &serde_json::Value, name: &str, bytes: Option<&[u8]>) {
    match bytes.map(|bytes| std::str::from_utf8(bytes).map_err(|_| bytes)) {
        None => assert!(json[name].is_null() && json.get(name).is_some()),
        Some(Ok(text)) => assert_eq!(json[name], text),
        Some(Err(bytes)) => {
            let text = json[format!("{name}_base64")].as_str().expect("a text").to_owned();
            assert_eq!(text.len(), bytes.len().div_ceil(3) * 4);
        }
    }
}

fn key_and_value(data: &[u8]) {
    let mut script = Script::new(data);
    let bytes = 1 + script.u8() % 3;
    let separator = Bytes::copy_from_slice(script.bytes(bytes.into()));
    if separator.is_empty() {
        return;
    }
    let line = script.rest();
    match split(line, &separator) {
        (Some(key), value) => {
            assert_eq!([key, &separator, value].concat(), line);
            assert!(!key.windows(separator.len()).any(|window| window == separator), "the first one");
        }
        (None, value) => {
            assert_eq!(value, line);
            assert!(!line.windows(separator.len()).any(|window| window == separator));
        }
    }
}
