//! A small generator: a whole run grows from one seed.

/// splitmix64. Streams of one seed with different salts have nothing to do with each other, so that switching one
/// off disturbs no other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dice(u64);

impl Dice {
    #[must_use]
    pub fn new(seed: u64, salt: &str) -> Self {
        Self::nth(seed, salt, 0)
    }

    /// The `n`th of a family of streams: what one of them is used for moves no other one.
    #[must_use]
    pub fn nth(seed: u64, salt: &str, n: u64) -> Self {
        // FNV-1a
        let salted = salt.bytes().fold(0xcbf2_9ce4_8422_2325u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
        let mut dice = Self(seed ^ salted);
        dice.0 = dice.roll() ^ n.wrapping_mul(0xd605_1a3d_9f0e_5b2d);
        dice.roll();
        dice
    }

    pub fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// `0..bound`; 0 for a bound of 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.roll() % bound.max(1)
    }

    /// `from..to`; `from` where that is empty.
    pub fn between(&mut self, from: u64, to: u64) -> u64 {
        from + self.below(to.saturating_sub(from))
    }

    pub fn one_in(&mut self, bound: u64) -> bool {
        self.below(bound) == 0
    }

    /// # Panics
    /// When there is nothing to pick from.
    pub fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.below(from.len() as u64) as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_seed_and_salt_are_one_stream_and_others_are_others() {
        let first = |mut dice: Dice| (0..4).map(|_| dice.roll()).collect::<Vec<_>>();
        assert_eq!(first(Dice::new(7, "disk")), first(Dice::new(7, "disk")));
        let mut all: Vec<_> = [Dice::new(7, "disk"), Dice::new(8, "disk"), Dice::new(7, "net")]
            .into_iter()
            .chain((1..100).map(|n| Dice::nth(7, "disk", n)))
            .map(first)
            .collect();
        let count = all.len();
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), count);
    }

    #[test]
    fn numbers_stay_below_their_bound() {
        let mut dice = Dice::new(1, "");
        assert!((0..1000).all(|_| dice.below(7) < 7 && (3..5).contains(&dice.between(3, 5))));
        assert_eq!((dice.below(0), dice.between(4, 4)), (0, 4));
    }
}
