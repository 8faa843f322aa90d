//! The MTU of the path to the VIP, learned from ICMP errors (RFC 1191, RFC 8201).
//!
//! It never falls below the minimum of all paths, so that no error, also no forged one, stops
//! keepalives or short datagrams. It expires after ten minutes, so that an increase is used.

use anyrelay_core::time::Instant;

/// The path MTU, in bytes of IP.
#[derive(Clone, Copy, Debug)]
pub struct PathMtu {
    least: usize,
    learned: Option<(usize, Instant)>,
}

impl PathMtu {
    /// A path without any ICMP error so far.
    pub fn new(is_v4: bool) -> Self {
        PathMtu { least: if is_v4 { LEAST_V4 } else { LEAST_V6 }, learned: None }
    }

    /// Handles an ICMP error with this MTU. Only a lower one counts: the reported packet fitted the
    /// previous one.
    pub fn lower(&mut self, now: Instant, mtu: usize) {
        let mtu = mtu.max(self.least);
        if self.get(now).is_none_or(|before| mtu < before) {
            self.learned = Some((mtu, now.plus_millis(KEPT_MS)));
        }
    }

    /// The path MTU; `None` without a recent ICMP error.
    pub fn get(&self, now: Instant) -> Option<usize> {
        self.learned.filter(|(_, until)| now < *until).map(|(mtu, _)| mtu)
    }
}

/// The minimum of IPv4 hosts (RFC 791), and that of IPv6 links (RFC 8200).
const LEAST_V4: usize = 576;
const LEAST_V6: usize = 1280;
/// Lifetime: RFC 1191, section 6.3, and RFC 8201, section 5.3: ten minutes.
const KEPT_MS: u64 = 600_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_path_mtu_has_a_minimum_and_expires() {
        let at = Instant::from_millis;
        for (is_v4, least) in [(true, 576), (false, 1280)] {
            let mut path = PathMtu::new(is_v4);
            assert_eq!(path.get(at(0)), None);
            path.lower(at(0), 1400);
            path.lower(at(1), 1450);
            assert_eq!(path.get(at(1)), Some(1400), "a higher one says nothing");
            path.lower(at(1000), 0);
            assert_eq!(path.get(at(1000)), Some(least));
            // An MTU that is not lower does not extend the lifetime.
            path.lower(at(500_000), 0);
            assert_eq!(path.get(at(600_999)), Some(least));
            assert_eq!(path.get(at(601_000)), None);
        }
    }
}
