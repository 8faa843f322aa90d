//! NATs that forget, boxes and proxies that change numbers, and outages.

use super::*;

/// The NAT was restarted: it knows nothing of the flow and gives it another public port.
#[test]
fn a_nat_that_forgot_is_told_anew_and_a_new_token_is_announced() {
    for seed in seeds(10) {
        let mut world = two_pops(seed);
        let (a, b) = pair(&mut world, PLAIN);
        let version = world.sites[a].agent.token_version();
        let public = world.sites[a].agent.status(world.instant()).public;
        world.sites[a].flows.clear();
        world.run(20_000);
        let status = world.sites[a].agent.status(world.instant());
        assert_eq!(status.state, FlowState::Ready, "seed {seed}: {status:#?}");
        assert_ne!(status.public, public);
        assert!(world.sites[a].agent.token_version() > version);
        assert_eq!((status.counters.re_syns, status.counters.new_ports), (1, 0), "seed {seed}");
        assert_reaches(&mut world, seed, b, a);
        assert_reaches(&mut world, seed, a, b);
    }
}

/// An ISN rewriter that moves numbers otherwise after a new handshake: acks that are made from old
/// tokens would be wrong, so that port must not be reached by them again.
#[test]
fn a_rewriter_that_changes_its_mind_leads_to_a_new_port() {
    for seed in seeds(10) {
        let mut world = two_pops(seed);
        let (a, b) = pair(&mut world, Boxes { rewrites: true, ..PLAIN });
        let (port, version) = (world.sites[a].agent.port(), world.sites[a].agent.token_version());
        world.sites[a].asleep_until_ms = world.now_ms() + 20 * 8000;
        world.run(20 * 8000);
        world.run_until_ready(a);
        world.run(1000);
        let counters = *world.sites[a].agent.counters();
        assert_eq!((counters.re_syns, counters.new_ports), (1, 1), "seed {seed}");
        assert_ne!(world.sites[a].agent.port(), port);
        assert!(world.sites[a].agent.token_version() > version);
        world.exchange(a, b, 300, 100);
        world.assert_clean(seed);
        assert_reaches(&mut world, seed, b, a);
    }
}

/// Behind a proxy that answers SYNs by itself and keeps an old translation, a handshake succeeds
/// and no keepalive is answered: only another port helps.
#[test]
fn a_proxy_that_keeps_old_numbers_leads_to_a_new_port() {
    fn mistranslate(_: &mut Rng, packet: &mut Packet) -> bool {
        if packet.src.port() % 2 == 1 && packet.payload().len() > 1 {
            packet.set_ack(packet.head().ack.plus(12_345));
        }
        true
    }
    for seed in seeds(10) {
        let mut world = World::new(seed, Constants::default());
        let a = world.add_site(PLAIN);
        world.sites[a].spoil_up = Some(mistranslate);
        // The model's NAT would find the spoilt ack INVALID: here that stands for the proxy.
        world.run(120_000);
        let status = world.sites[a].agent.status(world.instant());
        assert_eq!(status.state, FlowState::Ready, "seed {seed}: {status:#?}");
        assert_eq!(status.port % 2, 0);
    }
}

/// All POPs are gone for a while; then the flow goes on by itself from the same port.
#[test]
fn an_outage_is_survived() {
    for seed in seeds(10) {
        for outage_ms in [300, 3000, 30_000, 300_000] {
            let mut world = two_pops(seed);
            let (a, b) = pair(&mut world, PLAIN);
            let token = world.token(a);
            world.pops.iter_mut().for_each(|pop| pop.alive = false);
            world.run(outage_ms);
            world.pops.iter_mut().for_each(|pop| pop.alive = true);
            world.run(10_000);
            world.send(b, &token, b"back").unwrap();
            world.run(1000);
            let status = world.sites[a].agent.status(world.instant());
            assert_eq!(world.sites[a].received.len(), 1, "seed {seed} {outage_ms}: {status:#?}");
            assert_eq!(status.counters.new_ports, 0, "seed {seed} {outage_ms}");
            world.assert_clean(seed);
        }
    }
}

/// Something on the way shifts the numbers of each keepalive by another amount, and those of its
/// answer back: the base never comes to where it should be. The agent goes on asking, but not
/// without end.
#[test]
fn numbers_that_are_changed_each_time_are_not_chased() {
    /// By the nonce, whose last byte is here, and which request and reply share.
    fn shift(packet: &Packet, at: usize) -> u32 {
        u32::from(packet.payload()[at]) << 6 | 0x20
    }
    fn up(_: &mut Rng, packet: &mut Packet) -> bool {
        if matches!(packet.payload().first().map(|first| first >> 4), Some(1)) {
            packet.set_seq(packet.head().seq.plus(shift(packet, 15)));
        }
        true
    }
    fn down(_: &mut Rng, packet: &mut Packet) -> bool {
        if matches!(packet.payload().first().map(|first| first >> 4), Some(2)) {
            packet.set_ack(packet.head().ack.plus(shift(packet, 9).wrapping_neg()));
        }
        true
    }
    for seed in seeds(5) {
        let mut world = World::new(seed, Constants::default());
        let a = world.add_site(PLAIN);
        world.sites[a].spoil_up = Some(up);
        world.sites[a].spoil_down = Some(down);
        world.run(40_000);
        let counters = *world.sites[a].agent.counters();
        // Five ticks: four steps at once, then one or two in each tick.
        assert!(counters.keepalives_answered > 4, "seed {seed}: {counters:?}");
        assert!(counters.keepalives_sent < 40, "seed {seed}: {counters:?}");
    }
}
