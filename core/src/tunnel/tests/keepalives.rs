//! Keepalives: the reply, alignment, and every refusal.

use super::*;
use crate::tunnel::keepalive::{self, ReplySegment};
use crate::tunnel::{Return, Token};
use crate::verdict::DropReason;

/// The answer of the POP with the number 5.
fn answer(
    service: &TunnelService,
    now: UnixTime,
    sent: &TestSegment,
) -> Result<ReplySegment, DropReason> {
    let segment = sent.segment();
    keepalive::reply(&keepalive::check(service, now, &segment)?, 5, &segment)
}

/// The reply to `sent`, whose MAC `agent` verified.
fn reply_of(
    service: &TunnelService,
    now: UnixTime,
    agent: &TestAgent,
    sent: &TestSegment,
) -> KeepaliveReply {
    let reply = answer(service, now, sent).unwrap();
    assert!(KeepaliveReply::mac_holds(&reply.payload, sent.dst, &agent.key.key));
    KeepaliveReply::parse(&reply.payload, agent.family()).unwrap()
}

#[test]
fn an_aligned_agent_gets_its_token() {
    let service = service();
    for (agent, len) in [(agents().0, 90), (agents().2, 118)] {
        let request = agent.keepalive(&service);
        assert_eq!(request.payload.len(), len);
        let reply = answer(&service, NOW, &request).unwrap();
        assert_eq!(reply.payload.len(), len);
        assert_eq!(reply.seq, number(&service, agent.addr, 0).plus(1));
        assert_eq!(reply.ack, request.seq.plus(len as u32));
        let token = agent.token(&service);
        assert_eq!(
            reply_of(&service, NOW, &agent, &request),
            KeepaliveReply {
                nonce: 99,
                tick: Tick(N),
                constants: Constants::default(),
                body_max: body_max(1400, agent.family(), agent.family()),
                public: agent.addr,
                base_low: 0x8000,
                epoch: 0,
                pop: 5,
                token: Some(token.token),
                open: None,
            }
        );
    }
    assert_eq!(body_max(1400, Family::V4, Family::V4), 1400 - 84);
    assert_eq!(body_max(1400, Family::V6, Family::V6), 1400 - 136);
    assert_eq!(body_max(1400, Family::V4, Family::V6), 1400 - 84 - 16);
    assert_eq!(body_max(60, Family::V4, Family::V4), 0);
}

#[test]
fn a_base_is_aligned_even_where_clocks_differ() {
    let service = service();
    let mut agent = agents().0;
    let high = (agent.base >> 16) as u16;
    // A request of this tick, at POPs whose clocks are ahead or behind.
    for ahead in -20..=20 {
        // Its ack and the tick that it names are made valid, as they are not the subject of this
        // test.
        let request = agent.keepalive_naming(&service, agent.addr, ahead);
        let request = request.edit(|sent| sent.ack = number(&service, agent.addr, ahead).plus(1));
        let reply = reply_of(&service, later(ahead), &agent, &request);
        assert_eq!(reply.base_low, 0x8000u16.wrapping_sub((ahead * 4096) as u16));
        let tokens = &service.vip4.as_ref().unwrap().tokens;
        // With a difference of 16 ticks the low bits repeat, and the token is of another base.
        let off = [-20, -19, -18, -17, -16, -15, -14, -13, -12, -11, -10, -9, -8];
        let far_ahead = [9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20];
        let base_high = reply.token.map(|token| tokens.open(NOW, false, &token).unwrap().base_high);
        if off.contains(&ahead) || far_ahead.contains(&ahead) {
            assert_ne!(base_high, Some(high), "{ahead}");
        } else {
            assert_eq!(base_high, Some(high), "{ahead}");
        }
    }
    for low in [0x8001, 0x7fff, 0x8800, 0x0001, 0xffff] {
        agent.base = 0xfffd_0000 | low;
        let reply = reply_of(&service, NOW, &agent, &agent.keepalive(&service));
        assert_eq!((reply.token, reply.epoch, u32::from(reply.base_low)), (None, 0, low));
    }
}

/// Who names another address or port, or a tick too far from the POP's, gets a reply that tells the
/// right ones, and is as long as the request.
#[test]
fn a_token_is_only_for_who_names_where_it_is_from_and_when() {
    let service = service();
    let cases = [
        (agents().0, ["0.0.0.0:0", "192.0.2.1:0", "192.0.2.1:40001", "192.0.2.2:40000"]),
        (agents().2, ["[::]:0", "[2001:db8:1::7]:0", "[2001:db8:1::7]:40001", "[::7]:40002"]),
    ];
    for (agent, others) in cases {
        let given = reply_of(&service, NOW, &agent, &agent.keepalive(&service));
        assert!(given.token.is_some());
        let assert_bare = |request: &TestSegment| {
            let reply = reply_of(&service, NOW, &agent, request);
            assert_eq!(reply, KeepaliveReply { token: None, epoch: 0, ..given });
            let len = answer(&service, NOW, request).unwrap().payload.len();
            assert_eq!(len, request.payload.len());
        };
        for other in others {
            assert_bare(&agent.keepalive_naming(&service, addr(other), 0));
        }
        for ticks in -14..=5 {
            let request = agent.keepalive_naming(&service, agent.addr, ticks);
            if (-12..=3).contains(&ticks) {
                assert_eq!(reply_of(&service, NOW, &agent, &request), given, "{ticks}");
            } else {
                assert_bare(&request);
            }
        }
        for tick in [0u64, u64::MAX, 1 << 63, N + (1 << 32)] {
            let ticks = tick.wrapping_sub(N) as i64;
            assert_bare(&agent.keepalive_naming(&service, agent.addr, ticks));
        }
    }
}

#[test]
fn strides_that_do_not_divide_the_alignment_are_handled() {
    let constants = Constants { stride: 1000, ..Constants::default() };
    for (base_low, aligned) in [
        (0x8000, true),
        (0x8000 + 7000, true),
        (0x8000 + 8000, false),
        (0x8000 - 8000, true),
        (0x8000 - 9000, false),
        (0x8000 + 500, false),
        (0, false),
    ] {
        assert_eq!(keepalive::is_aligned(base_low, &constants), aligned, "{base_low}");
    }
    assert!(!keepalive::is_aligned(0x8000, &Constants { stride: 0, ..constants }));
}

#[test]
fn tokens_are_of_the_current_epoch() {
    let (agent, change) = (agents().0, later(2));
    let service = service_with(two_epochs(change));
    for (ticks, epoch) in [(0, 7), (1, 7), (2, 8), (3, 8)] {
        let request = agent.keepalive(&service);
        let reply = reply_of(&service, later(ticks), &agent, &request);
        assert_eq!(reply.epoch, epoch);
        let tokens = &service.vip4.as_ref().unwrap().tokens;
        let held = tokens.open(NOW, epoch % 2 == 1, &reply.token.unwrap()).unwrap();
        let expected = Return { agent: agent.addr, base_high: 0xfffd, tenant: 1, epoch, pop: 5 };
        assert_eq!(held, expected);
    }
}

#[test]
fn acks_of_other_ticks_are_refused() {
    let service = service();
    for agent in [agents().0, agents().2] {
        let request = agent.keepalive(&service);
        let len = request.payload.len() as u32;
        let with = |ack| answer(&service, NOW, &request.edit(|sent| sent.ack = ack)).map(drop);
        for ticks in -14..=5 {
            let expected =
                if (-12..=3).contains(&ticks) { Ok(()) } else { Err(DropReason::KeepaliveAck) };
            let number = number(&service, agent.addr, ticks);
            assert_eq!(with(number.plus(1)), expected, "{ticks}");
            assert_eq!(with(number.plus(1 + len)), expected, "{ticks}");
            for off in [0, 2, len, len + 2, 4096 - len] {
                assert_eq!(with(number.plus(off)), Err(DropReason::KeepaliveAck), "{off}");
            }
        }
        // The numbers of another agent.
        let other = acme("192.0.2.9:9");
        let ack = number(&service, other.addr, 0).plus(1);
        assert_eq!(with(ack), Err(DropReason::KeepaliveAck));
    }
}

#[test]
fn malformed_requests_are_refused() {
    let service = service();
    for agent in [agents().0, agents().2] {
        let good = agent.keepalive(&service);
        let len = good.payload.len();
        let refused = |edit: &dyn Fn(&mut Vec<u8>), why: &str| {
            let sent = good.edit(|sent| edit(&mut sent.payload));
            let result = answer(&service, NOW, &sent).map(drop);
            assert_eq!(result, Err(DropReason::TunnelMalformed), "{why}");
        };
        refused(&|payload| payload.truncate(len - 1), "short");
        refused(&|payload| payload.push(0), "long");
        refused(&|payload| payload.clear(), "empty");
        refused(&|payload| payload[0] |= 1, "flags");
        refused(&|payload| payload[0] = 0x20, "type");
        refused(&|payload| payload[1] = 1, "version");
        let said = if agent.addr.is_ipv4() { 30 } else { 42 };
        for at in said..len - 16 {
            refused(&|payload| payload[at] = 1, "zeros");
        }
    }
    // Each family has its own length.
    let (v4, v6) = (agents().0.keepalive(&service), agents().2.keepalive(&service));
    let swapped = v4.edit(|sent| sent.payload = v6.payload.clone());
    assert_eq!(answer(&service, NOW, &swapped), Err(DropReason::TunnelMalformed));
}

#[test]
fn unlisted_agents_are_refused() {
    let service = service();
    let with = |service: &TunnelService, tenant, agent| {
        let mut unknown = agents().0;
        unknown.key = AgentKey { tenant, agent, ..unknown.key };
        answer(service, NOW, &unknown.keepalive(service)).map(drop)
    };
    let revoked = TestAgent::new("other", 2, "192.0.2.1:40000");
    let request = revoked.keepalive(&service);
    assert_eq!(answer(&service, NOW, &request), Err(DropReason::UnknownAgent));
    for (tenant, agent) in [(1, 3), (0, 1), (3, 1), (1, 0), (0xffff, u32::MAX)] {
        assert_eq!(with(&service, tenant, agent), Err(DropReason::UnknownAgent));
    }
    assert_eq!(with(&service, 1, 1), Ok(()));
    let narrow = TunnelService { tenants: vec![2].into(), ..service };
    assert_eq!(with(&narrow, 1, 1), Err(DropReason::UnknownAgent));
}

#[test]
fn wrong_macs_are_refused() {
    let service = service();
    for agent in [agents().0, agents().2] {
        let good = agent.keepalive(&service);
        let refused = |sent: &TestSegment| {
            assert_eq!(answer(&service, NOW, sent), Err(DropReason::KeepaliveMac));
        };
        let len = good.payload.len();
        let said = if agent.addr.is_ipv4() { 30 } else { 42 };
        for at in (8..said).chain(len - 16..len) {
            for bit in 0..8 {
                refused(&good.edit(|sent| sent.payload[at] ^= 1 << bit));
            }
        }
        // With the key of another agent of the same tenant.
        let mut other = agent.clone();
        other.key.key = crate::keys::agent_key(&tenants().get("acme").unwrap().key, 77).unwrap();
        refused(&other.keepalive(&service));
        // A MAC of the other direction over the same bytes.
        let (said, _) = good.payload.split_at(len - 16);
        let vip = crate::keys::endpoint_fields(good.dst);
        let with_mac = |parts: &[&[u8]]| {
            let mac = crate::crypto::hmac_sha256_128(&agent.key.key, parts);
            good.edit(|sent| sent.payload[len - 16..].copy_from_slice(&mac))
        };
        refused(&with_mac(&[b"keepalive reply", &[0], &vip, said]));
        // One that covers no VIP, or another one.
        refused(&with_mac(&[b"keepalive request", &[0], said]));
        let other = crate::keys::endpoint_fields(SocketAddr::new(good.dst.ip(), 444));
        refused(&with_mac(&[b"keepalive request", &[0], &other, said]));
        let right = with_mac(&[b"keepalive request", &[0], &vip, said]);
        assert_eq!(right.payload, good.payload);
    }
}

#[test]
fn the_cheap_checks_come_first() {
    // All is wrong: the form is checked first, then the ack, the agent and the MAC.
    let service = service();
    let agent = agents().0;
    let mut sent = agent.keepalive(&service).edit(|sent| {
        sent.payload[30] = 1;
        sent.payload[4] = 9;
        sent.ack = sent.ack.plus(7);
    });
    assert_eq!(answer(&service, NOW, &sent), Err(DropReason::TunnelMalformed));
    sent.payload[30] = 0;
    assert_eq!(answer(&service, NOW, &sent), Err(DropReason::KeepaliveAck));
    sent.ack = number(&service, agent.addr, 0).plus(1);
    assert_eq!(answer(&service, NOW, &sent), Err(DropReason::UnknownAgent));
    sent.payload[4] = 0;
    sent.payload[9] = 9;
    assert_eq!(answer(&service, NOW, &sent), Err(DropReason::KeepaliveMac));
}

#[test]
fn a_reply_to_another_agent_does_not_hold() {
    let service = service();
    let agent = agents().0;
    let mut reply = answer(&service, NOW, &agent.keepalive(&service)).unwrap().payload;
    let vip = agent.vip(&service);
    assert!(!KeepaliveReply::mac_holds(&reply, vip, &agents().1.key.key));
    assert!(!KeepaliveRequest::mac_holds(&reply, vip, &agent.key.key));
    for at in 0..reply.len() {
        reply[at] ^= 1;
        assert!(!KeepaliveReply::mac_holds(&reply, vip, &agent.key.key), "{at}");
        reply[at] ^= 1;
    }
    for other in ["203.0.113.21:443", "203.0.113.20:444", "[2001:db8::20]:443"] {
        assert!(!KeepaliveReply::mac_holds(&reply, addr(other), &agent.key.key), "{other}");
    }
    assert!(KeepaliveReply::mac_holds(&reply, vip, &agent.key.key));
    assert!(matches!(KeepaliveReply::parse(&reply, Family::V4).unwrap().token, Some(Token::V4(_))));
}
