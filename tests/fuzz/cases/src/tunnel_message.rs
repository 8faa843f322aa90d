//! Messages of tunnels: whatever is read is written the same, and a POP that meets it neither
//! panics nor answers, as no input has a MAC or a token.
//!
//! Input: a byte of choices, 8 of seq and ack, the payload.

use std::net::SocketAddr;
use std::sync::OnceLock;

use anyrelay_core::crypto::Key128;
use anyrelay_core::net::Family;
use anyrelay_core::predict::Constants;
use anyrelay_core::seq::SeqNum;
use anyrelay_core::time::UnixTime;
use anyrelay_core::tunnel::message::{KEEPALIVE_LEN_MAX, MessageType};
use anyrelay_core::tunnel::open::{OpenUp, Outside, up};
use anyrelay_core::tunnel::{
    DataHeader, KeepaliveReply, KeepaliveRequest, SegmentKind, TunnelSegment, TunnelService,
    forward, handshake, keepalive,
};
use anyrelay_kit::config;
use anyrelay_kit::tunnel::{self, VIP4, VIP6};

const KEY: Key128 = Key128::new([7; 16]);
const NOW: UnixTime = UnixTime::from_millis(1_795_341_988_025);

/// Runs one input.
pub fn run(input: &[u8]) {
    let Some((&[choices, a, b, c, d, e, f, g, h], payload)) = input.split_first_chunk() else {
        return;
    };
    let six = choices & 1 != 0;
    let family = if six { Family::V6 } else { Family::V4 };
    read_and_write(payload, family);

    let (src, dst) = if six { ("[2001:db8::7]:7", VIP6) } else { ("192.0.2.7:7", VIP4) };
    let segment = TunnelSegment {
        src: src.parse().unwrap(),
        dst: dst.parse().unwrap(),
        seq: SeqNum(u32::from_be_bytes([a, b, c, d])),
        ack: SeqNum(u32::from_be_bytes([e, f, g, h])),
        flags: choices >> 1 & 0x1f,
        options: &payload[..payload.len().min(40)],
        payload,
        datagram_len: 40 + payload.len(),
    };
    meet(&segment);
}

fn read_and_write(payload: &[u8], family: Family) {
    let mut out = [0; KEEPALIVE_LEN_MAX];
    if let Ok(request) = KeepaliveRequest::parse(payload, family) {
        let len = request.write(vip(family), &KEY, &mut out);
        assert_eq!(out[..len - 16], payload[..len - 16]);
        assert_eq!(MessageType::of(payload), Some(MessageType::KeepaliveRequest));
    }
    if let Ok(reply) = KeepaliveReply::parse(payload, family) {
        let len = reply.write(vip(family), &KEY, &mut out);
        assert_eq!(len, payload.len());
        assert_eq!(KeepaliveReply::parse(&out[..len], family), Ok(reply));
    }
    if let Ok(header) = DataHeader::parse_up(payload) {
        assert_eq!(header.write_up()[..], payload[..12]);
        assert!(
            header.body_at_down() < header.body_at_up() && header.body_at_up() <= payload.len()
        );
    }
    if let Ok(header) = DataHeader::parse_down(payload) {
        assert_eq!(header.write_down()[..], payload[..12]);
        assert!(header.body_at_down() <= payload.len());
    }
    let vip = vip(family);
    assert!(
        !KeepaliveRequest::mac_holds(payload, vip, &KEY)
            && !KeepaliveReply::mac_holds(payload, vip, &KEY)
    );
}

fn vip(family: Family) -> SocketAddr {
    if family == Family::V6 { VIP6 } else { VIP4 }.parse().unwrap()
}

fn meet(segment: &TunnelSegment<'_>) {
    let service = service();
    match SegmentKind::of(segment) {
        Ok(SegmentKind::Syn) => assert!(handshake::syn_ack(service, NOW, segment).is_ok()),
        Ok(SegmentKind::Keepalive) => {
            if let Ok(known) = keepalive::check(service, NOW, segment) {
                assert!(keepalive::reply(&known, 1, segment).is_err());
            }
        }
        Ok(SegmentKind::Data) => assert!(forward::accept(service, NOW, segment, |_| true).is_err()),
        Ok(SegmentKind::Open) => {
            let up = OpenUp::read(service, segment);
            let allowed = |_| Outside::Allowed;
            let decided = up.and_then(|up| up::decide(service, NOW, &up, allowed, |_| true));
            assert!(decided.is_err());
        }
        Ok(SegmentKind::Empty) => assert!(segment.payload.is_empty()),
        Err(_) => {}
    }
}

fn service() -> &'static TunnelService {
    static SERVICE: OnceLock<TunnelService> = OnceLock::new();
    SERVICE.get_or_init(|| {
        tunnel::open_service(&config::keys(), &config::tenants(), Constants::default())
    })
}
