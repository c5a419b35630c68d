//! Numbers as people write them on the command line: `100`, `10k`, `1.5m`.

/// Bytes: `k` is 1024, `m` is 1024 k.
pub(crate) fn bytes(text: &str) -> Result<usize, String> {
    let wrong = || format!("'{text}' is not a number of bytes: write it as 100, 10k or 1m");
    let (number, unit) = split(text, 1024.0).ok_or_else(wrong)?;
    let bytes = number * unit;
    if (0.0..=1e15).contains(&bytes) && bytes.fract() == 0.0 { Ok(bytes as usize) } else { Err(wrong()) }
}

/// Counts and rates: `k` is 1000, `m` is 1000 k.
pub(crate) fn count(text: &str) -> Result<f64, String> {
    let wrong = || format!("'{text}' is not a number: write it as 500, 10k or 1.5m");
    let (number, unit) = split(text, 1000.0).ok_or_else(wrong)?;
    let count = number * unit;
    if count.is_finite() && count >= 0.0 { Ok(count) } else { Err(wrong()) }
}

fn split(text: &str, thousand: f64) -> Option<(f64, f64)> {
    let lower = text.trim().to_ascii_lowercase();
    let (number, unit) = match lower.char_indices().last()? {
        (at, 'k') => (&lower[..at], thousand),
        (at, 'm') => (&lower[..at], thousand * thousand),
        _ => (lower.as_str(), 1.0),
    };
    number.parse().ok().map(|number| (number, unit))
}

#[cfg(test)]
mod tests {
    use super::{bytes, count};

    #[test]
    fn amounts_are_read_with_their_units() {
        assert_eq!(bytes("100"), Ok(100));
        assert_eq!(bytes("10k"), Ok(10_240));
        assert_eq!(bytes("1M"), Ok(1 << 20));
        assert_eq!(bytes("0.5k"), Ok(512));
        assert_eq!(count("1.5m"), Ok(1_500_000.0));
        for wrong in ["", "k", "-1", "ten", "0.3", "nan", "inf", "1e40"] {
            assert!(bytes(wrong).is_err(), "{wrong}");
        }
        assert!(count("inf").is_err() && count("-1").is_err());
    }
}
