//! Which keys records have.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use crate::amount;
use crate::dice::Dice;

/// Written `none`, `uniform:100k`, `zipf:100k` or `zipf:100k:1.2` (the exponent; 1 unless given).
#[derive(Debug, Clone, PartialEq)]
pub struct Keys {
    text: String,
    kind: Kind,
}

#[derive(Debug, Clone, PartialEq)]
enum Kind {
    None,
    Uniform(u64),
    /// Shares of the keys up to and with each, rising to 1.
    Zipf(Arc<[f64]>),
}

pub(crate) const KEY_BYTES: usize = 16;
const COUNT_MAX: f64 = 10e6;

impl Keys {
    pub(crate) fn draw(&self, dice: &mut Dice) -> Option<[u8; KEY_BYTES]> {
        self.draw_number(dice).map(key)
    }

    fn draw_number(&self, dice: &mut Dice) -> Option<u64> {
        match &self.kind {
            Kind::None => None,
            Kind::Uniform(count) => Some(dice.below(*count)),
            Kind::Zipf(ends) => {
                let share = dice.share();
                Some(ends.partition_point(|end| *end <= share).min(ends.len() - 1) as u64)
            }
        }
    }
}

/// Hexadecimal, so that it can be read where it is found.
fn key(mut number: u64) -> [u8; KEY_BYTES] {
    let mut key = [b'0'; KEY_BYTES];
    for digit in key.iter_mut().rev() {
        *digit = b"0123456789abcdef"[(number % 16) as usize];
        number /= 16;
    }
    key
}

impl FromStr for Keys {
    type Err = String;

    fn from_str(text: &str) -> Result<Keys, String> {
        let mut parts = text.split(':');
        let kind = match (parts.next(), parts.next(), parts.next(), parts.next()) {
            (Some("none"), None, None, None) => Kind::None,
            (Some("uniform"), Some(count), None, None) => Kind::Uniform(keys_count(count)?),
            (Some("zipf"), Some(count), exponent, None) => {
                let exponent = exponent.map_or(Ok(1.0), amount::count)?;
                Kind::Zipf(shares(keys_count(count)?, exponent))
            }
            _ => return Err("write it as none, uniform:100k, zipf:100k or zipf:100k:1.2".to_owned()),
        };
        Ok(Keys { text: text.to_owned(), kind })
    }
}

fn keys_count(text: &str) -> Result<u64, String> {
    let count = amount::count(text)?;
    if (1.0..=COUNT_MAX).contains(&count) { Ok(count as u64) } else { Err(format!("{text}: 1 to 10m keys")) }
}

fn shares(count: u64, exponent: f64) -> Arc<[f64]> {
    let mut sum = 0.0;
    let weights = (1..=count).map(|rank| {
        sum += (rank as f64).powf(-exponent);
        sum
    });
    let ends: Vec<f64> = weights.collect();
    ends.into_iter().map(|end| end / sum).collect()
}

impl fmt::Display for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::{Keys, key};
    use crate::dice::Dice;

    fn counts(text: &str, keys: usize) -> Vec<u64> {
        let (keys_, mut dice) = (text.parse::<Keys>().unwrap(), Dice::new(5));
        let mut counts = vec![0; keys];
        for _ in 0..100_000 {
            counts[keys_.draw_number(&mut dice).unwrap() as usize] += 1;
        }
        counts
    }

    #[test]
    fn keys_are_drawn_as_they_are_written() {
        assert_eq!("none".parse::<Keys>().unwrap().draw(&mut Dice::new(1)), None);
        assert!(counts("uniform:10", 10).iter().all(|count| (9_500..=10_500).contains(count)));
        // Of 100 keys by 1/rank the first has 1/5.187 of all, the tenth a tenth of that.
        let zipf = counts("zipf:100", 100);
        assert!((18_700..=19_900).contains(&zipf[0]), "{}", zipf[0]);
        assert!((1_750..=2_110).contains(&zipf[9]), "{}", zipf[9]);
        let steep = counts("zipf:100:2", 100);
        assert!(steep[0] > 3 * zipf[0]);
    }

    #[test]
    fn keys_are_readable_and_differ() {
        assert_eq!(&key(0x1a2b), b"0000000000001a2b");
        assert_ne!(key(1), key(2));
    }

    #[test]
    fn keys_that_mean_nothing_are_refused() {
        for wrong in ["", "some", "uniform", "uniform:0", "zipf:11m", "zipf:10:x", "zipf:10:1:1", "none:1"] {
            assert!(wrong.parse::<Keys>().is_err(), "{wrong}");
        }
    }
}
