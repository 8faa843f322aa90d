//! Programs that start again, and keys that change.

use super::*;

/// A program that starts again with its state file keeps port, numbers and token.
#[test]
fn a_restart_with_saved_state_keeps_the_token() {
    for seed in seeds(10) {
        for strips_scale in [false, true] {
            let mut world = two_pops(seed);
            let (a, b) = pair(&mut world, Boxes { strips_scale, ..PLAIN });
            world.exchange(a, b, 50, 100);
            let token = world.token(a);
            let saved = world.sites[a].agent.saved().map(|saved| saved.serialize());
            world.run(3000);
            // Its own clock may be wrong by two minutes now.
            world.restart_with_wrong_clock(a, Saved::parse(&saved.unwrap()).unwrap());
            world.run_until_ready(a);
            world.sites[a].received.clear();
            world.send(b, &token, b"old token").unwrap();
            world.run(1000);
            assert_eq!(world.sites[a].received.len(), 1, "seed {seed}: {:?}", world.drops);
            world.exchange(a, b, 300, 100);
            assert_eq!(world.sites[a].agent.counters().new_ports, 0, "seed {seed}");
            world.assert_clean(seed);
        }
    }
}

/// Of another service's state nothing is used.
#[test]
fn state_of_another_vip_is_not_used() {
    let mut world = two_pops(1);
    let (a, _) = pair(&mut world, PLAIN);
    let saved = world.sites[a].agent.saved().unwrap();
    let other = Saved { vip: "203.0.113.21:443".parse().unwrap(), ..saved };
    world.restart(a, Some(other));
    assert_ne!(world.sites[a].agent.port(), saved.port);
    world.run_until_ready(a);
}

#[test]
fn a_wrong_key_is_told_and_does_not_flood() {
    for seed in seeds(3) {
        let mut world = World::new(seed, Constants::default());
        let config = world.config(false);
        let key = world.agent_key(9).key;
        let a = world.add_agent(
            anyrelay_core::tunnel::agent::AgentSetup {
                key: anyrelay_core::keys::AgentKey { key, ..config.key },
                ..config
            },
            PLAIN,
        );
        world.run(3600 * 1000);
        let status = world.sites[a].agent.status(world.instant());
        assert_eq!(status.problem, Some(FlowProblem::NoAnswer), "seed {seed}: {status:#?}");
        assert!(status.counters.new_ports <= 70, "seed {seed}: {status:#?}");
        assert!(world.sites[a].agent.token().is_none());
    }
}

/// A token epoch begins while data flows: nothing is lost, new tokens are announced, and the old
/// ones lead to the agents for another day.
#[test]
fn a_token_epoch_begins_while_data_flows() {
    for seed in seeds(5) {
        let mut world = two_pops(seed);
        let (a, b) = pair(&mut world, PLAIN);
        let old = [world.token(a), world.token(b)];
        let versions = [a, b].map(|site| world.sites[site].agent.token_version());
        let not_before = world.pop_time(0).plus_millis(60_000);
        let secret = Secret::new([world.rng.next() as u8; 32]);
        world.change_keys(|keys| {
            let first = keys.tokens.iter().next().unwrap().clone();
            let next = Epoch { number: first.number.wrapping_add(1), secret, not_before };
            keys.tokens = Epochs::new(first, Some(next)).unwrap();
        });
        let mut sent = 0u64;
        for _ in 0..1200 {
            for (from, to) in [(a, old[1]), (b, old[0])] {
                sent += 1;
                world.send(from, &to, &[&sent.to_be_bytes()[..], &[0; 500]].concat()).unwrap();
            }
            world.run(100);
        }
        world.run(1000);
        assert_eq!(world.arrived(), sent, "seed {seed}");
        world.assert_clean(seed);
        for (site, old, version) in [(a, old[0], versions[0]), (b, old[1], versions[1])] {
            let token = world.token(site);
            assert_eq!(token.epoch, old.epoch.wrapping_add(1), "seed {seed}");
            assert_eq!(world.sites[site].agent.token_version(), version + 1, "seed {seed}");
            // The sender's token that came with data is as good as the published one.
            let other = if site == a { b } else { a };
            let from = world.sites[other].received.last().unwrap().2;
            world.send(other, &from, b"back").unwrap();
            world.run(1000);
            assert_eq!(world.sites[site].received.last().unwrap().1, b"back", "seed {seed}");
        }
        world.run(25 * 3600 * 1000);
        world.send(b, &old[0], b"too late").unwrap();
        world.run(1000);
        assert_eq!(world.drops.len(), 1, "seed {seed}: {:?}", world.drops);
        let token = world.token(a);
        world.send(b, &token, b"in time").unwrap();
        world.run(1000);
        assert_eq!(world.sites[a].received.last().unwrap().1, b"in time", "seed {seed}");
    }
}
