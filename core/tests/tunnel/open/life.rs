//! How open addresses come, change and end.

use anyrelay_core::keys::{Epoch, Epochs, Secret};
use anyrelay_core::tunnel::agent::OpenAddresses;

use super::*;
use crate::flows::{PLAIN, pair, seeds};

impl World {
    fn addresses(&self, site: usize) -> OpenAddresses {
        self.sites[site].agent.open_addresses()
    }

    fn version(&self, site: usize) -> u64 {
        self.sites[site].agent.open_version()
    }

    /// The next token epoch begins in so many milliseconds.
    fn begin_epoch_in(&mut self, ms: u64) {
        let not_before = self.pop_time(0).plus_millis(ms);
        let secret = Secret::new([self.rng.next() as u8; 32]);
        self.change_keys(|keys| {
            let last = keys.tokens.iter().last().unwrap().clone();
            let next = Epoch { number: last.number.wrapping_add(1), secret, not_before };
            keys.tokens = Epochs::new(last, Some(next)).unwrap();
        });
    }
}

#[test]
fn without_an_open_side_there_are_no_addresses() {
    let mut world = World::new(1, Constants::default());
    let (a, _) = pair(&mut world, PLAIN);
    assert_eq!((world.addresses(a), world.version(a)), (OpenAddresses::default(), 0));
    // Nor has an agent of IPv6.
    let mut world = World::open(1);
    let config = world.config(true);
    let a = world.add_agent(config, PLAIN);
    world.run_until_ready(a);
    assert_eq!((world.addresses(a), world.version(a)), (OpenAddresses::default(), 0));
    assert_eq!(world.sites[a].agent.open_packet_max(), 0);
}

/// An epoch begins: each agent has a new address, and the old one for another day. Both work both
/// ways until then, at POPs whose clocks differ, and every change is told once.
#[test]
fn after_an_epoch_both_addresses_work_for_a_day() {
    for seed in seeds(5) {
        let mut world = World::open(seed).with_pops(&[0, 3000]);
        let (a, b) = pair(&mut world, PLAIN);
        assert_eq!((world.version(a), world.version(b)), (1, 1));
        let old = [world.address(a), world.address(b)];
        world.begin_epoch_in(20_000);
        let mut sent = 0;
        for _ in 0..600 {
            for (from, to) in [(a, old[1]), (b, old[0])] {
                let packet = world.packet(old[from], to, 1000);
                world.send_open(from, &packet).unwrap();
                sent += 1;
            }
            world.run(100);
        }
        world.run(1000);
        let arrived: usize = [a, b].iter().map(|site| world.sites[*site].opened.len()).sum();
        assert_eq!(arrived, sent, "seed {seed}");
        for site in [a, b] {
            let now = world.addresses(site);
            assert_eq!(now.deprecated, Some(ip(old[site])), "seed {seed}");
            assert!(now.current.is_some_and(|new| new != ip(old[site])), "seed {seed}");
            assert_eq!(world.version(site), 2, "seed {seed}");
        }
        let new = world.address(a);
        for own in [old[0], new] {
            let (up, down) = (world.packet(own, HOST, 900), world.packet(HOST, own, 900));
            world.send_open(a, &up).unwrap();
            assert!(world.come_from_outside(&down));
            world.run(1000);
            assert_eq!(world.outside.last(), Some(&up), "seed {seed}");
            assert_eq!(world.sites[a].opened.last().unwrap().1, down, "seed {seed}");
        }
        world.assert_clean(seed);
        world.run(24 * 3600 * 1000);
        for site in [a, b] {
            let current = Some(ip(world.address(site)));
            assert_eq!(world.addresses(site), OpenAddresses { current, deprecated: None });
            assert_eq!(world.version(site), 3, "seed {seed}");
        }
        assert_eq!(world.address(a), new, "seed {seed}");
        let late = world.packet(old[0], HOST, 100);
        assert_eq!(world.send_open(a, &late), Err(OpenSendError::Source), "seed {seed}");
        let late = world.packet(HOST, old[0], 100);
        assert!(!world.come_from_outside(&late), "seed {seed}");
        world.assert_clean(seed);
    }
}

/// The NAT gives the agent another port: the address that named the old one is gone at once, as
/// POPs refuse it.
#[test]
fn another_public_port_is_another_address() {
    for seed in seeds(5) {
        let mut world = World::open(seed);
        let (a, _) = pair(&mut world, PLAIN);
        let old = world.address(a);
        world.sites[a].flows.clear();
        let packet = world.packet(old, HOST, 100);
        let mut refused = false;
        for _ in 0..200 {
            refused |= world.send_open(a, &packet) == Err(OpenSendError::Source);
            world.run(100);
        }
        let now = world.addresses(a);
        assert!(refused && now.deprecated.is_none(), "seed {seed}: {now:?}");
        assert!(now.current.is_some_and(|new| new != ip(old)), "seed {seed}: {now:?}");
        // It was unknown for a moment.
        assert_eq!(world.version(a), 3, "seed {seed}");
        let packet = world.packet(HOST, world.address(a), 100);
        assert!(world.come_from_outside(&packet));
        world.run(1000);
        assert_eq!(world.sites[a].opened.last().unwrap().1, packet, "seed {seed}");
    }
}

/// A restart with the state file keeps the address, as it keeps the token; without it both change.
#[test]
fn the_state_file_keeps_the_address() {
    for seed in seeds(5) {
        let mut world = World::open(seed);
        let (a, _) = pair(&mut world, PLAIN);
        let (old, saved) = (world.address(a), world.sites[a].agent.saved());
        world.restart(a, saved);
        assert_eq!(world.addresses(a), OpenAddresses::default());
        world.run_until_ready(a);
        assert_eq!(world.address(a), old, "seed {seed}");
        world.restart(a, None);
        world.run_until_ready(a);
        assert_ne!(world.address(a), old, "seed {seed}");
    }
}

/// The operator ends the open side, begins it again.
#[test]
fn the_open_side_may_go_and_come_again() {
    let mut world = World::open(3);
    let (a, _) = pair(&mut world, PLAIN);
    let (old, open) = (world.address(a), Arc::clone(&world.service));
    let closed = anyrelay_kit::tunnel::service(&world.keys, &world.tenants, Constants::default());
    world.service = Arc::new(closed);
    world.run(9000);
    assert_eq!((world.addresses(a), world.version(a)), (OpenAddresses::default(), 2));
    let packet = world.packet(old, HOST, 100);
    assert_eq!(world.send_open(a, &packet), Err(OpenSendError::Source));
    world.service = open;
    world.run(9000);
    assert_eq!((world.address(a), world.version(a)), (old, 3));
    world.send_open(a, &packet).unwrap();
    world.run(1000);
    assert_eq!(world.outside, [packet]);
}
