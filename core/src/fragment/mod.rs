//! What happens to fragments (the draft, section 1.2.1).
//!
//! The fragments of one datagram may reach different POPs, and only the first one has ports. A POP
//! that saw some of them must not guess: this is decided before anything looks at ports.
//!
//! With the policy to put datagrams together, whoever has the frames reads fragments
//! ([`Fragment::read`]), asks the [`Ledger`], keeps what it admits, and gives what became whole its
//! header back ([`finish`]). The POP itself takes whole datagrams only.

mod ledger;
mod limits;
mod read;
mod shares;
#[cfg(test)]
mod tests;

pub use ledger::{Admitted, Arrival, EXPIRE_MAX, Finished, FragmentHash, Ledger, PER_DATAGRAM_MAX};
pub use limits::FragmentLimits;
pub use read::{Fragment, Key};
pub(crate) use shares::LEFT_FOR_EACH;
pub use shares::Waiting;

use crate::frame::Frame;
use crate::verdict::DropReason;
use crate::wire::ethernet::{self, Ethernet};
use crate::wire::ipv4::{self, Ipv4};
use crate::wire::ipv6::{self, Ipv6};
use crate::wire::{checksum, get_u16, put_u16};

/// Whether a datagram may go on: it is whole.
#[inline]
pub fn admit(is_whole: bool) -> Result<(), DropReason> {
    if is_whole { Ok(()) } else { Err(DropReason::Fragment) }
}

/// Takes the fragment header out of the IPv6 datagram that begins at `l3` of `frame`, whose header is
/// `ip`, if that is all there is of its datagram (RFC 6946): such a one is whole, and no other
/// fragment has to do with it. What is in front of it moves up, so the datagram begins at `l3` still.
/// False, and nothing done, where it is another fragment.
pub fn remove_atomic<F: Frame>(frame: &mut F, l3: usize, ip: &Ipv6) -> bool {
    let datagram = frame.bytes().get(l3..).unwrap_or_default();
    let Some(header) = ip.fragment(datagram).filter(ipv6::Fragment::is_atomic) else {
        return false;
    };
    let Some(datagram) = frame.bytes_mut().get_mut(l3..) else { return false };
    let payload_len = ip.payload_len - ipv6::FRAGMENT_LEN;
    put_u16(datagram, ipv6::field::PAYLOAD_LEN, payload_len as u16);
    if let Some(name) = datagram.get_mut(header.named_at) {
        *name = header.next_header;
    }
    // The header is in the frame, so there is room for what moves onto it.
    frame.bytes_mut().copy_within(..l3 + header.at, ipv6::FRAGMENT_LEN);
    frame.trim_front(ipv6::FRAGMENT_LEN);
    true
}

/// Makes the IP header of a datagram that was put together out of fragments, in one frame, right: of
/// IPv4 the checksum, and of both the mark that a router put on one of them (RFC 3168, section 5.3).
/// False when the frame is not what the ledger found whole.
#[must_use]
pub fn finish<F: Frame>(frame: &mut F, finished: &Finished) -> bool {
    let Some(Ethernet { header_len: l3, ethertype, .. }) = Ethernet::parse(frame.bytes()) else {
        return false;
    };
    let Some(datagram) = frame.bytes_mut().get_mut(l3..) else { return false };
    let mark = if finished.is_marked { read::ECN_MASK } else { 0 };
    match ethertype {
        ethernet::TYPE_IPV4 => finish_ipv4(datagram, finished, mark),
        ethernet::TYPE_IPV6 => {
            let Some(ip) = Ipv6::parse(datagram) else { return false };
            if let Some(class) = datagram.get_mut(1) {
                *class |= mark << 4;
            }
            ip.payload_len == finished.len && ip.total_len() == datagram.len()
        }
        _ => false,
    }
}

fn finish_ipv4(datagram: &mut [u8], finished: &Finished, mark: u8) -> bool {
    let header_len = datagram.first().map_or(0, |first| usize::from(first & 0x0f) * 4);
    let total_len = usize::from(get_u16(datagram, ipv4::field::TOTAL_LEN));
    if total_len != header_len + finished.len || total_len != datagram.len() {
        return false;
    }
    let Some(header) = datagram.get_mut(..header_len) else { return false };
    if let Some(tos) = header.get_mut(ipv4::field::TOS) {
        *tos |= mark;
    }
    put_u16(header, ipv4::field::CHECKSUM, 0);
    let sum = checksum::checksum(header);
    put_u16(header, ipv4::field::CHECKSUM, sum);
    Ipv4::parse(datagram).is_ok_and(|ip| !ip.is_fragment())
}
