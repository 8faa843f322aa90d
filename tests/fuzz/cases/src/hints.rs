//! Datagrams of hints: whatever is opened is what a POP would have sealed, byte for byte.
//!
//! The input is a datagram, and again one without its MAC, which is then made.

use anyrelay_core::crypto::Cmac;
use anyrelay_core::keys::{Secret, hint_key};
use anyrelay_core::net::{Endpoint, IpEndpoint};
use anyrelay_core::relay::hints::{HINTS_MAX, Hint, HintKey, Shows};
use anyrelay_core::relay::memo::{Owned, Rst};
use anyrelay_core::seq::SeqNum;
use anyrelay_core::time::UnixTime;

/// Opens an input.
pub fn run(input: &[u8]) {
    opened(input);
}

/// Whether an input has its MAC.
pub fn is_sealed(input: &[u8]) -> bool {
    open(&key(), input).is_some()
}

/// The hints in an input, if it is a datagram, with or without its MAC.
pub fn opened(input: &[u8]) -> Option<Vec<Hint>> {
    let mac = Cmac::new(&hint_key(&Secret::new(SECRET)).unwrap()).mac(input);
    let [whole, made] = [input, &[input, &mac].concat()].map(|datagram| open(&key(), datagram));
    whole.or(made)
}

fn key() -> HintKey {
    HintKey::new(&Secret::new(SECRET)).unwrap()
}

fn open(key: &HintKey, datagram: &[u8]) -> Option<Vec<Hint>> {
    let time = datagram.get(4..12).map_or(0, |time| u64::from_be_bytes(time.try_into().unwrap()));
    let time = UnixTime::from_millis(time);
    let hints = key.open(time, datagram).ok()?;
    assert!(hints.len() <= HINTS_MAX);
    assert_eq!(key.seal(time, &hints)[..], *datagram);
    Some(hints.to_vec())
}

/// Inputs to begin with, each behind its name: datagrams with no hints, with one of each kind, and
/// full ones, with and without their MACs.
pub fn seeds() -> Vec<(String, Vec<u8>)> {
    let all: Vec<Hint> = (0..HINTS_MAX as u32).map(hint).collect();
    let datagrams = [0, 1, 2, 3, HINTS_MAX].map(|count| {
        let datagram = key().seal(TIME, &all[all.len() - count..]).to_vec();
        let unsealed = datagram[..datagram.len() - 16].to_vec();
        [(format!("sealed-{count}"), datagram), (format!("unsealed-{count}"), unsealed)]
    });
    datagrams.into_iter().flatten().collect()
}

/// Of a kind and a family that its number says.
fn hint(number: u32) -> Hint {
    let at = |ip: u32, port| match number / 3 % 2 {
        0 => IpEndpoint::V4(Endpoint { ip, port }),
        _ => IpEndpoint::V6(Endpoint { ip: 0x2001_0db8 << 96 | u128::from(ip), port }),
    };
    let (seq, ack) = (SeqNum(number << 28), SeqNum(!number));
    let shows = match number % 3 {
        0 => Shows::Refusal(Rst::Bare { seq }),
        1 => Shows::Refusal(Rst::Acknowledging { seq, ack }),
        _ => Shows::Owner(Owned { tag: 1 + number, end: seq, ack }),
    };
    let egress = at(0x6440_0800 | number, 1024 + number as u16);
    Hint { vip: at(0xcb00_710a, 443), egress, target: at(0xc633_640a, 8443), shows }
}

const TIME: UnixTime = UnixTime::from_millis(1_800_000_000_000);

/// Any.
const SECRET: [u8; 32] = {
    let mut bytes = [0; 32];
    let mut at = 0;
    while at < 32 {
        bytes[at] = at as u8;
        at += 1;
    }
    bytes
};
