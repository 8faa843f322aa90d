//! Messages: both sides read what they write, and arbitrary bytes do no harm.

use std::net::{Ipv4Addr, Ipv6Addr};

use proptest::prelude::*;

use super::*;
use crate::crypto::Key128;
use crate::tunnel::message::{MessageType, keepalive_len};
use crate::tunnel::{Malformed, Token};

const KEY: Key128 = Key128::new([9; 16]);

/// A VIP of the family.
fn vip(family: Family) -> SocketAddr {
    addr(if family == Family::V4 { "203.0.113.20:443" } else { "[2001:db8::20]:443" })
}

fn ip(family: Family, bits: u128) -> std::net::IpAddr {
    match family {
        Family::V4 => Ipv4Addr::from_bits(bits as u32).into(),
        Family::V6 => Ipv6Addr::from_bits(bits).into(),
    }
}

fn any_family() -> impl Strategy<Value = Family> {
    any::<bool>().prop_map(|six| if six { Family::V6 } else { Family::V4 })
}

fn any_header() -> impl Strategy<Value = DataHeader> {
    (any_family(), any_family(), any::<(bool, bool, u8, u16, u64)>()).prop_map(
        |(destination, sender, (destination_odd, sender_odd, offset_steps, channel, session))| {
            DataHeader {
                destination,
                sender,
                destination_odd,
                sender_odd,
                offset_steps,
                channel,
                session,
            }
        },
    )
}

proptest! {
    #[test]
    fn requests_are_read_as_written(
        family in any_family(), tenant: u16, agent: u32, nonce: u64, tick: u64, bits: u128,
        port: u16,
    ) {
        let public = SocketAddr::new(ip(family, bits), port);
        let request = KeepaliveRequest { tenant, agent, nonce, last_tick: Tick(tick), public };
        let mut out = [0xaa; KEEPALIVE_LEN_MAX];
        let len = request.write(vip(family), &KEY, &mut out);
        prop_assert_eq!(len, keepalive_len(family));
        prop_assert_eq!(MessageType::of(&out), Some(MessageType::KeepaliveRequest));
        prop_assert_eq!(KeepaliveRequest::parse(&out[..len], family), Ok(request));
        prop_assert!(KeepaliveRequest::mac_holds(&out[..len], vip(family), &KEY));
        // A message that is cut off is refused.
        for len in 0..len {
            prop_assert_eq!(KeepaliveRequest::parse(&out[..len], family), Err(Malformed));
        }
    }

    #[test]
    fn replies_are_read_as_written(
        family in any_family(), bits: u128, ports: [u16; 3], nonce: u64, tick: u64,
        constants: (u32, u32, u16, u16), epoch: u8, pop: u8, token: Option<[u8; 32]>, open: u128,
    ) {
        let token = token.and_then(|token| Token::read(family, &token));
        let (tick_ms, stride, lag, offset) = constants;
        let reply = KeepaliveReply {
            nonce,
            tick: Tick(tick),
            constants: Constants { tick_ms, stride, lag, offset },
            body_max: ports[0],
            public: SocketAddr::new(ip(family, bits), ports[1]),
            base_low: ports[2],
            epoch,
            pop,
            token,
            open: (open % 2 == 1).then(|| Ipv6Addr::from_bits(open)),
        };
        let mut out = [0xaa; KEEPALIVE_LEN_MAX];
        let len = reply.write(vip(family), &KEY, &mut out);
        prop_assert_eq!(len, keepalive_len(family));
        prop_assert_eq!(MessageType::of(&out), Some(MessageType::KeepaliveReply));
        prop_assert_eq!(KeepaliveReply::parse(&out[..len], family), Ok(reply));
        prop_assert!(KeepaliveReply::mac_holds(&out[..len], vip(family), &KEY));
        // A message that is cut off is refused.
        prop_assert_eq!(KeepaliveReply::parse(&out[..len - 1], family), Err(Malformed));
    }

    #[test]
    fn headers_are_read_as_written(header in any_header()) {
        let up = [&header.write_up()[..], &[0; 64]].concat();
        prop_assert_eq!(MessageType::of(&up), Some(MessageType::DataUp));
        prop_assert_eq!(DataHeader::parse_up(&up), Ok(header));
        prop_assert_eq!(DataHeader::parse_up(&up[..header.body_at_up()]), Ok(header));
        prop_assert_eq!(DataHeader::parse_up(&up[..header.body_at_up() - 1]), Err(Malformed));
        prop_assert_eq!(DataHeader::parse_down(&up), Err(Malformed));

        let down = [&header.write_down()[..], &[0; 64]].concat();
        let said = DataHeader { destination: Family::V4, destination_odd: false, ..header };
        prop_assert_eq!(MessageType::of(&down), Some(MessageType::DataDown));
        prop_assert_eq!(DataHeader::parse_down(&down), Ok(said));
        prop_assert_eq!(DataHeader::parse_down(&down[..header.body_at_down()]), Ok(said));
        prop_assert_eq!(DataHeader::parse_down(&down[..header.body_at_down() - 1]), Err(Malformed));
        prop_assert_eq!(DataHeader::parse_up(&down), Err(Malformed));
        for flag in [2, 8] {
            let mut flagged = down.clone();
            flagged[0] |= flag;
            prop_assert_eq!(DataHeader::parse_down(&flagged), Err(Malformed));
        }
    }

    #[test]
    fn any_bytes_are_read_or_refused(
        first in any::<Option<(u8, u8)>>(),
        mut bytes in proptest::collection::vec(any::<u8>(), 0..120),
        family in any_family(), cut: bool,
    ) {
        // Often with a right type, version and length.
        if let (Some((kind, flags)), Some(head)) = (first, bytes.first_chunk_mut()) {
            *head = [((kind % 5) << 4) | (flags % 2), 2];
        }
        if cut {
            bytes.resize(keepalive_len(family), 0);
        }
        if let Ok(request) = KeepaliveRequest::parse(&bytes, family) {
            let mut out = [0; KEEPALIVE_LEN_MAX];
            let len = request.write(vip(family), &KEY, &mut out);
            prop_assert_eq!(&out[..len - 16], &bytes[..len - 16]);
        }
        if let Ok(reply) = KeepaliveReply::parse(&bytes, family) {
            prop_assert_eq!(reply.token.is_some(), bytes[0] & 1 == 1);
        }
        if let Ok(header) = DataHeader::parse_up(&bytes) {
            prop_assert_eq!(&header.write_up()[..], &bytes[..12]);
        }
        if let Ok(header) = DataHeader::parse_down(&bytes) {
            prop_assert_eq!(&header.write_down()[..], &bytes[..12]);
        }
    }
}
