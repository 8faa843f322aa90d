//! The frozen protocol of open tunnels: `vectors/tunnel_open.json`, which a second, plain
//! implementation wrote (`vectors/tunnel_open.py`; its `--check` compares the file with what it
//! computes).
#![allow(clippy::unwrap_used, clippy::panic, missing_docs, reason = "a failed one ends the test")]

mod vectors;

use std::net::{Ipv6Addr, SocketAddrV4};
use std::sync::Arc;

use anyrelay_core::config::{OpenConfig, OpenPrefix};
use anyrelay_core::keys::{AgentKeys, Epoch, Epochs, KeyFile, Secret, Tenants};
use anyrelay_core::net::{Address, IpNet};
use anyrelay_core::predict::Constants;
use anyrelay_core::seq::SeqNum;
use anyrelay_core::time::UnixTime;
use anyrelay_core::tunnel::open::up::Onward;
use anyrelay_core::tunnel::open::{OpenAddresses, OpenAgent, OpenService, OpenUp, Outside};
use anyrelay_core::tunnel::open::{down, up};
use anyrelay_core::tunnel::{TunnelSegment, TunnelService, TunnelVip};
use anyrelay_kit::hex::unhex;
use serde_json::Value;

use vectors::{list, number, text};

fn read_vectors() -> Value {
    serde_json::from_str(include_str!("vectors/tunnel_open.json")).unwrap()
}

fn secret(value: &Value, name: &str) -> Secret {
    Secret::new(unhex(text(value, name)).try_into().unwrap())
}

fn epochs(vectors: &Value) -> Epochs {
    let mut epochs = list(vectors, "epochs").iter().map(|epoch| Epoch {
        number: number(epoch, "epoch"),
        secret: secret(epoch, "secret"),
        not_before: UnixTime::from_millis(number(epoch, "not_before_ms")),
    });
    Epochs::new(epochs.next().unwrap(), epochs.next()).unwrap()
}

fn vip(vectors: &Value) -> SocketAddrV4 {
    text(vectors, "vip").parse().unwrap()
}

fn prefix(text: &str) -> OpenPrefix {
    OpenPrefix::new(IpNet::parse(text).and_then(u128::of_net).unwrap()).unwrap()
}

fn address(value: &Value) -> u128 {
    text(value, "address").parse::<Ipv6Addr>().unwrap().to_bits()
}

fn agent(value: &Value) -> OpenAgent {
    let at = text(value, "agent").parse().unwrap();
    OpenAgent { at, base_high: number(value, "base_high") }
}

fn addresses_of(vectors: &Value, net: &str) -> OpenAddresses {
    let tenant = number(vectors, "tenant");
    OpenAddresses::new(&epochs(vectors), vip(vectors), tenant, prefix(net)).unwrap()
}

#[test]
fn addresses_are_the_frozen_ones() {
    let vectors = read_vectors();
    let epochs = epochs(&vectors);
    let change = epochs.iter().last().unwrap().not_before;
    for entry in list(&vectors, "addresses") {
        let addresses = addresses_of(&vectors, text(entry, "prefix"));
        let is_newer = number::<u8>(entry, "epoch") == 0;
        let now = if is_newer { change } else { UnixTime::default() };
        assert_eq!(addresses.encode(now, &agent(entry)), Some(address(entry)));
        assert_eq!(addresses.decode(change, address(entry)), Ok(agent(entry)));
    }
    assert_eq!(list(&vectors, "addresses").len(), 48);
}

#[test]
fn made_up_addresses_are_refused_alike() {
    let vectors = read_vectors();
    let addresses = addresses_of(&vectors, "2001:db8:a::/48");
    for entry in list(&vectors, "made_up") {
        let found = addresses.decode(UnixTime::default(), address(entry)).ok();
        let found = found.map(|agent| agent.at.to_string());
        assert_eq!(found.as_deref(), entry["agent"].as_str());
    }
    assert_eq!(list(&vectors, "made_up").len(), 43);
}

fn service(vectors: &Value) -> TunnelService {
    let mut keys = KeyFile::from_random([[1; 32], [2; 32], [3; 32]]);
    keys.sequence = secret(vectors, "sequence_secret");
    keys.tokens = epochs(vectors);
    let open = OpenConfig {
        prefix: prefix("2001:db8:a::/48"),
        to: Vec::new(),
        icmp_source: Ipv6Addr::LOCALHOST,
    };
    let (vip, tenant) = (vip(vectors), number(vectors, "tenant"));
    TunnelService {
        constants: Constants::default(),
        tunnel_mtu: 1400,
        vip4: Some(TunnelVip::new(vip.into(), &keys).unwrap()),
        vip6: None,
        tenants: [tenant].into(),
        agents: Arc::new(AgentKeys::new(&Tenants::default()).unwrap()),
        open: Some(OpenService::new(&open, vip, tenant, &keys).unwrap()),
    }
}

#[test]
fn packets_go_up_and_down_as_frozen() {
    let vectors = read_vectors();
    let service = service(&vectors);
    for entry in list(&vectors, "packets") {
        let (now, sender) = (UnixTime::from_millis(number(entry, "unix_ms")), agent(entry));
        let (sent, down) = (&entry["up"], &entry["down"]);
        let payload = unhex(text(sent, "payload"));
        let segment = TunnelSegment {
            src: sender.at.into(),
            dst: vip(&vectors).into(),
            seq: SeqNum(number(sent, "seq")),
            ack: SeqNum(number(sent, "ack")),
            flags: 0x18,
            options: &[],
            payload: &payload,
            datagram_len: 40 + payload.len(),
        };
        let packet = OpenUp::read(&service, &segment).unwrap();
        let onward = up::decide(&service, now, &packet, |_| Outside::Allowed, |_| true).unwrap();
        assert_eq!(onward, Onward { sender, to: None });

        let packet = unhex(text(down, "packet"));
        let dst = u128::from_be_bytes(packet[24..40].try_into().unwrap());
        assert_eq!(down::agent_of(&service, now, dst, |_| true), Ok(sender));
        let found = down::segment(&service, now, &sender, &packet).unwrap();
        assert_eq!((found.src, found.dst), (vip(&vectors).into(), sender.at.into()));
        assert_eq!((found.seq.0, found.ack.0), (number(down, "seq"), number(down, "ack")));
        assert_eq!(found.header[..], unhex(text(down, "header")));
    }
    assert_eq!(list(&vectors, "packets").len(), 5);
}
