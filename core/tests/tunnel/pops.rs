//! The POPs of the simulation: the core's own functions, and the segments around what they say.

use std::sync::Arc;

use anyrelay_core::keys::{AgentKeys, KeyFile, Tenants};
use anyrelay_core::predict::Constants;
use anyrelay_core::seq::SeqNum;
use anyrelay_core::time::UnixTime;
use anyrelay_core::tunnel::{
    SegmentKind, TunnelSegment, TunnelService, TunnelVip, forward, handshake, keepalive,
};
use anyrelay_core::verdict::DropReason;
use anyrelay_core::wire::tcp::{ACK, SYN};
use anyrelay_kit::nat::Packet;

use crate::world::{VIP4, VIP6};

const PSH: u8 = 8;

pub fn service(keys: &KeyFile, tenants: &Tenants, constants: Constants) -> TunnelService {
    let vip = |addr: &str| Some(TunnelVip::new(addr.parse().unwrap(), keys).unwrap());
    TunnelService {
        constants,
        tunnel_mtu: 1400,
        vip4: vip(VIP4),
        vip6: vip(VIP6),
        tenants: [1].into(),
        agents: Arc::new(AgentKeys::new(tenants).unwrap()),
    }
}

/// What a POP does with a segment.
pub fn answer(
    service: &TunnelService,
    now: UnixTime,
    pop: u8,
    packet: &Packet,
) -> Result<Option<Packet>, DropReason> {
    let head = packet.head();
    let segment = TunnelSegment {
        src: packet.src,
        dst: packet.dst,
        seq: head.seq,
        ack: head.ack,
        flags: head.flags,
        options: &packet.tcp[20..head.header_len],
        payload: packet.payload(),
        datagram_len: packet.tcp.len() + if packet.src.is_ipv4() { 20 } else { 40 },
    };
    Ok(match SegmentKind::of(&segment)? {
        SegmentKind::Syn => {
            let answer = handshake::syn_ack(service, now, &segment)?;
            let [high, low] = answer.mss.to_be_bytes();
            let mut options = vec![2, 4, high, low];
            if answer.window_scale {
                options.extend_from_slice(&[1, 3, 3, 8]);
            }
            Some(back(packet, (answer.seq, answer.ack), SYN | ACK, &options, &[]))
        }
        SegmentKind::Empty => None,
        SegmentKind::Keepalive => {
            let known = keepalive::check(service, now, &segment)?;
            let reply = keepalive::reply(&known, pop, &segment)?;
            Some(back(packet, (reply.seq, reply.ack), ACK | PSH, &[], &reply.payload))
        }
        SegmentKind::Data => {
            let down = forward::accept(service, now, &segment, |_| true)?;
            let payload = [&down.header[..], &segment.payload[down.body_at..]].concat();
            let tcp = tcp(down.src.port(), down.dst.port(), (down.seq, down.ack), &payload);
            Some(Packet { src: down.src, dst: down.dst, tcp })
        }
    })
}

fn tcp(src: u16, dst: u16, (seq, ack): (SeqNum, SeqNum), payload: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    bytes.extend_from_slice(&src.to_be_bytes());
    bytes.extend_from_slice(&dst.to_be_bytes());
    bytes.extend_from_slice(&seq.0.to_be_bytes());
    bytes.extend_from_slice(&ack.0.to_be_bytes());
    bytes.extend_from_slice(&[0x50, ACK | PSH, 0xff, 0xff, 0, 0, 0, 0]);
    bytes.extend_from_slice(payload);
    bytes
}

/// A segment from where `packet` went to.
pub fn back(
    packet: &Packet,
    numbers: (SeqNum, SeqNum),
    flags: u8,
    options: &[u8],
    payload: &[u8],
) -> Packet {
    let rest = [options, payload].concat();
    let mut tcp = tcp(packet.dst.port(), packet.src.port(), numbers, &rest);
    tcp[12] = (((20 + options.len()) / 4) << 4) as u8;
    tcp[13] = flags;
    Packet { src: packet.dst, dst: packet.src, tcp }
}
