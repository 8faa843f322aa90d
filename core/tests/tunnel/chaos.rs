//! Anything may happen, in any order: it ends well.

use anyrelay_core::predict::Constants;
use anyrelay_core::tunnel::agent::FlowState;
use anyrelay_core::wire::tcp::{ACK, FIN, RST};
use anyrelay_kit::nat::Boxes;
use anyrelay_kit::rng::Rng;

use crate::attacks::from_vip;
use crate::flows::{PLAIN, seeds};
use crate::world::{Weather, World};

/// Something happens to one of the sites, or to all.
fn event(world: &mut World, site: usize, of: u64) {
    let here = &mut world.sites[site];
    match of {
        0 => here.flows.clear(),
        1 => here.cut = [true, false],
        2 => here.cut = [false, true],
        3 => here.deaf = true,
        4 => here.cut = [false, false],
        5 => here.deaf = false,
        6 => {
            let ms = world.rng.below(200_000);
            world.sites[site].asleep_until_ms = world.now_ms() + ms;
        }
        7 | 8 => {
            let keepalive = here.last_keepalive.as_ref().map(|packet| packet.head());
            let (Some(keepalive), false) = (keepalive, here.flows.is_empty()) else { return };
            let near = if of == 7 { 0 } else { world.rng.below(100_000) as u32 };
            let flags = [RST, RST | ACK, FIN | ACK][world.rng.below(3) as usize];
            let numbers = (keepalive.ack.plus(near).0, keepalive.seq.0);
            let packet = from_vip(world, site, flags, numbers, &[]);
            world.arrive(site, packet);
        }
        9 => {
            let saved = here.agent.saved();
            let saved = saved.filter(|_| world.rng.happens(700));
            world.restart(site, saved);
        }
        10 => {
            let mut out = Vec::new();
            let now = world.instant();
            world.sites[site].agent.rebound(now, &mut crate::world::collect(&mut out));
            world.leave(site, out);
        }
        11 => {
            let pop = world.rng.below(world.pops.len() as u64) as usize;
            world.pops[pop].alive = !world.pops[pop].alive;
        }
        12 => {
            let (lost, jitter_us) = (world.rng.below(300), world.rng.below(100_000));
            world.weather = Weather { lost, doubled: 20, delay_us: 10_000, jitter_us };
        }
        13 => world.weather = Weather::default(),
        14 => world.spray = !world.spray,
        _ => here.boxes.rewrites = !here.boxes.rewrites,
    }
}

fn calm(world: &mut World) {
    world.weather = Weather::default();
    world.pops.iter_mut().for_each(|pop| pop.alive = true);
    for site in &mut world.sites {
        site.cut = [false, false];
        site.deaf = false;
        site.asleep_until_ms = 0;
    }
}

fn boxes(rng: &mut Rng) -> Boxes {
    Boxes {
        strips_scale: rng.happens(500),
        rewrites: rng.happens(300),
        rewrites_before: rng.happens(300),
        ..PLAIN
    }
}

#[test]
fn whatever_happens_ends_well() {
    for seed in seeds(60) {
        let mut world = World::new(seed, Constants::default()).with_pops(&[0, 5000, -4000]);
        let v6 = world.rng.happens(500);
        let config = world.config(v6);
        let (first, second) = (boxes(&mut world.rng), boxes(&mut world.rng));
        let a = world.add_agent(config, first);
        let b = world.add_site(second);
        for _ in 0..40 {
            let (site, of) = (world.rng.below(2) as usize, world.rng.below(16));
            event(&mut world, site, of);
            let rounds = world.rng.below(60);
            world.exchange(a, b, rounds, 250);
        }
        calm(&mut world);
        world.run(180_000);
        for site in [a, b] {
            world.sites[site].received.clear();
            world.sites[site].invalid.clear();
            let status = world.sites[site].agent.status(world.instant());
            assert_eq!(status.state, FlowState::Ready, "seed {seed}: {status:#?}");
        }
        world.drops.clear();
        let sent = world.exchange(a, b, 300, 100);
        world.assert_clean(seed);
        assert_eq!((sent, world.arrived()), (600, 600), "seed {seed}");
    }
}
