//! Which cores were asked for: a number, a list, or all there are.
//!
//! Whether they can be had is `engine/core`'s to say; this is only how a person writes them.

use std::str::FromStr;

use engine_core::CpuError;
use engine_core::cpus::{CORES_MAX, available_cpus, check_cpus, choose_cpus};

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CoreChoice {
    /// Every core the process may run on.
    All,
    /// The first so many of them.
    Count(usize),
    /// These, by the system's numbers; their order is the order of the shards.
    List(Vec<usize>),
}

/// The text is no choice of cores.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{text}' is neither a number of cores nor a list of them; write it as 2, or 0,2,4-7")]
pub struct CoreChoiceError {
    text: String,
}

impl FromStr for CoreChoice {
    type Err = CoreChoiceError;

    /// `all`, a number, or a list with a comma or a range in it: `0,2`, `4-7`, `3,`.
    fn from_str(text: &str) -> Result<Self, CoreChoiceError> {
        let wrong = || CoreChoiceError { text: text.to_owned() };
        if text == "all" {
            return Ok(Self::All);
        }
        if !text.contains([',', '-']) {
            let count = text.trim().parse().map_err(|_| wrong())?;
            return if count == 0 { Err(wrong()) } else { Ok(Self::Count(count)) };
        }
        let mut list = Vec::new();
        for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
            let (from, to) = part.split_once('-').unwrap_or((part, part));
            let from: usize = from.parse().map_err(|_| wrong())?;
            let to: usize = to.parse().map_err(|_| wrong())?;
            if from > to || to - from >= CORES_MAX - list.len() {
                return Err(wrong());
            }
            list.extend(from..=to);
        }
        if list.is_empty() { Err(wrong()) } else { Ok(Self::List(list)) }
    }
}

impl CoreChoice {
    /// The processors chosen, by the system's numbers, in shard order.
    ///
    /// # Errors
    /// [`CpuError`] when more or others are asked for than there are.
    pub fn resolve(&self) -> Result<Vec<usize>, CpuError> {
        match self {
            Self::All => choose_cpus(available_cpus()?.len().min(CORES_MAX)),
            Self::Count(count) => choose_cpus(*count),
            Self::List(list) => check_cpus(list).map(|()| list.clone()),
        }
    }
}

/// `0,1,5` for people.
#[must_use]
pub fn list(cores: &[usize]) -> String {
    cores.iter().map(usize::to_string).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_a_count_and_a_comma_or_range_a_list() {
        assert_eq!("all".parse(), Ok(CoreChoice::All));
        assert_eq!("2".parse(), Ok(CoreChoice::Count(2)));
        assert_eq!("2,".parse(), Ok(CoreChoice::List(vec![2])));
        assert_eq!("0,2,4-6".parse(), Ok(CoreChoice::List(vec![0, 2, 4, 5, 6])));
    }

    #[test]
    fn nonsense_is_refused() {
        for text in ["", "0", "x", "3-1", ",", "1-", "-1", "1,x", "0-99999999999"] {
            assert!(text.parse::<CoreChoice>().is_err(), "{text}");
        }
    }

    /// Fuzzing the settings found it: behind a first core the length of the list overflowed, so that a release build
    /// would have listed 2^64 cores.
    #[test]
    fn a_range_as_long_as_numbers_go_is_refused_behind_another_core_too() {
        for text in ["0,0-18446744073709551615", "0-254,300-301", "0-255,1"] {
            assert!(text.parse::<CoreChoice>().is_err(), "{text}");
        }
        assert!("0-100,200-254".parse::<CoreChoice>().is_ok());
    }

    #[test]
    fn a_core_that_is_not_there_is_refused() {
        assert!(CoreChoice::List(vec![9_999]).resolve().is_err());
        assert!(CoreChoice::Count(10_000).resolve().is_err());
        assert_eq!(CoreChoice::Count(1).resolve().map(|cores| cores.len()), Ok(1));
    }
}
