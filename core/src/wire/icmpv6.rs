//! ICMPv6 (RFC 4443): echo, errors, and which messages are for neighbour discovery.

use super::icmp::ParseError;
use super::ipv6::PROTOCOL_ICMPV6;
use super::{checksum, get_u32, put_u16};

/// Offsets from the start of the ICMPv6 message.
pub mod field {
    /// Type; the code is the byte after it.
    pub const TYPE: usize = 0;
    /// Code.
    pub const CODE: usize = 1;
    /// Checksum over pseudo header and message.
    pub const CHECKSUM: usize = 2;
    /// MTU of the next hop, in a packet-too-big.
    pub const MTU: usize = 4;
}

/// Length in bytes of the header of echo messages and errors; in errors the quote follows.
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

/// What an ICMPv6 message is, as far as a POP asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Echo request.
    EchoRequest,
    /// Neighbour solicitation: [`super::nd::Solicitation`] reads it.
    Solicitation,
    /// Neighbour advertisement: [`super::nd::Advertisement`] reads it.
    Advertisement,
    /// An error that quotes a datagram: unreachable, too big, time exceeded, parameter problem.
    Error {
        /// MTU of the next hop in bytes, when the error is a packet-too-big.
        mtu: Option<u32>,
    },
    /// Anything else.
    Other,
}

/// Reads and checks the message that fills `bytes`, sent from `src` to `dst`.
pub fn parse(src: u128, dst: u128, bytes: &[u8]) -> Result<Kind, ParseError> {
    let head: &[u8; HEADER_LEN] = bytes.first_chunk().ok_or(ParseError::Malformed)?;
    if checksum::fold(sum(src, dst, bytes)) != 0xffff {
        return Err(ParseError::Checksum);
    }
    Ok(match (head[field::TYPE], head[field::CODE]) {
        (ECHO_REQUEST, 0) => Kind::EchoRequest,
        (NEIGHBOUR_SOLICITATION, 0) => Kind::Solicitation,
        (NEIGHBOUR_ADVERTISEMENT, 0) => Kind::Advertisement,
        (PACKET_TOO_BIG, _) => Kind::Error { mtu: Some(get_u32(head, field::MTU)) },
        (UNREACHABLE | TIME_EXCEEDED | PARAMETER_PROBLEM, _) => Kind::Error { mtu: None },
        _ => Kind::Other,
    })
}

/// Turns the echo request in `bytes` into its reply from `src` to `dst`, in place.
pub fn make_echo_reply(src: u128, dst: u128, bytes: &mut [u8]) {
    if let Some(kind) = bytes.first_mut() {
        *kind = ECHO_REPLY;
    }
    write_checksum(src, dst, bytes);
}

/// Computes the checksum of the message that fills `bytes`, and writes it.
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
    }

    #[test]
    fn echo_is_answered_in_place() {
        let mut bytes = [0; 17];
        (bytes[field::TYPE], bytes[9]) = (ECHO_REQUEST, 0xab);
        write_checksum(SRC, DST, &mut bytes);
        make_echo_reply(DST, SRC, &mut bytes);
        assert_eq!(parse(DST, SRC, &bytes), Ok(Kind::Other));
        assert_eq!((bytes[field::TYPE], bytes[9]), (ECHO_REPLY, 0xab));
    }
}
