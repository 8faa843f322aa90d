//! A connected agent and bad segments: it never panics, its own segments keep the rules of the
//! protocol, and only messages that POPs sealed change its state.
//!
//! Input: a byte of choices (family, rounds before), then segments: a byte of kind and one of
//! length, and as many bytes, which are the segment or are laid over a good one.

use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, OnceLock};

use anyrelay_core::keys::{AgentKey, AgentKeys, KeyFile, Secret, Tenants};
use anyrelay_core::predict::Constants;
use anyrelay_core::time::Now;
use anyrelay_core::tunnel::agent::{Agent, AgentSetup, FlowState};
use anyrelay_core::tunnel::{
    SegmentKind, TunnelSegment, TunnelService, TunnelVip, handshake, keepalive,
};
use anyrelay_core::wire::tcp::Tcp;

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
            let Some(answer) = answer(&site.service, now, from, vip, &segment) else { continue };
            agent.receive(now.instant, &answer, &mut |out| {
                sent.push((out.port, out.segment.to_vec()))
            });
            last = answer;
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
        let keys = KeyFile::from_random([[1; 32], [2; 32], [3; 32]]);
        let mut tenants = Tenants::default();
        let tenant = tenants.add("acme", Secret::new([4; 32])).unwrap();
        let key = tenants.issue("acme", "agent").unwrap();
        let vip = |text: &str| Some(TunnelVip::new(text.parse().unwrap(), &keys).unwrap());
        let service = TunnelService {
            constants: Constants::default(),
            tunnel_mtu: 1400,
            vip4: vip(VIP4),
            vip6: vip(VIP6),
            tenants: [tenant].into(),
            agents: Arc::new(AgentKeys::new(&tenants).unwrap()),
        };
        Site { service, key }
    })
}

/// What a POP answers.
fn answer(
    service: &TunnelService,
    now: Now,
    src: SocketAddr,
    dst: SocketAddr,
    bytes: &[u8],
) -> Option<Vec<u8>> {
    let tcp = Tcp::parse(bytes)?;
    let segment = TunnelSegment {
        src,
        dst,
        seq: tcp.seq,
        ack: tcp.ack,
        flags: tcp.flags,
        options: &bytes[20..tcp.header_len],
        payload: &bytes[tcp.header_len..],
        datagram_len: bytes.len() + 40,
    };
    let (seq, ack, flags, options, payload) = match SegmentKind::of(&segment).ok()? {
        SegmentKind::Syn => {
            let answer = handshake::syn_ack(service, now.unix, &segment).ok()?;
            let options = vec![2, 4, 5, 0x50, 1, 3, 3, 8];
            (answer.seq, answer.ack, 0x12, options, Vec::new())
        }
        SegmentKind::Keepalive => {
            let known = keepalive::check(service, now.unix, &segment).ok()?;
            let reply = keepalive::reply(&known, 1, &segment).ok()?;
            (reply.seq, reply.ack, 0x18, Vec::new(), reply.payload.to_vec())
        }
        SegmentKind::Empty | SegmentKind::Data => return None,
    };
    let mut out = [dst.port().to_be_bytes(), src.port().to_be_bytes()].concat();
    out.extend(seq.0.to_be_bytes());
    out.extend(ack.0.to_be_bytes());
    out.extend([(((20 + options.len()) / 4) << 4) as u8, flags, 0xff, 0xff, 0, 0, 0, 0]);
    out.extend(options);
    out.extend(payload);
    Some(out)
}

const VIP4: &str = "203.0.113.20:443";
const VIP6: &str = "[2001:db8::20]:443";
