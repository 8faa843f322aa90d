//! ICMP errors about segments sent to the VIP, from a raw socket's error queue (ip(7), IP_RECVERR;
//! ipv6(7), IPV6_RECVERR).
//!
//! The kernel has checked that the quoted packet went from this socket's address to the VIP, and
//! nothing else: the caller checks the quoted port and sequence number.

use std::io::IoSliceMut;
use std::os::fd::{AsFd, AsRawFd};

use anyrelay_core::seq::SeqNum;
use nix::errno::Errno;
use nix::libc::{SO_EE_ORIGIN_ICMP, SO_EE_ORIGIN_ICMP6};
use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg};

/// An ICMP error "fragmentation needed" (RFC 1191) or "packet too big" (RFC 8201).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooBig {
    /// The MTU of the next link, in bytes of IP; 0 from routers that predate RFC 1191.
    pub mtu: usize,
    /// The source port of the quoted segment.
    pub port: u16,
    /// The sequence number of the quoted segment.
    pub seq: SeqNum,
}

/// Reads a bounded number of errors from the queue of `socket` and calls `each` with those about a
/// packet that was too big. Ignores others.
pub fn drain(socket: impl AsFd, is_v4: bool, mut each: impl FnMut(TooBig)) {
    let fd = socket.as_fd().as_raw_fd();
    let (mut quote, mut control) = ([0; QUOTE_MAX], [0; CONTROL_MAX]);
    for _ in 0..ERRORS_MAX {
        let mut slices = [IoSliceMut::new(&mut quote)];
        let flags = MsgFlags::MSG_ERRQUEUE | MsgFlags::MSG_DONTWAIT;
        let message = match recvmsg::<()>(fd, &mut slices, Some(&mut control), flags) {
            Ok(message) => message,
            Err(Errno::EINTR) => continue,
            Err(_) => return,
        };
        let len = message.bytes;
        let mtu = message.cmsgs().ok().and_then(|mut all| all.find_map(|one| mtu_in(&one)));
        let (Some(mtu), Some(quote)) = (mtu, quote.get(..len)) else { continue };
        if let Some((port, seq)) = quoted(quote, is_v4) {
            each(TooBig { mtu, port, seq });
        }
    }
}

fn mtu_in(message: &ControlMessageOwned) -> Option<usize> {
    let (error, wanted) = match message {
        ControlMessageOwned::Ipv4RecvErr(error, _) => (error, (SO_EE_ORIGIN_ICMP, 3, 4)),
        ControlMessageOwned::Ipv6RecvErr(error, _) => (error, (SO_EE_ORIGIN_ICMP6, 2, 0)),
        _ => return None,
    };
    let found = (error.ee_origin, error.ee_type, error.ee_code);
    (found == wanted).then(|| usize::try_from(error.ee_info).unwrap_or(usize::MAX))
}

/// Source port and sequence number of the quoted segment. With a socket that writes its own IPv4
/// header, the quote begins with that header.
fn quoted(quote: &[u8], is_v4: bool) -> Option<(u16, SeqNum)> {
    let header_len = if is_v4 { usize::from(quote.first()? & 0x0f) * 4 } else { 0 };
    let [a, b, _, _, c, d, e, f] = *quote.get(header_len..)?.first_chunk()?;
    Some((u16::from_be_bytes([a, b]), SeqNum(u32::from_be_bytes([c, d, e, f]))))
}

/// The longest IPv4 header, and the ports and sequence number of a segment.
const QUOTE_MAX: usize = 60 + 8;
/// Room for one extended error with an IPv6 address, and to spare.
const CONTROL_MAX: usize = 256;
const ERRORS_MAX: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_and_sequence_numbers_follow_the_header() {
        let segment = [0xee, 0x48, 0x01, 0xbb, 1, 2, 3, 4];
        let wanted = Some((61_000, SeqNum(0x0102_0304)));
        assert_eq!(quoted(&segment, false), wanted);
        for words in [5u8, 6, 15] {
            let mut packet = vec![0; usize::from(words) * 4];
            packet[0] = 0x40 | words;
            packet.extend(segment);
            assert_eq!(quoted(&packet, true), wanted);
            assert_eq!(quoted(&packet[..packet.len() - 1], true), None);
        }
        assert_eq!(quoted(&[], true), None);
        assert_eq!(quoted(&[], false), None);
    }
}
