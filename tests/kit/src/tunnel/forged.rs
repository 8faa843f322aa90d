//! Agents made up from the POPs' own secrets: they know all numbers and tokens without a handshake.

use std::net::{Ipv6Addr, SocketAddr};

use anyrelay_core::keys::AgentKey;
use anyrelay_core::net::Family;
use anyrelay_core::predict;
use anyrelay_core::seq::SeqNum;
use anyrelay_core::time::{Tick, UnixTime};
use anyrelay_core::tunnel::message::KEEPALIVE_LEN_MAX;
use anyrelay_core::tunnel::open::OpenAgent;
use anyrelay_core::tunnel::{DataHeader, KeepaliveRequest, OpenHeader, PublicToken, TunnelService};

use crate::frames::{ACK, PSH, SYN, Segment};

/// An agent of tenant 1 at an address, at one moment.
#[derive(Clone, Copy, Debug)]
pub struct ForgedAgent {
    /// Its address and port.
    pub addr: SocketAddr,
    /// The VIP of its family.
    pub vip: SocketAddr,
    /// The tick.
    pub tick: Tick,
    /// Its own number of the tick.
    pub seq: SeqNum,
    /// The POPs' number of the tick.
    pub ack: SeqNum,
    /// Its token.
    pub token: PublicToken,
    /// Its open address, over IPv4 at a service with an open side.
    pub open: Option<Ipv6Addr>,
}

impl ForgedAgent {
    /// The agent at `addr` whose base has these high bits.
    pub fn new(
        service: &TunnelService,
        now: UnixTime,
        addr: SocketAddr,
        base_high: u16,
    ) -> ForgedAgent {
        let vip = service.vip(Family::of(addr.ip())).unwrap();
        let (tick, stride) = (now.tick(service.constants.tick_ms), service.constants.stride);
        let base = SeqNum(u32::from(base_high) << 16 | 0x8000);
        ForgedAgent {
            addr,
            vip: vip.addr,
            tick,
            seq: predict::at(base, stride, tick),
            ack: predict::at(vip.predictor.start(addr), stride, tick),
            token: vip.tokens.seal(now, addr, base_high, 1, 1).unwrap(),
            open: open_address(service, now, addr, base_high),
        }
    }

    /// The segment with the packet `inner`, `steps` of 64 bytes beyond the number of the tick.
    pub fn open_packet(&self, steps: u8, inner: &[u8]) -> Segment {
        let header = OpenHeader { offset_steps: steps };
        let payload = [&header.write_up()[..], inner].concat();
        self.segment(PSH | ACK, 1 + u32::from(steps) * 64, 1, &payload)
    }

    /// A segment `seq` and `ack` bytes beyond the numbers of the tick.
    pub fn segment(&self, flags: u8, seq: u32, ack: u32, data: &[u8]) -> Segment {
        let (seq, ack) = (self.seq.plus(seq).0, self.ack.plus(ack).0);
        Segment { seq, ack, data: data.to_vec(), ..Segment::new(self.addr, self.vip, flags) }
    }

    /// Its SYN.
    pub fn syn(&self) -> Segment {
        let options = vec![2, 4, 5, 0xb4, 4, 2, 1, 1, 1, 3, 3, 8];
        Segment { options, ..self.segment(SYN, 0, 0, &[]) }
    }

    /// Its keepalive, with the key of `agent`, which names what a reply of the tick told.
    pub fn keepalive(&self, agent: &AgentKey, nonce: u64) -> Segment {
        let payload = keepalive_payload(self.vip, agent, nonce, (self.addr, self.tick));
        self.segment(PSH | ACK, 1, 1, &payload)
    }

    /// A datagram to another agent, `steps` of 64 bytes beyond the number of the tick.
    pub fn data(&self, to: &ForgedAgent, steps: u8, session: u64, body: &[u8]) -> Segment {
        let header = DataHeader {
            destination: to.token.token.family(),
            sender: self.token.token.family(),
            destination_odd: to.token.epoch % 2 == 1,
            sender_odd: self.token.epoch % 2 == 1,
            offset_steps: steps,
            channel: 1,
            session,
        };
        let tokens = [to.token.token.as_bytes(), self.token.token.as_bytes()].concat();
        let payload = [&header.write_up()[..], &tokens, body].concat();
        self.segment(PSH | ACK, 1 + u32::from(steps) * 64, 1, &payload)
    }
}

fn open_address(
    service: &TunnelService,
    now: UnixTime,
    addr: SocketAddr,
    base_high: u16,
) -> Option<Ipv6Addr> {
    let (open, SocketAddr::V4(at)) = (service.open.as_ref()?, addr) else { return None };
    open.addresses.encode(now, &OpenAgent { at, base_high }).map(Ipv6Addr::from_bits)
}

/// A keepalive request to `vip` with the key of `agent`, which names this public endpoint and tick.
pub fn keepalive_payload(
    vip: SocketAddr,
    agent: &AgentKey,
    nonce: u64,
    (public, last_tick): (SocketAddr, Tick),
) -> Vec<u8> {
    let AgentKey { tenant, agent: number, key } = agent;
    let request = KeepaliveRequest { tenant: *tenant, agent: *number, nonce, last_tick, public };
    let mut payload = [0; KEEPALIVE_LEN_MAX];
    let len = request.write(vip, key, &mut payload);
    payload[..len].to_vec()
}
