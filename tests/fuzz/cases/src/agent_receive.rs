//! A connected agent and bad segments: it never panics, its own segments keep the rules of the
//! protocol, and only messages that POPs sealed change its state.
//!
//! Input: a byte of choices (family, rounds before), then segments: a byte of kind and one of
//! length, and as many bytes, which are the segment or are laid over a good one.

use std::net::{IpAddr, SocketAddr};
use std::sync::OnceLock;

use anyrelay_core::keys::AgentKey;
use anyrelay_core::predict::Constants;
use anyrelay_core::time::Now;
use anyrelay_core::tunnel::TunnelService;
use anyrelay_core::tunnel::agent::{Agent, AgentSetup, FlowState};
use anyrelay_core::wire::tcp::Tcp;
use anyrelay_kit::config;
use anyrelay_kit::nat::Packet;
use anyrelay_kit::tunnel::{self, VIP4, VIP6};

/// Runs one input.
pub fn run(input: &[u8]) {
    let Some((&choices, mut rest)) = input.split_first() else { return };
    let site = site();
    let (vip, local) = match choices & 1 {
        0 => (VIP4, "192.0.2.7:0"),
        _ => (VIP6, "[2600::7]:0"),
    };
    let (vip, local): (SocketAddr, SocketAddr) = (vip.parse().unwrap(), local.parse().unwrap());
    let mut now = Now::from_millis(1_795_341_988_025);
    let mut agent = Agent::new(AgentSetup::new(vip, site.key.clone(), [choices; 32]), now);
    let mut last = Vec::new();
    // Up to a token, or some way there.
    for _ in 0..choices >> 4 {
        let mut sent = Vec::new();
        agent.poll(now.instant, &mut |out| sent.push((out.port, out.segment.to_vec())));
        while let Some((port, segment)) = sent.pop() {
            let from = SocketAddr::new(local.ip(), port);
            let packet = Packet { src: from, dst: vip, tcp: segment };
            let answer = tunnel::answer(&site.service, now.unix, 1, &packet);
            let Ok(Some(answer)) = answer else { continue };
            agent.receive(now.instant, &answer.tcp, &mut |out| {
                sent.push((out.port, out.segment.to_vec()))
            });
            last = answer.tcp;
        }
        now = now.plus_millis(2000);
    }
    let before = agent.token();
    while let Some((&[kind, len], more)) = rest.split_first_chunk() {
        let (bytes, more) = more.split_at(usize::from(len).min(more.len()));
        rest = more;
        let mut segment = if kind & 1 == 0 { bytes.to_vec() } else { last.clone() };
        if kind & 1 != 0 {
            let at = usize::from(kind >> 1);
            for (place, byte) in segment.iter_mut().skip(at).zip(bytes) {
                *place ^= byte;
            }
        }
        now = now.plus_millis(u64::from(kind) * 16);
        let mut sent = Vec::new();
        agent
            .receive(now.instant, &segment, &mut |out| sent.push((out.port, out.segment.to_vec())));
        agent.poll(now.instant, &mut |out| sent.push((out.port, out.segment.to_vec())));
        assert!(sent.len() <= 4, "{} segments at once", sent.len());
        for (port, segment) in sent {
            let tcp = Tcp::parse(&segment).expect("what an agent sends is a segment");
            assert_eq!((tcp.src_port, tcp.dst_port), (port, vip.port()));
            assert!(segment.len() <= 1400);
        }
        assert!(
            agent.next_timer() > now.instant || agent.status(now.instant).state != FlowState::Ready
        );
    }
    // A token comes from a POP only: nobody else knows the key.
    if let Some(token) = agent.token() {
        assert!(before == Some(token) || !last.is_empty());
        assert!(matches!(
            (vip.ip(), token.token.as_bytes().len()),
            (IpAddr::V4(_), 16) | (IpAddr::V6(_), 32)
        ));
    }
}

struct Site {
    service: TunnelService,
    key: AgentKey,
}

fn site() -> &'static Site {
    static SITE: OnceLock<Site> = OnceLock::new();
    SITE.get_or_init(|| {
        let (tenants, key) = config::tenants_and_agent();
        Site { service: tunnel::service(&config::keys(), &tenants, Constants::default()), key }
    })
}
