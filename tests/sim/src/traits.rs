//! What stacks are like.

use std::net::IpAddr;

use anyrelay_kit::rng::Rng;

/// What a stack is made with.
#[derive(Clone, Copy, Debug)]
pub struct Traits {
    pub seed: u64,
    pub timestamps: bool,
    pub buffer: usize,
    pub mtu: usize,
    pub ttl: u8,
    pub clock: u32,
    /// Whether it has congestion control.
    pub reno: bool,
    /// How long it is idle before it probes its peer.
    pub keepalive_us: Option<u64>,
}

impl Traits {
    /// A host that nobody has seen before.
    pub fn random(rng: &mut Rng, ip: IpAddr) -> Self {
        let mut one = |values: &[u32]| values[rng.below(values.len() as u64) as usize];
        let buffer = one(&[1024, 4096, 16_384, 65_536, 262_144]) as usize;
        let mtu = one(&[1500, 1500, 1500, 1400, 1280, 576]) as usize;
        let mtu = if ip.is_ipv6() { mtu.max(1280) } else { mtu };
        let ttl = one(&[64, 128, 255, 5, 2]) as u8;
        let (timestamps, reno) = (rng.happens(600), rng.happens(500));
        let keepalive_us = rng.happens(400).then(|| 50_000 + rng.below(1_500_000));
        let (seed, clock) = (rng.next(), rng.next() as u32);
        Traits { seed, timestamps, buffer, mtu, ttl, clock, reno, keepalive_us }
    }
}
