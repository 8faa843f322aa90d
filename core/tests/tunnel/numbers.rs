//! Rules on single numbers, which a firewall's verdict alone would not show.

use anyrelay_core::predict::Constants;
use anyrelay_core::tunnel::agent::{FlowState, SendError};

use crate::flows::{PLAIN, pair, seeds};
use crate::world::World;

const T: u64 = 8000;

/// A reply of a POP whose clock is behind does not take the ack back.
#[test]
fn acks_do_not_go_back() {
    for seed in seeds(5) {
        let mut world = World::new(seed, Constants::default()).with_pops(&[0, 2 * T as i64]);
        let a = world.add_site(PLAIN);
        world.sites[a].route = Some(1);
        world.run_until_ready(a);
        world.run(5 * T);
        let fast = world.highest_ack(a);
        world.sites[a].route = Some(0);
        let mut last = fast;
        for _ in 0..5 * T / 100 {
            world.run(100);
            let ack = world.highest_ack(a);
            assert!(!ack.before(last), "seed {seed}: {ack:?} after {last:?}");
            last = ack;
        }
        assert!(last.after(fast), "seed {seed}");
        world.assert_clean(seed);
    }
}

/// Two SYN-ACKs of POPs whose clocks differ: the lower one is right for every firewall.
#[test]
fn of_two_syn_acks_the_lower_one_is_acked() {
    for seed in seeds(5) {
        let mut world = World::new(seed, Constants::default());
        let a = world.add_site(PLAIN);
        world.sites[a].caught = Some(Vec::new());
        world.run(100);
        let first = world.sites[a].caught.take().unwrap().pop().expect("a SYN-ACK");
        let mut later = first.clone();
        later.set_seq(first.head().seq.plus(2 * 4096));
        world.deliver(a, &later);
        assert_eq!(world.highest_ack(a), later.head().seq.plus(1), "seed {seed}");
        world.deliver(a, &first);
        world.run(300);
        let status = world.sites[a].agent.status(world.instant());
        assert_eq!(status.state, FlowState::Ready, "seed {seed}: {status:#?}");
        assert_eq!(status.counters.handshakes, 1, "seed {seed}");
    }
}

/// After more than a tick of silence a keepalive goes before data; after more than firewalls or
/// POPs bear from acks that lag, data waits for its answer.
#[test]
fn after_silence_a_keepalive_goes_first() {
    let default = Constants::default();
    // Firewalls would bear this one's acks for longer than POPs do.
    let far_behind = Constants { stride: 1024, lag: 8, ..default };
    for seed in seeds(10) {
        for (constants, ticks, refused) in
            [(default, 2, false), (default, 7, true), (far_behind, 2, false), (far_behind, 7, true)]
        {
            let mut world = World::new(seed, constants);
            let (a, b) = pair(&mut world, PLAIN);
            world.run(2 * T);
            let token = world.token(b);
            // A datagram is the first thing that happens after the sleep.
            world.sites[a].asleep_until_ms = world.now_ms() + ticks * T + 1;
            world.run(ticks * T);
            let before = *world.sites[a].agent.counters();
            let sent = world.send(a, &token, b"awake");
            let expected = if refused { Err(SendError::NotReady) } else { Ok(()) };
            assert_eq!(sent, expected, "seed {seed}, {ticks} ticks");
            let after = *world.sites[a].agent.counters();
            assert_eq!(after.keepalives_sent, before.keepalives_sent + 1, "seed {seed}");
            world.run(100);
            world.send(a, &token, b"again").unwrap();
            world.run(1000);
            assert_eq!(world.sites[b].received.len(), if refused { 1 } else { 2 }, "seed {seed}");
            assert_eq!(world.sites[a].agent.counters().re_syns, 0, "seed {seed}");
            world.assert_clean(seed);
        }
    }
}
