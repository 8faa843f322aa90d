//! The replay window of a session: accepts each counter once, and none that is too old.
//!
//! Source: RFC 6479, a ring of words, cleared word by word as the greatest counter advances.

/// The size of the window: counters further behind the greatest one are refused.
pub const WINDOW: u64 = 2048;

/// The counters seen in one direction of one session.
#[derive(Clone, Debug)]
pub struct ReplayWindow {
    /// The greatest counter seen, plus one; 0 before the first.
    next: u64,
    /// Bit `c % 64` of word `c / 64 % WORDS`.
    ring: [u64; WORDS],
}

/// The state of a counter before its packet is authenticated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CounterState {
    /// Greater than all seen counters.
    Newest,
    /// Less than the greatest counter, but not seen.
    Late,
    /// Seen, or older than the window.
    Refused,
}

impl ReplayWindow {
    /// An empty window.
    pub const fn new() -> Self {
        ReplayWindow { next: 0, ring: [0; WORDS] }
    }

    /// The state of `counter`. Changes nothing, as the packet is not authenticated yet.
    pub fn state(&self, counter: u64) -> CounterState {
        if counter == u64::MAX {
            // Noise reserves this counter (section 5.1), and `next` could not exceed it.
            return CounterState::Refused;
        }
        if counter >= self.next {
            return CounterState::Newest;
        }
        let (word, bit) = position(counter);
        let seen = self.ring.get(word).is_none_or(|word| word & bit != 0);
        if seen || self.next - counter > WINDOW {
            CounterState::Refused
        } else {
            CounterState::Late
        }
    }

    /// Marks a counter as seen, which must not be [`CounterState::Refused`], and whose packet is
    /// authentic.
    pub fn mark_seen(&mut self, counter: u64) {
        if counter >= self.next {
            // The words after that of the greatest counter, up to that of `counter`, hold counters
            // that are now older than the window.
            let first = self.next.div_ceil(BITS);
            let last = counter / BITS;
            let stale = last.saturating_add(1).saturating_sub(first).min(WORDS as u64);
            for word in (0..stale).map(|back| position((last - back) * BITS).0) {
                if let Some(word) = self.ring.get_mut(word) {
                    *word = 0;
                }
            }
            self.next = counter.saturating_add(1);
        }
        let (word, bit) = position(counter);
        if let Some(word) = self.ring.get_mut(word) {
            *word |= bit;
        }
    }
}

impl Default for ReplayWindow {
    fn default() -> Self {
        ReplayWindow::new()
    }
}

fn position(counter: u64) -> (usize, u64) {
    ((counter / BITS % WORDS as u64) as usize, 1 << (counter % BITS))
}

const BITS: u64 = u64::BITS as u64;
/// One word more than the window holds, as the word of the greatest counter is seldom full.
const WORDS: usize = (WINDOW / BITS) as usize + 1;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    /// The slow reference: a set of all seen counters.
    #[derive(Default)]
    struct Twin(BTreeSet<u64>);

    impl Twin {
        fn state(&self, counter: u64) -> CounterState {
            let greatest = self.0.last().copied();
            match greatest {
                _ if counter == u64::MAX => CounterState::Refused,
                Some(greatest) if counter <= greatest => {
                    if self.0.contains(&counter) || greatest - counter >= WINDOW {
                        CounterState::Refused
                    } else {
                        CounterState::Late
                    }
                }
                _ => CounterState::Newest,
            }
        }
    }

    /// Steps of all sizes, so that words, the whole ring and much more are skipped.
    fn counters() -> impl Strategy<Value = Vec<u64>> {
        let start = prop_oneof![Just(0), any::<u64>(), Just(u64::MAX - 5000)];
        let step = prop_oneof![
            8 => -200i64..200,
            4 => -2200i64..2200,
            2 => prop::sample::select(vec![-2049i64, -2048, -2047, 63, 64, 65]),
            1 => -1_000_000i64..1_000_000,
        ];
        (start, prop::collection::vec(step, 1..400)).prop_map(|(start, steps)| {
            let mut at = start;
            steps
                .into_iter()
                .map(|step| {
                    at = at.saturating_add_signed(step);
                    at
                })
                .collect()
        })
    }

    proptest! {
        #[test]
        fn agrees_with_the_slow_reference(counters in counters()) {
            let (mut window, mut twin) = (ReplayWindow::new(), Twin::default());
            for counter in counters {
                let state = window.state(counter);
                prop_assert_eq!(state, twin.state(counter), "counter {}", counter);
                if state != CounterState::Refused {
                    window.mark_seen(counter);
                    twin.0.insert(counter);
                }
            }
        }
    }

    #[test]
    fn the_bounds_of_the_window() {
        let mut window = ReplayWindow::new();
        assert_eq!(window.state(0), CounterState::Newest);
        window.mark_seen(0);
        assert_eq!(window.state(0), CounterState::Refused);
        window.mark_seen(WINDOW);
        assert_eq!(window.state(0), CounterState::Refused);
        assert_eq!(window.state(1), CounterState::Late);
        assert_eq!(window.state(u64::MAX - 1), CounterState::Newest);
        assert_eq!(window.state(u64::MAX), CounterState::Refused);
    }
}
