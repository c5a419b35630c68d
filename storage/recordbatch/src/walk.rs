//! The records of a batch that is not compressed, each held against where it says that it lies: what passes can be
//! read, by us and by every client.
//!
//! On the way of every batch that is produced. Numbers are read and bytes passed over; nothing is kept or copied.
//! Says yes exactly where [`KafkaRecords`](crate::records::KafkaRecords) finds `record_count` records at offsets
//! without holes.

use crate::header::BatchError;

pub(crate) fn check_records(records: &[u8], record_count: u32) -> Result<(), BatchError> {
    let mut at = 0;
    for index in 0..record_count {
        match pass_record(records, at, index) {
            Some(end) => at = end,
            None => return Err(BatchError::Record { index: index as usize }),
        }
    }
    // Bytes after the last record are one too many.
    if at == records.len() { Ok(()) } else { Err(BatchError::Record { index: record_count as usize }) }
}

/// Where the record at `at` ends.
#[inline]
fn pass_record(records: &[u8], at: usize, index: u32) -> Option<usize> {
    let (record_bytes, at) = number(records, at)?;
    let end = at.checked_add(usize::try_from(record_bytes).ok()?)?;
    let record = records.get(at..end)?;
    // Attributes, of which none are known, then a time of any kind.
    let (_, at) = number(record, 1)?;
    let (offset_delta, at) = number(record, at)?;
    if offset_delta != i64::from(index) {
        return None;
    }
    let at = pass_nullable(record, at)?;
    let at = pass_nullable(record, at)?;
    let (headers_count, mut at) = number(record, at)?;
    if headers_count != 0 {
        for _ in 0..u32::try_from(headers_count).ok().filter(|count| *count <= i32::MAX as u32)? {
            let (name_bytes, name_at) = number(record, at)?;
            at = pass_nullable(record, pass(record, name_at, name_bytes)?)?;
        }
    }
    (at == record.len()).then_some(end)
}

/// A length and that many bytes; -1 is null.
#[inline]
fn pass_nullable(record: &[u8], at: usize) -> Option<usize> {
    let (bytes, at) = number(record, at)?;
    if bytes == -1 { Some(at) } else { pass(record, at, bytes) }
}

#[inline]
fn pass(record: &[u8], at: usize, bytes: i64) -> Option<usize> {
    let end = at.checked_add(usize::try_from(bytes).ok()?)?;
    (end <= record.len()).then_some(end)
}

/// The number at `at` and where it ends. Nearly all are of one byte or two.
#[inline]
fn number(bytes: &[u8], at: usize) -> Option<(i64, usize)> {
    let first = *bytes.get(at)?;
    if first < 0x80 {
        return Some((unfold(first.into()), at + 1));
    }
    let second = *bytes.get(at + 1)?;
    if second < 0x80 {
        return Some((unfold(u64::from(first & 0x7f) | u64::from(second) << 7), at + 2));
    }
    long_number(bytes, at)
}

fn long_number(bytes: &[u8], at: usize) -> Option<(i64, usize)> {
    let mut cursor = crate::varint::Cursor::new(bytes.get(at..)?);
    let before = cursor.rest.len();
    let value = cursor.varlong()?;
    Some((value, at + before - cursor.rest.len()))
}

#[inline]
fn unfold(folded: u64) -> i64 {
    (folded >> 1) as i64 ^ -((folded & 1) as i64)
}
