//! Whole flows: no firewall may find anything INVALID in them, and what is sent arrives.

use anyrelay_core::predict::{self, Constants};
use anyrelay_core::tunnel::agent::FlowState;
use anyrelay_kit::nat::{Boxes, Rules, Upper};

use crate::world::{Weather, World};

/// The seeds to run.
pub fn seeds(count: u64) -> Vec<u64> {
    match std::env::var("ANYRELAY_SEED").ok().and_then(|seed| seed.parse().ok()) {
        Some(seed) => vec![seed],
        None => (1..=count).collect(),
    }
}

pub const PLAIN: Boxes =
    Boxes { rules: STRICT, strips_scale: false, rewrites: false, rewrites_before: false };

pub const STRICT: Rules = Rules {
    upper: Upper::End,
    established_ms: 432_000_000,
    unacknowledged_ms: 300_000,
    close_ms: 10_000,
    syn_ms: 60_000,
};

/// Two sites with these boxes, both ready.
pub fn pair(world: &mut World, boxes: Boxes) -> (usize, usize) {
    let (a, b) = (world.add_site(boxes), world.add_site(boxes));
    world.run_until_ready(a);
    world.run_until_ready(b);
    (a, b)
}

/// Exchanges datagrams for `rounds` tenths of a second; all must arrive.
fn all_arrive(world: &mut World, seed: u64, (a, b): (usize, usize), rounds: u64) {
    let before = world.arrived();
    let sent = world.exchange(a, b, rounds, 100);
    world.assert_clean(seed);
    assert_eq!(sent, 2 * rounds, "seed {seed}: refused");
    assert_eq!(world.arrived() - before, sent, "seed {seed}: {:?}", world.drops);
    for site in [a, b] {
        let status = world.sites[site].agent.status(world.instant());
        assert_eq!(status.state, FlowState::Ready, "seed {seed}: {status:#?}");
        let counters = status.counters;
        assert_eq!((counters.re_syns, counters.new_ports), (0, 0), "seed {seed}: {status:#?}");
    }
}

#[test]
fn two_agents_exchange_datagrams_through_any_pop() {
    for seed in seeds(20) {
        let mut world = World::new(seed, Constants::default()).with_pops(&[0, 3000, -3000]);
        let sites = pair(&mut world, PLAIN);
        all_arrive(&mut world, seed, sites, 1000);
    }
}

/// Acks are predicted from what was authenticated: keepalives ack the newest reply exactly, data
/// LAG ticks before it, and nothing below the SYN-ACK.
#[test]
fn acks_are_those_of_the_protocol() {
    for seed in seeds(5) {
        let Constants { stride, lag, .. } = Constants::default();
        let mut world = World::new(seed, Constants::default());
        let b = world.add_site(PLAIN);
        world.run_until_ready(b);
        let a = world.add_site(PLAIN);
        while world.sites[a].last_keepalive.is_none() {
            world.run(1);
        }
        let first = world.highest_ack(a);
        world.run_until_ready(a);
        let token = world.token(b);
        let start = world
            .service
            .vip4
            .as_ref()
            .unwrap()
            .predictor
            .start(world.sites[a].agent.status(world.instant()).public.unwrap());
        let mut held = 0;
        for round in 0..60 {
            world.send(a, &token, b"data").unwrap();
            let data = world.sites[a].last_data.take().unwrap().head().ack;
            let keepalives = world.sites[a].agent.counters().keepalives_sent;
            while world.sites[a].agent.counters().keepalives_sent == keepalives {
                world.run(10);
            }
            // The keepalive that comes next acks the reply that was the newest for data as well.
            let keepalive = world.highest_ack(a);
            let reply = keepalive.plus(90u32.wrapping_neg());
            assert!(predict::ticks_between(reply, start.plus(1), stride).is_some(), "seed {seed}");
            let lagged = reply.plus((u32::from(lag) * stride).wrapping_neg());
            let expected = if lagged.after(first) { lagged } else { first };
            assert_eq!(data, expected, "seed {seed}, round {round}");
            held += u32::from(data == first);
            world.run(3000);
        }
        assert!((2..=6).contains(&held), "seed {seed}: held for {held} rounds");
    }
}

#[test]
fn pops_may_differ_by_whole_ticks() {
    for seed in seeds(10) {
        for ahead in [[0, 8000], [-8000, 8000], [0, 16_000], [0, 12_345]] {
            for strips_scale in [false, true] {
                let mut world = World::new(seed, Constants::default()).with_pops(&ahead);
                let sites = pair(&mut world, Boxes { strips_scale, ..PLAIN });
                all_arrive(&mut world, seed, sites, 2000);
            }
        }
    }
}

#[test]
fn ipv6_agents_and_mixed_ones_too() {
    for seed in seeds(10) {
        let mut world = World::new(seed, Constants::default()).with_pops(&[0, 8000]);
        let v6 = world.config(true);
        let a = world.add_agent(v6, PLAIN);
        let b = world.add_site(PLAIN);
        let v6 = world.config(true);
        let c = world.add_agent(v6, PLAIN);
        [a, b, c].into_iter().for_each(|site| world.run_until_ready(site));
        for (from, to) in [(a, b), (b, c), (c, a)] {
            all_arrive(&mut world, seed, (from, to), 300);
        }
    }
}

#[test]
fn middleboxes_that_rewrite_numbers_or_strip_options_are_passed() {
    for seed in seeds(10) {
        for bits in 1..8u8 {
            let boxes = Boxes {
                strips_scale: bits & 1 != 0,
                rewrites: bits & 2 != 0,
                rewrites_before: bits & 4 != 0,
                ..PLAIN
            };
            let mut world = World::new(seed, Constants::default()).with_pops(&[0, 8000]);
            let sites = pair(&mut world, boxes);
            all_arrive(&mut world, seed, sites, 500);
            let status = world.sites[sites.0].agent.status(world.instant());
            assert_eq!(status.numbers_rewritten, bits > 1, "seed {seed}, {boxes:?}");
        }
    }
}

#[test]
fn what_is_lost_doubled_or_reordered_makes_nothing_invalid() {
    for seed in seeds(10) {
        for (lost, strips_scale) in [(20, false), (20, true), (300, false), (300, true)] {
            let mut world = World::new(seed, Constants::default()).with_pops(&[0, 8000, 4000]);
            world.weather = Weather { lost, doubled: 50, delay_us: 20_000, jitter_us: 60_000 };
            let (a, b) = pair(&mut world, Boxes { strips_scale, ..PLAIN });
            let sent = world.exchange(a, b, 5000, 100);
            world.assert_clean(seed);
            let arrived = world.arrived();
            // Twice over the way of loss, and the doubled ones.
            let through = (1000 - lost) * (1000 - lost) / 1000;
            assert!(sent >= 9000, "seed {seed}: {sent} of 10000 sent");
            assert!(arrived * 1000 >= sent * (through - 60), "seed {seed}: {arrived} of {sent}");
        }
    }
}

#[test]
fn many_senders_to_one_agent_share_its_numbers() {
    for seed in seeds(10) {
        let mut world = World::new(seed, Constants::default()).with_pops(&[0, 8000]);
        let (to, first) = pair(&mut world, Boxes { strips_scale: true, ..PLAIN });
        let more = [world.add_site(PLAIN), world.add_site(PLAIN)];
        more.into_iter().for_each(|site| world.run_until_ready(site));
        let token = world.token(to);
        let mut sent = 0;
        for round in 0..3000u64 {
            for from in [first, more[0], more[1]] {
                let body = [vec![from as u8], round.to_be_bytes().to_vec(), vec![0; 1000]].concat();
                world.send(from, &token, &body).unwrap();
                sent += 1;
            }
            world.run(20);
        }
        world.run(1000);
        world.assert_clean(seed);
        assert_eq!(world.arrived(), sent, "seed {seed}");
    }
}

/// Both directions' sequence numbers wrap while data flows.
#[test]
fn numbers_wrap() {
    for seed in seeds(10) {
        for strips_scale in [false, true] {
            let mut world = World::new(seed, Constants::default()).with_pops(&[0, 8000]);
            let (a, b) = pair(&mut world, Boxes { strips_scale, ..PLAIN });
            // Each agent starts again with numbers that wrap after some ticks; of the server's,
            // those of `a` wrap as well, by the time that is chosen.
            for site in [a, b] {
                let after = 14 + world.rng.below(10) as u32;
                world.restart_before_wrap(site, after);
            }
            world.run_until_ready(a);
            world.run_until_ready(b);
            world.sites.iter_mut().for_each(|site| site.received.clear());
            let first = world.highest_seq(a);
            all_arrive(&mut world, seed, (a, b), 4000);
            let last = world.highest_seq(a);
            assert!(last.0 < first.0, "seed {seed}: {first:?} did not wrap: {last:?}");
        }
    }
}

#[test]
fn the_servers_numbers_wrap() {
    for seed in seeds(10) {
        for strips_scale in [false, true] {
            let mut world = World::new(seed, Constants::default()).with_pops(&[0, 8000]);
            world.wrap_server_soon(6);
            let a = world.add_site(Boxes { strips_scale, ..PLAIN });
            world.run_until_ready(a);
            let b = world.add_site(PLAIN);
            world.run_until_ready(b);
            let first = world.highest_ack(a);
            all_arrive(&mut world, seed, (a, b), 1500);
            let last = world.highest_ack(a);
            assert!(last.0 < first.0, "seed {seed}: {first:?} did not wrap: {last:?}");
        }
    }
}

/// Fifty days: floors and compares that are kept for ever would end the flow after 48.
#[test]
fn a_flow_lives_for_months() {
    for seed in seeds(1) {
        let mut world = World::new(seed, Constants::default()).with_pops(&[0, 8000]);
        let a = world.add_site(Boxes { strips_scale: true, ..PLAIN });
        world.run_until_ready(a);
        world.run(50 * 24 * 3600 * 1000);
        let b = world.add_site(PLAIN);
        world.run_until_ready(b);
        all_arrive(&mut world, seed, (a, b), 300);
    }
}
