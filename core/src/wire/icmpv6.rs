//! ICMPv6 messages (RFC 4443): their kind, echo replies, checksums.
//!
//! `icmp_error` reads and writes errors by their meaning, [`super::nd`] messages of
//! neighbour discovery.

use super::icmp::{self, ParseError};
use super::ipv6::{ExtensionError, Ipv6, PROTOCOL_ICMPV6};
use super::{checksum, get_u32, put_u16};

/// Offsets in bytes from the start of the ICMPv6 message.
pub mod field {
    /// Type.
    pub const TYPE: usize = 0;
    /// Code.
    pub const CODE: usize = 1;
    /// Checksum over the pseudo header and the message.
    pub const CHECKSUM: usize = 2;
    /// Length of the quote in words of 64 bits, where extensions follow it (RFC 4884).
    pub const QUOTE_WORDS: usize = 4;
    /// MTU of the next hop in a packet-too-big.
    pub const MTU: usize = 4;
}

/// Length in bytes of the header of echo messages and errors; an error's quote follows it.
pub const HEADER_LEN: usize = 8;

/// Type of destination unreachable.
pub const UNREACHABLE: u8 = 1;
/// Type of packet-too-big.
pub const PACKET_TOO_BIG: u8 = 2;
/// Type of time exceeded.
pub const TIME_EXCEEDED: u8 = 3;
/// Type of parameter problem.
pub const PARAMETER_PROBLEM: u8 = 4;
const ECHO_REQUEST: u8 = 128;
const ECHO_REPLY: u8 = 129;
pub(super) const NEIGHBOUR_SOLICITATION: u8 = 135;
pub(super) const NEIGHBOUR_ADVERTISEMENT: u8 = 136;
const REDIRECT: u8 = 137;

/// The kind of an ICMPv6 message, as far as a POP distinguishes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Echo request.
    EchoRequest,
    /// Neighbour solicitation, to be read by [`super::nd::Solicitation`].
    Solicitation,
    /// Neighbour advertisement, to be read by [`super::nd::Advertisement`].
    Advertisement,
    /// An error about the datagram that it quotes: destination unreachable, packet too big, time
    /// exceeded, parameter problem.
    Error {
        /// MTU of the next hop in bytes, in a packet-too-big.
        mtu: Option<u32>,
    },
    /// Any other message.
    Other,
}

/// Checks the message from `src` to `dst` that fills `bytes`, and finds its kind.
///
/// # Errors
///
/// [`ParseError`] when it is shorter than a header or its checksum does not hold.
pub fn parse(src: u128, dst: u128, bytes: &[u8]) -> Result<Kind, ParseError> {
    let head: &[u8; HEADER_LEN] = bytes.first_chunk().ok_or(ParseError::Malformed)?;
    if checksum::fold(sum(src, dst, bytes)) != 0xffff {
        return Err(ParseError::Checksum);
    }
    Ok(match (head[field::TYPE], head[field::CODE]) {
        // Hosts answer whatever the code is.
        (ECHO_REQUEST, _) => Kind::EchoRequest,
        (NEIGHBOUR_SOLICITATION, 0) => Kind::Solicitation,
        (NEIGHBOUR_ADVERTISEMENT, 0) => Kind::Advertisement,
        (PACKET_TOO_BIG, _) => Kind::Error { mtu: Some(get_u32(head, field::MTU)) },
        (UNREACHABLE | TIME_EXCEEDED | PARAMETER_PROBLEM, _) => Kind::Error { mtu: None },
        _ => Kind::Other,
    })
}

/// Whether the packet with the header `ip` at the start of `bytes`, which may be cut off, is an
/// error or a redirect, about which no error is sent (RFC 4443, section 2.4), or may be.
pub fn may_be_error(ip: &Ipv6, bytes: &[u8]) -> bool {
    match ip.upper(bytes) {
        Ok(upper) if upper.protocol != PROTOCOL_ICMPV6 => false,
        Ok(upper) => {
            bytes.get(upper.at).is_none_or(|kind| *kind < ECHO_REQUEST || *kind == REDIRECT)
        }
        Err(ExtensionError::Fragment) => {
            ip.fragment(bytes).is_none_or(|fragment| fragment.next_header == PROTOCOL_ICMPV6)
        }
        Err(_) => true,
    }
}

/// Turns the echo request that fills `bytes` into its reply from `src` to `dst`, in place.
pub fn make_echo_reply(src: u128, dst: u128, bytes: &mut [u8]) {
    if let Some(kind) = bytes.first_mut() {
        *kind = ECHO_REPLY;
    }
    write_checksum(src, dst, bytes);
}

/// Turns the head of an echo request into its reply's; false when it is another message's. The
/// checksum is updated, so that it need not be the whole message; the sum of the addresses is the
/// same both ways.
pub fn reply_to_head(head: &mut [u8; HEADER_LEN]) -> bool {
    icmp::turn(head, ECHO_REQUEST, ECHO_REPLY)
}

/// Computes the checksum of the message from `src` to `dst` that fills `bytes`, and writes it.
pub fn write_checksum(src: u128, dst: u128, bytes: &mut [u8]) {
    put_u16(bytes, field::CHECKSUM, 0);
    let sum = !checksum::fold(sum(src, dst, bytes));
    put_u16(bytes, field::CHECKSUM, sum);
}

fn sum(src: u128, dst: u128, bytes: &[u8]) -> u32 {
    let pseudo = checksum::pseudo_header(src, dst, PROTOCOL_ICMPV6, bytes.len());
    checksum::sum(pseudo, bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SRC: u128 = 0x2001_0db8 << 96 | 0xffff_ffff;
    const DST: u128 = 0xfe80 << 112 | 9;

    #[test]
    fn the_checksum_covers_addresses_and_every_bit() {
        let mut bytes = [0; 20];
        bytes[field::TYPE] = ECHO_REQUEST;
        write_checksum(SRC, DST, &mut bytes);
        assert_eq!(parse(SRC, DST, &bytes), Ok(Kind::EchoRequest));
        for bit in 0..128 {
            assert_eq!(parse(SRC ^ 1 << bit, DST, &bytes), Err(ParseError::Checksum));
            assert_eq!(parse(SRC, DST ^ 1 << bit, &bytes), Err(ParseError::Checksum));
        }
        for bit in 0..160 {
            let mut wrong = bytes;
            wrong[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(parse(SRC, DST, &wrong), Err(ParseError::Checksum));
        }
        assert_eq!(parse(SRC, DST, &bytes[..18]), Err(ParseError::Checksum));
        assert_eq!(parse(SRC, DST, &bytes[..7]), Err(ParseError::Malformed));
    }

    proptest! {
        #[test]
        fn an_echo_request_becomes_its_reply_in_place(
            src: u128, dst: u128, rest in proptest::collection::vec(any::<u8>(), 4..100),
        ) {
            let mut message = [&[ECHO_REQUEST, 0, 0, 0], &rest[..]].concat();
            write_checksum(src, dst, &mut message);
            prop_assert_eq!(parse(src, dst, &message), Ok(Kind::EchoRequest));
            make_echo_reply(dst, src, &mut message);
            prop_assert_eq!(parse(dst, src, &message), Ok(Kind::Other));
            prop_assert_eq!((message[0], &message[4..]), (ECHO_REPLY, &rest[..]));
        }
    }
}
