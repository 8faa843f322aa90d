//! The POP's side of tunnels: round trips, and every refusal with all else right.

mod data;
mod handshakes;
mod keepalives;
mod messages;
mod open;
mod side_by_side;
mod tokens;

use std::net::SocketAddr;
use std::sync::Arc;

use super::message::{KEEPALIVE_LEN_MAX, body_max};
use super::{
    DataHeader, KeepaliveReply, KeepaliveRequest, PublicToken, TunnelSegment, TunnelService,
    TunnelVip,
};
use crate::keys::{AgentKey, AgentKeys, Epoch, Epochs, KeyFile, Secret, Tenants};
use crate::net::Family;
use crate::predict::{self, Constants};
use crate::seq::SeqNum;
use crate::time::{Tick, UnixTime};
use crate::wire::tcp::{ACK, PSH};

/// The tick of most tests, and a time in it.
const N: u64 = 220_000_000;
const NOW: UnixTime = UnixTime::from_millis(N * 8000 + 1234);

/// The time `ticks` after [`NOW`].
fn later(ticks: i64) -> UnixTime {
    UnixTime::from_millis(NOW.as_millis().wrapping_add_signed(ticks * 8000))
}

fn addr(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

/// The keys of a POP, whose token epochs are `epochs`.
fn key_file(epochs: Epochs) -> KeyFile {
    let keys = KeyFile::from_random([[1; 32], [2; 32], [3; 32]]);
    KeyFile { tokens: epochs, ..keys }
}

/// Epoch 7, and epoch 8 from `not_before` on.
fn two_epochs(not_before: UnixTime) -> Epochs {
    let epoch =
        |number, not_before| Epoch { number, secret: Secret::new([number; 32]), not_before };
    Epochs::new(epoch(7, UnixTime::default()), Some(epoch(8, not_before))).unwrap()
}

/// Two tenants with two agents each; the second tenant's second agent is revoked.
fn tenants() -> Tenants {
    let mut tenants = Tenants::default();
    for name in ["acme", "other"] {
        let key = Secret::new([name.len() as u8; 32]);
        tenants.add(name, key).unwrap();
        tenants.issue(name, "one").unwrap();
        tenants.issue(name, "two").unwrap();
    }
    tenants.revoke("other", "two").unwrap();
    tenants
}

/// A service for both families and tenants.
fn service_with(epochs: Epochs) -> TunnelService {
    let keys = key_file(epochs);
    TunnelService {
        constants: Constants::default(),
        tunnel_mtu: 1400,
        vip4: Some(TunnelVip::new(addr("203.0.113.20:443"), &keys).unwrap()),
        vip6: Some(TunnelVip::new(addr("[2001:db8::20]:443"), &keys).unwrap()),
        tenants: vec![1, 2].into(),
        agents: Arc::new(AgentKeys::new(&tenants()).unwrap()),
        open: None,
    }
}

fn service() -> TunnelService {
    service_with(Epochs::single(Secret::new([3; 32])))
}

/// S(n) towards `agent`, `ticks` after [`N`].
fn number(service: &TunnelService, agent: SocketAddr, ticks: i64) -> SeqNum {
    let start = service.vip(Family::of(agent.ip())).unwrap().predictor.start(agent);
    predict::at(start, service.constants.stride, Tick(N.wrapping_add_signed(ticks)))
}

/// A simple agent.
#[derive(Clone, Debug)]
struct TestAgent {
    addr: SocketAddr,
    key: AgentKey,
    base: u32,
}

impl TestAgent {
    fn new(tenant: &str, number: u32, address: &str) -> Self {
        let tenants = tenants();
        let tenant = tenants.get(tenant).unwrap();
        let key = crate::keys::agent_key(&tenant.key, number).unwrap();
        let key = AgentKey { tenant: tenant.id, agent: number, key };
        TestAgent { addr: addr(address), key, base: 0xfffd_8000 }
    }

    fn family(&self) -> Family {
        Family::of(self.addr.ip())
    }

    fn seq(&self, ticks: i64) -> SeqNum {
        predict::at(SeqNum(self.base), 4096, Tick(N.wrapping_add_signed(ticks))).plus(1)
    }

    /// Its token, as the POP of `service` with the number 5 issues it.
    fn token(&self, service: &TunnelService) -> PublicToken {
        let tokens = &service.vip(self.family()).unwrap().tokens;
        let high = (self.base >> 16) as u16;
        tokens.seal(NOW, self.addr, high, self.key.tenant, 5).unwrap()
    }

    fn segment(&self, service: &TunnelService, payload: Vec<u8>) -> TestSegment {
        let around = self.family().ip_header_len() + 20;
        TestSegment {
            src: self.addr,
            dst: self.vip(service),
            seq: self.seq(0),
            ack: number(service, self.addr, 0).plus(1),
            flags: ACK | PSH,
            options: Vec::new(),
            datagram_len: around + payload.len(),
            payload,
        }
    }

    /// A keepalive request with the nonce 99, which names its address and the tick [`N`].
    fn keepalive(&self, service: &TunnelService) -> TestSegment {
        self.keepalive_naming(service, self.addr, 0)
    }

    /// The same, which names this address and the tick so many after [`N`].
    fn keepalive_naming(
        &self,
        service: &TunnelService,
        public: SocketAddr,
        ticks: i64,
    ) -> TestSegment {
        let AgentKey { tenant, agent, .. } = self.key;
        let last_tick = Tick(N.wrapping_add_signed(ticks));
        let request = KeepaliveRequest { tenant, agent, nonce: 99, last_tick, public };
        let mut payload = [0xff; KEEPALIVE_LEN_MAX];
        let len = request.write(self.vip(service), &self.key.key, &mut payload);
        self.segment(service, payload[..len].to_vec())
    }

    fn vip(&self, service: &TunnelService) -> SocketAddr {
        service.vip(self.family()).unwrap().addr
    }

    /// The header of a datagram to `to`.
    fn header(&self, service: &TunnelService, to: PublicToken, offset_steps: u8) -> DataHeader {
        DataHeader {
            destination: to.token.family(),
            sender: self.family(),
            destination_odd: to.epoch % 2 == 1,
            sender_odd: self.token(service).epoch % 2 == 1,
            offset_steps,
            channel: 0x1234,
            session: 0x0123_4567_89ab_cdef,
        }
    }

    /// A datagram to `to` with this body.
    fn data(
        &self,
        service: &TunnelService,
        to: PublicToken,
        offset_steps: u8,
        body: &[u8],
    ) -> TestSegment {
        let header = self.header(service, to, offset_steps);
        self.data_with(service, &header, to, self.token(service), body)
    }

    fn data_with(
        &self,
        service: &TunnelService,
        header: &DataHeader,
        to: PublicToken,
        own: PublicToken,
        body: &[u8],
    ) -> TestSegment {
        let payload =
            [&header.write_up()[..], to.token.as_bytes(), own.token.as_bytes(), body].concat();
        let sent = self.segment(service, payload);
        TestSegment { seq: sent.seq.plus(header.offset()), ..sent }
    }
}

/// A segment of an agent, with its bytes.
#[derive(Clone, Debug)]
struct TestSegment {
    src: SocketAddr,
    dst: SocketAddr,
    seq: SeqNum,
    ack: SeqNum,
    flags: u8,
    options: Vec<u8>,
    payload: Vec<u8>,
    datagram_len: usize,
}

impl TestSegment {
    fn segment(&self) -> TunnelSegment<'_> {
        TunnelSegment {
            src: self.src,
            dst: self.dst,
            seq: self.seq,
            ack: self.ack,
            flags: self.flags,
            options: &self.options,
            payload: &self.payload,
            datagram_len: self.datagram_len,
        }
    }

    fn edit(&self, edit: impl FnOnce(&mut TestSegment)) -> TestSegment {
        let mut sent = self.clone();
        edit(&mut sent);
        sent
    }
}

fn acme(address: &str) -> TestAgent {
    TestAgent::new("acme", 1, address)
}

/// Agents of one tenant, of both families, and one of the other tenant.
fn agents() -> (TestAgent, TestAgent, TestAgent, TestAgent) {
    (
        acme("192.0.2.1:40000"),
        TestAgent::new("acme", 2, "192.0.2.2:40001"),
        TestAgent::new("acme", 2, "[2001:db8:1::7]:40002"),
        TestAgent::new("other", 1, "192.0.2.3:40003"),
    )
}
