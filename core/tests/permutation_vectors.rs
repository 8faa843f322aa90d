//! The frozen mapping: `vectors/relay-v2.json`, which a second, plain implementation wrote
//! (`vectors/relay-v2.py`; its `--check` compares the file with what it computes).
#![allow(clippy::unwrap_used, clippy::panic, missing_docs, reason = "a failed one ends the test")]

mod vectors;

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use anyrelay_core::config::{Pool6Len, PoolBits, Prefix, PrefixLen};
use anyrelay_core::keys::{
    Secret, hint_key, packet_id_key, permutation_key, permutation6_key, permutation6_tweak,
    prefix_check_key, rendezvous_key,
};
use anyrelay_core::net::{Endpoint, Endpoint6, IpEndpoint};
use anyrelay_core::relay::hints::{Hint, HintKey, Shows};
use anyrelay_core::relay::keys::RelayKeys;
use anyrelay_core::relay::mapping::{BURST, Tag};
use anyrelay_core::relay::memo::{Owned, Rst};
use anyrelay_core::relay::pool::permutation::{Mapped, Permutation};
use anyrelay_core::relay::pool6::permutation as pool6;
use anyrelay_core::relay::prefix::PrefixMap;
use anyrelay_core::relay::rewrite::PacketIds;
use anyrelay_core::relay::targets::log::{LOG, log};
use anyrelay_core::relay::targets::rendezvous::{Choice, ClientHash, Member, mix};
use anyrelay_core::seq::SeqNum;
use anyrelay_core::snapshot::MAPPING_VERSION;
use anyrelay_core::time::UnixTime;
use anyrelay_kit::hex::unhex;
use cpu_vector::Isa;
use serde_json::Value;

use vectors::{list, number, text};

fn read_vectors() -> Value {
    serde_json::from_str(include_str!("vectors/relay-v2.json")).unwrap()
}

fn endpoint(text: &str) -> Endpoint {
    let parsed: std::net::SocketAddrV4 = text.parse().unwrap();
    Endpoint { ip: parsed.ip().to_bits(), port: parsed.port() }
}

fn secret(vectors: &Value) -> Secret {
    Secret::new(unhex(text(vectors, "relay_secret")).try_into().unwrap())
}

fn keys(vectors: &Value) -> RelayKeys {
    RelayKeys::new(&secret(vectors), Isa::best()).unwrap()
}

fn mapped(value: &Value) -> Mapped {
    Mapped {
        tag: Tag(number(value, "tag")),
        port: number(value, "port"),
        index: number(value, "index"),
    }
}

#[test]
fn the_permutation_is_the_frozen_one() {
    let vectors = read_vectors();
    assert_eq!(text(&vectors, "mapping"), MAPPING_VERSION);
    let key = permutation_key(&secret(&vectors)).unwrap();
    assert_eq!(key.as_bytes()[..], unhex(text(&vectors, "permutation_key")));
    let (keys, mut bits_seen) = (keys(&vectors), Vec::new());
    for entry in list(&vectors, "permutation") {
        let vip = endpoint(text(entry, "vip"));
        let bits = PoolBits::new(number(entry, "pool_bits")).unwrap();
        bits_seen.push(bits.get());
        let permutation = Permutation::new(&keys, vip, bits);

        let mappings = list(entry, "mappings");
        assert_eq!(mappings.len(), 100);
        for mappings in mappings.chunks(BURST) {
            let clients = mappings.iter().map(|value| endpoint(text(value, "client")));
            let clients: Vec<_> = clients.collect();
            let expected: Vec<_> = mappings.iter().map(mapped).collect();
            let (mut forward, mut inverse) = (Vec::new(), Vec::new());
            permutation.forward(clients.iter().copied(), |mapped| forward.push(mapped));
            assert_eq!(forward, expected);
            permutation.inverse(expected.iter().copied(), |client| inverse.extend(client));
            assert_eq!(inverse, clients);
        }
        let mut refused = 0;
        for random in list(entry, "random_tags") {
            let mut found = None;
            permutation.inverse([mapped(random)].into_iter(), |client| found = client);
            refused += u32::from(found.is_none());
            assert_eq!(found, random["found"].as_str().map(endpoint));
        }
        assert!((1..=40).contains(&refused));
    }
    assert_eq!(bits_seen, [2, 8, 9, 16]);
}

#[test]
fn the_permutation_over_ipv6_is_the_frozen_one() {
    let vectors = read_vectors();
    let secret = secret(&vectors);
    let key = permutation6_key(&secret).unwrap();
    assert_eq!(key.as_bytes()[..], unhex(text(&vectors, "permutation6_key")));
    let (keys, mut lens) = (keys(&vectors), Vec::new());
    for entry in list(&vectors, "permutation6") {
        let vip: SocketAddr = text(entry, "vip").parse().unwrap();
        let tweak = u128::from_be_bytes(*permutation6_tweak(&secret, vip).unwrap().as_bytes());
        assert_eq!(format!("{:011x}", tweak >> 86), text(entry, "tweak"));
        let (first, len) = text(entry, "pool").split_once('/').unwrap();
        let len = Pool6Len::new(len.parse().unwrap()).unwrap();
        lens.push(len.get());
        let first = first.parse::<Ipv6Addr>().unwrap().to_bits();
        let mapped = |value: &Value| {
            let Endpoint6 { ip, port } = endpoint6(&value["egress"]);
            assert_eq!((ip ^ first) >> len.host_bits(), 0, "{value}");
            pool6::Mapped { tag: Tag(number(value, "tag")), port, index: ip ^ first }
        };
        let permutation = pool6::Permutation::new(&keys, endpoint6(&entry["vip"]), len).unwrap();

        let mappings = list(entry, "mappings");
        assert_eq!(mappings.len(), 100);
        let clients = mappings.iter().map(|value| endpoint6(&value["client"]));
        let (clients, expected): (Vec<_>, Vec<_>) =
            clients.zip(mappings.iter().map(mapped)).unzip();
        let (mut forward, mut inverse) = (Vec::new(), Vec::new());
        permutation.forward(&clients, |mapped| forward.extend(mapped));
        assert_eq!(forward, expected);
        permutation.inverse(&expected, |client| inverse.extend(client));
        assert_eq!(inverse, clients);

        let tags = list(entry, "tags");
        let (mut found, mut passed) = (Vec::new(), 0);
        let asked: Vec<_> = tags.iter().map(mapped).collect();
        permutation.inverse(&asked, |client| found.push(client));
        for (found, tag) in found.iter().zip(tags) {
            passed += u32::from(found.is_some());
            assert_eq!(*found, (!tag["found"].is_null()).then(|| endpoint6(&tag["found"])));
        }
        assert_eq!((tags.len(), passed > 0), (136, len.get() == 28));
        let others: Vec<_> = list(entry, "not_mapped").iter().map(endpoint6).collect();
        assert!(others.len() > 20);
        permutation.forward(&others, |mapped| assert_eq!(mapped, None));
    }
    assert_eq!(lens, [8, 12, 9, 16, 28]);
}

/// An IPv6 endpoint.
fn endpoint6(value: &Value) -> Endpoint6 {
    ip_endpoint(value).of_family().unwrap()
}

#[test]
fn the_logarithm_is_the_frozen_one() {
    let vectors = read_vectors();
    let table: Vec<u32> = serde_json::from_value(vectors["log_table"].clone()).unwrap();
    assert_eq!(table, LOG);
    assert!(list(&vectors, "logs").len() > 60);
    for vector in list(&vectors, "logs") {
        assert_eq!(log(hash(&vector["hash"])), number::<u32>(vector, "log"), "{vector}");
    }
}

/// A hash of the vectors, in hex.
fn hash(value: &Value) -> u64 {
    u64::from_str_radix(value.as_str().unwrap(), 16).unwrap()
}

/// An endpoint of either family.
fn ip_endpoint(value: &Value) -> IpEndpoint {
    value.as_str().unwrap().parse::<SocketAddr>().unwrap().into()
}

#[test]
fn the_choice_among_targets_is_the_frozen_one() {
    let vectors = read_vectors();
    let key = rendezvous_key(&secret(&vectors)).unwrap();
    assert_eq!(key.as_bytes()[..], unhex(text(&vectors, "rendezvous_key")));
    let hashes = keys(&vectors).hashes;
    let entries = list(&vectors, "rendezvous");
    assert_eq!(entries.len(), 9);
    for entry in entries {
        let vip = ip_endpoint(&entry["vip"]);
        let weights: Vec<u16> = serde_json::from_value(entry["weights"].clone()).unwrap();
        let targets: Vec<_> = list(entry, "targets").iter().map(ip_endpoint).collect();
        let weighted = |weight: &dyn Fn(u16) -> u16| {
            let members = targets.iter().zip(&weights).map(|(target, own)| Member {
                hash: hashes.target(vip, *target),
                weight: weight(*own),
                target: *target,
            });
            Choice::new(members.collect())
        };
        let (equal, unequal) = (weighted(&|_| 1), weighted(&|own| own));
        let choices = list(entry, "choices");
        assert_eq!(choices.len(), 40);
        let clients: Vec<_> = choices.iter().map(|choice| ip_endpoint(&choice["client"])).collect();
        let mut of_clients = [ClientHash::default(); 40];
        hashes.clients(&clients, &mut of_clients);
        for (client, choice) in of_clients.into_iter().zip(choices) {
            let vectors = list(choice, "hashes").iter().zip(list(choice, "logs"));
            for ((expected, expected_log), target) in vectors.zip(&targets) {
                assert_eq!(mix(client, hashes.target(vip, *target)), hash(expected));
                assert_eq!(u64::from(log(hash(expected))), expected_log.as_u64().unwrap());
            }
            assert_eq!(equal.winner(client), Some(ip_endpoint(&choice["target"])));
            assert_eq!(unequal.winner(client), Some(ip_endpoint(&choice["weighted"])));
        }
    }
}

#[test]
fn the_addresses_of_prefix_mode_are_the_frozen_ones() {
    let vectors = read_vectors();
    let key = prefix_check_key(&secret(&vectors)).unwrap();
    assert_eq!(key.as_bytes()[..], unhex(text(&vectors, "prefix_check_key")));
    let (keys, mut lens) = (keys(&vectors), Vec::new());
    for entry in list(&vectors, "prefix") {
        let vip = endpoint(text(entry, "vip"));
        let (first, len) = text(entry, "prefix").split_once('/').unwrap();
        let len = PrefixLen::new(len.parse().unwrap()).unwrap();
        lens.push(len.get());
        let ip6 = |text: &str| text.parse::<Ipv6Addr>().unwrap().to_bits();
        let map =
            PrefixMap::new(Arc::clone(&keys.prefix_check), vip, Prefix { first: ip6(first), len });
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
fn hints_are_the_frozen_ones() {
    let vectors = read_vectors();
    let entry = &vectors["hints"];
    let secret = secret(&vectors);
    assert_eq!(hint_key(&secret).unwrap().as_bytes()[..], unhex(text(entry, "key")));
    let key = HintKey::new(&secret).unwrap();
    let datagrams = list(entry, "datagrams");
    assert_eq!(datagrams.len(), 4);
    for vector in datagrams {
        let hints: Vec<_> = list(vector, "hints").iter().map(hint).collect();
        let time = UnixTime::from_millis(vector["time_ms"].as_u64().unwrap());
        let datagram = unhex(text(vector, "datagram"));
        assert_eq!(key.seal(time, &hints)[..], datagram);
        assert_eq!(key.open(time, &datagram).unwrap()[..], hints);
    }
}

fn hint(value: &Value) -> Hint {
    let at = |name: &str| ip_endpoint(&value[name]);
    let numbered = |name: &str| SeqNum(number(value, name));
    let shows = match text(value, "kind") {
        "rst" => Shows::Refusal(Rst::Bare { seq: numbered("seq") }),
        "rst_ack" => {
            Shows::Refusal(Rst::Acknowledging { seq: numbered("seq"), ack: numbered("ack") })
        }
        _ => {
            let (tag, end, ack) = (number(value, "tag"), numbered("end"), numbered("ack"));
            Shows::Owner(Owned { tag, end, ack })
        }
    };
    Hint { vip: at("vip"), egress: at("egress"), target: at("target"), shows }
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
