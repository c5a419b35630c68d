//! A set of sequence numbers that are nearly all there: a bit for each.

/// Grows to the largest number it holds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Seen {
    words: Vec<u64>,
    count: u64,
}

impl Seen {
    /// Whether it was new.
    pub(crate) fn insert(&mut self, number: u64) -> bool {
        let (word, bit) = place(number);
        if word >= self.words.len() {
            self.words.resize(word + 1, 0);
        }
        let is_new = self.words[word] & bit == 0;
        self.words[word] |= bit;
        self.count += u64::from(is_new);
        is_new
    }

    pub(crate) fn count(&self) -> u64 {
        self.count
    }

    /// Those that `other` lacks, from the lowest.
    pub(crate) fn without<'a>(&'a self, other: &'a Seen) -> impl Iterator<Item = u64> + Clone + 'a {
        let missing = |at: usize| self.words[at] & !other.words.get(at).copied().unwrap_or(0);
        (0..self.words.len()).flat_map(move |at| {
            let word = missing(at);
            (0..64).filter(move |bit| word & (1 << bit) != 0).map(move |bit| at as u64 * 64 + bit)
        })
    }
}

fn place(number: u64) -> (usize, u64) {
    ((number / 64) as usize, 1 << (number % 64))
}

#[cfg(test)]
mod tests {
    use super::Seen;

    #[test]
    fn numbers_are_new_once_and_differences_are_told() {
        let (mut all, mut some) = (Seen::default(), Seen::default());
        for number in [0, 63, 64, 1000] {
            assert!(all.insert(number));
        }
        assert!(!all.insert(64));
        assert_eq!(all.count(), 4);
        some.insert(63);
        some.insert(5);
        assert_eq!(all.without(&some).collect::<Vec<_>>(), [0, 64, 1000]);
    }
}
