//! Open addresses: what is encoded is decoded, and made-up ones pass as rarely as the zeros say.

use std::net::SocketAddrV4;

use proptest::prelude::*;

use super::*;
use crate::config::OpenPrefix;
use crate::net::{Ipv6Net, Net};
use crate::tunnel::message::{MessageType, OPEN_HEADER_LEN};
use crate::tunnel::open::{OpenAddressError, OpenAddresses, OpenAgent};
use crate::tunnel::{Malformed, OpenHeader};

fn net(first: u128, prefix_len: u8) -> Ipv6Net {
    Net { address: first, prefix_len }
}

fn prefix(first: u128, len: u8) -> OpenPrefix {
    OpenPrefix::new(net(first, len)).unwrap()
}

fn vip(port: u16) -> SocketAddrV4 {
    SocketAddrV4::new([203, 0, 113, 20].into(), port)
}

/// A stream of numbers that look random (splitmix64).
fn random(mut state: u64) -> impl FnMut() -> u128 {
    let mut next = move || {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (state ^ state >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    };
    move || u128::from(next()) << 64 | u128::from(next())
}

#[test]
fn prefixes_are_of_32_to_48_bits() {
    for len in 0..=128 {
        assert_eq!(OpenPrefix::new(net(0, len)).is_some(), (32..=48).contains(&len));
    }
    let prefix = OpenPrefix::new(net(u128::MAX, 36)).unwrap();
    assert_eq!((prefix.first, prefix.prefix_len()), (u128::MAX << 92, 36));
}

/// Of random addresses under the prefix, one of 2^(63 - p) passes.
#[test]
fn made_up_addresses_pass_as_rarely_as_the_zeros_say() {
    let epochs = two_epochs(NOW);
    // 32 are expected of a /48, 8 of a /47, 1 of a /45.
    for (len, tries) in [(48, 1 << 20), (47, 1 << 19), (45, 1 << 18)] {
        let prefix = prefix(0x2001_0db8_000a << 80, len);
        let addresses = OpenAddresses::new(&epochs, vip(443), 1, prefix).unwrap();
        let mut random = random(u64::from(len));
        let passed = (0..tries)
            .filter(|_| {
                let ip = prefix.first | random() & u128::MAX >> len;
                let found = addresses.decode(NOW, ip);
                assert_ne!(found, Err(OpenAddressError::Epoch));
                found.is_ok()
            })
            .count();
        let expected = f64::from(tries >> (63 - len));
        let deviation = (passed as f64 - expected).abs();
        assert!(deviation <= 5.0 * expected.sqrt(), "/{len}: {passed} for {expected}");
    }
}

#[test]
fn epochs_begin_and_end_as_those_of_tokens() {
    let end = later(0).plus_millis(crate::keys::EPOCH_GRACE_MS);
    let addresses = OpenAddresses::new(&two_epochs(NOW), vip(443), 1, prefix(0, 40)).unwrap();
    let agent = OpenAgent { at: vip(7), base_high: 9 };
    // Epoch 7, and then epoch 8.
    let old = addresses.encode(later(-1), &agent).unwrap();
    let new = addresses.encode(NOW, &agent).unwrap();
    assert_eq!((old >> 87 & 1, new >> 87 & 1), (1, 0));
    for now in [later(-1), NOW, UnixTime::from_millis(end.as_millis() - 1)] {
        assert_eq!(addresses.decode(now, old), Ok(agent));
        assert_eq!(addresses.decode(now, new), Ok(agent));
    }
    assert_eq!(addresses.decode(end, old), Err(OpenAddressError::Epoch));
    assert_eq!(addresses.decode(end, new), Ok(agent));
}

proptest! {
    #[test]
    fn what_is_encoded_is_decoded_here_and_nowhere_else(
        ip: u32, port: u16, base_high: u16, first: u128, len in 32..=48u8, secret: [u8; 32],
    ) {
        let epochs = Epochs::single(Secret::new(secret));
        let prefix = prefix(first, len);
        let addresses = OpenAddresses::new(&epochs, vip(443), 1, prefix).unwrap();
        let agent = OpenAgent { at: SocketAddrV4::new(ip.into(), port), base_high };
        let address = addresses.encode(NOW, &agent).unwrap();
        prop_assert!(addresses.holds(address) && prefix.net().contains(address));
        prop_assert_eq!(addresses.decode(NOW, address), Ok(agent));
        // Another port of the VIP, another tenant, and another prefix.
        for (port, tenant) in [(444, 1), (443, 2)] {
            let other = OpenAddresses::new(&epochs, vip(port), tenant, prefix).unwrap();
            prop_assert_ne!(other.decode(NOW, address), Ok(agent));
        }
        let outside = address ^ 1 << 127;
        prop_assert_eq!(addresses.decode(NOW, outside), Err(OpenAddressError::Forged));
    }

    #[test]
    fn headers_are_read_as_written(offset_steps: u8, rest: [u8; 7]) {
        let header = OpenHeader { offset_steps };
        prop_assert_eq!(header.offset(), u32::from(offset_steps) * 64);
        let up = [&header.write_up()[..], &rest].concat();
        let down = [&header.write_down()[..], &rest].concat();
        prop_assert_eq!(MessageType::of(&up), Some(MessageType::OpenUp));
        prop_assert_eq!(MessageType::of(&down), Some(MessageType::OpenDown));
        prop_assert_eq!(OpenHeader::parse_up(&up), Ok(header));
        prop_assert_eq!(OpenHeader::parse_down(&down), Ok(header));
        prop_assert_eq!(OpenHeader::parse_up(&down), Err(Malformed));
        prop_assert_eq!(OpenHeader::parse_down(&up), Err(Malformed));
        for len in 0..OPEN_HEADER_LEN {
            prop_assert_eq!(OpenHeader::parse_up(&up[..len]), Err(Malformed));
        }
        // Flags and reserved bytes are zero.
        for bit in [0, 1, 2, 3, 16, 23, 24, 31] {
            let mut wrong = up.clone();
            wrong[bit / 8] ^= 1 << (bit % 8);
            prop_assert_eq!(OpenHeader::parse_up(&wrong), Err(Malformed));
        }
    }
}
