//! Refusals of targets that other POPs are told of by hints.

use anyrelay_core::net::{Endpoint, IpEndpoint};
use anyrelay_core::relay::hints::{Hint, Shows};
use anyrelay_core::relay::memo::{REPEAT_MS, Rst};
use anyrelay_core::seq::SeqNum;
use anyrelay_core::verdict::{DropReason, ReplyKind};
use anyrelay_kit::config::Table;

use crate::answers::{endpoints, own_reset};
use crate::refusals::{egress, keep, syn};
use crate::*;

fn hinting() -> World {
    let hints = Table::default()
        .with("listen", "10.9.0.1:4791")
        .with("peers", ["10.9.0.2:4791"])
        .with("per_second", 3);
    World::of(&config().other("hints", hints))
}

fn hint(world: &World, rst: Rst) -> Hint {
    let at = |(ip, port): (u32, u16)| Endpoint { ip, port }.into();
    Hint {
        vip: at(WEB),
        egress: at(egress(world)),
        target: at(WEB_TARGET),
        shows: Shows::Refusal(rst),
    }
}

fn acknowledging(ack: u32) -> Rst {
    Rst::Acknowledging { seq: SeqNum(0), ack: SeqNum(ack) }
}

/// What the world sends because of a hint.
fn hinted(world: &mut World, hint: &Hint) -> Sent {
    let (now, mut out) = (world.now, std::mem::take(&mut world.out));
    out.sent.clear();
    world.hint(now, 0, hint, &mut out);
    world.out = out;
    std::mem::take(&mut world.out.sent)
}

#[test]
fn other_pops_are_told_of_what_no_syn_explains() {
    let mut world = hinting();
    let to = egress(&world);
    // Nothing where the client was told.
    world.forwarded(WAN, &syn(1000));
    world.forwarded(LAN, &Tcp::new(WEB_TARGET, to, RST | ACK).numbers(0, 1001));
    assert_eq!(world.out.hints, []);
    keep(&mut world, to, RST | ACK, 0, 77);
    keep(&mut world, to, RST, 5000, 0);
    let want = [acknowledging(77), Rst::Bare { seq: SeqNum(5000) }];
    assert_eq!(world.out.hints, want.map(|rst| hint(&world, rst)));
    // The same again is no news for a while; another is, and then the limit is met.
    world.out.hints.clear();
    keep(&mut world, to, RST, 5000, 0);
    assert_eq!(world.out.hints, []);
    world.later(2 * REPEAT_MS);
    keep(&mut world, to, RST, 5000, 0);
    keep(&mut world, to, RST, 6000, 0);
    assert_eq!(world.out.hints.len(), 1);
    assert_eq!((world.counters.hints.sent.get(), world.counters.hints.withheld.get()), (3, 1));
    // Without [hints], and in transparent mode, never.
    let mut world = World::new();
    keep(&mut world, to, RST, 5000, 0);
    assert_eq!(world.out.hints, []);
}

#[test]
fn a_hint_is_as_the_rst_itself() {
    let mut world = World::new();
    let about = hint(&world, acknowledging(1001));
    // Before the SYN was seen it waits; after that it is told, once.
    assert!(hinted(&mut world, &about).is_empty());
    let sent = world.datagram(WAN, &syn(1000).datagram());
    own_reset(&world, WAN, &sent);
    world.forwarded(WAN, &syn(1000));
    let sent = hinted(&mut world, &about);
    let [(WAN, frame)] = &sent[..] else { panic!("{sent:02x?}") };
    let seen = Seen::frame(frame);
    let tcp = seen.tcp();
    assert_eq!((endpoints(&seen, &tcp), frame.len()), ((WEB, CLIENT), 60));
    assert_eq!((seen.ttl, seen.dst_mac, seen.src_mac), (64, WAN_GATEWAY, WAN_MAC));
    assert_eq!((tcp.flags, tcp.seq, tcp.ack, tcp.window), (RST | ACK, 0, 1001, 0));
    assert!(hinted(&mut world, &about).is_empty());
    assert_eq!(world.counters.replies(ReplyKind::HintedRst), 1);
    assert_eq!(world.counters.hints.taken.get(), 3);
    // A RST without ACK waits for the segment that it answers.
    let about = hint(&world, Rst::Bare { seq: SeqNum(5000) });
    assert!(hinted(&mut world, &about).is_empty());
    let data = Tcp::new(CLIENT, WEB, ACK).stamped(1, 2);
    world.forwarded(WAN, &data.clone().numbers(1, 5001));
    let sent = world.datagram(WAN, &data.numbers(1, 5000).datagram());
    own_reset(&world, WAN, &sent);
}

#[test]
fn a_hint_about_what_the_pop_does_not_have_is_counted() {
    let mut world = World::new();
    world.forwarded(WAN, &syn(1000));
    let good = hint(&world, acknowledging(1001));
    let at = |(ip, port): (u32, u16)| IpEndpoint::V4(Endpoint { ip, port });
    for foreign in [
        Hint { vip: at((WEB.0, 9)), ..good },
        Hint { vip: at(RAW), ..good },
        Hint { vip: at(MANY), ..good },
        Hint { target: at((WEB_TARGET.0, 9)), ..good },
        Hint { egress: at((0x6440_0901, 2000)), ..good },
    ] {
        assert!(hinted(&mut world, &foreign).is_empty(), "{foreign:?}");
    }
    assert_eq!(world.counters.hints.foreign.get(), 5);
    assert_eq!(hinted(&mut world, &good).len(), 1);
}

#[test]
fn a_hint_without_a_next_hop_or_a_buffer_is_a_counted_drop() {
    for (config, frames_left, reason) in [
        (learning_config(), None, DropReason::NeighbourUnresolved),
        (config(), Some(0), DropReason::NoBuffer),
    ] {
        let mut world = World::of(&config);
        world.datagram(WAN, &syn(1000).datagram());
        let about = hint(&world, acknowledging(1001));
        let before = world.drops(WAN, reason);
        world.out.frames_left = frames_left;
        hinted(&mut world, &about);
        assert_eq!(world.drops(WAN, reason), before + 1, "{reason}");
        let slot = world.service("web").slot;
        assert_eq!(world.counters.service_drops(slot, reason), before + 1);
        assert_eq!(world.counters.replies(ReplyKind::HintedRst), 0);
    }
}
