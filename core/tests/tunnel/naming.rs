//! What an agent names in its requests: where it is, as POPs told it, and when. It costs a round
//! trip, and a recorded request brings a token to nobody else, and not for long.

use std::net::SocketAddr;

use anyrelay_core::net::Family;
use anyrelay_core::predict::Constants;
use anyrelay_core::time::{Now, Tick, UnixTime};
use anyrelay_core::tunnel::agent::{Agent, FlowState, SendError};
use anyrelay_core::tunnel::message::{KEEPALIVE_LEN_MAX, unknown_endpoint};
use anyrelay_core::tunnel::{KeepaliveReply, KeepaliveRequest, TunnelService, TunnelVip};
use anyrelay_core::verdict::DropReason;
use anyrelay_kit::frames::{ACK, PSH, SYN, Segment};
use anyrelay_kit::nat::Packet;
use anyrelay_kit::tunnel;

use crate::flows::{PLAIN, pair, seeds};
use crate::world::{World, collect};

/// The last request of a site.
fn last_request(world: &World, site: usize) -> KeepaliveRequest {
    let here = &world.sites[site];
    let keepalive = here.last_keepalive.as_ref().expect("has asked");
    KeepaliveRequest::parse(keepalive.payload(), Family::of(here.vip.ip())).unwrap()
}

fn public(world: &World, site: usize) -> SocketAddr {
    world.sites[site].flows.last().unwrap().public
}

#[test]
fn requests_name_what_the_last_reply_told() {
    for v6 in [false, true] {
        let mut world = World::new(1, Constants::default());
        let config = world.config(v6);
        let family = Family::of(config.vip.ip());
        let a = world.add_agent(config, PLAIN);
        while world.sites[a].last_keepalive.is_none() {
            world.run(1);
        }
        let first = last_request(&world, a);
        assert_eq!((first.public, first.last_tick), (unknown_endpoint(family), Tick(0)));
        world.run_until_ready(a);
        for _ in 0..10 {
            world.run(8000);
            let request = last_request(&world, a);
            assert_eq!(request.public, public(&world, a));
            let ticks = world.pop_time(0).tick(8000).0 - request.last_tick.0;
            assert!((1..=2).contains(&ticks), "{ticks}");
        }
        world.assert_clean(1);
    }
}

/// With numbers that are aligned, the handshake and one keepalive would do otherwise.
#[test]
fn it_costs_one_round_trip_at_the_start() {
    for seed in seeds(10) {
        let mut world = World::new(seed, Constants::default());
        let (a, _) = pair(&mut world, PLAIN);
        let (saved, token) = (world.sites[a].agent.saved(), world.token(a));
        world.restart(a, saved);
        let before_ms = world.now_ms();
        world.run_until_ready(a);
        // Each round trip takes 20 ms here.
        let took_ms = world.now_ms() - before_ms;
        assert!((60..=80).contains(&took_ms), "seed {seed}: {took_ms} ms");
        let counters = *world.sites[a].agent.counters();
        let keepalives = (counters.keepalives_sent, counters.keepalives_answered);
        assert_eq!(keepalives, (2, 2), "seed {seed}");
        assert_eq!(world.token(a).token, token.token, "seed {seed}");
        world.assert_clean(seed);
    }
}

/// The NAT forgets the agent, and gives it another port. Until a POP has told the agent and given
/// it a token there, it sends no data, as POPs would refuse its old token.
#[test]
fn it_costs_one_round_trip_after_a_rebinding() {
    for seed in seeds(10) {
        let mut world = World::new(seed, Constants::default());
        let (a, b) = pair(&mut world, PLAIN);
        world.exchange(a, b, 50, 100);
        let (old, to_b) = (public(&world, a), world.token(b));
        let version = world.sites[a].agent.token_version();
        world.sites[a].flows.clear();
        let re_syns = |world: &World| world.sites[a].agent.counters().re_syns;
        while re_syns(&world) == 0 {
            world.run(1);
        }
        let before = *world.sites[a].agent.counters();
        let mut aligning = 0;
        while world.sites[a].agent.token_version() == version {
            let status = world.sites[a].agent.status(world.instant());
            if status.state == FlowState::Aligning {
                aligning += 1;
                assert_eq!(status.public, Some(public(&world, a)), "seed {seed}");
                let sent = world.send(a, &to_b, b"too early");
                assert_eq!(sent, Err(SendError::NotReady), "seed {seed}");
            }
            world.run(1);
        }
        assert!((18..=22).contains(&aligning), "seed {seed}: {aligning} ms");
        let after = *world.sites[a].agent.counters();
        assert_eq!(after.keepalives_answered, before.keepalives_answered + 2, "seed {seed}");
        assert_eq!((after.re_syns, after.new_ports), (1, 0), "seed {seed}");
        assert_ne!(public(&world, a), old, "seed {seed}");
        let refused = world.drops.remove("keepalive_ack");
        assert!(refused.is_none_or(|count| count <= 8), "seed {seed}: {refused:?}");
        // Data goes on.
        let (arrived, sent) = (world.arrived(), world.exchange(a, b, 100, 100));
        assert_eq!(sent, 200, "seed {seed}");
        assert_eq!(world.arrived() - arrived, sent, "seed {seed}: {:?}", world.drops);
        assert!(world.drops.is_empty(), "seed {seed}: {:?}", world.drops);
    }
}

/// What a POP with this clock answers to `payload` from somebody at `from`, who has made a
/// handshake of their own, and whose numbers are aligned.
fn replay(
    service: &TunnelService,
    now: UnixTime,
    from: SocketAddr,
    payload: &[u8],
) -> Result<KeepaliveReply, DropReason> {
    let family = Family::of(from.ip());
    let vip = service.vip(family).unwrap().addr;
    let packet = |segment: Segment| Packet { src: from, dst: vip, tcp: segment.segment() };
    let syn = packet(Segment::new(from, vip, SYN));
    let syn_ack = tunnel::answer(service, now, 1, &syn)?.unwrap();
    let (tick, stride) = (now.tick(service.constants.tick_ms), service.constants.stride);
    let seq = 0x1234_8001_u32.wrapping_add((tick.0 as u32).wrapping_mul(stride));
    let (ack, data) = (syn_ack.head().seq.plus(1).0, payload.to_vec());
    let asked = packet(Segment { seq, ack, data, ..Segment::new(from, vip, PSH | ACK) });
    let reply = tunnel::answer(service, now, 1, &asked)?.unwrap();
    assert_eq!(reply.payload().len(), payload.len(), "a reply is as long as the request");
    Ok(KeepaliveReply::parse(reply.payload(), family).unwrap())
}

#[test]
fn a_recorded_request_brings_a_token_to_nobody_else_and_not_for_long() {
    for v6 in [false, true] {
        let mut world = World::new(3, Constants::default());
        let config = world.config(v6);
        let a = world.add_agent(config, PLAIN);
        world.run_until_ready(a);
        world.run(20_000);
        let recorded = world.sites[a].last_keepalive.clone().unwrap();
        let (own, request) = (public(&world, a), last_request(&world, a));
        assert_eq!(request.public, own);
        let at = |ticks: u64| UnixTime::from_millis((request.last_tick.0 + ticks) * 8000 + 7);
        let service = &world.service;
        let ask = |ticks, from| replay(service, at(ticks), from, recorded.payload()).unwrap();
        let mut elsewhere = own;
        elsewhere.set_port(own.port() ^ 1);
        let other = if v6 { "[2001:db8:66::6]:1" } else { "198.51.100.66:1" };
        let other = SocketAddr::new(other.parse::<SocketAddr>().unwrap().ip(), own.port());
        for from in [elsewhere, other] {
            for ticks in 0..20 {
                let reply = ask(ticks, from);
                assert_eq!((reply.token, reply.epoch, reply.public), (None, 0, from));
            }
        }
        for ticks in 0..20 {
            let reply = ask(ticks, own);
            assert_eq!(reply.token.is_some(), ticks <= 12, "{ticks}");
        }
        // At another VIP of the same POPs, it is as good as any bytes.
        let vip = if v6 { "[2001:db8::20]:444" } else { "203.0.113.21:443" };
        let vip = TunnelVip::new(vip.parse().unwrap(), &world.keys).unwrap();
        let other = match v6 {
            true => TunnelService { vip6: Some(vip), ..TunnelService::clone(service) },
            false => TunnelService { vip4: Some(vip), ..TunnelService::clone(service) },
        };
        let refused = replay(&other, at(1), own, recorded.payload());
        assert_eq!(refused, Err(DropReason::KeepaliveMac));
    }
}

/// POPs that tell another address each time: the agent goes on asking, but not without end.
#[test]
fn an_address_that_changes_each_time_is_not_chased() {
    let mut world = World::new(1, Constants::default());
    let config = world.config(false);
    let (vip, key) = (config.vip, config.key.key.clone());
    let unix = world.pop_time(0);
    let mut now = Now { instant: world.instant(), unix };
    let mut agent = Agent::new(config, now);
    let mut port = 1;
    for _ in 0..5 * 800 {
        let mut sent = Vec::new();
        agent.poll(now.instant, &mut collect(&mut sent));
        while let Some((from, tcp)) = sent.pop() {
            let src = SocketAddr::new("192.0.2.7".parse().unwrap(), from);
            let packet = Packet { src, dst: vip, tcp };
            let answer = tunnel::answer(&world.service, now.unix, 1, &packet).unwrap();
            let Some(mut answer) = answer else { continue };
            if let Ok(reply) = KeepaliveReply::parse(answer.payload(), Family::V4) {
                port += 1;
                let public = SocketAddr::new(src.ip(), port);
                let mut bytes = [0; KEEPALIVE_LEN_MAX];
                let reply = KeepaliveReply { public, token: None, epoch: 0, ..reply };
                let len = reply.write(vip, &key, &mut bytes);
                answer.tcp.truncate(20);
                answer.tcp.extend_from_slice(&bytes[..len]);
            }
            agent.receive(now.instant, &answer.tcp, &mut collect(&mut sent));
            assert!(agent.counters().keepalives_sent < 40, "{:?}", agent.counters());
        }
        now = now.plus_millis(10);
    }
    // Five ticks: some at once, then one in each tick.
    assert!(agent.counters().keepalives_answered > 8, "{:?}", agent.counters());
    assert_eq!(agent.state(), FlowState::Aligning);
}
