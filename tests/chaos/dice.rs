//! Randomness from one seed, so that a schedule of faults can be had again.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// `SplitMix64`: small, and good enough to throw faults with.
#[derive(Debug, Clone)]
pub(crate) struct Dice(u64);

/// A seed that nobody chose.
pub(crate) fn any_seed() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    u64::from(now.map_or(0, |now| now.subsec_nanos())) ^ u64::from(std::process::id()) << 32
}

impl Dice {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// Dice of somebody's own: what they throw does not depend on when others do.
    pub(crate) fn hand_out(&mut self) -> Self {
        Self(self.throw())
    }

    fn throw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// From 0 to one less than `below`.
    pub(crate) fn below(&mut self, below: usize) -> usize {
        (self.throw() % below as u64) as usize
    }

    /// Between two times, in milliseconds.
    pub(crate) fn millis(&mut self, from: u64, to: u64) -> Duration {
        Duration::from_millis(from + self.throw() % (to - from))
    }
}

#[test]
fn the_same_seed_throws_the_same() {
    let throws = |seed| {
        let mut dice = Dice::new(seed);
        let mut other = dice.hand_out();
        (0..10)
            .map(|_| (dice.below(100), other.below(100)))
            .collect::<Vec<_>>()
    };
    assert_eq!(throws(7), throws(7));
    assert_ne!(throws(7), throws(8));
}
