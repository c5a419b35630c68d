//! Seeded numbers (SplitMix64).

#[derive(Debug, Clone)]
pub struct Chance {
    state: u64,
}

impl Chance {
    /// From `MILLSTREAM_TEST_SEED`, or the test's own number. Told on stderr, which a failing test shows.
    pub fn new(own: u64) -> Chance {
        let given = std::env::var("MILLSTREAM_TEST_SEED").ok().and_then(|seed| seed.parse().ok());
        let state = given.unwrap_or(own);
        eprintln!("MILLSTREAM_TEST_SEED={state}");
        Chance { state }
    }

    /// Of a part of a test: another number for each part, drawn by the test's own.
    pub fn from(state: u64) -> Chance {
        Chance { state }
    }

    pub fn draw(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.state ^ (self.state >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// Below `end`, which is above zero.
    pub fn below(&mut self, end: u64) -> u64 {
        assert!(end > 0, "nothing is below zero");
        self.draw() % end
    }

    pub fn bytes(&mut self, count: usize) -> Vec<u8> {
        (0..count).map(|_| (self.draw() >> 32) as u8).collect()
    }
}
