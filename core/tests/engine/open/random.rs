//! Made-up addresses: as many pass as the zeros say. `ANYRELAY_FULL=1` sends ten million packets to
//! them instead of a million.

use anyrelay_core::net::PortIndex;
use anyrelay_core::pop::BURST;

use super::*;

/// Packets at the prefix, a whole number of bursts.
fn packets() -> u32 {
    if std::env::var_os("ANYRELAY_FULL").is_some() { 10_000_000 } else { 1_000_000 }
}

/// So many packets to random addresses of `prefix`; how many pass, which the packets to nobody's
/// address and those of the epoch that is not there complete.
fn passing(prefix: &str, packets: u32, seed: u64) -> (u64, u64) {
    let config = tunnel_config(1)
        .tunnel(tunnel("open", &[OPEN]).with("tenants", ["acme"]).with("open", &open_side(prefix)));
    let mut world = tunnel_world_of(&config, KEYS);
    let (first, len) = prefix.split_once('/').unwrap();
    let (first, len): (_, u32) = (ip6(first), len.parse().unwrap());
    let mut rng = Rng(seed);
    let mut random = || u128::from(rng.next()) << 64 | u128::from(rng.next());
    let mut frame = world.framed(WAN, &Ipv6Header::new(HOST, 0).with(&BODY));
    for _ in 0..packets as usize / BURST {
        let frames = (0..BURST).map(|_| {
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
    assert_eq!(nobody + epoch + no_agent + passed, u64::from(packets), "seed {seed}");
    (passed + no_agent, epoch)
}

/// A /48 has 15 zeros. One epoch is there, so half of the addresses are of the other.
#[test]
fn random_addresses_bring_what_the_zeros_say() {
    let packets = packets();
    let (passed, epoch) = passing("2001:db8:a::/48", packets, 7);
    println!("{passed} of {packets} packets pass");
    let within =
        |count: u64, expected: f64| (count as f64 - expected).abs() <= 6.0 * expected.sqrt();
    let half = f64::from(packets) / 2.0;
    assert!(passed > 0 && within(passed, half / f64::from(1 << 15)), "{passed}");
    assert!(within(epoch, half), "{epoch}");
}

/// A /40 has 23, a /32 has 31.
#[test]
fn shorter_prefixes_let_fewer_pass() {
    let (passed, _) = passing("2001:db9::/32", 1_000_000, 8);
    assert_eq!(passed, 0);
}
