//! Segments that became too large for their way out, and may be fragmented (RFC 791, section 3.2; RFC
//! 8200, section 4.5).
//!
//! Every fragment gets a frame of its own, and all of them are there before the first is sent: a
//! datagram goes out whole or not at all.

use arrayvec::ArrayVec;

use super::Output;
use super::run::Run;
use crate::frame::Frame;
use crate::link::Hop;
use crate::verdict::DropReason;
use crate::wire::{checksum, ethernet, ipv4, ipv6, put_u16};

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

impl<O> Run<'_, O> {
    /// Sends the IPv4 datagram without options that begins at `l3` of `frame` and ends with it to
    /// `hop`, in fragments with the ID `id`. On failure nothing was sent.
    #[cold]
    pub(super) fn send_in_fragments<F: Frame>(
        &mut self,
        frame: &F,
        l3: usize,
        hop: Hop,
        id: u16,
    ) -> Result<(), DropReason>
    where
        O: Output<F>,
    {
        let datagram = frame.bytes().get(l3..).unwrap_or_default();
        let Some((header, payload)) = datagram.split_at_checked(ipv4::HEADER_LEN) else {
            return Err(DropReason::NoRoom);
        };
        let cut = Cut::new(header, payload, self.mtu(hop.port)).ok_or(DropReason::TooBig)?;
        let write = |header: &mut [u8], offset: usize, len: usize, more: bool| {
            let word = (offset / 8) as u16 | if more { ipv4::MORE_FRAGMENTS } else { 0 };
            put_u16(header, ipv4::field::TOTAL_LEN, (ipv4::HEADER_LEN + len) as u16);
            put_u16(header, ipv4::field::ID, id);
            put_u16(header, ipv4::field::FRAGMENT, word);
            put_u16(header, ipv4::field::CHECKSUM, 0);
            let sum = checksum::checksum(header);
            put_u16(header, ipv4::field::CHECKSUM, sum);
        };
        self.send_cut(&cut, hop, ethernet::TYPE_IPV4, write)
    }

    /// [`Run::send_in_fragments`] for an IPv6 datagram without extension headers: so small that they
    /// fit through any link, since no router on the way cuts them again (RFC 7915, section 4).
    #[cold]
    pub(super) fn send_in_fragments6<F: Frame>(
        &mut self,
        frame: &F,
        l3: usize,
        hop: Hop,
        id: u32,
    ) -> Result<(), DropReason>
    where
        O: Output<F>,
    {
        const HEADERS_LEN: usize = ipv6::HEADER_LEN + ipv6::FRAGMENT_LEN;
        let datagram = frame.bytes().get(l3..).unwrap_or_default();
        let Some((header, payload)) = datagram.split_at_checked(ipv6::HEADER_LEN) else {
            return Err(DropReason::NoRoom);
        };
        let mut headers = [0; HEADERS_LEN];
        let (fixed, _) = headers.split_at_mut(ipv6::HEADER_LEN);
        fixed.copy_from_slice(header);
        let next_header =
            std::mem::replace(&mut headers[ipv6::field::NEXT_HEADER], ipv6::PROTOCOL_FRAGMENT);
        let mtu = self.mtu(hop.port).min(ipv6::MTU_MIN);
        let cut = Cut::new(&headers, payload, mtu).ok_or(DropReason::TooBig)?;
        let (at, next_header_at) = (ipv6::HEADER_LEN, ipv6::field::NEXT_HEADER);
        let write = |headers: &mut [u8], offset: usize, len: usize, more: bool| {
            put_u16(headers, ipv6::field::PAYLOAD_LEN, (ipv6::FRAGMENT_LEN + len) as u16);
            ipv6::FragmentHeader { at, next_header_at, next_header, offset, more, id }
                .write(headers);
        };
        self.send_cut(&cut, hop, ethernet::TYPE_IPV6, write)
    }

    /// Sends the fragments of `cut`; `write` makes the header of the one with that offset, length and
    /// more behind it right.
    fn send_cut<F: Frame>(
        &mut self,
        cut: &Cut<'_>,
        hop: Hop,
        ethertype: u16,
        write: impl Fn(&mut [u8], usize, usize, bool),
    ) -> Result<(), DropReason>
    where
        O: Output<F>,
    {
        let mut fragments = ArrayVec::<F, FRAGMENTS_MAX>::new();
        let mut offset = 0;
        for part in cut.payload.chunks(cut.step) {
            let mut fragment: F = self.out.allocate().ok_or(DropReason::NoBuffer)?;
            if !fragment.append(cut.header.len() + part.len()) {
                return Err(DropReason::NoRoom);
            }
            let Some((header, payload)) =
                fragment.bytes_mut().split_at_mut_checked(cut.header.len())
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
            if !self.send(fragment, 0, hop, ethertype) {
                return Err(DropReason::NoRoom);
            }
        }
        Ok(())
    }
}
