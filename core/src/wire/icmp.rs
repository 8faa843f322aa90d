//! ICMP messages (RFC 792; frag-needed RFC 1191): their kind, echo replies, checksums.
//!
//! `icmp_error` reads and writes errors by their meaning.

use super::checksum::{self, Change};
use super::{get_u16, put_u16};

/// Offsets in bytes from the start of the ICMP message.
pub mod field {
    /// Type.
    pub const TYPE: usize = 0;
    /// Code.
    pub const CODE: usize = 1;
    /// Checksum over the whole message.
    pub const CHECKSUM: usize = 2;
    /// Identifier and sequence number of an echo message, two bytes each, in both families.
    pub const IDENTIFIER: usize = 4;
    /// Length of the quote in words of four bytes, where extensions follow it (RFC 4884).
    pub const QUOTE_WORDS: usize = 5;
    /// MTU of the next hop in a frag-needed.
    pub const MTU: usize = 6;
}

/// Length in bytes of the header of echo messages and errors; an error's quote follows it.
pub const HEADER_LEN: usize = 8;

const ECHO_REPLY: u8 = 0;
const ECHO_REQUEST: u8 = 8;
/// Type of destination unreachable.
pub const UNREACHABLE: u8 = 3;
/// Type of time exceeded.
pub const TIME_EXCEEDED: u8 = 11;
/// Type of parameter problem.
pub const PARAMETER_PROBLEM: u8 = 12;
/// Code of destination unreachable: fragmentation needed and DF set.
pub const CODE_FRAGMENTATION_NEEDED: u8 = 4;

/// The kind of an ICMP message, as far as a relay distinguishes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Echo request.
    EchoRequest,
    /// An error about the datagram that it quotes: destination unreachable, time exceeded,
    /// parameter problem.
    Error {
        /// MTU of the next hop in bytes, in a frag-needed.
        mtu: Option<u16>,
    },
    /// Any other message.
    Other,
}

/// Why bytes are not an ICMP or ICMPv6 message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParseError {
    /// Shorter than the header.
    #[error("the ICMP message is shorter than its header")]
    Malformed,
    /// The checksum is wrong.
    #[error("the ICMP checksum is wrong")]
    Checksum,
}

/// Checks the message that fills `bytes`, and finds its kind.
///
/// # Errors
///
/// [`ParseError`] when it is shorter than a header or its checksum does not hold.
pub fn parse(bytes: &[u8]) -> Result<Kind, ParseError> {
    let head: &[u8; HEADER_LEN] = bytes.first_chunk().ok_or(ParseError::Malformed)?;
    if !checksum::is_valid(bytes) {
        return Err(ParseError::Checksum);
    }
    Ok(match (head[field::TYPE], head[field::CODE]) {
        // Hosts answer whatever the code is.
        (ECHO_REQUEST, _) => Kind::EchoRequest,
        (UNREACHABLE, CODE_FRAGMENTATION_NEEDED) => {
            Kind::Error { mtu: Some(get_u16(head, field::MTU)) }
        }
        (UNREACHABLE | TIME_EXCEEDED | PARAMETER_PROBLEM, _) => Kind::Error { mtu: None },
        _ => Kind::Other,
    })
}

/// Turns the echo request that fills `bytes` into its reply, in place.
pub fn make_echo_reply(bytes: &mut [u8]) {
    if let Some(kind) = bytes.first_mut() {
        *kind = ECHO_REPLY;
    }
    write_checksum(bytes);
}

/// Turns the head of an echo request into its reply's; false when it is another message's. The
/// checksum is updated, so that it need not be the whole message.
pub fn reply_to_head(head: &mut [u8; HEADER_LEN]) -> bool {
    turn(head, ECHO_REQUEST, ECHO_REPLY)
}

/// Changes the type of a message from `old` to `new`; false when it has another type.
pub(super) fn turn(head: &mut [u8; HEADER_LEN], old: u8, new: u8) -> bool {
    let is_old = head[field::TYPE] == old;
    if is_old {
        head[field::TYPE] = new;
        let change = Change::NONE.word(u16::from(old) << 8, u16::from(new) << 8);
        let sum = change.apply(get_u16(head, field::CHECKSUM));
        put_u16(head, field::CHECKSUM, sum);
    }
    is_old
}

/// Computes the checksum of the message that fills `bytes`, and writes it.
pub fn write_checksum(bytes: &mut [u8]) {
    put_u16(bytes, field::CHECKSUM, 0);
    let sum = checksum::checksum(bytes);
    put_u16(bytes, field::CHECKSUM, sum);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn an_echo_request_becomes_its_reply_in_place(
            rest in proptest::collection::vec(any::<u8>(), 4..100), bit: prop::sample::Index,
        ) {
            let mut message = [&[ECHO_REQUEST, 0, 0, 0], &rest[..]].concat();
            write_checksum(&mut message);
            prop_assert_eq!(parse(&message), Ok(Kind::EchoRequest));
            let mut head = *message.first_chunk().unwrap();
            prop_assert!(reply_to_head(&mut head) && !reply_to_head(&mut head));
            make_echo_reply(&mut message);
            prop_assert_eq!(&head[..2], &message[..2]);
            let sums = [&head[..], &message[..]].map(|bytes| get_u16(bytes, field::CHECKSUM));
            prop_assert_eq!(sums[0] % 0xffff, sums[1] % 0xffff);
            prop_assert_eq!(parse(&message), Ok(Kind::Other));
            prop_assert_eq!((message[0], &message[4..]), (ECHO_REPLY, &rest[..]));
            let bit = bit.index(8 * message.len());
            message[bit / 8] ^= 1 << (bit % 8);
            prop_assert_eq!(parse(&message), Err(ParseError::Checksum));
            prop_assert_eq!(parse(&message[..7]), Err(ParseError::Malformed));
        }
    }
}
