//! The window sum at its edge: with numbers that real agents and POPs have brought a firewall to,
//! a segment whose sum is the whole window passes, and one byte more is INVALID.
//!
//! The names of the sums are those of docs/protocol.md.

use anyrelay_core::predict::{self, Constants, WINDOW};
use anyrelay_core::seq::SeqNum;
use anyrelay_core::tunnel::window;
use anyrelay_core::wire::tcp::ACK;
use anyrelay_kit::nat::{Boxes, Connection, Invalid, Rules, Seen, Side, Upper};

use crate::flows::{PLAIN, STRICT, pair, seeds};
use crate::world::World;

const L: u32 = 90;
const STRIDE: u32 = 4096;

/// A firewall without window scaling in front of an agent that has run for a while.
struct Edge {
    connection: Connection,
    now_ms: u64,
    /// S(r) + 1, r being the tick of the reply that the agent acked last.
    server: SeqNum,
    /// The agent's number without offset in its last keepalive, which was answered.
    agent: SeqNum,
}

impl Edge {
    fn new(seed: u64, upper: Upper) -> Self {
        let mut world = World::new(seed, Constants::default());
        let rules = Rules { upper, ..STRICT };
        let (a, b) = pair(&mut world, Boxes { rules, strips_scale: true, ..PLAIN });
        world.exchange(a, b, 600, 100);
        // No data after the last keepalives: then what they said is the newest.
        world.run(60_000);
        world.assert_clean(seed);
        Edge {
            connection: world.sites[a].flows[0].connection.clone(),
            now_ms: world.now_ms(),
            server: world.highest_ack(a).plus(L.wrapping_neg()),
            agent: world.highest_seq(a),
        }
    }

    fn see(&self, side: Side, seq: SeqNum, ack: SeqNum, payload_len: u32) -> Option<Invalid> {
        let seen = Seen { seq, ack, flags: ACK, window: WINDOW, scale: None, payload_len };
        self.connection.clone().see(self.now_ms, side, &seen).err()
    }
}

/// Both kinds of upper bound: with one, all of the payload counts, with the other its first byte.
const UPPERS: [Upper; 2] = [Upper::End, Upper::First];

/// Sums 1 and 3: after an exact ack, L bytes more than the window fit, as the ack is behind the
/// keepalive's answer. `strides` is ticks since that answer, and skew.
#[test]
fn data_after_an_exact_ack() {
    for seed in seeds(5) {
        for upper in UPPERS {
            let edge = Edge::new(seed, upper);
            for side in [Side::Reply, Side::Original] {
                let (own, other) = match side {
                    Side::Reply => (edge.server, edge.agent),
                    Side::Original => (edge.agent, edge.server),
                };
                for strides in 13..=15 {
                    for payload in [1, 40, 1380] {
                        let offset = WINDOW + L
                            - strides * STRIDE
                            - if upper == Upper::End { payload } else { 0 };
                        let bytes = WINDOW + L - strides * STRIDE;
                        assert_eq!(window::sum(STRIDE, strides, bytes), u64::from(WINDOW + L));
                        let seq = own.plus(strides * STRIDE + offset);
                        // What passes for an agent's own keepalive ack, or a POP's exact one.
                        let ack = other.plus(L);
                        assert_eq!(edge.see(side, seq, ack, payload), None, "seed {seed}");
                        let over = edge.see(side, seq.plus(1), ack, payload);
                        assert_eq!(over, Some(Invalid::SeqOverUpper), "seed {seed} {strides}");
                    }
                }
                // All that the constants allow is inside, with room to spare.
                let most = window::strides_max(&Constants::default());
                let seq = own.plus(most * STRIDE + 16_384 - 1380);
                assert_eq!(edge.see(side, seq, other, 1380), None, "seed {seed}");
                let seq = own.plus((most + 2) * STRIDE + 16_384 - 1380);
                assert_eq!(edge.see(side, seq, other, 1380), Some(Invalid::SeqOverUpper));
            }
        }
    }
}

/// Sums 2 and 4: acks that lag must not fall below what the other side has sent by more than the
/// window. The firewall's own bound is 66,000 there; the sum is kept to the window.
#[test]
fn acks_that_lag() {
    for seed in seeds(5) {
        let edge = Edge::new(seed, Upper::End);
        for side in [Side::Original, Side::Reply] {
            let (own, other) = match side {
                Side::Original => (edge.agent, edge.server),
                Side::Reply => (edge.server, edge.agent),
            };
            // The other side goes on to send for some ticks, up to the end of the offsets.
            let Edge { connection, now_ms, .. } = &edge;
            for (strides, bytes) in [(9, 16_384), (11, 16_384), (12, 10_000)] {
                let mut connection = connection.clone();
                let end = other.plus(strides * STRIDE + bytes);
                let far = Seen {
                    seq: end.plus(1380u32.wrapping_neg()),
                    ack: own,
                    flags: ACK,
                    window: WINDOW,
                    scale: None,
                    payload_len: 1380,
                };
                let from = if side == Side::Original { Side::Reply } else { Side::Original };
                assert!(connection.see(*now_ms, from, &far).is_ok(), "seed {seed} {strides}");
                let edge = Edge { connection, now_ms: *now_ms, ..edge };
                let fits = |behind: u32| edge.see(side, own, end.plus(behind.wrapping_neg()), 10);
                assert_eq!(fits(WINDOW), None);
                assert_eq!(fits(66_000), None);
                assert_eq!(fits(66_001), Some(Invalid::AckUnderLower), "seed {seed} {strides}");
                // LAG ticks, and the sum: at the window passes.
                let sum = window::sum(STRIDE, strides, bytes);
                let lag = Constants::default().lag as u32 * STRIDE;
                let lagged = other.plus(lag.wrapping_neg());
                let inside = sum + u64::from(lag) <= 66_000;
                assert_eq!(edge.see(side, own, lagged, 10).is_none(), inside, "seed {seed}");
            }
        }
    }
}

/// Sum 5: what a POP acks is sent already while it is at most LAG + 0x2000 / STRIDE = 6 ticks ahead
/// of what the agent sent last, to the byte.
#[test]
fn a_pop_that_is_ahead_acks_nothing_that_was_not_sent() {
    for seed in seeds(5) {
        let edge = Edge::new(seed, Upper::End);
        // The firewall's highest end is that of the last keepalive, or of data before it.
        let mut behind = 0;
        for ahead in 0..12u32 {
            let lag = u32::from(Constants::default().lag);
            let number = predict::ticks_between(edge.agent, edge.agent, STRIDE);
            assert_eq!(number, Some(0));
            let ack =
                edge.agent.plus((ahead * STRIDE).wrapping_sub(lag * STRIDE + window::ACK_BELOW));
            match edge.see(Side::Reply, edge.server, ack, 10) {
                None => behind = ahead,
                Some(reason) => assert_eq!(reason, Invalid::AckOverUpper, "seed {seed}"),
            }
            let passes = edge.see(Side::Reply, edge.server, ack, 10).is_none();
            assert_eq!(passes, ahead <= window::POP_AHEAD_TICKS_MAX, "seed {seed}: {ahead}");
        }
        assert_eq!(behind, window::POP_AHEAD_TICKS_MAX);
        let exact = edge.agent.plus(L);
        assert_eq!(edge.see(Side::Reply, edge.server, exact, 10), None);
        assert_eq!(
            edge.see(Side::Reply, edge.server, exact.plus(1), 10),
            Some(Invalid::AckOverUpper)
        );
    }
}

/// All of it together: the agent itself stops before the edge when no answers come any more, and
/// whatever POP within the skew it speaks to finds it in sequence.
#[test]
fn an_agent_without_answers_stops_before_the_edge() {
    for seed in seeds(10) {
        let mut world = World::new(seed, Constants::default()).with_pops(&[-8000, 8000]);
        let (a, b) = pair(&mut world, Boxes { strips_scale: true, ..PLAIN });
        world.exchange(a, b, 300, 100);
        let token = [world.token(a), world.token(b)];
        // Nothing comes to the agent itself: its NAT sees all.
        world.sites[a].deaf = true;
        let mut refused = 0;
        for _ in 0..600 {
            refused += u32::from(world.send(a, &token[1], &[1; 1200]).is_err());
            let _ = world.send(b, &token[0], &[2; 1200]);
            world.run(100);
        }
        assert!(refused > 100, "seed {seed}: {refused}");
        // What peers send on is for nobody, once the agent has begun a handshake that it cannot
        // end.
        let own: Vec<_> =
            world.sites[a].invalid.iter().filter(|(_, side, ..)| *side == Side::Original).collect();
        assert!(own.is_empty(), "seed {seed}: {own:?}");
        assert!(world.sites[b].invalid.is_empty(), "seed {seed}");
        assert!(world.drops.is_empty(), "seed {seed}: {:?}", world.drops);
    }
}
