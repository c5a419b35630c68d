//! How large records are.

use std::fmt;
use std::str::FromStr;

use crate::amount;
use crate::dice::Dice;
use crate::payload::STAMP_BYTES;

/// Written `100`, `1k`, `uniform:100-10k` or `100:80%,10k:20%`.
#[derive(Debug, Clone, PartialEq)]
pub struct Sizes {
    text: String,
    kind: Kind,
}

#[derive(Debug, Clone, PartialEq)]
enum Kind {
    Fixed(usize),
    /// Both included.
    Uniform(usize, usize),
    /// Shares rise to 1: a draw falls on the first that is above it.
    Mix(Vec<(f64, usize)>),
}

const BYTES_MAX: usize = 16 << 20;

impl Sizes {
    pub(crate) fn draw(&self, dice: &mut Dice) -> usize {
        match &self.kind {
            Kind::Fixed(bytes) => *bytes,
            Kind::Uniform(from, to) => from + dice.below((to - from + 1) as u64) as usize,
            Kind::Mix(shares) => {
                let share = dice.share();
                shares
                    .iter()
                    .find(|(end, _)| share < *end)
                    .map_or(shares[shares.len() - 1].1, |(_, bytes)| *bytes)
            }
        }
    }

    pub(crate) fn mean(&self) -> f64 {
        match &self.kind {
            Kind::Fixed(bytes) => *bytes as f64,
            Kind::Uniform(from, to) => (from + to) as f64 / 2.0,
            Kind::Mix(shares) => {
                let mut before = 0.0;
                let part = |(end, bytes): &(f64, usize)| {
                    let part = (end - before) * *bytes as f64;
                    before = *end;
                    part
                };
                shares.iter().map(part).sum()
            }
        }
    }
}

impl FromStr for Sizes {
    type Err = String;

    fn from_str(text: &str) -> Result<Sizes, String> {
        let kind = if let Some(range) = text.strip_prefix("uniform:") {
            let (from, to) = range.split_once('-').ok_or("write it as uniform:100-10k")?;
            let (from, to) = (record_bytes(from)?, record_bytes(to)?);
            if from > to {
                return Err(format!("{from} is above {to}"));
            }
            Kind::Uniform(from, to)
        } else if text.contains(':') {
            Kind::Mix(mix(text)?)
        } else {
            Kind::Fixed(record_bytes(text)?)
        };
        Ok(Sizes { text: text.to_owned(), kind })
    }
}

fn mix(text: &str) -> Result<Vec<(f64, usize)>, String> {
    let mut end = 0.0;
    let mut shares = Vec::new();
    for part in text.split(',') {
        let (bytes, percent) = part.split_once(':').ok_or("write it as 100:80%,10k:20%")?;
        let percent = percent.strip_suffix('%').and_then(|percent| percent.parse::<f64>().ok());
        let percent = percent.filter(|percent| (0.0..=100.0).contains(percent));
        end += percent.ok_or("shares are percents: 100:80%,10k:20%")? / 100.0;
        shares.push((end, record_bytes(bytes)?));
    }
    if (end - 1.0).abs() < 1e-9 { Ok(shares) } else { Err(format!("shares add up to {:.3} %", end * 100.0)) }
}

fn record_bytes(text: &str) -> Result<usize, String> {
    let bytes = amount::bytes(text)?;
    if (STAMP_BYTES..=BYTES_MAX).contains(&bytes) {
        Ok(bytes)
    } else {
        Err(format!("{bytes} bytes: a record has {STAMP_BYTES} (its stamp) to {BYTES_MAX}"))
    }
}

impl fmt::Display for Sizes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::Sizes;
    use crate::dice::Dice;

    fn drawn(text: &str) -> Vec<usize> {
        let (sizes, mut dice) = (text.parse::<Sizes>().unwrap(), Dice::new(3));
        let drawn: Vec<usize> = (0..100_000).map(|_| sizes.draw(&mut dice)).collect();
        let mean = drawn.iter().sum::<usize>() as f64 / drawn.len() as f64;
        assert!((mean / sizes.mean() - 1.0).abs() < 0.03, "{text}: {mean}, said {}", sizes.mean());
        drawn
    }

    #[test]
    fn sizes_are_drawn_as_they_are_written() {
        assert!(drawn("1k").iter().all(|bytes| *bytes == 1024));
        assert!(drawn("uniform:100-10k").iter().all(|bytes| (100..=10_240).contains(bytes)));
        let small = drawn("100:80%,10k:20%").iter().filter(|bytes| **bytes == 100).count();
        assert!((79_000..=81_000).contains(&small), "{small}");
    }

    #[test]
    fn sizes_that_mean_nothing_are_refused() {
        for wrong in
            ["8", "17m", "uniform:10k-100", "uniform:100", "100:80%", "100:80%,10k:30%", "100:x%,1k:20%", ""]
        {
            assert!(wrong.parse::<Sizes>().is_err(), "{wrong}");
        }
    }
}
