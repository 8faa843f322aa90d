//! The frozen mapping: `vectors/relay-v1.json`, which a second, plain implementation wrote
//! (`vectors/relay-v1.py`; its `--check` compares the file with what it computes).
#![allow(clippy::unwrap_used, clippy::panic, missing_docs, reason = "a failed one ends the test")]

use anyrelay_core::config::{Endpoint, MAPPING_VERSION};
use anyrelay_core::keys::{Secret, permutation_key, rendezvous_key};
use anyrelay_core::relay::permutation::{
    Case, Client, DecodeError, Mapped, Permutation, PoolBits, WalkError,
};
use anyrelay_core::relay::rendezvous::Rendezvous;
use serde_json::Value;

fn vectors() -> Value {
    serde_json::from_str(include_str!("vectors/relay-v1.json")).unwrap()
}

fn list<'a>(value: &'a Value, name: &str) -> &'a [Value] {
    value[name].as_array().unwrap()
}

fn text<'a>(value: &'a Value, name: &str) -> &'a str {
    value[name].as_str().unwrap()
}

fn number<T: TryFrom<u64>>(value: &Value, name: &str) -> T {
    T::try_from(value[name].as_u64().unwrap()).ok().unwrap()
}

fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<_> = text.chars().map(|digit| digit.to_digit(16).unwrap() as u8).collect();
    digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect()
}

fn endpoint(text: &str) -> Endpoint {
    let parsed: std::net::SocketAddrV4 = text.parse().unwrap();
    Endpoint { ip: parsed.ip().to_bits(), port: parsed.port() }
}

fn secret(vectors: &Value) -> Secret {
    Secret::new(hex(text(vectors, "relay_secret")).try_into().unwrap())
}

fn client(value: &Value) -> Client {
    let Endpoint { ip, port } = endpoint(text(value, "client"));
    let case = match value["case"].as_u64() {
        Some(0) => Case::WithTimestamps,
        Some(1) => Case::WithoutTimestamps,
        other => panic!("case {other:?}"),
    };
    Client { case, ip, port }
}

fn mapped(value: &Value) -> Mapped {
    Mapped { tag: number(value, "tag"), port: number(value, "port"), index: number(value, "index") }
}

#[test]
fn the_permutation_is_the_frozen_one() {
    let vectors = vectors();
    assert_eq!(text(&vectors, "mapping"), MAPPING_VERSION);
    let mut bits_seen = Vec::new();
    for entry in list(&vectors, "permutation") {
        let Endpoint { ip, port } = endpoint(text(entry, "vip"));
        let key = permutation_key(&secret(&vectors), ip, port).unwrap();
        assert_eq!(key.as_bytes()[..], hex(text(entry, "key")));
        let bits = PoolBits::new(number(entry, "pool_bits")).unwrap();
        bits_seen.push(bits.get());
        let permutation = Permutation::new(&key, bits);

        let mappings = list(entry, "mappings");
        assert_eq!(mappings.len(), 200);
        let clients: Vec<_> = mappings.iter().map(client).collect();
        let expected: Vec<_> = mappings.iter().map(mapped).collect();
        let mut forward = vec![Err(WalkError); clients.len()];
        permutation.forward(&clients, &mut forward);
        assert_eq!(forward, expected.iter().copied().map(Ok).collect::<Vec<_>>());
        let mut inverse = vec![Err(DecodeError::Walk); clients.len()];
        permutation.inverse(&expected, &mut inverse);
        assert_eq!(inverse, clients.iter().copied().map(Ok).collect::<Vec<_>>());

        for random in list(entry, "random_tags") {
            let mut found = [Err(DecodeError::Walk)];
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
    let vectors = vectors();
    for entry in list(&vectors, "rendezvous") {
        let Endpoint { ip, port } = endpoint(text(entry, "vip"));
        let key = rendezvous_key(&secret(&vectors), ip, port).unwrap();
        assert_eq!(key.as_bytes()[..], hex(text(entry, "key")));
        let targets: Vec<_> = list(entry, "targets")
            .iter()
            .map(|target| endpoint(target.as_str().unwrap()))
            .collect();
        let rendezvous = Rendezvous::new(&key, &targets);
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
