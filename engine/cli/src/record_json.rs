//! A record as one JSON object: bytes as text where they are UTF-8, else in base64 under another name.

use std::io::Write;

use storage_recordbatch::Record;

/// `{"topic":"t","partition":0,"offset":1,"timestamp":2,"key":"k","value":"v"}`; `headers` where there are some.
pub fn write_record(out: &mut Vec<u8>, topic: &str, partition: u32, record: &Record<'_>) {
    let fields = Fields {
        topic,
        partition,
        offset: record.offset.0,
        timestamp_ms: record.timestamp.0,
        key: record.key,
        value: record.value,
    };
    write_fields(out, &fields, record.headers());
}

/// A record but for its headers.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Fields<'a> {
    pub(crate) topic: &'a str,
    pub(crate) partition: u32,
    pub(crate) offset: u64,
    pub(crate) timestamp_ms: i64,
    pub(crate) key: Option<&'a [u8]>,
    pub(crate) value: Option<&'a [u8]>,
}

pub(crate) fn write_fields<'a>(
    out: &mut Vec<u8>,
    fields: &Fields<'_>,
    headers: impl Iterator<Item = (&'a str, Option<&'a [u8]>)>,
) {
    let Fields { topic, partition, offset, timestamp_ms, key, value } = *fields;
    out.extend_from_slice(b"{\"topic\":");
    push_text(out, topic);
    // Writing to memory does not fail.
    let _ = write!(out, ",\"partition\":{partition},\"offset\":{offset},\"timestamp\":{timestamp_ms}");
    push_field(out, "key", key);
    push_field(out, "value", value);
    let mut headers = headers.peekable();
    if headers.peek().is_some() {
        out.extend_from_slice(b",\"headers\":[");
        for (index, (name, value)) in headers.enumerate() {
            out.extend_from_slice(if index == 0 { b"{\"name\":" } else { b",{\"name\":" });
            push_text(out, name);
            push_field(out, "value", value);
            out.push(b'}');
        }
        out.push(b']');
    }
    out.push(b'}');
}

fn push_field(out: &mut Vec<u8>, name: &str, bytes: Option<&[u8]>) {
    let _ = match bytes.map(|bytes| std::str::from_utf8(bytes).map_err(|_| bytes)) {
        None => write!(out, ",\"{name}\":null"),
        Some(Ok(text)) => {
            let begun = write!(out, ",\"{name}\":");
            push_text(out, text);
            begun
        }
        Some(Err(bytes)) => write!(out, ",\"{name}_base64\":\"{}\"", base64(bytes)),
    };
}

fn push_text(out: &mut Vec<u8>, text: &str) {
    serde_json::to_writer(&mut *out, text).expect("text is JSON, memory takes it");
}

/// RFC 4648, section 4, with padding.
fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let byte = |index: usize| u32::from(group.get(index).copied().unwrap_or(0));
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        for place in 0..4 {
            let digit = ALPHABET[(bits >> (18 - 6 * place) & 63) as usize];
            text.push(if place <= group.len() { char::from(digit) } else { '=' });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use storage_frame::{BatchBuilder, TimestampMs};
    use storage_recordbatch::Records;

    use super::*;

    #[track_caller]
    fn check(key: Option<&[u8]>, value: Option<&[u8]>, headers: &[(&str, Option<&[u8]>)], expected: &str) {
        let mut batch = BatchBuilder::new();
        batch.push(TimestampMs(5), key, value, headers.iter().copied()).unwrap();
        let records = Records::open(&batch.seal(None), 1 << 20).unwrap();
        let mut line = Vec::new();
        write_record(&mut line, "t", 3, &records.iter().next().unwrap().unwrap());
        let text = String::from_utf8(line).unwrap();
        assert_eq!(
            text,
            format!("{{\"topic\":\"t\",\"partition\":3,\"offset\":0,\"timestamp\":5,{expected}}}")
        );
        serde_json::from_str::<serde_json::Value>(&text).unwrap();
    }

    #[test]
    fn text_is_text_and_null_is_null() {
        check(Some(b"k"), Some("v\"\n\u{fc}".as_bytes()), &[], "\"key\":\"k\",\"value\":\"v\\\"\\n\u{fc}\"");
        check(None, None, &[], "\"key\":null,\"value\":null");
    }

    #[test]
    fn other_bytes_are_base64_under_their_own_name() {
        check(None, Some(b"\xff\x00"), &[], "\"key\":null,\"value_base64\":\"/wA=\"");
    }

    #[test]
    fn headers_are_listed_in_order() {
        check(
            None,
            Some(b""),
            &[("a", Some(b"1")), ("b", None)],
            "\"key\":null,\"value\":\"\",\"headers\":[{\"name\":\"a\",\"value\":\"1\"},{\"name\":\"b\",\"value\":null}]",
        );
    }

    #[test]
    fn base64_is_the_one_of_the_rfc() {
        for (bytes, text) in
            [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foobar", "Zm9vYmFy")]
        {
            assert_eq!(base64(bytes.as_bytes()), text);
        }
    }
}
