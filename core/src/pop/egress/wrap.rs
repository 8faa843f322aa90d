//! Puts open packets into the segments that carry them to their agents.

use super::headers::Headers;
use crate::frame::{self, Frame};
use crate::tunnel::open::{OpenDown, down};
use crate::verdict::DropReason;
use crate::wire::ipv4::ORIGINATED_TTL;
use crate::wire::tcp::{ACK, PSH};
use crate::wire::{checksum, ip};

/// Puts the IPv6 packet that begins at `l3` of `frame`, and ends with it, into the segment `down`,
/// with its DSCP and ECN (RFC 6040, section 4.1). Gives back where the datagram begins.
pub(in crate::pop) fn wrap<F: Frame>(
    frame: &mut F,
    l3: usize,
    down: &OpenDown,
) -> Result<usize, DropReason> {
    let tos = ip::class(frame.bytes().get(l3..).unwrap_or_default());
    let at = frame::put_before(frame, l3, &down.header).ok_or(DropReason::NoRoom)?;
    let payload = checksum::sum(0, frame.bytes().get(at..).unwrap_or_default());
    let headers = Headers {
        src: down.src,
        dst: down.dst,
        seq: down.seq,
        ack: down.ack,
        flags: PSH | ACK,
        ttl: ORIGINATED_TTL,
        tos,
    };
    let zeros = [0; down::OVERHEAD];
    let room = zeros.get(..headers.len()).unwrap_or_default();
    let at = frame::put_before(frame, at, room).ok_or(DropReason::NoRoom)?;
    headers.write(frame.bytes_mut().get_mut(at..).unwrap_or_default(), &[], payload);
    Ok(at)
}
