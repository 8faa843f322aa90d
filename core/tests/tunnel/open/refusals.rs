//! What an agent neither sends nor accepts, each with its counter, and packet-too-big.

use anyrelay_core::tunnel::agent::{AgentCounters, packet_too_big};
use anyrelay_core::wire::icmpv6::{self, Kind};
use anyrelay_core::wire::ipv6::MTU_MIN;
use proptest::prelude::*;

use super::*;
use crate::flows::{PLAIN, pair, seeds};

/// A counter by its name.
fn counter(counters: &AgentCounters, name: &str) -> u64 {
    counters.iter().find(|(found, _)| *found == name).unwrap().1
}

impl World {
    /// That the packet is refused for this reason, and counted by this name alone.
    fn refuses(&mut self, site: usize, packet: &[u8], why: OpenSendError, name: &str) {
        let before = *self.sites[site].agent.counters();
        assert_eq!(self.send_open(site, packet), Err(why), "{name}");
        self.assert_counted(site, &before, name);
    }

    /// That the segment is not accepted, and counted by this name alone.
    fn drops_down(&mut self, site: usize, packet: &Packet, name: &str) {
        let before = *self.sites[site].agent.counters();
        let opened = self.sites[site].opened.len();
        self.deliver(site, packet);
        assert_eq!(self.sites[site].opened.len(), opened, "{name}");
        self.assert_counted(site, &before, name);
    }

    fn assert_counted(&self, site: usize, before: &AgentCounters, name: &str) {
        let counters = self.sites[site].agent.counters();
        for (other, value) in counters.iter() {
            let more = u64::from(other == name);
            assert_eq!(value, counter(before, other) + more, "{other}, in place of {name}");
        }
    }
}

#[test]
fn what_is_not_sent() {
    let mut world = World::open(5);
    let (a, b) = pair(&mut world, PLAIN);
    let (own, other) = (world.address(a), world.address(b));
    let good = world.packet(own, HOST, 500);
    // Other versions, cut off, longer than it says.
    let version4 = [&[0x45][..], &good[1..]].concat();
    let longer = [&good[..], &[0]].concat();
    for wrong in [&version4[..], &longer, &good[..good.len() - 1], &good[..39], &[]] {
        world.refuses(a, wrong, OpenSendError::NotIpv6, "refused_open_not_ipv6");
    }
    for src in [other, own ^ 1, own ^ 1 << 79, HOST, 0, 1, 0xfe80 << 112 | 1] {
        let packet = world.packet(src, HOST, 100);
        world.refuses(a, &packet, OpenSendError::Source, "refused_open_source");
    }
    let header = Ipv6Header { next: 17, ..Ipv6Header::new(own, HOST) };
    let why = OpenSendError::TooBig { max: 1356 };
    world.refuses(a, &header.with(&[0; 1317]), why, "refused_open_too_big");
    assert_eq!(world.outside.len(), 0);
    world.send_open(a, &header.with(&[0; 1316])).unwrap();
    world.run(1000);
    assert_eq!(world.outside.len(), 1);
    // Too little room in front of the packet.
    let now = world.instant();
    let mut buffer = [&[0; OPEN_HEADROOM - 1][..], &good].concat();
    let agent = &mut world.sites[a].agent;
    let sent = agent.send_open(now, &mut buffer, OPEN_HEADROOM - 1, &mut |_| {});
    assert_eq!(sent, Err(OpenSendError::NoHeadroom));
    let mut short = [0; 9];
    let sent = agent.send_open(now, &mut short, OPEN_HEADROOM, &mut |_| {});
    assert_eq!(sent, Err(OpenSendError::NoHeadroom));
    world.assert_clean(5);

    // Before there is a token, and after the POPs have been silent for long.
    let c = world.add_site(PLAIN);
    assert_eq!(world.send_open(c, &good), Err(OpenSendError::NotReady));
    world.sites[a].cut = [true, true];
    world.run(60_000);
    assert_eq!(world.send_open(a, &good), Err(OpenSendError::NotReady));
    assert!(counter(world.sites[a].agent.counters(), "refused_not_ready") > 0);
}

/// The MTU of the host's own path counts too.
#[test]
fn a_smaller_mtu_of_the_host_is_kept() {
    let mut world = World::open(6);
    let config = world.config(false);
    let a =
        world.add_agent(anyrelay_core::tunnel::agent::AgentSetup { mtu: 1330, ..config }, PLAIN);
    world.run_until_ready(a);
    let own = world.address(a);
    assert_eq!(world.sites[a].agent.open_packet_max(), 1286);
    let header = Ipv6Header { next: 17, ..Ipv6Header::new(own, HOST) };
    let why = OpenSendError::TooBig { max: 1286 };
    world.refuses(a, &header.with(&[0; 1247]), why, "refused_open_too_big");
    world.send_open(a, &header.with(&[0; 1246])).unwrap();
}

#[test]
fn what_is_not_accepted() {
    for seed in seeds(5) {
        let mut world = World::open(seed);
        let (a, b) = pair(&mut world, PLAIN);
        let own = world.address(a);
        world.sites[a].caught = Some(Vec::new());
        let packet = world.packet(HOST, own, 500);
        assert!(world.come_from_outside(&packet));
        world.run(50);
        let good = world.sites[a].caught.take().unwrap().pop().unwrap();
        let edited = |edit: &dyn Fn(&mut Vec<u8>)| {
            let mut changed = good.clone();
            edit(&mut changed.tcp);
            changed
        };
        let moved = |seq: u32, ack: u32| {
            let mut changed = good.clone();
            changed.set_seq(good.head().seq.plus(seq));
            changed.set_ack(good.head().ack.plus(ack));
            changed
        };
        // Numbers of no tick that a POP can be in, or not of one tick.
        for seq in [1, 64, 63, 8 * 4096, (7u32 * 4096).wrapping_neg(), 1 << 31] {
            world.drops_down(a, &moved(seq, seq), "refused_data_seq");
        }
        for ack in [1, 4096, 1 << 16, 1 << 31] {
            world.drops_down(a, &moved(0, ack), "refused_data_ack");
        }
        world.drops_down(a, &edited(&|tcp| tcp[20 + 1] ^= 1), "refused_data_seq");
        // Flags, reserved bytes, lengths, the version.
        for (at, bit) in [(0, 1), (2, 1), (3, 0x80), (4, 0x20), (4 + 5, 1)] {
            let wrong = edited(&|tcp| tcp[20 + at] ^= bit);
            world.drops_down(a, &wrong, "refused_open_malformed");
        }
        for len in [20 + 1, 20 + 4, 20 + 43, good.tcp.len() - 1] {
            world.drops_down(a, &edited(&|tcp| tcp.truncate(len)), "refused_open_malformed");
        }
        world.drops_down(a, &edited(&|tcp| tcp.push(0)), "refused_open_malformed");
        // To another address, also another agent's.
        let other = world.address(b).to_be_bytes();
        for dst in [other, (own ^ 1).to_be_bytes(), HOST.to_be_bytes(), [0; 16]] {
            let wrong = edited(&|tcp| tcp[20 + 4 + 24..][..16].copy_from_slice(&dst));
            world.drops_down(a, &wrong, "refused_open_destination");
        }
        // A packet up, sent back.
        world.drops_down(a, &edited(&|tcp| tcp[20] = 0x50), "refused_kind");
        // All of it was right otherwise. Nothing of it moved the agent.
        world.deliver(a, &good);
        assert_eq!(world.sites[a].opened.pop().unwrap().1, packet, "seed {seed}");
        // Another POP, a tick ahead or behind.
        for tick in [4096, 4096u32.wrapping_neg()] {
            world.deliver(a, &moved(tick, tick));
            assert_eq!(world.sites[a].opened.pop().unwrap().1, packet, "seed {seed}");
        }
        let out = world.packet(own, HOST, 500);
        world.send_open(a, &out).unwrap();
        world.run(20_000);
        assert_eq!(world.outside, [out], "seed {seed}");
        world.assert_clean(seed);
    }
}

#[test]
fn nothing_is_accepted_before_a_reply() {
    let mut world = World::open(7);
    let (a, _) = pair(&mut world, PLAIN);
    let own = world.address(a);
    world.sites[a].caught = Some(Vec::new());
    let packet = world.packet(HOST, own, 500);
    assert!(world.come_from_outside(&packet));
    world.run(50);
    let good = world.sites[a].caught.take().unwrap().pop().unwrap();
    let saved = world.sites[a].agent.saved();
    world.restart(a, saved);
    world.drops_down(a, &good, "refused_data_early");
}

fn too_big(packet: &[u8], mtu: u16) -> Option<Vec<u8>> {
    let mut message = [0xee; MTU_MIN];
    packet_too_big(packet, mtu, &mut message).map(|len| message[..len].to_vec())
}

#[test]
fn nobody_is_told_of_errors_or_in_place_of_a_group() {
    let icmp = |kind: u8| Ipv6Header::icmp(HOST, HOST ^ 1).with(&[kind, 0, 0, 0, 0, 0, 0, 0]);
    for (kind, tells) in [(1, false), (2, false), (127, false), (137, false), (128, true)] {
        assert_eq!(too_big(&icmp(kind), 1280).is_some(), tells, "{kind}");
    }
    let to = |src, dst| too_big(&Ipv6Header { next: 17, ..Ipv6Header::new(src, dst) }.with(&[]), 9);
    assert!(to(HOST, HOST ^ 1).is_some());
    assert_eq!(to(HOST, 0xff02 << 112 | 1), None);
    assert_eq!(to(0, HOST), None);
    assert_eq!(to(0xff02 << 112 | 1, HOST), None);
    assert_eq!(too_big(&[0x45; 60], 1280), None);
}

proptest! {
    /// The message is whole, its checksum holds, and it quotes as much as 1280 bytes allow.
    #[test]
    fn packet_too_big_quotes_the_packet(len in 0usize..9000, mtu in 1280u16..9000, seed: u64) {
        let (src, dst) = (HOST ^ u128::from(seed), HOST ^ u128::from(seed) << 20 ^ 1);
        let packet = Ipv6Header { next: 6, ..Ipv6Header::new(src, dst) }.with(&vec![5; len]);
        let message = too_big(&packet, mtu).unwrap();
        prop_assert_eq!(message.len(), (packet.len() + 48).min(1280));
        prop_assert_eq!(usize::from(message[4]) << 8 | usize::from(message[5]), message.len() - 40);
        let address = |at: usize| u128::from_be_bytes(message[at..at + 16].try_into().unwrap());
        prop_assert_eq!((message[0] >> 4, message[6], address(8), address(24)), (6, 58, dst, src));
        let kind = icmpv6::parse(dst, src, &message[40..]);
        prop_assert_eq!(kind, Ok(Kind::Error { mtu: Some(mtu.into()) }));
        prop_assert!(packet.starts_with(&message[48..]));
    }
}
