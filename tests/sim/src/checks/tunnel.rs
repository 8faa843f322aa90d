//! What a POP sends because of a segment to a tunnel: by `docs/protocol-tunnel.md`.

use std::net::{IpAddr, SocketAddr};

use anyrelay_kit::frames::{ACK, RST, long, word};

use super::{Checked, require};
use crate::setup::{TUNNEL4, TUNNEL6};
use crate::wire::{Datagram, SegmentView};

pub(super) fn check_tunnel(
    ip: &Datagram<'_>,
    asked: &SegmentView<'_>,
    out: &SegmentView<'_>,
) -> Checked {
    require([TUNNEL4, TUNNEL6].contains(&out.src), "a tunnel's segment from another VIP")?;
    require(out.checksum_holds && out.has(ACK), "a tunnel's segment is wrong")?;
    require(out.flags & RST == 0, "a tunnel resets")?;
    require(ip.src.is_ipv6() || ip.bytes[6] & 0x40 != 0, "a tunnel's segment without DF")?;
    require(ip.dst.is_ipv6() == out.src.is_ipv6(), "families are mixed")?;
    match out.data.first().map(|first| first >> 4) {
        Some(2) => check_reply(asked, out),
        _ => Ok(()),
    }
}

/// A keepalive reply has a token exactly if the request names where it is from and a tick near the
/// POP's, and its base is aligned (sections 6 and 7).
fn check_reply(asked: &SegmentView<'_>, out: &SegmentView<'_>) -> Checked {
    require((out.src, out.dst) == (asked.dst, asked.src), "a keepalive reply to somebody else")?;
    require(out.data.len() == asked.data.len(), "a keepalive reply is not as long as the request")?;
    let place = place(asked.src);
    let base_at = 32 + place.len();
    require(out.data.len() > base_at + 2, "a keepalive reply is cut off")?;
    require(out.data[32..base_at] == place, "a keepalive reply tells another place")?;
    let tick = |data: &[u8], at| u64::from(long(data, at)) << 32 | u64::from(long(data, at + 4));
    let ticks = tick(asked.data, 16).wrapping_sub(tick(out.data, 10)) as i64;
    let named = asked.data[24..24 + place.len()] == place && (-12..=3).contains(&ticks);
    let (stride, off) = (long(out.data, 22) as i32, i32::from(word(out.data, base_at)) - 0x8000);
    require(stride > 0, "a keepalive reply without constants")?;
    let aligned = off % stride == 0 && (-8..=7).contains(&(off / stride));
    let given = out.data[0] == 0x21;
    require(given || !(named && aligned), "a keepalive reply without the token that is due")?;
    require(named || !given, "a token for who does not name where and when")?;
    require(aligned || !given, "a token for numbers that are not aligned")
}

/// An address in 4 or 16 bytes and its port in 2.
fn place(addr: SocketAddr) -> Vec<u8> {
    let port = addr.port().to_be_bytes();
    match addr.ip() {
        IpAddr::V4(ip) => [&ip.octets()[..], &port].concat(),
        IpAddr::V6(ip) => [&ip.octets()[..], &port].concat(),
    }
}
