//! What a segment to a tunnel says, for whoever wants to be told. Nothing is decided here.

use crate::net::Family;
use crate::pop::Note;
use crate::predict;
use crate::seq::SeqNum;
use crate::time::{Tick, UnixTime};
use crate::tunnel::message::{OPEN_HEADER_LEN, OpenHeader};
use crate::tunnel::numbers::Numbers;
use crate::tunnel::{
    DataHeader, KeepaliveRequest, SegmentKind, Token, TunnelSegment, TunnelService, keepalive,
    message,
};
use crate::wire::ipv6::Ipv6;

/// Tells `note` of `segment` all that can be read of it.
pub(super) fn segment(
    service: &TunnelService,
    now: UnixTime,
    segment: &TunnelSegment<'_>,
    mut note: impl FnMut(Note<'_>),
) {
    let family = Family::of(segment.dst.ip());
    let Some(vip) = service.vip(family) else { return };
    let tick = now.tick(service.constants.tick_ms);
    let numbers = Numbers::new(service, vip, segment.src, None, tick);
    let incoming = SegmentKind::of(segment).ok();
    let stride = service.constants.stride;
    let ticks = |seq: SeqNum, expected: SeqNum| predict::ticks_between(seq, expected, stride);
    let acked = match incoming {
        Some(SegmentKind::Keepalive) => {
            numbers.keepalive_acks.iter().find_map(|&expected| ticks(segment.ack, expected))
        }
        Some(SegmentKind::Data | SegmentKind::Open) => ticks(segment.ack, numbers.data_ack),
        Some(SegmentKind::Syn | SegmentKind::Empty) | None => None,
    };
    note(Note::Tunnelled { agent: segment.src, vip: segment.dst, tick, incoming, acked });
    match incoming {
        Some(SegmentKind::Keepalive) => {
            if let Ok(request) = KeepaliveRequest::parse(segment.payload, family) {
                let named = keepalive::names(&request, segment.src, tick);
                note(Note::Keepalive { request, named });
            }
        }
        Some(SegmentKind::Data) => {
            let Ok(header) = DataHeader::parse_up(segment.payload) else { return };
            let token = |family, at: usize| Token::read(family, segment.payload.get(at..)?);
            let own = token(family, header.own_token_at()).filter(|_| header.sender == family);
            if let Some(own) = own
                && let Ok(holds) = vip.tokens.open(now, header.sender_odd, &own)
            {
                let base = Some(holds.base_high);
                let numbers = Numbers::new(service, vip, segment.src, base, tick);
                let sent = numbers
                    .of_token
                    .and_then(|numbers| ticks(segment.seq, numbers.up.plus(header.offset())));
                note(Note::Sender { holds, sent });
            }
            let to = token(header.destination, message::DATA_HEADER_LEN);
            if let Some(to) = to
                && let Some(vip) = service.vip(header.destination)
                && let Ok(holds) = vip.tokens.open(now, header.destination_odd, &to)
            {
                note(Note::Destination { holds });
            }
        }
        Some(SegmentKind::Open) => open(service, now, segment, tick, note),
        Some(SegmentKind::Syn | SegmentKind::Empty) | None => {}
    }
}

/// Tells `note` of the open packet in `segment`.
fn open(
    service: &TunnelService,
    now: UnixTime,
    segment: &TunnelSegment<'_>,
    tick: Tick,
    mut note: impl FnMut(Note<'_>),
) {
    let Ok(header) = OpenHeader::parse_up(segment.payload) else { return };
    let inner = segment.payload.get(OPEN_HEADER_LEN..).and_then(Ipv6::parse_start);
    let (Some(inner), Some((open, vip))) = (inner, service.open_side()) else { return };
    let agent = open.addresses.decode(now, inner.src).ok();
    let sent = agent.and_then(|agent| {
        let base = Some(agent.base_high);
        let numbers = Numbers::new(service, vip, segment.src, base, tick).of_token?;
        let expected = numbers.up.plus(header.offset());
        predict::ticks_between(segment.seq, expected, service.constants.stride)
    });
    note(Note::OpenPacket { src: inner.src.into(), agent, dst: inner.dst.into(), sent });
}
