//! The keyed hash of datagrams.

use super::*;

#[test]
fn datagrams_are_spread_over_workers_and_never_split() {
    let hash = FragmentHash::new(&Secret::new([7; 32])).unwrap();
    for workers in 1..9 {
        let mut counts = vec![0; workers];
        for id in 0..800 {
            let (one, other) = (ipv4(id, 0, 24, true), ipv4(id, 24, 48, false));
            let worker = hash.worker(&one.key, workers);
            assert_eq!(hash.worker(&other.key, workers), worker);
            counts[worker] += 1;
        }
        assert!(counts.iter().all(|&count| count > 400 / workers), "{counts:?}");
    }
    // Every bit of the key matters.
    let six = read(&ipv6_frame(7, 0, 24, true)).unwrap().unwrap().key;
    let flip = |ip: IpAddr, bit: usize| match ip {
        IpAddr::V4(ip) => IpAddr::V4(Ipv4Addr::from_bits(ip.to_bits() ^ 1 << (bit % 32))),
        IpAddr::V6(ip) => IpAddr::V6(Ipv6Addr::from_bits(ip.to_bits() ^ 1 << bit)),
    };
    for key in [ipv4(7, 0, 24, true).key, six] {
        for bit in 0..128 {
            assert_ne!(hash.of(&DatagramKey { src: flip(key.src, bit), ..key }), hash.of(&key));
            assert_ne!(hash.of(&DatagramKey { dst: flip(key.dst, bit), ..key }), hash.of(&key));
        }
        for bit in 0..16 {
            assert_ne!(hash.of(&DatagramKey { id: key.id ^ 1 << bit, ..key }), hash.of(&key));
        }
    }
}
