//! ICMP (RFC 792; frag-needed RFC 1191): echo, and the errors that quote a datagram.

use super::{checksum, get_u16, put_u16};

/// Offsets from the start of the ICMP message.
pub mod field {
    /// Type; the code is the byte after it.
    pub const TYPE: usize = 0;
    /// Code.
    pub const CODE: usize = 1;
    /// Checksum over the whole message.
    pub const CHECKSUM: usize = 2;
    /// Words of four bytes that the quote has, where extensions follow it (RFC 4884).
    pub const QUOTE_WORDS: usize = 5;
    /// MTU of the next hop, in a frag-needed.
    pub const MTU: usize = 6;
}

/// Length in bytes of the header; in errors the quoted datagram follows.
pub const HEADER_LEN: usize = 8;

const ECHO_REPLY: u8 = 0;
const ECHO_REQUEST: u8 = 8;
/// Type of destination unreachable.
pub const UNREACHABLE: u8 = 3;
/// Type of time exceeded.
pub const TIME_EXCEEDED: u8 = 11;
/// Type of parameter problem.
pub const PARAMETER_PROBLEM: u8 = 12;
/// Code of a destination unreachable that is a frag-needed.
pub const CODE_FRAGMENTATION_NEEDED: u8 = 4;

/// What an ICMP message is, as far as a relay asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Echo request.
    EchoRequest,
    /// An error that quotes a datagram: unreachable, time exceeded, parameter problem.
    Error {
        /// MTU of the next hop in bytes, when the error is a frag-needed.
        mtu: Option<u16>,
    },
    /// Anything else.
    Other,
}

/// Why bytes are not an ICMP message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParseError {
    /// Shorter than a header.
    #[error("the ICMP message is shorter than its header")]
    Malformed,
    /// The checksum is wrong.
    #[error("the ICMP checksum is wrong")]
    Checksum,
}

/// Reads and checks the message that fills `bytes`.
pub fn parse(bytes: &[u8]) -> Result<Kind, ParseError> {
    let head: &[u8; HEADER_LEN] = bytes.first_chunk().ok_or(ParseError::Malformed)?;
    if !checksum::is_valid(bytes) {
        return Err(ParseError::Checksum);
    }
    Ok(match (head[field::TYPE], head[field::CODE]) {
        (ECHO_REQUEST, 0) => Kind::EchoRequest,
        (UNREACHABLE, CODE_FRAGMENTATION_NEEDED) => {
            Kind::Error { mtu: Some(get_u16(head, field::MTU)) }
        }
        (UNREACHABLE | TIME_EXCEEDED | PARAMETER_PROBLEM, _) => Kind::Error { mtu: None },
        _ => Kind::Other,
    })
}

/// Turns the echo request in `bytes` into its reply, in place.
pub fn make_echo_reply(bytes: &mut [u8]) {
    if let Some(kind) = bytes.first_mut() {
        *kind = ECHO_REPLY;
    }
    write_checksum(bytes);
}

/// Computes the checksum over all of `bytes` and writes it.
pub fn write_checksum(bytes: &mut [u8]) {
    put_u16(bytes, field::CHECKSUM, 0);
    let sum = checksum::checksum(bytes);
    put_u16(bytes, field::CHECKSUM, sum);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn echo_is_answered_in_place() {
        let mut bytes = [0; 16];
        bytes[field::TYPE] = ECHO_REQUEST;
        bytes[9] = 0xab;
        write_checksum(&mut bytes);
        assert_eq!(parse(&bytes), Ok(Kind::EchoRequest));
        make_echo_reply(&mut bytes);
        assert_eq!(parse(&bytes), Ok(Kind::Other));
        assert_eq!((bytes[field::TYPE], bytes[9]), (ECHO_REPLY, 0xab));
    }
}
