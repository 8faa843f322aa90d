//! A small hash table from keys of a few words to 32-bit values: built once, then read by workers.
//!
//! Open addressing with linear probing, a power of two of slots at least twice the entries, and
//! multiplicative hashing (Knuth, The Art of Computer Programming 6.4). The keys come from the
//! operator's config, not from the network, so nobody can choose them to collide.

/// What a table is searched for.
pub(crate) trait Key: Copy + PartialEq {
    /// The key of empty slots, which also others may have.
    const EMPTY: Self;

    /// A number whose high bits differ for most keys that differ.
    fn spread(self) -> u64;
}

impl Key for u64 {
    const EMPTY: Self = 0;

    #[inline]
    fn spread(self) -> u64 {
        self.wrapping_mul(GOLDEN)
    }
}

/// An IPv6 address, and what else tells apart.
impl Key for (u128, u32) {
    const EMPTY: Self = (0, 0);

    #[inline]
    fn spread(self) -> u64 {
        let (high, low) = ((self.0 >> 64) as u64, self.0 as u64);
        let halves = high.wrapping_mul(GOLDEN).rotate_left(32) ^ low;
        (halves.wrapping_mul(GOLDEN).rotate_left(32) ^ u64::from(self.1)).wrapping_mul(GOLDEN)
    }
}

/// A table that is not changed once it is built.
#[derive(Clone, Debug)]
pub(crate) struct Table<K> {
    slots: Box<[Slot<K>]>,
    shift: u32,
}

#[derive(Clone, Copy, Debug)]
struct Slot<K> {
    key: K,
    value: u32,
}

impl<K: Key> Table<K> {
    /// The table of `entries`, whose keys differ; of equal keys the first is kept. Values are below
    /// 2^32 - 1.
    pub(crate) fn new(entries: &[(K, u32)]) -> Self {
        let bits = (2 * entries.len()).next_power_of_two().trailing_zeros().max(4);
        let slots = vec![Slot { key: K::EMPTY, value: EMPTY }; 1 << bits].into_boxed_slice();
        let mut table = Table { slots, shift: u64::BITS - bits };
        for &(key, value) in entries {
            let place = table.probe(key).find(|&place| {
                table.slots.get(place).is_some_and(|slot| slot.value == EMPTY || slot.key == key)
            });
            let slot = place.and_then(|place| table.slots.get_mut(place));
            if let Some(slot) = slot.filter(|slot| slot.value == EMPTY) {
                *slot = Slot { key, value };
            }
        }
        table
    }

    /// The value of `key`.
    #[inline]
    pub(crate) fn get(&self, key: K) -> Option<u32> {
        for place in self.probe(key) {
            let slot = self.slots.get(place)?;
            if slot.value == EMPTY {
                return None;
            }
            if slot.key == key {
                return Some(slot.value);
            }
        }
        None
    }

    /// The places where `key` can be, in the order of search.
    #[inline]
    fn probe(&self, key: K) -> impl Iterator<Item = usize> + use<K> {
        let start = (key.spread() >> self.shift) as usize;
        let last = self.slots.len() - 1;
        (0..=last).map(move |step| (start + step) & last)
    }
}

const EMPTY: u32 = u32::MAX;

/// 2^64 divided by the golden ratio.
const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_what_was_put_in_and_nothing_else() {
        for count in [0_u64, 1, 2, 8, 9, 100, 5000] {
            // Keys of one VIP's ports, which differ in low bits only.
            let entries: Vec<_> =
                (0..count).map(|i| (0xcb00_710a_0000 + i, u32::try_from(i).unwrap())).collect();
            let table = Table::new(&entries);
            for (key, value) in &entries {
                assert_eq!(table.get(*key), Some(*value));
            }
            assert_eq!(table.get(0), None);
            assert_eq!(table.get(0xcb00_710a_0000 + count), None);
            assert_eq!(table.get(u64::MAX), None);
        }
    }

    #[test]
    fn finds_ipv6_keys_and_spreads_them() {
        for step in [1, 1 << 64, 1 << 48, 1 << 96] {
            let entries: Vec<_> = (0..1000u32)
                .map(|i| (((0x2001_0db8 << 96) + u128::from(i / 4) * step, 443 + i % 4), i))
                .collect();
            let table = Table::new(&entries);
            for (key, value) in &entries {
                assert_eq!(table.get(*key), Some(*value));
                // Half of the slots are empty, so that a search is short.
                let steps = table.probe(*key).take_while(|place| table.slots[*place].key != *key);
                assert!(steps.count() < 40, "{key:x?}");
            }
            assert_eq!(table.get((0, 0)), None);
            assert_eq!(table.get((entries[0].0.0, 447)), None);
        }
    }

    #[test]
    fn keeps_the_first_of_equal_keys() {
        assert_eq!(Table::new(&[(5, 1), (5, 2)]).get(5), Some(1));
    }
}
