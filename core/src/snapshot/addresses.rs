//! What each address means to the POP, found in one load for each byte of it at most.
//!
//! A trie with a stride of 8 bits: a node has 256 entries, and an entry is either the next node or
//! the meaning of all addresses below it. Longer prefixes win over shorter ones. Most addresses of
//! the world are decided in the root.

use std::marker::PhantomData;

use crate::net::{Address, Net};

/// A map from addresses to 31-bit numbers; 0 for addresses that were not put in.
#[derive(Clone, Debug)]
pub(crate) struct AddressMap<A> {
    nodes: Vec<Node>,
    of: PhantomData<A>,
}

type Node = [u32; 256];

impl<A: Address> AddressMap<A> {
    /// The map in which each address has the value of the longest of the `prefixes` that holds it,
    /// and of equal ones the last.
    pub(crate) fn new(prefixes: &[(Net<A>, u32)]) -> Self {
        let mut map = AddressMap { nodes: vec![[0; 256]], of: PhantomData };
        let mut prefixes: Vec<_> = prefixes.to_vec();
        // Short ones first: a longer one then overwrites its part of what they wrote.
        prefixes.sort_by_key(|(net, _)| net.prefix_len);
        for (net, value) in prefixes {
            map.insert(net.address, u32::from(net.prefix_len.min(A::BITS)), value & !IS_NODE);
        }
        map
    }

    /// The value of `ip`.
    #[inline]
    pub(crate) fn get(&self, ip: A) -> u32 {
        let mut node = 0;
        for byte in ip.bytes() {
            let Some(entries) = self.nodes.get(node as usize) else { return 0 };
            let entry = entries[usize::from(byte)];
            if entry & IS_NODE == 0 {
                return entry;
            }
            node = entry & !IS_NODE;
        }
        0
    }

    fn insert(&mut self, ip: A, len: u32, value: u32) {
        let mut node = 0;
        for (depth, byte) in (0..).zip(ip.bytes()) {
            let bits_here = len.saturating_sub(8 * depth);
            if bits_here <= 8 {
                self.fill(node, byte, bits_here, value);
                return;
            }
            node = self.child(node, byte);
        }
    }

    /// Gives `value` to the entries of `node` that share the first `bits` bits with `byte`. They
    /// hold no nodes, as prefixes come in the order of their lengths.
    fn fill(&mut self, node: usize, byte: u8, bits: u32, value: u32) {
        let count = 256 >> bits;
        let first = usize::from(byte) / count * count;
        if let Some(entries) = self.nodes.get_mut(node) {
            entries.iter_mut().skip(first).take(count).for_each(|entry| *entry = value);
        }
    }

    /// The node below entry `byte` of `node`, made if need be.
    fn child(&mut self, node: usize, byte: u8) -> usize {
        let next = self.nodes.len();
        let Some(entries) = self.nodes.get_mut(node) else { return 0 };
        let entry = &mut entries[usize::from(byte)];
        if *entry & IS_NODE != 0 {
            return (*entry & !IS_NODE) as usize;
        }
        let inherited = std::mem::replace(entry, next as u32 | IS_NODE);
        self.nodes.push([inherited; 256]);
        next
    }
}

const IS_NODE: u32 = 1 << 31;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn slow<A: Address>(prefixes: &[(Net<A>, u32)], ip: A) -> u32 {
        let holding = prefixes.iter().filter(|(net, _)| net.contains(ip));
        holding.max_by_key(|(net, _)| net.prefix_len).map_or(0, |found| found.1)
    }

    /// Compares the map with the slow search, at the probes and at the prefixes' own addresses.
    fn agree<A: Address>(prefixes: &[(Net<A>, u32)], probes: &[A]) {
        let map = AddressMap::new(prefixes);
        let inside = prefixes.iter().map(|(net, _)| net.address);
        for ip in probes.iter().copied().chain(inside) {
            assert_eq!(map.get(ip), slow(prefixes, ip), "{ip:?}");
        }
    }

    proptest! {
        #[test]
        fn the_longest_prefix_wins(
            // Addresses that are close together, so that prefixes nest.
            prefixes in prop::collection::vec((0..4u32, any::<u16>(), 0..=32u8, 1..1000u32), 0..40),
            probes in prop::collection::vec((0..4u32, any::<u16>()), 40),
        ) {
            let at = |high: u32, low: u16| high << 30 | 0x0a_0000 | u32::from(low);
            let net = |high, low, prefix_len| Net { address: at(high, low), prefix_len };
            let prefixes: Vec<_> =
                prefixes.iter().map(|&(high, low, len, to)| (net(high, low, len), to)).collect();
            let probes: Vec<_> = probes.iter().map(|&(high, low)| at(high, low)).collect();
            agree(&prefixes, &probes);
        }

        #[test]
        fn the_longest_prefix_wins_in_ipv6(
            prefixes in prop::collection::vec(
                (0..4u128, any::<u16>(), 0..=128u8, 1..1000u32), 0..40
            ),
            probes in prop::collection::vec((0..4u128, any::<u16>()), 40),
        ) {
            let at = |high: u128, low: u16| 0x2001_0db8 << 96 | high << 62 | u128::from(low);
            let net = |high, low, prefix_len| Net { address: at(high, low), prefix_len };
            let prefixes: Vec<_> =
                prefixes.iter().map(|&(high, low, len, to)| (net(high, low, len), to)).collect();
            let probes: Vec<_> = probes.iter().map(|&(high, low)| at(high, low)).collect();
            agree(&prefixes, &probes);
        }
    }
}
