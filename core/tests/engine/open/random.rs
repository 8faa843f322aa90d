//! Made-up addresses: as many pass as the zeros say.

use anyrelay_core::net::PortIndex;

use super::*;

/// Packets at the prefix.
const PACKETS: u32 = 1_000_000;

/// So many packets to random addresses of `prefix`; how many pass, which the packets to nobody's
/// address and those of the epoch that is not there complete.
fn passing(prefix: &str, seed: u64) -> (u64, u64) {
    let config = tunnel_config(1)
        .tunnel(tunnel("open", &[OPEN]).with("tenants", ["acme"]).with("open", &open_side(prefix)));
    let mut world = tunnel_world_of(&config, KEYS);
    let (first, len) = prefix.split_once('/').unwrap();
    let (first, len): (_, u32) = (ip6(first), len.parse().unwrap());
    let mut rng = Rng(seed);
    let mut random = || u128::from(rng.next()) << 64 | u128::from(rng.next());
    let mut frame = world.framed(WAN, &Ipv6Header::new(HOST, 0).with(&BODY));
    for _ in 0..PACKETS / 50 {
        let frames = (0..50).map(|_| {
            let address = first | random() & (u128::MAX >> len);
            frame[38..54].copy_from_slice(&address.to_be_bytes());
            Used::from_bytes(&frame)
        });
        world.burst(WAN, frames.collect());
    }
    let drops = |reason| world.drops(PortIndex(0), reason);
    let (nobody, epoch) = (drops(DropReason::OpenAddress), drops(DropReason::OpenEpoch));
    let no_agent = drops(DropReason::DestinationNotAllowed);
    let slot = world.snapshot.tunnel_at(OPEN.parse().unwrap()).unwrap().slot;
    let passed = world.counters.service(slot).down.packets.get();
    assert_eq!(nobody + epoch + no_agent + passed, u64::from(PACKETS), "seed {seed}");
    (passed + no_agent, epoch)
}

/// A /48 has 15 zeros. One epoch is there, so half of the addresses are of the other.
#[test]
fn a_million_random_addresses_bring_what_the_zeros_say() {
    let (passed, epoch) = passing("2001:db8:a::/48", 7);
    // 15.3 are expected of half a million; six standard deviations are 23.5.
    assert!((1..=38).contains(&passed), "{passed}");
    assert!((497_000..=503_000).contains(&epoch), "{epoch}");
}

/// A /40 has 23, a /32 has 31.
#[test]
fn shorter_prefixes_let_fewer_pass() {
    let (passed, _) = passing("2001:db9::/32", 8);
    assert_eq!(passed, 0);
}
