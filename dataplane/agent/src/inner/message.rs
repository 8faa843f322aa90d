//! The format of messages between inner sides, in the body of a DATA message.
//!
//! Source: docs/agent.md, "Inner packets". All integers are big-endian. A message starts with a
//! word of its type and the receiver's index; an initiation, whose receiver has no index yet, has
//! the sender's instead.

/// Bytes that sealing adds to an inner packet: word, counter and tag.
pub const OVERHEAD: usize = TRANSPORT_HEADER + TAG;
/// Bytes before the sealed packet.
pub const TRANSPORT_HEADER: usize = 12;
/// Bytes of an initiation.
pub const INITIATION_LEN: usize = WORD + INITIATION_NOISE;
/// Bytes of a response.
pub const RESPONSE_LEN: usize = 2 * WORD + RESPONSE_NOISE;
/// Bytes of an initiation's payload, which is a time stamp.
pub const STAMP_LEN: usize = 8;
/// The channel of DATA messages with inner packets; the UDP side never uses it.
pub const CHANNEL: u16 = u16::MAX;

/// Bytes of the authentication tag.
pub const TAG: usize = 16;

const WORD: usize = 4;
const KEY: usize = 32;
/// An ephemeral key, a sealed static key, a sealed time stamp.
const INITIATION_NOISE: usize = KEY + KEY + TAG + STAMP_LEN + TAG;
/// An ephemeral key and the tag of an empty payload.
const RESPONSE_NOISE: usize = KEY + TAG;

const INITIATION: u8 = 1;
const INITIATION_PRESHARED: u8 = 2;
const RESPONSE: u8 = 3;
const TRANSPORT: u8 = 4;

/// The random number of a session or handshake at its receiver: 24 bits, never 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Index(u32);

impl Index {
    /// The index in the low 24 bits; `None` when they are zero.
    pub const fn from_low_bits(bits: u32) -> Option<Index> {
        match bits & INDEX_MASK {
            0 => None,
            bits => Some(Index(bits)),
        }
    }
}

/// A message, parsed without a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Message<'a> {
    /// The first message of a handshake.
    Initiation {
        /// Whether it uses the pattern with a pre-shared key.
        preshared: bool,
        /// The initiator's index of the new session.
        sender: Index,
        /// Noise's message.
        noise: &'a [u8; INITIATION_NOISE],
    },
    /// The second message of a handshake.
    Response {
        /// The initiator's index.
        receiver: Index,
        /// The responder's index.
        sender: Index,
        /// Noise's message.
        noise: &'a [u8; RESPONSE_NOISE],
    },
    /// A sealed packet; an empty one is a keepalive.
    Transport {
        /// The receiver's index.
        receiver: Index,
        /// The number of the message in its session and direction.
        counter: u64,
        /// Ciphertext and tag.
        sealed: &'a [u8],
    },
}

impl<'a> Message<'a> {
    /// Parses a body; `None` when it is not a valid message.
    pub fn parse(body: &'a [u8]) -> Option<Message<'a>> {
        let (word, rest) = body.split_first_chunk::<WORD>()?;
        let index = Index::from_low_bits(u32::from_be_bytes(*word))?;
        match word[0] {
            kind @ (INITIATION | INITIATION_PRESHARED) => Some(Message::Initiation {
                preshared: kind == INITIATION_PRESHARED,
                sender: index,
                noise: rest.try_into().ok()?,
            }),
            RESPONSE => {
                let (second, rest) = rest.split_first_chunk::<WORD>()?;
                let second = u32::from_be_bytes(*second);
                Some(Message::Response {
                    receiver: index,
                    sender: Index::from_low_bits(second).filter(|index| index.0 == second)?,
                    noise: rest.try_into().ok()?,
                })
            }
            TRANSPORT => {
                let (counter, sealed) = rest.split_first_chunk::<8>()?;
                let counter = u64::from_be_bytes(*counter);
                (sealed.len() >= TAG).then_some(Message::Transport {
                    receiver: index,
                    counter,
                    sealed,
                })
            }
            _ => None,
        }
    }
}

/// The header of an initiation.
pub fn initiation_head(preshared: bool, sender: Index) -> [u8; WORD] {
    word(if preshared { INITIATION_PRESHARED } else { INITIATION }, sender)
}

/// The header of a response.
pub fn response_head(receiver: Index, sender: Index) -> [u8; 2 * WORD] {
    let mut head = [0; 2 * WORD];
    head[..WORD].copy_from_slice(&word(RESPONSE, receiver));
    head[WORD..].copy_from_slice(&sender.0.to_be_bytes());
    head
}

/// The header of a sealed packet.
pub fn transport_head(receiver: Index, counter: u64) -> [u8; TRANSPORT_HEADER] {
    let mut head = [0; TRANSPORT_HEADER];
    head[..WORD].copy_from_slice(&word(TRANSPORT, receiver));
    head[WORD..].copy_from_slice(&counter.to_be_bytes());
    head
}

fn word(kind: u8, index: Index) -> [u8; WORD] {
    (u32::from(kind) << INDEX_BITS | index.0).to_be_bytes()
}

const INDEX_BITS: u32 = 24;
const INDEX_MASK: u32 = (1 << INDEX_BITS) - 1;

#[cfg(test)]
mod tests {
    use super::*;

    const SENDER: Index = Index(0x01_0203);
    const RECEIVER: Index = Index(0xff_fefd);

    #[test]
    fn messages_round_trip() {
        for preshared in [false, true] {
            let body = [&initiation_head(preshared, SENDER)[..], &[7; INITIATION_NOISE]].concat();
            assert_eq!(body.len(), INITIATION_LEN);
            let noise = &[7; INITIATION_NOISE];
            let expected = Message::Initiation { preshared, sender: SENDER, noise };
            assert_eq!(Message::parse(&body), Some(expected));
        }
        let body = [&response_head(RECEIVER, SENDER)[..], &[8; RESPONSE_NOISE]].concat();
        assert_eq!(body.len(), RESPONSE_LEN);
        let expected =
            Message::Response { receiver: RECEIVER, sender: SENDER, noise: &[8; RESPONSE_NOISE] };
        assert_eq!(Message::parse(&body), Some(expected));
        let body = [&transport_head(RECEIVER, u64::MAX - 1)[..], &[9; TAG]].concat();
        assert_eq!(body.len(), OVERHEAD);
        let expected =
            Message::Transport { receiver: RECEIVER, counter: u64::MAX - 1, sealed: &[9; TAG] };
        assert_eq!(Message::parse(&body), Some(expected));
    }

    #[test]
    fn the_documented_bytes() {
        assert_eq!(initiation_head(false, SENDER), [1, 1, 2, 3]);
        assert_eq!(initiation_head(true, SENDER), [2, 1, 2, 3]);
        assert_eq!(response_head(RECEIVER, SENDER), [3, 255, 254, 253, 0, 1, 2, 3]);
        let head = transport_head(RECEIVER, 0x0102_0304_0506_0708);
        assert_eq!(head, [4, 255, 254, 253, 1, 2, 3, 4, 5, 6, 7, 8]);
        assert_eq!((INITIATION_LEN, RESPONSE_LEN, OVERHEAD), (108, 56, 28));
    }

    #[test]
    fn wrong_lengths_kinds_and_indices_are_refused() {
        let bodies = [
            [&initiation_head(false, SENDER)[..], &[7; INITIATION_NOISE]].concat(),
            [&response_head(RECEIVER, SENDER)[..], &[8; RESPONSE_NOISE]].concat(),
        ];
        for body in bodies {
            for len in 0..body.len() {
                assert_eq!(Message::parse(&body[..len]), None);
            }
            assert_eq!(Message::parse(&[&body[..], &[0]].concat()), None);
        }
        let body = [&transport_head(RECEIVER, 1)[..], &[9; TAG]].concat();
        for len in 0..body.len() {
            assert_eq!(Message::parse(&body[..len]), None);
        }
        for kind in (0..=255).filter(|kind| !(INITIATION..=TRANSPORT).contains(kind)) {
            let mut other = body.clone();
            other[0] = kind;
            assert_eq!(Message::parse(&other), None);
        }
        let mut nobody = body;
        nobody[1..4].fill(0);
        assert_eq!(Message::parse(&nobody), None);
    }
}
