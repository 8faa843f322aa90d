//! Data: round trips between the families, and every refusal.

use std::net::IpAddr;

use super::*;
use crate::tunnel::Token;
use crate::tunnel::forward::{DataDown, accept};
use crate::verdict::DropReason;

fn anyone(_: IpAddr) -> bool {
    true
}

fn forward(
    service: &TunnelService,
    now: UnixTime,
    sent: &TestSegment,
) -> Result<DataDown, DropReason> {
    accept(service, now, &sent.segment(), anyone)
}

fn refused(service: &TunnelService, sent: &TestSegment) -> DropReason {
    forward(service, NOW, sent).unwrap_err()
}

/// Two IPv4 agents, and a datagram from the first to the second.
fn good(service: &TunnelService) -> (TestAgent, TestAgent, TestSegment) {
    let (from, to, ..) = agents();
    let sent = from.data(service, to.token(service), 3, b"the body");
    assert!(forward(service, NOW, &sent).is_ok());
    (from, to, sent)
}

fn flip(sent: &TestSegment, at: usize, bit: usize) -> TestSegment {
    sent.edit(|sent| sent.payload[at] ^= 1 << bit)
}

#[test]
fn datagrams_go_between_all_families() {
    let service = service();
    let (v4, other_v4, v6, _) = agents();
    let other_v6 = TestAgent::new("acme", 1, "[2001:db8:2::9]:443");
    for (from, to) in [(&v4, &other_v4), (&v6, &other_v6), (&v4, &v6), (&v6, &v4), (&v4, &v4)] {
        for steps in [0, 1, 200, 254] {
            let sent = from.data(&service, to.token(&service), steps, b"the body");
            let down = forward(&service, NOW, &sent).unwrap();
            let offset = u32::from(steps) * 64;
            assert_eq!(down.src, service.vip(to.family()).unwrap().addr);
            assert_eq!(down.dst, to.addr);
            assert_eq!(down.seq, number(&service, to.addr, 0).plus(1 + offset));
            // Six strides below the receiver's own number in this tick: LAG and two more.
            assert_eq!(down.ack, SeqNum(to.seq(0).0.wrapping_sub(6 * 4096)));
            assert_eq!(down.issued_by, 5);

            let payload = [&down.header[..], &sent.payload[down.body_at..]].concat();
            let header = DataHeader::parse_down(&payload).unwrap();
            assert_eq!((header.channel, header.session), (0x1234, 0x0123_4567_89ab_cdef));
            assert_eq!((header.offset(), header.sender), (offset, from.family()));
            let own = from.token(&service);
            assert_eq!(header.sender_odd, own.epoch % 2 == 1);
            assert_eq!(Token::read(header.sender, &payload[12..]), Some(own.token));
            assert_eq!(&payload[header.body_at_down()..], b"the body");
            // Never longer than the datagram up, whatever the families.
            let down_len = to.family().ip_header_len() + 20 + payload.len();
            assert!(down_len <= sent.datagram_len);
        }
    }
}

#[test]
fn an_answer_goes_to_the_token_that_came_with_the_datagram() {
    let service = service_with(two_epochs(later(-1)));
    let (from, to, ..) = agents();
    let sent = from.data(&service, to.token(&service), 0, b"question");
    let down = forward(&service, NOW, &sent).unwrap();
    let payload = [&down.header[..], &sent.payload[down.body_at..]].concat();
    let header = DataHeader::parse_down(&payload).unwrap();
    let token = Token::read(header.sender, &payload[12..]).unwrap();
    let epoch = 7 + u8::from(!header.sender_odd);
    let answer = to.data(&service, PublicToken { epoch, token }, 0, b"answer");
    assert_eq!(forward(&service, NOW, &answer).unwrap().dst, from.addr);
}

#[test]
fn malformed_datagrams_are_refused() {
    let service = service();
    let (_, _, sent) = good(&service);
    for len in 0..12 + 16 + 16 {
        let short = sent.edit(|sent| sent.payload.truncate(len));
        assert_eq!(refused(&service, &short), DropReason::TunnelMalformed, "{len}");
    }
    let empty = sent.edit(|sent| sent.payload.truncate(44));
    assert!(forward(&service, NOW, &empty).is_ok());
    for kind in (0..16).filter(|kind| *kind != 3) {
        let other = sent.edit(|sent| sent.payload[0] = kind << 4);
        assert_eq!(refused(&service, &other), DropReason::TunnelMalformed);
    }
}

#[test]
fn a_datagram_beyond_offset_is_refused() {
    let service = service();
    let (from, to, ..) = agents();
    // A payload of 12 + 16 + 16 + 84 bytes ends at OFFSET.
    let fits = from.data(&service, to.token(&service), 254, &[0; 84]);
    assert!(forward(&service, NOW, &fits).is_ok());
    let passes = from.data(&service, to.token(&service), 254, &[0; 85]);
    assert_eq!(refused(&service, &passes), DropReason::TunnelMalformed);
    let last = from.data(&service, to.token(&service), 255, &[0; 20]);
    assert!(forward(&service, NOW, &last).is_ok());
}

#[test]
fn bodies_beyond_the_mtu_are_refused() {
    let service = service();
    for (from, to) in [(agents().0, agents().1), (agents().0, agents().2), (agents().2, agents().0)]
    {
        let max = usize::from(body_max(1400, from.family(), to.family()));
        let largest = from.data(&service, to.token(&service), 0, &vec![0; max]);
        assert_eq!(largest.datagram_len, 1400);
        assert!(forward(&service, NOW, &largest).is_ok());
        let larger = from.data(&service, to.token(&service), 0, &vec![0; max + 1]);
        assert_eq!(refused(&service, &larger), DropReason::BodyTooBig);
    }
}

#[test]
fn own_tokens_of_others_are_refused() {
    let service = service();
    let (v4, other_v4, v6, _) = agents();
    for (from, to) in [(&v4, &other_v4), (&v6, &v4)] {
        let sent = from.data(&service, to.token(&service), 0, b"");
        for at in sent.payload.len() - Token::len_of(from.family())..sent.payload.len() {
            for bit in 0..8 {
                assert_eq!(refused(&service, &flip(&sent, at, bit)), DropReason::OwnToken);
            }
        }
        // Tokens of the same agent: of another VIP, of other secrets, of another epoch.
        let elsewhere = TunnelService {
            vip4: Some(
                TunnelVip::new(addr("203.0.113.20:444"), &key_file(two_epochs(NOW))).unwrap(),
            ),
            vip6: Some(
                TunnelVip::new(addr("[2001:db8::21]:443"), &key_file(two_epochs(NOW))).unwrap(),
            ),
            ..service_with(two_epochs(NOW))
        };
        let own = PublicToken { epoch: 0, ..from.token(&elsewhere) };
        let header = from.header(&service, to.token(&service), 0);
        let foreign = from.data_with(&service, &header, to.token(&service), own, b"");
        assert_eq!(refused(&service, &foreign), DropReason::OwnToken);
    }
}

#[test]
fn a_parity_other_than_the_tokens_is_refused() {
    let service = service_with(two_epochs(NOW));
    let (_, _, sent) = good(&service);
    assert_eq!(refused(&service, &flip(&sent, 0, 0)), DropReason::OwnToken);
    assert_eq!(refused(&service, &flip(&sent, 0, 1)), DropReason::DestinationToken);
    // At a POP without an epoch of this parity:
    let service = super::service();
    let (_, _, sent) = good(&service);
    assert_eq!(refused(&service, &flip(&sent, 0, 0)), DropReason::OwnTokenEpoch);
    assert_eq!(refused(&service, &flip(&sent, 0, 1)), DropReason::DestinationTokenEpoch);
}

#[test]
fn epochs_end_a_day_after_their_successors_begin() {
    let day = 24 * 3600 * 1000;
    let (from, to, ..) = agents();
    // Tokens of epoch 7, at POPs whose epoch 8 begins at different times.
    let old = service_with(two_epochs(later(1)));
    let sent = from.data(&old, to.token(&old), 0, b"");
    let new = service_with(two_epochs(NOW));
    let current = |agent: &TestAgent| agent.token(&new);
    let at = |epochs: UnixTime, sent: &TestSegment| {
        forward(&service_with(two_epochs(epochs)), NOW, sent)
    };
    let before = |ms| UnixTime::from_millis(NOW.as_millis() - ms);
    assert!(at(before(day - 1), &sent).is_ok());
    assert_eq!(at(before(day), &sent), Err(DropReason::OwnTokenEpoch));
    // An old destination alone, and an old sender, which is checked first.
    let header = DataHeader { sender_odd: false, ..from.header(&old, to.token(&old), 0) };
    let to_old = from.data_with(&old, &header, to.token(&old), current(&from), b"");
    assert!(at(before(day - 1), &to_old).is_ok());
    assert_eq!(at(before(day), &to_old), Err(DropReason::DestinationTokenEpoch));
    let header = DataHeader { destination_odd: false, ..from.header(&old, to.token(&old), 0) };
    let from_old = from.data_with(&old, &header, current(&to), from.token(&old), b"");
    assert!(at(before(day - 1), &from_old).is_ok());
    assert_eq!(at(before(day), &from_old), Err(DropReason::OwnTokenEpoch));
    // Tokens of the next epoch are accepted before it begins.
    let early = from.data_with(
        &new,
        &DataHeader { sender_odd: false, destination_odd: false, ..header },
        current(&to),
        current(&from),
        b"",
    );
    assert!(at(later(1000), &early).is_ok());
}

#[test]
fn tokens_of_other_addresses_are_refused() {
    let service = service();
    let (from, to, sent) = good(&service);
    for address in ["192.0.2.1:40001", "192.0.2.7:40000"] {
        // With the numbers of the thief itself.
        let thief = TestAgent { addr: addr(address), ..from.clone() };
        let header = from.header(&service, to.token(&service), 3);
        let own = from.token(&service);
        let stolen = thief.data_with(&service, &header, to.token(&service), own, b"the body");
        assert_eq!(refused(&service, &stolen), DropReason::TokenSource);
    }
    // No agent here has a token of the other family.
    let v6 = agents().2;
    let header = v6.header(&service, to.token(&service), 3);
    let own = v6.token(&service);
    let mixed = from.data_with(&service, &header, to.token(&service), own, b"the body");
    assert_eq!(mixed.src, sent.src);
    assert_eq!(refused(&service, &mixed), DropReason::TokenSource);
}

#[test]
fn tenants_that_may_not_use_the_tunnel_are_refused() {
    let mut service = service();
    let (_, _, sent) = good(&service);
    service.tenants = vec![2].into();
    assert_eq!(refused(&service, &sent), DropReason::UnknownTenant);
}

#[test]
fn numbers_of_other_ticks_are_refused() {
    let service = service();
    let (v4, other_v4, v6, _) = agents();
    for (from, to) in [(&v4, &other_v4), (&v6, &v4)] {
        let sent = from.data(&service, to.token(&service), 3, b"the body");
        let judge = |sent: TestSegment| forward(&service, NOW, &sent).map(drop);
        let by = |right| if right { Ok(()) } else { Err(DropReason::NotInSequence) };
        for ticks in -15..=6 {
            let seq = judge(sent.edit(|sent| sent.seq = from.seq(ticks).plus(3 * 64)));
            assert_eq!(seq, by((-3..=3).contains(&ticks)), "seq {ticks}");
            let number = number(&service, from.addr, ticks);
            let ack = judge(sent.edit(|sent| sent.ack = number.plus(1)));
            assert_eq!(ack, by((-12..=3).contains(&ticks)), "ack {ticks}");
            // The end of a keepalive reply, which data does not ack.
            let exact = judge(sent.edit(|sent| sent.ack = number.plus(91)));
            assert_eq!(exact, by(false));
        }
        for off in [1, 64, 128, 2048, 4095, 0x8000_0000, u32::MAX] {
            assert_eq!(judge(sent.edit(|sent| sent.seq = sent.seq.plus(off))), by(false), "{off}");
            assert_eq!(judge(sent.edit(|sent| sent.ack = sent.ack.plus(off))), by(false), "{off}");
        }
        // The offsets of the header and of the numbers must be equal.
        assert_eq!(judge(sent.edit(|sent| sent.payload[1] += 1)), by(false));
        // Numbers of another base: 0x10000 is 16 ticks.
        let mut rewritten = from.clone();
        rewritten.base = rewritten.base.wrapping_add(0x1_0000);
        let seq = rewritten.seq(0).plus(3 * 64);
        assert_eq!(judge(sent.edit(|sent| sent.seq = seq)), by(false));
    }
}

#[test]
fn a_destination_without_a_vip_is_refused() {
    let mut service = service();
    let (from, v6) = (agents().0, agents().2);
    let sent = from.data(&service, v6.token(&service), 0, b"");
    assert!(forward(&service, NOW, &sent).is_ok());
    service.vip6 = None;
    assert_eq!(refused(&service, &sent), DropReason::DestinationFamily);
}

#[test]
fn destination_tokens_of_others_are_refused() {
    let service = service();
    let (v4, other_v4, v6, _) = agents();
    for (from, to) in [(&v4, &other_v4), (&v4, &v6)] {
        let sent = from.data(&service, to.token(&service), 0, b"");
        for at in 12..12 + Token::len_of(to.family()) {
            for bit in 0..8 {
                let wrong = flip(&sent, at, bit);
                assert_eq!(refused(&service, &wrong), DropReason::DestinationToken);
            }
        }
        let keys = KeyFile::from_random([[1; 32], [2; 32], [3; 32]]);
        let elsewhere = TunnelService {
            vip4: Some(TunnelVip::new(addr("203.0.113.20:444"), &keys).unwrap()),
            vip6: Some(TunnelVip::new(addr("[2001:db8::21]:443"), &keys).unwrap()),
            ..super::service()
        };
        let foreign = from.data(&service, to.token(&elsewhere), 0, b"");
        assert_eq!(refused(&service, &foreign), DropReason::DestinationToken);
    }
}

#[test]
fn other_tenants_agents_are_refused() {
    let service = service();
    let (from, _, _, stranger) = agents();
    let sent = from.data(&service, stranger.token(&service), 0, b"");
    assert_eq!(refused(&service, &sent), DropReason::OtherTenant);
    let back = stranger.data(&service, from.token(&service), 0, b"");
    assert_eq!(refused(&service, &back), DropReason::OtherTenant);
}

#[test]
fn destinations_that_are_no_agents_addresses_are_refused() {
    let service = service();
    let (from, to, sent) = good(&service);
    let not_to = |ip: IpAddr| ip != to.addr.ip();
    let result = accept(&service, NOW, &sent.segment(), not_to);
    assert_eq!(result, Err(DropReason::DestinationNotAllowed));
    let nowhere = TestAgent { addr: addr("192.0.2.2:0"), ..to };
    let sent = from.data(&service, nowhere.token(&service), 0, b"");
    assert_eq!(refused(&service, &sent), DropReason::DestinationNotAllowed);
}

#[test]
fn the_sender_is_checked_before_the_destination() {
    let service = service();
    let (from, _, _, stranger) = agents();
    // All is wrong at first, and corrected one by one.
    let mut to = stranger.token(&service);
    let foreign = match &mut to.token {
        Token::V4(bytes) => std::mem::replace(bytes, [7; 16]),
        Token::V6(_) => unreachable!(),
    };
    let mut sent = from.data(&service, to, 0, b"").edit(|sent| {
        sent.seq = sent.seq.plus(1);
        sent.payload[28] ^= 1;
    });
    assert_eq!(refused(&service, &sent), DropReason::OwnToken);
    sent.payload[28] ^= 1;
    assert_eq!(refused(&service, &sent), DropReason::NotInSequence);
    sent.seq = from.seq(0);
    assert_eq!(refused(&service, &sent), DropReason::DestinationToken);
    sent.payload[12..28].copy_from_slice(&foreign);
    assert_eq!(refused(&service, &sent), DropReason::OtherTenant);
}
