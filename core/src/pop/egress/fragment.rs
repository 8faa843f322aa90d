//! Sends segments in fragments that became too large for their next hop (RFC 791, section 3.2; RFC
//! 8200, section 4.5).
//!
//! Every fragment gets a frame of its own, and all frames are allocated before the first is sent: a
//! datagram goes out whole or not at all.

use arrayvec::ArrayVec;

use super::super::output::Output;
use super::endings::Egress;
use crate::frame::Frame;
use crate::link::Hop;
use crate::net::Family;
use crate::verdict::DropReason;
use crate::wire::{ipv4, ipv6, put_u16};

/// Fragments that one datagram is sent in at most: what fits the largest frame buffer, through the
/// smallest MTU that a port may have, 576.
pub const FRAGMENTS_MAX: usize = 20;

/// How a datagram is cut.
struct Cut<'a> {
    /// What every fragment begins with, but for what differs.
    header: &'a [u8],
    payload: &'a [u8],
    /// Bytes of payload in each but the last.
    step: usize,
}

impl<'a> Cut<'a> {
    /// The cut of `payload` into datagrams with `header` of `mtu` bytes at most; none when there
    /// would be more than [`FRAGMENTS_MAX`].
    fn new(header: &'a [u8], payload: &'a [u8], mtu: usize) -> Option<Self> {
        // Offsets count in units of eight bytes.
        let step = mtu.saturating_sub(header.len()) & !7;
        let fits = step > 0 && payload.len().div_ceil(step) <= FRAGMENTS_MAX;
        fits.then_some(Cut { header, payload, step })
    }
}

/// Sends the datagram of `family` that begins at `l3` of `frame`, and ends with it, to `hop`, in
/// fragments with the ID `id`. It has no IPv4 options and no extension headers. On failure nothing
/// was sent.
#[cold]
#[inline(never)]
pub(super) fn send<F: Frame, O: Output<F>>(
    egress: &mut Egress<'_, O>,
    frame: &F,
    l3: usize,
    hop: Hop,
    family: Family,
    id: u32,
) -> Result<(), DropReason> {
    let datagram = frame.bytes().get(l3..).unwrap_or_default();
    let Some((header, payload)) = datagram.split_at_checked(family.ip_header_len()) else {
        return Err(DropReason::NoRoom);
    };
    match family {
        Family::V4 => send_ipv4(egress, header, payload, hop, id as u16),
        Family::V6 => send_ipv6(egress, header, payload, hop, id),
    }
}

fn send_ipv4<F: Frame, O: Output<F>>(
    egress: &mut Egress<'_, O>,
    header: &[u8],
    payload: &[u8],
    hop: Hop,
    id: u16,
) -> Result<(), DropReason> {
    let cut = Cut::new(header, payload, egress.mtu(hop.port)).ok_or(DropReason::TooBig)?;
    let write = |header: &mut [u8], offset: usize, len: usize, more: bool| {
        let word = (offset / 8) as u16 | if more { ipv4::MORE_FRAGMENTS } else { 0 };
        put_u16(header, ipv4::field::TOTAL_LEN, (ipv4::HEADER_LEN + len) as u16);
        put_u16(header, ipv4::field::ID, id);
        put_u16(header, ipv4::field::FRAGMENT, word);
        ipv4::write_checksum(header);
    };
    send_cut(egress, &cut, hop, Family::V4, write)
}

/// The fragments are so small that they fit through any link, since no router on the way cuts them
/// again (RFC 7915, section 4).
fn send_ipv6<F: Frame, O: Output<F>>(
    egress: &mut Egress<'_, O>,
    header: &[u8],
    payload: &[u8],
    hop: Hop,
    id: u32,
) -> Result<(), DropReason> {
    const HEADERS_LEN: usize = ipv6::HEADER_LEN + ipv6::FRAGMENT_LEN;
    let mut headers = [0; HEADERS_LEN];
    let (fixed, _) = headers.split_at_mut(ipv6::HEADER_LEN);
    fixed.copy_from_slice(header);
    let next_header =
        std::mem::replace(&mut headers[ipv6::field::NEXT_HEADER], ipv6::PROTOCOL_FRAGMENT);
    let mtu = egress.mtu(hop.port).min(ipv6::MTU_MIN);
    let cut = Cut::new(&headers, payload, mtu).ok_or(DropReason::TooBig)?;
    let (at, next_header_at) = (ipv6::HEADER_LEN, ipv6::field::NEXT_HEADER);
    let write = |headers: &mut [u8], offset: usize, len: usize, more: bool| {
        put_u16(headers, ipv6::field::PAYLOAD_LEN, (ipv6::FRAGMENT_LEN + len) as u16);
        ipv6::FragmentHeader { at, next_header_at, next_header, offset, more, id }.write(headers);
    };
    send_cut(egress, &cut, hop, Family::V6, write)
}

/// Sends the fragments of `cut`; `write` fills in the header of the one with that offset, length
/// and more-fragments flag.
fn send_cut<F: Frame, O: Output<F>>(
    egress: &mut Egress<'_, O>,
    cut: &Cut<'_>,
    hop: Hop,
    family: Family,
    write: impl Fn(&mut [u8], usize, usize, bool),
) -> Result<(), DropReason> {
    let mut fragments = ArrayVec::<F, FRAGMENTS_MAX>::new();
    let mut offset = 0;
    for part in cut.payload.chunks(cut.step) {
        let mut fragment: F = egress.out.allocate().ok_or(DropReason::NoBuffer)?;
        if !fragment.append(cut.header.len() + part.len()) {
            return Err(DropReason::NoRoom);
        }
        let Some((header, payload)) = fragment.bytes_mut().split_at_mut_checked(cut.header.len())
        else {
            return Err(DropReason::NoRoom);
        };
        header.copy_from_slice(cut.header);
        payload.copy_from_slice(part);
        write(header, offset, part.len(), offset + part.len() < cut.payload.len());
        offset += part.len();
        // There are no more than fit: `Cut::new`.
        let _ = fragments.try_push(fragment);
    }
    for fragment in fragments {
        if !egress.send(fragment, 0, hop, family) {
            return Err(DropReason::NoRoom);
        }
    }
    Ok(())
}
