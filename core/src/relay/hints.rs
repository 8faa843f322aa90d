//! Hints: what a POP tells its peers of targets' answers (`docs/protocol.md`, section 18).
//!
//! Where clients and targets are in different regions, a target's segments reach another POP than
//! its client's do. A hint makes a RST known where they are, and which of several targets owns a
//! connection. Nothing depends on hints: a lost one costs the client a wait, or segments that go to
//! a target too many, and one that is not accepted is as if it were lost.

use arrayvec::ArrayVec;

use super::memo::{Owned, Rst};
use crate::crypto::{Block, Cmac, HkdfError};
use crate::keys::{Secret, hint_key};
use crate::net::IpEndpoint;
use crate::seq::SeqNum;
use crate::time::UnixTime;
use crate::wire::{get_u32, put_u32};

/// What a target's segment showed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hint {
    /// The VIP of its service.
    pub vip: IpEndpoint,
    /// The egress endpoint that it was sent to.
    pub egress: IpEndpoint,
    /// The target that sent it.
    pub target: IpEndpoint,
    /// What it showed.
    pub shows: Shows,
}

/// What a segment of a target shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shows {
    /// It has no socket for what this RST answers.
    Refusal(Rst),
    /// It owns a connection.
    Owner(Owned),
}

/// Hints in one datagram at most.
pub const HINTS_MAX: usize = 17;

/// Bytes of one datagram at most: with its headers, no more than any link of IPv6 carries.
pub const DATAGRAM_MAX: usize = HEADER_LEN + HINTS_MAX * HINT_LEN + MAC_LEN;

/// For how long a datagram is accepted, before and after the time in it, in milliseconds: 2 s on
/// its way, and clocks that are 3 s apart.
pub const TOLERANCE_MS: u64 = 5000;

/// A datagram of hints.
pub type Datagram = ArrayVec<u8, DATAGRAM_MAX>;

/// Why a datagram of hints is not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HintError {
    /// It is no datagram of hints of this version.
    #[error("it is no datagram of hints of this version")]
    Malformed,
    /// Its MAC is wrong: it comes from no POP with the same relay secret, or was damaged.
    #[error("its MAC is wrong: the sender has another relay secret")]
    Mac,
    /// Its time is too far from now: it was late, or the clocks of the POPs differ.
    #[error("its time is more than {} s from now", TOLERANCE_MS / 1000)]
    Time,
}

/// Seals and opens datagrams of hints.
#[derive(Clone, Debug)]
pub struct HintKey(Cmac);

impl HintKey {
    /// The key of all POPs with this relay secret.
    ///
    /// # Errors
    /// When it cannot be derived from `secret`.
    pub fn new(secret: &Secret) -> Result<Self, HkdfError> {
        Ok(HintKey(Cmac::new(&hint_key(secret)?)))
    }

    /// The datagram of the first [`HINTS_MAX`] of `hints`, sent at `now`.
    pub fn seal(&self, now: UnixTime, hints: &[Hint]) -> Datagram {
        let hints = hints.split_at_checked(HINTS_MAX).map_or(hints, |(first, _)| first);
        let mut bytes = Datagram::new();
        bytes.extend([VERSION, hints.len() as u8, 0, 0]);
        bytes.extend(now.as_millis().to_be_bytes());
        hints.iter().for_each(|hint| bytes.extend(encode(hint)));
        let mac = self.0.mac(&bytes);
        bytes.extend(mac);
        bytes
    }

    /// The hints in `bytes`, received at `now`.
    ///
    /// # Errors
    /// [`HintError::Malformed`], [`HintError::Mac`] of another relay secret, and
    /// [`HintError::Time`] where it is too far from `now`.
    pub fn open(
        &self,
        now: UnixTime,
        bytes: &[u8],
    ) -> Result<ArrayVec<Hint, HINTS_MAX>, HintError> {
        let (signed, mac) = bytes.split_last_chunk::<MAC_LEN>().ok_or(HintError::Malformed)?;
        let (header, hints) = signed.split_first_chunk().ok_or(HintError::Malformed)?;
        let [VERSION, count, 0, 0, time @ ..] = header as &[u8; HEADER_LEN] else {
            return Err(HintError::Malformed);
        };
        let (hints, rest) = hints.as_chunks::<HINT_LEN>();
        if hints.len() != usize::from(*count) || !rest.is_empty() || hints.len() > HINTS_MAX {
            return Err(HintError::Malformed);
        }
        if !same(&self.0.mac(signed), mac) {
            return Err(HintError::Mac);
        }
        let sent = u64::from_be_bytes(*time);
        if sent.abs_diff(now.as_millis()) > TOLERANCE_MS {
            return Err(HintError::Time);
        }
        hints.iter().map(decode).collect::<Option<_>>().ok_or(HintError::Malformed)
    }
}

/// Whether two MACs are equal, in a time that does not say where they differ.
fn same(one: &Block, other: &Block) -> bool {
    u128::from_ne_bytes(*one) ^ u128::from_ne_bytes(*other) == 0
}

fn encode(hint: &Hint) -> [u8; HINT_LEN] {
    let mut bytes = [0; HINT_LEN];
    let endpoints = [hint.vip, hint.egress, hint.target].map(IpEndpoint::to_mapped_bytes);
    bytes[..NUMBERS_AT].copy_from_slice(endpoints.as_flattened());
    let (kind, numbers) = match hint.shows {
        Shows::Refusal(Rst::Bare { seq }) => (BARE, [seq.0, 0, 0]),
        Shows::Refusal(Rst::Acknowledging { seq, ack }) => (ACKNOWLEDGING, [seq.0, ack.0, 0]),
        Shows::Owner(Owned { tag, end, ack }) => (OWNER, [end.0, ack.0, tag]),
    };
    for (at, number) in (NUMBERS_AT..).step_by(4).zip(numbers) {
        put_u32(&mut bytes, at, number);
    }
    bytes[KIND_AT] = kind;
    bytes
}

fn decode(bytes: &[u8; HINT_LEN]) -> Option<Hint> {
    let (endpoints, _) = bytes.as_chunks();
    let [vip, egress, target] = endpoints.first_chunk()?;
    let [vip, egress, target] = [vip, egress, target].map(IpEndpoint::from_mapped_bytes);
    let [seq, ack, tag] = [0, 4, 8].map(|at| get_u32(bytes, NUMBERS_AT + at));
    let (seq, ack) = (SeqNum(seq), SeqNum(ack));
    let shows = match (&bytes[KIND_AT..], tag) {
        ([BARE, 0], 0) if ack.0 == 0 => Shows::Refusal(Rst::Bare { seq }),
        ([ACKNOWLEDGING, 0], 0) => Shows::Refusal(Rst::Acknowledging { seq, ack }),
        ([OWNER, 0], tag) if tag <= MAX_TAG => Shows::Owner(Owned { tag, end: seq, ack }),
        _ => return None,
    };
    Some(Hint { vip, egress, target, shows })
}

/// The largest tag.
const MAX_TAG: u32 = u32::MAX >> 1;

/// Kinds of hints.
const BARE: u8 = 0;
const ACKNOWLEDGING: u8 = 1;
const OWNER: u8 = 2;

const VERSION: u8 = 2;
/// Version, count, two zero bytes, time.
const HEADER_LEN: usize = 12;
const MAC_LEN: usize = 16;
/// VIP, egress endpoint, target, three numbers, kind, a zero byte.
const HINT_LEN: usize = 68;
const NUMBERS_AT: usize = 3 * IpEndpoint::MAPPED_LEN;
const KIND_AT: usize = NUMBERS_AT + 12;

const _: () = assert!(KIND_AT + 2 == HINT_LEN);

// With the headers of UDP and IPv6.
const _: () = assert!(DATAGRAM_MAX + 8 + 40 <= 1280);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::Endpoint;
    use proptest::prelude::*;

    const NOW: UnixTime = UnixTime::from_millis(1_800_000_000_000);

    fn key(byte: u8) -> HintKey {
        HintKey::new(&Secret::new([byte; 32])).unwrap()
    }

    prop_compose! {
        fn any_hint()(
            ips: [u128; 3],
            is_ipv6: [bool; 3],
            ports: [u16; 3],
            numbers: (u32, u32, u32),
            kind in 0..3,
        ) -> Hint {
            let at = |i: usize| -> IpEndpoint {
                match is_ipv6[i] {
                    false => Endpoint { ip: ips[i] as u32, port: ports[i] }.into(),
                    true => Endpoint { ip: ips[i] | 1 << 127, port: ports[i] }.into(),
                }
            };
            let (seq, ack) = (SeqNum(numbers.0), SeqNum(numbers.1));
            let shows = match kind {
                0 => Shows::Refusal(Rst::Bare { seq }),
                1 => Shows::Refusal(Rst::Acknowledging { seq, ack }),
                _ => Shows::Owner(Owned { tag: numbers.2 & MAX_TAG, end: seq, ack }),
            };
            Hint { vip: at(0), egress: at(1), target: at(2), shows }
        }
    }

    proptest! {
        #[test]
        fn what_is_sealed_is_opened(
            hints in prop::collection::vec(any_hint(), 0..=HINTS_MAX + 1),
            ahead in 0..=2 * TOLERANCE_MS,
        ) {
            let datagram = key(1).seal(NOW, &hints);
            let now = UnixTime::from_millis(NOW.as_millis() + ahead - TOLERANCE_MS);
            let opened = key(1).open(now, &datagram).unwrap();
            prop_assert_eq!(&opened[..], &hints[..hints.len().min(HINTS_MAX)]);
        }

        #[test]
        fn no_bytes_are_opened_that_no_pop_sealed(
            bytes in prop::collection::vec(any::<u8>(), 0..1400),
            hint in any_hint(),
            bit: usize,
        ) {
            prop_assert!(key(1).open(NOW, &bytes).is_err());
            let mut datagram = key(1).seal(NOW, &[hint]);
            let bit = bit % (8 * datagram.len());
            datagram[bit / 8] ^= 1 << (bit % 8);
            prop_assert!(key(1).open(NOW, &datagram).is_err());
        }
    }

    #[test]
    fn a_forged_or_late_datagram_is_refused() {
        let datagram = key(1).seal(NOW, &[]);
        assert_eq!(key(2).open(NOW, &datagram), Err(HintError::Mac));
        for (ms, accepted) in [(0, true), (TOLERANCE_MS, true), (TOLERANCE_MS + 1, false)] {
            let at = NOW.as_millis();
            for now in [at + ms, at - ms].map(UnixTime::from_millis) {
                assert_eq!(key(1).open(now, &datagram).is_ok(), accepted, "{ms}");
            }
        }
        for len in 0..datagram.len() {
            assert_eq!(key(1).open(NOW, &datagram[..len]), Err(HintError::Malformed));
        }
    }
}
