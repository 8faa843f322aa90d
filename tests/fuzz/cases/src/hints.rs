//! Datagrams of hints: whatever is opened is what a POP would have sealed, byte for byte.
//!
//! The input is a datagram, and again one without its MAC, which is then made.

use anyrelay_core::crypto::Cmac;
use anyrelay_core::keys::{Secret, hint_key};
use anyrelay_core::relay::hints::{HINTS_MAX, HintKey};
use anyrelay_core::time::UnixTime;

/// Opens an input.
pub fn run(input: &[u8]) {
    let secret = Secret::new(SECRET);
    let key = HintKey::new(&secret).unwrap();
    opened(&key, input);
    let mac = Cmac::new(&hint_key(&secret).unwrap()).mac(input);
    opened(&key, &[input, &mac].concat());
}

fn opened(key: &HintKey, datagram: &[u8]) {
    let time = datagram.get(4..12).map_or(0, |time| u64::from_be_bytes(time.try_into().unwrap()));
    let time = UnixTime::from_millis(time);
    if let Ok(hints) = key.open(time, datagram) {
        assert!(hints.len() <= HINTS_MAX);
        assert_eq!(key.seal(time, &hints)[..], *datagram);
    }
}

/// That of the test vectors, whose datagrams are in the corpus.
const SECRET: [u8; 32] = {
    let mut bytes = [0; 32];
    let mut at = 0;
    while at < 32 {
        bytes[at] = at as u8;
        at += 1;
    }
    bytes
};
