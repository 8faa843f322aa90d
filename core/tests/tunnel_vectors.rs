//! The frozen protocol of tunnels: `vectors/tunnel-v2.json`, which a second, plain implementation
//! wrote (`vectors/tunnel-v2.py`; its `--check` compares the file with what it computes).
#![allow(clippy::unwrap_used, clippy::panic, missing_docs, reason = "a failed one ends the test")]

mod vectors;

use std::net::SocketAddr;
use std::sync::Arc;

use anyrelay_core::keys::{
    AgentEntry, AgentKeys, Epoch, Epochs, KeyFile, Secret, Tenant, Tenants, agent_key, sequence_key,
};
use anyrelay_core::net::Family;
use anyrelay_core::predict::{self, Constants, Predictor};
use anyrelay_core::seq::SeqNum;
use anyrelay_core::time::{Tick, UnixTime};
use anyrelay_core::tunnel::{
    KeepaliveReply, KeepaliveRequest, PublicToken, Return, Token, TokenKeys, TunnelSegment,
    TunnelService, TunnelVip, forward, keepalive,
};
use anyrelay_kit::hex::unhex;
use serde_json::Value;

use vectors::{list, number, text};

fn read_vectors() -> Value {
    serde_json::from_str(include_str!("vectors/tunnel-v2.json")).unwrap()
}

fn secret(value: &Value, name: &str) -> Secret {
    Secret::new(unhex(text(value, name)).try_into().unwrap())
}

fn addr(value: &Value, name: &str) -> SocketAddr {
    text(value, name).parse().unwrap()
}

fn unix(value: &Value) -> UnixTime {
    UnixTime::from_millis(number(value, "unix_ms"))
}

fn epochs(vectors: &Value) -> Epochs {
    let mut epochs = list(vectors, "epochs").iter().map(|epoch| Epoch {
        number: number(epoch, "epoch"),
        secret: secret(epoch, "secret"),
        not_before: UnixTime::from_millis(number(epoch, "not_before_ms")),
    });
    Epochs::new(epochs.next().unwrap(), epochs.next()).unwrap()
}

/// The tenants, with the agents that the keepalives are of.
fn tenants(vectors: &Value) -> Tenants {
    let agents = |tenant: u16| {
        let mut ids: Vec<u32> = list(vectors, "keepalives")
            .iter()
            .filter(|keepalive| number::<u16>(keepalive, "tenant") == tenant)
            .map(|keepalive| number(keepalive, "number"))
            .collect();
        ids.sort_unstable();
        ids.dedup();
        ids.into_iter()
            .map(|id| AgentEntry { id, name: format!("a{id}"), revoked: false })
            .collect()
    };
    let tenant = |tenant: &Value| {
        let id = number(tenant, "id");
        Tenant { id, name: format!("t{id}"), key: secret(tenant, "key"), agents: agents(id) }
    };
    Tenants { tenants: list(vectors, "tenants").iter().map(tenant).collect() }
}

fn vips(vectors: &Value) -> [SocketAddr; 2] {
    [&vectors["vips"][0], &vectors["vips"][1]].map(|vip| vip.as_str().unwrap().parse().unwrap())
}

fn service(vectors: &Value) -> TunnelService {
    let mut keys = KeyFile::from_random([[1; 32], [2; 32], [3; 32]]);
    keys.sequence = secret(vectors, "sequence_secret");
    keys.tokens = epochs(vectors);
    let [vip4, vip6] = vips(vectors);
    let constants: Vec<_> =
        list(vectors, "constants").iter().map(|constant| constant.as_u64().unwrap()).collect();
    let mut ids: Vec<u16> =
        list(vectors, "tenants").iter().map(|tenant| number(tenant, "id")).collect();
    ids.sort_unstable();
    TunnelService {
        constants: Constants {
            tick_ms: constants[0] as u32,
            stride: constants[1] as u32,
            lag: constants[2] as u16,
            offset: constants[3] as u16,
        },
        tunnel_mtu: number(vectors, "tunnel_mtu"),
        vip4: Some(TunnelVip::new(vip4, &keys).unwrap()),
        vip6: Some(TunnelVip::new(vip6, &keys).unwrap()),
        tenants: ids.into(),
        agents: Arc::new(AgentKeys::new(&tenants(vectors)).unwrap()),
        open: None,
    }
}

fn segment<'a>(
    value: &Value,
    src: SocketAddr,
    dst: SocketAddr,
    payload: &'a [u8],
) -> TunnelSegment<'a> {
    TunnelSegment {
        src,
        dst,
        seq: SeqNum(number(value, "seq")),
        ack: SeqNum(number(value, "ack")),
        flags: 0x18,
        options: &[],
        payload,
        datagram_len: 60 + payload.len(),
    }
}

#[test]
fn the_constants_are_the_defaults() {
    assert_eq!(service(&read_vectors()).constants, Constants::default());
}

#[test]
fn predicted_numbers_are_the_frozen_ones() {
    let vectors = read_vectors();
    let sequence = secret(&vectors, "sequence_secret");
    let mut count = 0;
    for entry in list(&vectors, "sequence") {
        let vip = addr(entry, "vip");
        let key = sequence_key(&sequence, vip).unwrap();
        assert_eq!(key.as_bytes()[..], unhex(text(entry, "key")));
        let predictor = Predictor::new(&sequence, vip).unwrap();
        for expected in list(entry, "numbers") {
            let start = predictor.start(addr(expected, "agent"));
            assert_eq!(start, SeqNum(number(expected, "start")));
            let tick = Tick(number(expected, "tick"));
            let found = predict::at(start, number(entry, "stride"), tick);
            assert_eq!(found, SeqNum(number(expected, "number")));
            count += 1;
        }
    }
    assert_eq!(count, 64);
}

#[test]
fn tokens_are_the_frozen_ones() {
    let vectors = read_vectors();
    let [vip4, vip6] = vips(&vectors);
    let epochs = epochs(&vectors);
    let change = epochs.iter().last().unwrap().not_before;
    let mut count = 0;
    for entry in list(&vectors, "tokens") {
        let agent = addr(entry, "agent");
        let vip = if agent.is_ipv4() { vip4 } else { vip6 };
        let keys = TokenKeys::new(&epochs, vip).unwrap();
        let (epoch, base_high) = (number(entry, "epoch"), number(entry, "base_high"));
        let (tenant, pop) = (number(entry, "tenant"), number(entry, "pop"));
        let now = if epoch == 0 { change } else { UnixTime::default() };
        let token = Token::read(Family::of(agent.ip()), &unhex(text(entry, "token"))).unwrap();
        let expected = PublicToken { epoch, token };
        assert_eq!(keys.seal(now, agent, base_high, tenant, pop), Some(expected));
        let holds = Return { agent, base_high, tenant, epoch, pop };
        assert_eq!(keys.open(now, epoch % 2 == 1, &token), Ok(holds));
        assert_eq!(expected.to_string(), text(entry, "text"));
        assert_eq!(text(entry, "text").parse(), Ok(expected));
        count += 1;
    }
    assert_eq!(count, 40);
}

#[test]
fn keepalives_are_the_frozen_ones() {
    let vectors = read_vectors();
    let service = service(&vectors);
    let mut with_token = 0;
    for entry in list(&vectors, "keepalives") {
        let agent = addr(entry, "agent");
        let family = Family::of(agent.ip());
        let (tenant, id): (u16, u32) = (number(entry, "tenant"), number(entry, "number"));
        let tenants = tenants(&vectors);
        let tenant_key = &tenants.get(&format!("t{tenant}")).unwrap().key;
        let key = agent_key(tenant_key, id).unwrap();
        assert_eq!(key.as_bytes()[..], unhex(text(entry, "key")));

        // The agent writes this request and reads this reply, ...
        let (request, reply) = (&entry["request"], &entry["reply"]);
        let (asked, told) = (unhex(text(request, "payload")), unhex(text(reply, "payload")));
        let parsed = KeepaliveRequest::parse(&asked, family).unwrap();
        assert_eq!((parsed.tenant, parsed.agent), (tenant, id));
        let vip = service.vip(family).unwrap().addr;
        let mut written = [0; 118];
        let len = parsed.write(vip, &key, &mut written);
        assert_eq!(written[..len], asked);
        assert!(KeepaliveReply::mac_holds(&told, vip, &key));
        let parsed = KeepaliveReply::parse(&told, family).unwrap();
        assert_eq!((parsed.public, parsed.constants), (agent, service.constants));
        with_token += u32::from(parsed.token.is_some());

        // ... and the POP answers the one with the other.
        let segment = segment(request, agent, vip, &asked);
        let known = keepalive::check(&service, unix(entry), &segment).unwrap();
        let found = keepalive::reply(&known, number(&vectors, "pop"), &segment).unwrap();
        assert_eq!(found.payload[..], told);
        assert_eq!((found.seq.0, found.ack.0), (number(reply, "seq"), number(reply, "ack")));
    }
    assert_eq!(with_token, 6);
}

#[test]
fn data_is_forwarded_as_frozen() {
    let vectors = read_vectors();
    let service = service(&vectors);
    assert_eq!(list(&vectors, "data").len(), 5);
    for entry in list(&vectors, "data") {
        let (up, down) = (&entry["up"], &entry["down"]);
        let payload = unhex(text(up, "payload"));
        let segment = segment(up, addr(up, "src"), addr(up, "dst"), &payload);
        let found = forward::accept(&service, unix(entry), &segment, |_| true).unwrap();
        assert_eq!((found.src, found.dst), (addr(down, "src"), addr(down, "dst")));
        assert_eq!((found.seq.0, found.ack.0), (number(down, "seq"), number(down, "ack")));
        let sent = [&found.header[..], &payload[found.body_at..]].concat();
        assert_eq!(sent, unhex(text(down, "payload")));
        assert!(sent.ends_with(&unhex(text(entry, "body"))));
        assert_eq!(found.issued_by, number::<u8>(entry, "issued_by"));
    }
}
