//! Seeded randomness for tests: the same seed gives the same numbers. Splitmix64, fifteen lines that
//! every version and platform computes alike, which no library promises.

/// A source of random numbers.
#[derive(Clone, Debug)]
pub(crate) struct Dice {
    state: u64,
}

impl Dice {
    /// The dice number `number` of a seed: each user has one of its own, so that their choices do
    /// not depend on who comes first.
    pub fn new(seed: u64, number: u64) -> Dice {
        let mut dice = Dice { state: seed ^ number.wrapping_mul(0xA076_1D64_78BD_642F) };
        dice.next();
        dice
    }

    fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// A number from `low` to `high`, both included.
    pub fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.next() % (high - low + 1)
    }

    /// True in `percent` of a hundred cases.
    pub fn chance(&mut self, percent: u64) -> bool {
        self.between(1, 100) <= percent
    }

    /// One of several.
    pub fn pick<T: Copy>(&mut self, among: &[T]) -> T {
        among[self.between(0, among.len() as u64 - 1) as usize]
    }
}
