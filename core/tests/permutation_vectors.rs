//! The frozen mapping: `vectors/relay-v1.json`, which a second, plain implementation wrote
//! (`vectors/relay-v1.py`; its `--check` compares the file with what it computes).
#![allow(clippy::unwrap_used, clippy::panic, missing_docs, reason = "a failed one ends the test")]

mod vectors;

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use anyrelay_core::config::PoolBits;
use anyrelay_core::config::{Prefix, PrefixLen};
use anyrelay_core::keys::{
    Secret, packet_id_key, permutation_key, prefix_check_key, rendezvous_key,
};
use anyrelay_core::net::Endpoint;
use anyrelay_core::net::Endpoint6;
use anyrelay_core::relay::pool::permutation::{
    Client, ClientTimestamps, CycleLimit, DecodeError, Mapped, Permutation,
};
use anyrelay_core::relay::prefix::PrefixMap;
use anyrelay_core::relay::rewrite::PacketIds;
use anyrelay_core::relay::targets::{cmac, one_block};
use anyrelay_core::seq::SeqNum;
use anyrelay_core::snapshot::MAPPING_VERSION;
use anyrelay_kit::hex::unhex;
use serde_json::Value;

use vectors::{list, number, text};

fn read_vectors() -> Value {
    serde_json::from_str(include_str!("vectors/relay-v1.json")).unwrap()
}

fn endpoint(text: &str) -> Endpoint {
    let parsed: std::net::SocketAddrV4 = text.parse().unwrap();
    Endpoint { ip: parsed.ip().to_bits(), port: parsed.port() }
}

fn secret(vectors: &Value) -> Secret {
    Secret::new(unhex(text(vectors, "relay_secret")).try_into().unwrap())
}

fn client(value: &Value) -> Client {
    let Endpoint { ip, port } = endpoint(text(value, "client"));
    let timestamps = match value["case"].as_u64() {
        Some(0) => ClientTimestamps::Present,
        Some(1) => ClientTimestamps::Absent,
        other => panic!("case {other:?}"),
    };
    Client { timestamps, ip, port }
}

fn mapped(value: &Value) -> Mapped {
    Mapped { tag: number(value, "tag"), port: number(value, "port"), index: number(value, "index") }
}

#[test]
fn the_permutation_is_the_frozen_one() {
    let vectors = read_vectors();
    assert_eq!(text(&vectors, "mapping"), MAPPING_VERSION);
    let mut bits_seen = Vec::new();
    for entry in list(&vectors, "permutation") {
        let vip = endpoint(text(entry, "vip"));
        let key = permutation_key(&secret(&vectors), vip.into()).unwrap();
        assert_eq!(key.as_bytes()[..], unhex(text(entry, "key")));
        let bits = PoolBits::new(number(entry, "pool_bits")).unwrap();
        bits_seen.push(bits.get());
        let permutation = Permutation::new(&key, bits);

        let mappings = list(entry, "mappings");
        assert_eq!(mappings.len(), 200);
        let clients: Vec<_> = mappings.iter().map(client).collect();
        let expected: Vec<_> = mappings.iter().map(mapped).collect();
        let mut forward = vec![Err(CycleLimit); clients.len()];
        permutation.forward(&clients, &mut forward);
        assert_eq!(forward, expected.iter().copied().map(Ok).collect::<Vec<_>>());
        let mut inverse = vec![Err(DecodeError::CycleLimit); clients.len()];
        permutation.inverse(&expected, &mut inverse);
        assert_eq!(inverse, clients.iter().copied().map(Ok).collect::<Vec<_>>());

        for random in list(entry, "random_tags") {
            let mut found = [Err(DecodeError::CycleLimit)];
            permutation.inverse(&[mapped(random)], &mut found);
            let expected = &random["found"];
            let expected =
                if expected.is_null() { Err(DecodeError::BadTag) } else { Ok(client(expected)) };
            assert_eq!(found, [expected]);
        }
    }
    assert_eq!(bits_seen, [2, 8, 9, 16]);
}

#[test]
fn the_choice_among_targets_is_the_frozen_one() {
    let vectors = read_vectors();
    for entry in list(&vectors, "rendezvous") {
        let vip = endpoint(text(entry, "vip"));
        let key = rendezvous_key(&secret(&vectors), vip.into()).unwrap();
        assert_eq!(key.as_bytes()[..], unhex(text(entry, "key")));
        let targets: Vec<_> = list(entry, "targets")
            .iter()
            .map(|target| endpoint(target.as_str().unwrap()))
            .collect();
        let rendezvous = one_block::Rendezvous::new(&key, &targets);
        let choices = list(entry, "choices");
        let clients: Vec<_> =
            choices.iter().map(|choice| endpoint(text(choice, "client"))).collect();
        let mut chosen = vec![u16::MAX; clients.len()];
        rendezvous.choose(&clients, &mut chosen);
        for ((choice, client), index) in choices.iter().zip(&clients).zip(chosen) {
            for (weight, target) in list(choice, "weights").iter().zip(&targets) {
                let expected = u64::from_str_radix(weight.as_str().unwrap(), 16).unwrap();
                assert_eq!(rendezvous.weight(*client, *target), expected);
            }
            assert_eq!(rendezvous.targets()[usize::from(index)], endpoint(text(choice, "target")));
        }
    }
}

/// The endpoint of a text that is one of IPv6.
fn endpoint6(text: &str) -> Endpoint6 {
    text.parse::<std::net::SocketAddrV6>().unwrap().into()
}

#[test]
fn the_choice_among_ipv6_targets_is_the_frozen_one() {
    let vectors = read_vectors();
    let entries = list(&vectors, "rendezvous6");
    assert_eq!(entries.len(), 4);
    for entry in entries {
        let vip: SocketAddr = text(entry, "vip").parse().unwrap();
        let key = rendezvous_key(&secret(&vectors), vip).unwrap();
        assert_eq!(key.as_bytes()[..], unhex(text(entry, "key")));
        let targets = list(entry, "targets").iter();
        let targets: Vec<_> = targets.map(|target| endpoint6(target.as_str().unwrap())).collect();
        let rendezvous = cmac::Rendezvous::new(&key, &targets);
        assert_eq!(list(entry, "choices").len(), 40);
        for choice in list(entry, "choices") {
            let client: SocketAddr = text(choice, "client").parse().unwrap();
            assert_eq!(client.is_ipv6(), vip.is_ipv6());
            let chosen = rendezvous.targets()[usize::from(rendezvous.choose(client.into()))];
            let weight = |target| rendezvous.weight(client.into(), target);
            assert_eq!(chosen, endpoint6(text(choice, "target")));
            for (expected, target) in list(choice, "weights").iter().zip(&targets) {
                let expected = u64::from_str_radix(expected.as_str().unwrap(), 16).unwrap();
                assert_eq!(weight(*target), expected);
            }
        }
    }
}

#[test]
fn the_addresses_of_prefix_mode_are_the_frozen_ones() {
    let vectors = read_vectors();
    let mut lens = Vec::new();
    for entry in list(&vectors, "prefix") {
        let vip: SocketAddr = text(entry, "vip").parse().unwrap();
        let key = prefix_check_key(&secret(&vectors), vip).unwrap();
        assert_eq!(key.as_bytes()[..], unhex(text(entry, "key")));
        let (first, len) = text(entry, "prefix").split_once('/').unwrap();
        let len = PrefixLen::new(len.parse().unwrap()).unwrap();
        lens.push(len.get());
        let ip6 = |text: &str| text.parse::<Ipv6Addr>().unwrap().to_bits();
        let map = PrefixMap::new(&key, Prefix { first: ip6(first), len });
        assert!(list(entry, "addresses").len() > 30);
        for pair in list(entry, "addresses") {
            let client = text(pair, "client").parse::<Ipv4Addr>().unwrap().to_bits();
            assert_eq!(map.address(client), ip6(text(pair, "address")));
            assert_eq!(map.client(ip6(text(pair, "address"))), Some(client));
        }
        for bad in list(entry, "bad") {
            assert_eq!(map.client(ip6(bad.as_str().unwrap())), None, "{bad}");
        }
    }
    assert_eq!(lens, [32, 48, 64, 70, 80]);
}

#[test]
fn packet_ids_are_the_frozen_ones() {
    let vectors = read_vectors();
    let entry = &vectors["packet_ids"];
    let vip: SocketAddr = text(entry, "vip").parse().unwrap();
    let key = packet_id_key(&secret(&vectors), vip).unwrap();
    assert_eq!(key.as_bytes()[..], unhex(text(entry, "key")));
    let ids = PacketIds::new(&key);
    assert_eq!(list(entry, "ids").len(), 20);
    for vector in list(entry, "ids") {
        let (client, seq) = (endpoint(text(vector, "client")), SeqNum(number(vector, "seq")));
        let (port, len) = (number(vector, "target_port"), number(vector, "total_len"));
        assert_eq!(ids.id(client, port, seq, len), number::<u16>(vector, "id"));
    }
}
