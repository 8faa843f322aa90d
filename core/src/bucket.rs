//! Token buckets: bounds on what a POP sends of its own accord.

use std::net::IpAddr;

use crate::crypto::{Aes128, HkdfError};
use crate::keys::Secret;
use crate::time::Instant;

const NANOS: u64 = 1_000_000_000;

/// Lets through `rate` events a second, and as many at once after a second of rest.
///
/// The state is the time at which the bucket would be full again (the "virtual scheduling" form of
/// ITU-T I.371's GCRA), so an idle bucket costs nothing. A rate of 0 lets nothing through.
#[derive(Clone, Copy, Debug)]
pub struct Bucket {
    full_at_ns: u64,
}

impl Bucket {
    /// A full bucket.
    pub const fn new() -> Self {
        Bucket { full_at_ns: 0 }
    }

    /// Takes a token; false when there is none.
    pub fn take(&mut self, now: Instant, rate_per_second: u32) -> bool {
        match self.after(now, rate_per_second) {
            Some(full_at_ns) => {
                self.full_at_ns = full_at_ns;
                true
            }
            None => false,
        }
    }

    /// Whether there is a token to take.
    pub fn has(&self, now: Instant, rate_per_second: u32) -> bool {
        self.after(now, rate_per_second).is_some()
    }

    /// When the bucket would be full again once a token was taken, if there is one.
    fn after(&self, now: Instant, rate_per_second: u32) -> Option<u64> {
        let each = NANOS.checked_div(u64::from(rate_per_second))?;
        let full_at = self.full_at_ns.max(now.as_nanos()).saturating_add(each);
        (full_at - now.as_nanos() <= NANOS).then_some(full_at)
    }
}

impl Default for Bucket {
    fn default() -> Self {
        Bucket::new()
    }
}

/// What the buckets of one [`BucketTable`] are for, so that networks share them differently from
/// table to table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Purpose {
    /// SYN-ACKs of tunnels, by the network they go to.
    SynAck = 1,
    /// Keepalive requests with a wrong MAC, by the host they come from: its address is proven by
    /// then, and its neighbours shall not suffer for it.
    KeepaliveMac = 2,
    /// SYNs to relay services, by the network they come from.
    Syn = 3,
    /// ICMP errors that are passed on, by the network of the client or agent they are about.
    Icmp = 4,
    /// ICMP errors of a POP's own, by the network they go to; kinds are told apart like services.
    OwnIcmp = 5,
    /// Fragments that wait for the others of their datagram, by the network they come from: not
    /// buckets, but counts in as many places.
    Fragments = 6,
}

impl Purpose {
    /// Bytes of an IPv4 and of an IPv6 address that networks are told apart by.
    const fn prefix_bytes(self) -> (usize, usize) {
        match self {
            Purpose::KeepaliveMac => (4, 8),
            Purpose::SynAck
            | Purpose::Syn
            | Purpose::Icmp
            | Purpose::OwnIcmp
            | Purpose::Fragments => (3, 7),
        }
    }
}

/// Which bucket a network has. Nobody without the key can find networks that share one with
/// another's, to use up its tokens.
#[derive(Clone, Debug)]
pub struct BucketHash(Aes128);

impl BucketHash {
    /// The hash under a key made of `secret`.
    pub fn new(secret: &Secret) -> Result<Self, HkdfError> {
        Ok(BucketHash(Aes128::new(&secret.derive("buckets", &[])?)))
    }

    /// The place of the network of `ip` at the service whose counters are in `slot`: an IPv4 /32 or
    /// an IPv6 /64 for [`Purpose::KeepaliveMac`], a /24 or a /56 for the others.
    pub fn of(&self, purpose: Purpose, slot: u16, ip: IpAddr) -> BucketPlace {
        let [place, _] = self.both(purpose, slot, ip);
        place
    }

    /// The places of the same network in the two tables of a [`BucketSketch`].
    pub fn both(&self, purpose: Purpose, slot: u16, ip: IpAddr) -> [BucketPlace; 2] {
        let mut block = [0; 16];
        let [high, low] = slot.to_be_bytes();
        let (bytes4, bytes6) = purpose.prefix_bytes();
        let (_, room) = block.split_at_mut(4);
        let family = match ip {
            IpAddr::V4(ip) => {
                let prefix = ip.octets().into_iter().take(bytes4);
                room.iter_mut().zip(prefix).for_each(|(to, byte)| *to = byte);
                4
            }
            IpAddr::V6(ip) => {
                let prefix = ip.octets().into_iter().take(bytes6);
                room.iter_mut().zip(prefix).for_each(|(to, byte)| *to = byte);
                6
            }
        };
        block[..4].copy_from_slice(&[purpose as u8, family, high, low]);
        let [.., a, b, c, d] = self.0.encrypt_block(&block);
        [[c, d], [a, b]].map(|place| BucketPlace(u16::from_be_bytes(place)))
    }
}

/// A network's place in a [`BucketTable`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BucketPlace(u16);

impl BucketPlace {
    /// Some place.
    pub(crate) const FIRST: BucketPlace = BucketPlace(0);

    /// Which of [`BUCKETS`] places it is.
    pub(crate) fn index(self) -> usize {
        usize::from(self.0) % BUCKETS
    }
}

/// Buckets for all networks there are: a fixed number, so that some networks share one.
#[derive(Clone, Debug)]
pub struct BucketTable(Box<[Bucket]>);

/// Buckets of a [`BucketTable`].
pub const BUCKETS: usize = 4096;

impl BucketTable {
    /// [`BUCKETS`] full ones.
    pub fn new() -> Self {
        BucketTable(vec![Bucket::new(); BUCKETS].into_boxed_slice())
    }

    /// The bucket at `place`.
    pub fn at(&mut self, place: BucketPlace) -> Option<&mut Bucket> {
        self.0.get_mut(place.index())
    }
}

impl Default for BucketTable {
    fn default() -> Self {
        BucketTable::new()
    }
}

/// Buckets for all networks there are, so that hardly one suffers for another's flood.
///
/// Each network has a bucket in either of two tables, and takes from both, but needs only one that is
/// not empty: it suffers where both are shared with networks that exceed their rate (a count-min
/// sketch of two rows). With n of those among [`BUCKETS`] in each table, that is a chance of
/// (n / 4096)^2: 1 in 1,700 for 100 of them, instead of 1 in 41.
#[derive(Clone, Debug, Default)]
pub struct BucketSketch([BucketTable; 2]);

impl BucketSketch {
    /// Takes a token of the network at `places`; false when it has none.
    pub fn take(&mut self, places: [BucketPlace; 2], now: Instant, rate_per_second: u32) -> bool {
        let mut taken = false;
        for (table, place) in self.0.iter_mut().zip(places) {
            taken |= table.at(place).is_some_and(|bucket| bucket.take(now, rate_per_second));
        }
        taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_of_tokens_then_the_rate() {
        let mut bucket = Bucket::new();
        let start = Instant::from_millis(5_000);
        let taken =
            |bucket: &mut Bucket, now, tries| (0..tries).filter(|_| bucket.take(now, 100)).count();
        assert_eq!(taken(&mut bucket, start, 1000), 100);
        assert_eq!(taken(&mut bucket, start.plus_millis(100), 1000), 10);
        assert_eq!(taken(&mut bucket, start.plus_millis(10_000), 1000), 100);
    }

    #[test]
    fn no_rate_no_tokens() {
        assert!(!Bucket::new().take(Instant::from_millis(1), 0));
    }

    #[test]
    fn looking_takes_nothing() {
        let (mut bucket, now) = (Bucket::new(), Instant::from_millis(7));
        assert!((0..9).all(|_| bucket.has(now, 1)));
        assert!(bucket.take(now, 1));
        assert!(!bucket.has(now, 1));
    }

    fn hash() -> BucketHash {
        BucketHash::new(&Secret::new([7; 32])).unwrap()
    }

    fn place(ip: &str) -> BucketPlace {
        hash().of(Purpose::SynAck, 3, ip.parse().unwrap())
    }

    #[test]
    fn a_network_has_one_bucket() {
        for (one, other, same) in [
            ("192.0.2.1", "192.0.2.254", true),
            ("192.0.2.1", "192.0.3.1", false),
            ("192.0.2.1", "193.0.2.1", false),
            ("2001:db8::1", "2001:db8:0:ff:1::2", true),
            ("2001:db8::1", "2001:db8:0:100::1", false),
            ("2001:db8::1", "2001:db9::1", false),
            ("192.0.2.1", "c000:200::", false),
        ] {
            assert_eq!(place(one) == place(other), same, "{one} {other}");
        }
    }

    #[test]
    fn a_host_has_its_own_bucket_where_its_address_is_proven() {
        let place = |ip: &str| hash().of(Purpose::KeepaliveMac, 3, ip.parse().unwrap());
        for (one, other, same) in [
            ("192.0.2.1", "192.0.2.1", true),
            ("192.0.2.1", "192.0.2.254", false),
            ("2001:db8::1", "2001:db8::1:0:0:2", true),
            ("2001:db8::1", "2001:db8:0:1::1", false),
        ] {
            assert_eq!(place(one) == place(other), same, "{one} {other}");
        }
    }

    #[test]
    fn services_purposes_and_keys_part_networks() {
        let ip = "192.0.2.1".parse().unwrap();
        let base = hash().of(Purpose::SynAck, 3, ip);
        assert_ne!(base, hash().of(Purpose::SynAck, 4, ip));
        assert_ne!(base, hash().of(Purpose::KeepaliveMac, 3, ip));
        assert_ne!(
            base,
            BucketHash::new(&Secret::new([8; 32])).unwrap().of(Purpose::SynAck, 3, ip)
        );
    }

    #[test]
    fn networks_are_spread_over_all_buckets() {
        let mut table = BucketTable::new();
        let now = Instant::from_millis(5);
        let networks = 4 * BUCKETS as u32;
        let taken = (0..networks).filter(|network| {
            let ip = std::net::Ipv4Addr::from_bits(0x0100_0000 + (network << 8));
            let place = hash().of(Purpose::SynAck, 0, ip.into());
            table.at(place).is_some_and(|bucket| bucket.take(now, 1))
        });
        // Buckets that none of 4 times as many networks hit: a share of e^-4, 1.8%.
        let hit = taken.count() as f64 / BUCKETS as f64;
        assert!((0.97..0.995).contains(&hit), "{hit}");
    }
}
