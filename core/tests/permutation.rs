//! What the permutation promises, for any client, key and pool.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs, reason = "a failed one ends the test")]

use anyrelay_core::config::PoolBits;
use anyrelay_core::keys::Secret;
use anyrelay_core::net::Endpoint;
use anyrelay_core::relay::keys::RelayKeys;
use anyrelay_core::relay::mapping::Tag;
use anyrelay_core::relay::pool::permutation::{BURST, Mapped, Permutation, reference};
use cpu_vector::Isa;
use proptest::prelude::*;

fn permutation(key: u128, bits: u8) -> Permutation {
    let secret = Secret::new([key; 2].map(u128::to_be_bytes).concat().try_into().unwrap());
    let keys = RelayKeys::new(&secret, Isa::best()).unwrap();
    let vip = Endpoint { ip: 0xcb00_7101 ^ (key >> 64) as u32, port: key as u16 };
    Permutation::new(&keys, vip, PoolBits::new(bits).unwrap())
}

fn forward(permutation: &Permutation, clients: &[Endpoint]) -> Vec<Mapped> {
    let mut out = Vec::new();
    for clients in clients.chunks(BURST) {
        permutation.forward(clients.iter().copied(), |mapped| out.push(mapped));
    }
    out
}

fn inverse(permutation: &Permutation, mapped: &[Mapped]) -> Vec<Option<Endpoint>> {
    let mut out = Vec::new();
    for mapped in mapped.chunks(BURST) {
        permutation.inverse(mapped.iter().copied(), |client| out.push(client));
    }
    out
}

/// Numbers that look random and are always the same (splitmix64).
fn numbers(seed: u64) -> impl Iterator<Item = u64> {
    (seed..).map(|i| {
        let mut z = i.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    })
}

fn random_clients(seed: u64, count: usize) -> Vec<Endpoint> {
    let client = |n: u64| Endpoint { ip: n as u32, port: (n >> 32 & 0x7fff) as u16 * 2 + 1 };
    numbers(seed).take(count).map(client).collect()
}

prop_compose! {
    fn any_client()(ip: u32, port in 1..=u16::MAX) -> Endpoint {
        Endpoint { ip, port }
    }
}

prop_compose! {
    fn any_mapped()(tag: u32, port: u16, index: u16) -> Mapped {
        // Half of the tags are below the highest.
        Mapped { tag: Tag(tag >> 1), port, index }
    }
}

proptest! {
    #[test]
    fn the_inverse_is_exact_and_the_image_in_range(
        key: u128,
        bits in 2..=16u8,
        clients in prop::collection::vec(any_client(), 0..2 * BURST),
    ) {
        let permutation = permutation(key, bits);
        let mapped = forward(&permutation, &clients);
        for mapped in &mapped {
            prop_assert!((1..=1_090_785_346).contains(&mapped.tag.0) && mapped.port >= 1024);
            prop_assert!(u32::from(mapped.index) < 1 << bits);
        }
        let back: Option<Vec<_>> = inverse(&permutation, &mapped).into_iter().collect();
        prop_assert_eq!(back, Some(clients));
    }

    #[test]
    fn what_decodes_encodes_to_the_same(
        key: u128,
        bits in 2..=16u8,
        mapped in prop::collection::vec(any_mapped(), 0..2 * BURST),
    ) {
        let permutation = permutation(key, bits);
        for (mapped, client) in mapped.iter().zip(inverse(&permutation, &mapped)) {
            if let Some(client) = client {
                prop_assert_eq!(forward(&permutation, &[client]), [*mapped]);
            }
        }
    }

    #[test]
    fn bursts_agree_with_the_slow_twin(
        key: u128,
        bits in 2..=16u8,
        clients in prop::collection::vec(any_client(), 0..=BURST + 1),
        mapped in prop::collection::vec(any_mapped(), 0..=BURST + 1),
    ) {
        let permutation = permutation(key, bits);
        for (client, mapped) in clients.iter().zip(forward(&permutation, &clients)) {
            prop_assert_eq!(reference::forward(&permutation, *client), mapped);
        }
        for (mapped, client) in mapped.iter().zip(inverse(&permutation, &mapped)) {
            prop_assert_eq!(reference::inverse(&permutation, *mapped), client);
        }
    }
}

#[test]
fn different_clients_never_share_an_image() {
    // Neighbours: all ports of some addresses.
    let permutation = permutation(7, 2);
    let clients: Vec<_> = (0..1_u32 << 18)
        .map(|i| Endpoint { ip: 0xc000_0200 + (i >> 15), port: (i << 1) as u16 | 1 })
        .collect();
    let distinct: std::collections::HashSet<_> = clients.iter().collect();
    let images: std::collections::HashSet<_> =
        forward(&permutation, &clients).into_iter().collect();
    assert_eq!(images.len(), distinct.len());
}

#[test]
fn one_bit_of_the_client_or_key_changes_half_of_the_image() {
    let clients = random_clients(1, 2000);
    let base = permutation(1 << 100, 16);
    let images = forward(&base, &clients);
    // The low bits of the tag, and the index: bits that are uniform in themselves.
    let low = |mapped: &Mapped| mapped.tag.0 & 0xfff_ffff;
    let differ =
        |a: &Mapped, b: &Mapped| (low(a) ^ low(b)).count_ones() + (a.index ^ b.index).count_ones();
    let check = |what: &str, others: &[Mapped]| {
        let total: u32 = images.iter().zip(others).map(|(a, b)| differ(a, b)).sum();
        let mean = f64::from(total) / images.len() as f64;
        // 22 of 44 expected; the mean of 2000 has a standard deviation of 0.07.
        assert!((21.6..22.4).contains(&mean), "{what}: {mean} bits of 44");
    };
    for bit in 0..48 {
        let flipped: Vec<_> = clients.iter().map(|client| flip(*client, bit)).collect();
        check(&format!("client bit {bit}"), &forward(&base, &flipped));
    }
    for bit in [0, 1, 63, 64, 127] {
        check(&format!("key bit {bit}"), &forward(&permutation(1 << 100 ^ 1 << bit, 16), &clients));
    }
}

fn flip(client: Endpoint, bit: u32) -> Endpoint {
    match bit {
        0..16 => Endpoint { port: client.port ^ 1 << bit, ..client },
        _ => Endpoint { ip: client.ip ^ 1 << (bit - 16), ..client },
    }
}

#[test]
fn a_random_tag_passes_as_rarely_as_the_pool_is_large() {
    for (bits, count) in [(2, 20_000), (4, 40_000), (8, 200_000), (11, 400_000)] {
        let permutation = permutation(3, bits);
        let tags: Vec<_> = numbers(9)
            .take(count)
            .map(|n| Mapped {
                tag: Tag(n as u32 >> 1),
                port: 1024 + (n >> 32 & 0x7fff) as u16,
                index: (n >> 48) as u16 & ((1 << bits) - 1),
            })
            .collect();
        let passed = inverse(&permutation, &tags).iter().flatten().count() as f64;
        // 2^48 clients among 2^31 tags of 64512 ports and 2^k addresses.
        let expected = count as f64 * 2_f64.powi(1 - i32::from(bits)) * (65536.0 / 64512.0);
        println!("k = {bits}: {passed} of {count} random tags decode, expected {expected:.0}");
        let tolerance = 5.0 * expected.sqrt();
        assert!((passed - expected).abs() < tolerance, "{bits}: {passed}, expected {expected}");
    }
}

#[test]
fn what_no_client_can_have_is_a_bad_tag() {
    let permutation = permutation(5, 4);
    let image = forward(&permutation, &random_clients(4, 1))[0];
    let bad = [
        Mapped { tag: Tag(0), ..image },
        Mapped { tag: Tag(1_090_785_347), port: 1024, ..image },
        Mapped { tag: Tag(u32::MAX >> 1), ..image },
        Mapped { port: 1023, ..image },
        Mapped { port: 0, ..image },
        Mapped { index: 16, ..image },
        Mapped { index: u16::MAX, ..image },
        // A client with port 0 is mapped, but not taken back.
        forward(&permutation, &[Endpoint { port: 0, ip: 1 }])[0],
    ];
    for (mapped, found) in bad.iter().zip(inverse(&permutation, &bad)) {
        assert_eq!(found, None, "{mapped:?}");
    }
}
