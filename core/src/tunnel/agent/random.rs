//! Random numbers from the caller's seed: AES-128 in counter mode.

use std::fmt;

use crate::crypto::{Aes128, Key128};

/// Numbers that are unpredictable without the seed.
pub(super) struct SeededRandom {
    aes: Aes128,
    counter: u128,
}

/// Hides the seed.
impl fmt::Debug for SeededRandom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SeededRandom(..)")
    }
}

impl SeededRandom {
    /// Takes half of the seed as the key and half as the first counter.
    pub(super) fn new(seed: [u8; 32]) -> Self {
        let number = |at: usize| {
            seed.iter().skip(at).take(16).fold(0u128, |sum, byte| sum << 8 | u128::from(*byte))
        };
        SeededRandom {
            aes: Aes128::new(&Key128::new(number(0).to_be_bytes())),
            counter: number(16),
        }
    }

    /// The next 64 bits.
    pub(super) fn next(&mut self) -> u64 {
        self.counter = self.counter.wrapping_add(1);
        (u128::from_be_bytes(self.aes.encrypt_block(&self.counter.to_be_bytes())) >> 64) as u64
    }

    /// A number from 0 to `count` - 1; 0 when `count` is 0.
    pub(super) fn below(&mut self, count: u64) -> u64 {
        ((u128::from(self.next()) * u128::from(count)) >> 64) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::AgentKey;
    use crate::tunnel::agent::AgentSetup;

    #[test]
    fn debug_hides_the_seed() {
        assert_eq!(format!("{:?}", SeededRandom::new([0x5a; 32])), "SeededRandom(..)");
        let vip = "203.0.113.20:443".parse().unwrap();
        let key = AgentKey { tenant: 1, agent: 2, key: Key128::new([0x5a; 16]) };
        let config = format!("{:?}", AgentSetup::new(vip, key, [0x5a; 32]));
        assert!(config.contains("203.0.113.20:443") && !config.contains("90"), "{config}");
    }

    #[test]
    fn every_byte_of_the_seed_has_an_effect() {
        let numbers = |seed: [u8; 32]| {
            let mut random = SeededRandom::new(seed);
            [random.next(), random.next(), random.next()]
        };
        let first = numbers([1; 32]);
        assert_eq!(first, numbers([1; 32]));
        assert_ne!(first[0], first[1]);
        for at in 0..32 {
            let mut seed = [1; 32];
            seed[at] = 2;
            assert_ne!(first, numbers(seed), "byte {at} has no effect");
        }
    }

    #[test]
    fn below_reaches_all_numbers_below() {
        let mut random = SeededRandom::new([7; 32]);
        let mut seen = [0; 5];
        (0..1000).for_each(|_| seen[random.below(5) as usize] += 1);
        assert!(seen.iter().all(|count| *count > 150), "{seen:?}");
        assert_eq!(random.below(0), 0);
    }
}
