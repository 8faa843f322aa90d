//! Token buckets: bounds on the work and the packets that others can cause at a POP.

use std::net::{IpAddr, SocketAddr, SocketAddrV4};

use cpu_vector::{BLOCKS, Blocks, Isa, RoundKeys};

use crate::crypto::{Block, HkdfError};
use crate::keys::Secret;
use crate::time::Instant;

const NANOS: u64 = 1_000_000_000;

/// Allows a rate of events per second, and a second's worth at once.
///
/// The state is the time at which the bucket is full again (the virtual scheduling form of the GCRA
/// of ITU-T I.371), so that an idle bucket costs nothing. A rate of 0 allows no event.
#[derive(Clone, Copy, Debug)]
pub struct Bucket {
    full_at_ns: u64,
}

impl Bucket {
    /// A full bucket.
    pub const fn new() -> Self {
        Bucket { full_at_ns: 0 }
    }

    /// Takes a token; false when the bucket is empty.
    pub fn take(&mut self, now: Instant, rate_per_second: u32) -> bool {
        match self.after(now, rate_per_second) {
            Some(full_at_ns) => {
                self.full_at_ns = full_at_ns;
                true
            }
            None => false,
        }
    }

    /// Whether the bucket has a token.
    pub fn has(&self, now: Instant, rate_per_second: u32) -> bool {
        self.after(now, rate_per_second).is_some()
    }

    /// Whether nothing was taken since the bucket was full again, a second ago or longer.
    pub fn is_rested(&self, now: Instant) -> bool {
        now.as_nanos().saturating_sub(self.full_at_ns) >= NANOS
    }

    /// The time at which the bucket would be full again after a token was taken; `None` when it is
    /// empty.
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

/// The purpose of a [`BucketTable`]. It is hashed, so that networks that share a bucket in one
/// table do not in another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Purpose {
    /// SYN-ACKs of tunnels, by the network of their destination.
    SynAck = 1,
    /// Keepalive requests with a wrong MAC, by the host of their source and by its address and
    /// port: both are proven, so that neighbours, also behind one NAT, need not share the limit.
    KeepaliveMac = 2,
    /// SYNs to relays, by the network of their source.
    Syn = 3,
    /// ICMP errors that are passed on, by the network of the client or agent that they concern.
    Icmp = 4,
    /// What the POP originates, by the network of its destination; each kind has the place of a
    /// service.
    Own = 5,
    /// Fragments of incomplete datagrams, by the network of their source: not buckets, but counts
    /// in as many places.
    Fragments = 6,
    /// SYNs that are remembered, by the network of their source.
    RememberedSyn = 7,
    /// Packets from open addresses, by the address and port of their agents.
    OpenUp = 8,
    /// Packets to open addresses, by the address and port of their agents.
    OpenDown = 9,
}

impl Purpose {
    /// The lengths of the prefix that is a network, of IPv4 and of IPv6, in bits.
    const fn prefix_bits(self) -> (u32, u32) {
        match self {
            Purpose::KeepaliveMac | Purpose::OpenUp | Purpose::OpenDown => (32, 64),
            Purpose::SynAck
            | Purpose::Syn
            | Purpose::Icmp
            | Purpose::Own
            | Purpose::Fragments
            | Purpose::RememberedSyn => (24, 56),
        }
    }
}

/// A keyed hash from a network to its bucket. Without the key it is unknown which networks share a
/// bucket, so that none can use up another's tokens on purpose.
#[derive(Clone, Debug)]
pub struct BucketHash(RoundKeys);

impl BucketHash {
    /// The hash under a key that is derived from `secret`.
    ///
    /// # Errors
    /// When HKDF fails, which it does not for keys of this length.
    pub fn new(secret: &Secret) -> Result<Self, HkdfError> {
        Ok(BucketHash(RoundKeys::new(secret.derive("buckets", &[])?.as_bytes())))
    }

    /// The place of the network of `ip` for the service whose counters are in `slot`. A network is
    /// an IPv4 /32 or IPv6 /64 for [`Purpose::KeepaliveMac`], a /24 or a /56 for the others.
    pub fn of(&self, purpose: Purpose, slot: u16, ip: IpAddr) -> BucketPlace {
        let [place, _] = self.both(purpose, slot, ip);
        place
    }

    /// The places of one IPv4 address and port in the two tables of a [`BucketSketch`].
    pub fn both_of_endpoint(
        &self,
        purpose: Purpose,
        slot: u16,
        at: SocketAddrV4,
    ) -> [BucketPlace; 2] {
        places(u128::from_be_bytes(self.endpoint_block(purpose, slot, at.into())) as u64)
    }

    /// The place of one address and port in a table of their own.
    pub fn of_endpoint(&self, purpose: Purpose, slot: u16, at: SocketAddr) -> BucketPlace {
        let [.., a, b] = self.endpoint_block(purpose, slot, at);
        BucketPlace(u16::from_be_bytes([a, b]))
    }

    fn endpoint_block(&self, purpose: Purpose, slot: u16, at: SocketAddr) -> Block {
        let mut block = self.seal(purpose, slot, at.ip());
        let mut rest = [0; 16];
        if let IpAddr::V6(ip) = at.ip() {
            rest.iter_mut().zip(ip.octets()).for_each(|(to, byte)| *to = byte);
        }
        block.iter_mut().zip(rest).for_each(|(to, byte)| *to ^= byte);
        let block = (u128::from_be_bytes(block) ^ u128::from(at.port())).to_be_bytes();
        self.0.encrypt_block(&block)
    }

    /// The places of the same network in the two tables of a [`BucketSketch`].
    pub fn both(&self, purpose: Purpose, slot: u16, ip: IpAddr) -> [BucketPlace; 2] {
        places(u128::from_be_bytes(self.seal(purpose, slot, ip)) as u64)
    }

    /// [`BucketHash::both`] of many networks at once: of as many as there are [`messages`], which
    /// come first in `messages`.
    ///
    /// [`messages`]: BucketHash::message
    #[inline]
    pub fn both_of_all(&self, isa: Isa, messages: &Blocks, count: usize) -> NetworkPlaces {
        NetworkPlaces(self.0.encrypt_blocks(isa, messages, count))
    }

    /// The block whose encryption tells the places of a network.
    #[inline]
    pub fn message(purpose: Purpose, slot: u16, ip: IpAddr) -> [u64; 2] {
        let message = network(purpose, slot, ip);
        [(message >> 64) as u64, message as u64].map(u64::to_be)
    }

    fn seal(&self, purpose: Purpose, slot: u16, ip: IpAddr) -> Block {
        self.0.encrypt_block(&network(purpose, slot, ip).to_be_bytes())
    }
}

/// The places of many networks.
#[derive(Debug)]
pub struct NetworkPlaces(Blocks);

impl NetworkPlaces {
    /// Those of the network whose message was the one at `at`.
    #[inline]
    pub fn both(&self, at: usize) -> [BucketPlace; 2] {
        let [_, last] = self.0.0[at % BLOCKS];
        places(u64::from_be(last))
    }
}

/// The places that a sealed block tells by its last four bytes.
#[inline]
fn places(last: u64) -> [BucketPlace; 2] {
    [last, last >> 16].map(|place| BucketPlace(place as u16))
}

/// A network, as it is hashed.
#[inline]
fn network(purpose: Purpose, slot: u16, ip: IpAddr) -> u128 {
    let (bits4, bits6) = purpose.prefix_bits();
    let (family, network) = match ip {
        IpAddr::V4(ip) => {
            let host = u32::MAX.checked_shr(bits4).unwrap_or(0);
            (4, u128::from(ip.to_bits() & !host) << 64)
        }
        IpAddr::V6(ip) => (6, (ip.to_bits() & !(u128::MAX >> bits6)) >> 32),
    };
    let head = u128::from(purpose as u8) << 24 | family << 16 | u128::from(slot);
    head << 96 | network
}

/// A network's place in a [`BucketTable`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BucketPlace(u16);

impl BucketPlace {
    /// The place of an unused entry.
    pub(crate) const FIRST: BucketPlace = BucketPlace(0);

    /// Its index, below [`BUCKETS`].
    pub(crate) fn index(self) -> usize {
        usize::from(self.0) % BUCKETS
    }
}

/// Buckets for all networks: a fixed number, so that some networks share one.
#[derive(Clone, Debug)]
pub struct BucketTable(Box<[Bucket; BUCKETS]>);

/// The number of buckets of a [`BucketTable`].
pub const BUCKETS: usize = 4096;

impl BucketTable {
    /// [`BUCKETS`] full buckets.
    pub fn new() -> Self {
        BucketTable(Box::new([Bucket::new(); BUCKETS]))
    }

    /// The bucket at `place`.
    pub fn at(&mut self, place: BucketPlace) -> Option<&mut Bucket> {
        self.0.get_mut(place.index())
    }
}

impl BucketTable {
    fn has(&self, place: BucketPlace, now: Instant, rate_per_second: u32) -> bool {
        self.0.get(place.index()).is_some_and(|bucket| bucket.has(now, rate_per_second))
    }
}

impl Default for BucketTable {
    fn default() -> Self {
        BucketTable::new()
    }
}

/// Buckets for all networks, of which hardly one is limited because of another's flood.
///
/// Each network has a bucket in each of two tables and takes from both, but needs only one that is
/// not empty (a count-min sketch of two rows). It is limited wrongly only where both buckets are
/// shared with networks that exceed their rate. With n such networks among [`BUCKETS`], the chance
/// is (n / 4096)^2: 1 in 1,700 for 100 of them, instead of 1 in 41 with one table.
#[derive(Clone, Debug, Default)]
pub struct BucketSketch([BucketTable; 2]);

impl BucketSketch {
    /// Takes a token for the network at `places`; false when both of its buckets are empty.
    pub fn take(&mut self, places: [BucketPlace; 2], now: Instant, rate_per_second: u32) -> bool {
        let mut taken = false;
        for (table, place) in self.0.iter_mut().zip(places) {
            taken |= table.at(place).is_some_and(|bucket| bucket.take(now, rate_per_second));
        }
        taken
    }

    /// Whether a bucket of the network at `places` has a token.
    pub fn has(&self, places: [BucketPlace; 2], now: Instant, rate_per_second: u32) -> bool {
        let mut rows = self.0.iter().zip(places);
        rows.any(|(table, place)| table.has(place, now, rate_per_second))
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

    #[test]
    fn a_bucket_rests_a_second_after_it_is_full_again() {
        let mut bucket = Bucket::new();
        let start = Instant::from_millis(5_000);
        assert!(bucket.is_rested(start));
        assert!(bucket.take(start, 10));
        for (after_ms, rested) in [(0, false), (100, false), (1099, false), (1100, true)] {
            assert_eq!(bucket.is_rested(start.plus_millis(after_ms)), rested, "{after_ms}");
        }
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
    fn services_purposes_and_keys_separate_networks() {
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
        // The share of buckets that none of 4 times as many networks has is e^-4, 1.8%.
        let hit = taken.count() as f64 / BUCKETS as f64;
        assert!((0.97..0.995).contains(&hit), "{hit}");
    }
}
