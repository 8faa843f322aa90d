//! The table against a slow twin, which holds a flag for every byte of a datagram.

use std::collections::HashMap;

use super::*;

/// A datagram as a flag for every byte.
#[derive(Default)]
struct Bytewise {
    bytes: Vec<bool>,
    pieces: Vec<(usize, usize, bool)>,
    end: Option<usize>,
    is_given_up: bool,
    started: u64,
}

#[derive(Debug, PartialEq)]
enum Want {
    Waits,
    Whole(usize),
    Refused,
}

impl Bytewise {
    /// Pieces that must still arrive in any case.
    fn missing_ends(&self) -> usize {
        let has = |wanted: fn(&(usize, usize, bool)) -> bool| self.pieces.iter().any(wanted);
        usize::from(!has(|piece| piece.0 == 0)) + usize::from(!has(|piece| !piece.2))
    }

    fn add(&mut self, from: usize, to: usize, more: bool, most: usize) -> Want {
        if self.is_given_up || self.pieces.contains(&(from, to, more)) {
            return Want::Refused;
        }
        self.pieces.push((from, to, more));
        self.bytes.resize(self.bytes.len().max(to), false);
        let second_end = !more && self.end.is_some();
        if !more {
            self.end = Some(to);
        }
        self.is_given_up = second_end
            || self.bytes[from..to].iter().any(|&arrived| arrived)
            || self.pieces.len() + self.missing_ends() > most
            || self.end.is_some_and(|end| self.bytes.len() > end || (more && to == end));
        self.bytes[from..to].fill(true);
        let is_whole = self.end.is_some_and(|end| self.bytes.len() == end)
            && self.bytes.iter().all(|&arrived| arrived);
        match (self.is_given_up, is_whole) {
            (true, _) => Want::Refused,
            (false, true) => Want::Whole(self.bytes.len()),
            (false, false) => Want::Waits,
        }
    }
}

proptest! {
    #[test]
    fn the_table_agrees_with_its_slow_twin(
        steps in proptest::collection::vec(
            (0u16..6, 0usize..8, 1usize..4, prop::bool::weighted(0.75), 0u64..25), 1..200),
    ) {
        let mut clocked = Clocked::new(FragmentLimits { per_datagram: 5, ..LIMITS });
        let mut bytewise: HashMap<u16, Bytewise> = HashMap::new();
        let mut refused = 0;
        let mut passed = 0;
        for (id, from, len, more, pause) in steps {
            clocked.now += pause;
            bytewise.retain(|_, datagram| clocked.now - datagram.started <= 100);
            let (from, to) = (24 + from * 8, 24 + (from + len) * 8);
            // The first fragment has the whole TCP header.
            let from = if from == 24 { 0 } else { from };
            if from == 0 && !more {
                continue;
            }
            let fresh = || Bytewise { started: clocked.now, ..Bytewise::default() };
            let want = bytewise.entry(id).or_insert_with(fresh).add(from, to, more, 5);
            // Each of another network, so that no share is used up.
            let admitted = clocked.admit(&of_network(id as u8, id, from, to, more));
            let got = match admitted {
                Admitted::Waits => Want::Waits,
                Admitted::Completes(whole) => {
                    passed += whole.fragments as u64;
                    Want::Whole(whole.len)
                }
                Admitted::Refused => Want::Refused,
            };
            if let Want::Whole(_) = got {
                bytewise.remove(&id);
            }
            refused += 1;
            prop_assert_eq!(got, want);
        }
        // Every fragment was dropped or reassembled.
        clocked.now += 1000;
        (0..10).for_each(|_| clocked.expire());
        prop_assert!(clocked.table.is_empty() && clocked.table.kept() == 0);
        prop_assert_eq!(clocked.all_drops() + passed, refused);
    }
}
