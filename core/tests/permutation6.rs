//! The mapping of pool mode over IPv6: properties, and the fast form beside the slow twin.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs, reason = "a failed one ends the test")]

use anyrelay_core::config::{Pool6, Pool6Len};
use anyrelay_core::keys::Secret;
use anyrelay_core::net::Endpoint6;
use anyrelay_core::relay::keys::RelayKeys;
use anyrelay_core::relay::mapping::{BURST, Tag};
use anyrelay_core::relay::pool6::permutation::{Mapped, Permutation, reference};
use anyrelay_kit::rng::Rng;
use cpu_vector::Isa;
use proptest::prelude::*;

const VIP: Endpoint6 = Endpoint6 { ip: 0x2001_0db8 << 96 | 0x10, port: 443 };

fn of_service(key: u8, vip: Endpoint6, len: u8) -> Permutation {
    let keys = RelayKeys::new(&Secret::new([key; 32]), Isa::best()).unwrap();
    Permutation::new(&keys, vip, Pool6Len::new(len).unwrap()).unwrap()
}

fn permutation(key: u8, len: u8) -> Permutation {
    of_service(key, VIP, len)
}

fn forward(permutation: &Permutation, clients: &[Endpoint6]) -> Vec<Option<Mapped>> {
    let mut out = Vec::new();
    permutation.forward(clients, |mapped| out.push(mapped));
    out
}

fn inverse(permutation: &Permutation, mapped: &[Mapped]) -> Vec<Option<Endpoint6>> {
    let mut out = Vec::new();
    permutation.inverse(mapped, |client| out.push(client));
    out
}

prop_compose! {
    fn any_client()(low in 0u128..1 << 125, port in 1u16..) -> Endpoint6 {
        Endpoint6 { ip: 1 << 125 | low, port }
    }
}

prop_compose! {
    /// Of any prefix, and with port 0 at times.
    fn any_endpoint()(ip: u128, port in prop_oneof![4 => any::<u16>(), 1 => Just(0)]) -> Endpoint6 {
        Endpoint6 { ip, port }
    }
}

prop_compose! {
    /// Most of them in their ranges.
    fn any_mapped()(
        tag in prop_oneof![9 => 0u32..1_100_000_000, 1 => any::<u32>()],
        port in prop_oneof![9 => 1024u16.., 1 => any::<u16>()],
        index: u128,
    ) -> Mapped {
        Mapped { tag: Tag(tag), port, index: index >> (index % 29) }
    }
}

proptest! {
    #[test]
    fn clients_come_back(
        key: u8,
        len in Pool6Len::MIN..=Pool6Len::MAX,
        clients in prop::collection::vec(any_client(), 0..BURST),
    ) {
        let permutation = permutation(key, len);
        let mapped: Option<Vec<_>> = forward(&permutation, &clients).into_iter().collect();
        let mapped = mapped.unwrap();
        for mapped in &mapped {
            prop_assert!((1..=1_090_785_346).contains(&mapped.tag.0) && mapped.port >= 1024);
            prop_assert_eq!(mapped.index >> (128 - len), 0);
        }
        let back: Option<Vec<_>> = inverse(&permutation, &mapped).into_iter().collect();
        prop_assert_eq!(back, Some(clients));
    }

    #[test]
    fn what_decodes_encodes_to_the_same(
        key: u8,
        // Where one of 63 decodes, or fewer.
        len in 24..=Pool6Len::MAX,
        mapped in prop::collection::vec(any_mapped(), 0..BURST),
    ) {
        let permutation = permutation(key, len);
        for (mapped, client) in mapped.iter().zip(inverse(&permutation, &mapped)) {
            if let Some(client) = client {
                prop_assert_eq!(forward(&permutation, &[client]), [Some(*mapped)]);
            }
        }
    }

    #[test]
    fn bursts_agree_with_the_slow_twin(
        key: u8,
        len in Pool6Len::MIN..=Pool6Len::MAX,
        clients in prop::collection::vec(prop_oneof![any_client(), any_endpoint()], 0..=BURST),
        mapped in prop::collection::vec(any_mapped(), 0..=BURST),
    ) {
        let permutation = permutation(key, len);
        let sides = forward(&permutation, &clients);
        for (client, mapped) in clients.iter().zip(&sides) {
            prop_assert_eq!(reference::forward(&permutation, *client), *mapped);
        }
        let mapped: Vec<_> = mapped.into_iter().chain(sides.into_iter().flatten()).collect();
        for (mapped, client) in mapped.iter().zip(inverse(&permutation, &mapped)) {
            prop_assert_eq!(reference::inverse(&permutation, *mapped), client);
        }
    }
}

#[test]
fn one_bit_of_the_client_the_key_or_the_vip_changes_half_of_the_image() {
    let mut rng = Rng(4);
    let mut client = || Endpoint6 {
        ip: 1 << 125 | (u128::from(rng.next()) << 64 | u128::from(rng.next())) >> 3,
        port: 1 + rng.index(65535) as u16,
    };
    let clients: Vec<_> = (0..500).map(|_| client()).collect();
    let base = permutation(1, 12);
    let images = forward(&base, &clients);
    let check = |what: &str, others: &[Option<Mapped>]| {
        let differ = |(a, b): (&Option<Mapped>, &Option<Mapped>)| {
            let (Some(a), Some(b)) = (a, b) else { panic!("{what}: not mapped") };
            // Bits that are uniform in themselves: the index, and the low ones of the tag.
            (a.index ^ b.index).count_ones() + ((a.tag.0 ^ b.tag.0) & 0xfff_ffff).count_ones()
        };
        let total: u32 = images.iter().zip(others).map(differ).sum();
        let mean = f64::from(total) / images.len() as f64;
        // 72 of 144 expected; the mean of 500 has a standard deviation of 0.27.
        assert!((70.4..73.6).contains(&mean), "{what}: {mean} bits of 144");
    };
    for bit in 0..125 {
        let flip = |client: &Endpoint6| Endpoint6 { ip: client.ip ^ 1 << bit, ..*client };
        let flipped: Vec<_> = clients.iter().map(flip).collect();
        check(&format!("address bit {bit}"), &forward(&base, &flipped));
    }
    for bit in 0..16 {
        let flip = |client: &Endpoint6| Endpoint6 { port: client.port ^ 1 << bit, ..*client };
        let flipped: Vec<_> = clients.iter().map(flip).collect();
        check(&format!("port bit {bit}"), &forward(&base, &flipped));
    }
    check("key", &forward(&permutation(0, 12), &clients));
    for vip in [Endpoint6 { port: 444, ..VIP }, Endpoint6 { ip: VIP.ip ^ 1, ..VIP }] {
        check("VIP", &forward(&of_service(1, vip, 12), &clients));
    }
}

#[test]
fn a_random_tag_passes_as_rarely_as_the_formula_says() {
    let mut rng = Rng(9);
    let share = |len: u8| 2_f64.powi(i32::from(len) - 34) * (65536.0 / 64512.0);
    for (len, count) in [(28, 40_000), (26, 100_000), (24, 400_000)] {
        let permutation = permutation(3, len);
        let mut random = || Mapped {
            tag: Tag(rng.next() as u32 >> 1),
            port: 1024 + rng.index(64512) as u16,
            index: (u128::from(rng.next()) << 64 | u128::from(rng.next())) >> len,
        };
        let tags: Vec<_> = (0..count).map(|_| random()).collect();
        let passed = inverse(&permutation, &tags).iter().flatten().count() as f64;
        // 2^141 clients among 2^31 tags of 64512 ports and 2^(128-p) addresses.
        let formula = Pool6 { first: 0, len: Pool6Len::new(len).unwrap() }.random_tags();
        assert!((formula as f64 * share(len) - 1.0).abs() < 1e-9, "{formula}");
        let expected = f64::from(count) * share(len);
        println!("/{len}: {passed} of {count} random tags decode, expected {expected:.0}");
        let tolerance = 5.0 * expected.sqrt();
        assert!((passed - expected).abs() < tolerance, "{len}: {passed}, expected {expected}");
    }
}

#[test]
fn what_no_client_can_have_is_a_bad_tag() {
    for len in [8, 19, 28] {
        let permutation = permutation(5, len);
        let client = Endpoint6 { ip: 0x2600 << 112 | 5, port: 40_000 };
        let mapped = |client| forward(&permutation, &[client])[0].unwrap();
        let image = mapped(client);
        let bad = [
            Mapped { tag: Tag(0), ..image },
            Mapped { tag: Tag(1_090_785_347), port: 1024, ..image },
            Mapped { tag: Tag(u32::MAX >> 1), ..image },
            Mapped { port: 1023, ..image },
            Mapped { port: 0, ..image },
            Mapped { index: 1 << (128 - len), ..image },
            Mapped { index: u128::MAX, ..image },
            // A client with port 0 is mapped, but not taken back.
            mapped(Endpoint6 { port: 0, ..client }),
        ];
        for (mapped, found) in bad.iter().zip(inverse(&permutation, &bad)) {
            assert_eq!(found, None, "{mapped:?}");
        }
        // Of no prefix of the Internet: they have no place.
        for ip in [5, 0x64_ff9b << 96, 0x4000 << 112, 0xfd00 << 112, u128::MAX] {
            assert_eq!(forward(&permutation, &[Endpoint6 { ip, port: 9 }]), [None]);
        }
    }
}
