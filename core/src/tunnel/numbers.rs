//! The sequence numbers between a POP and an agent at one tick, for `anyrelay map` and `replay
//! --explain`.
//!
//! POPs compute the same numbers one by one where they need them ([`super::handshake`],
//! [`super::keepalive`], [`super::forward`]); tests compare the two.

use std::net::SocketAddr;
use std::ops::RangeInclusive;

use super::message::keepalive_len;
use super::service::{TunnelService, TunnelVip};
use super::{forward, keepalive};
use crate::net::Family;
use crate::predict;
use crate::seq::SeqNum;
use crate::time::Tick;

/// The numbers between the POPs and one agent, at one tick.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Numbers {
    /// The tick.
    pub tick: Tick,
    /// H: the sequence number of POPs at tick 0.
    pub start: SeqNum,
    /// S(n): the sequence number of a SYN-ACK.
    pub syn_ack: SeqNum,
    /// The sequence number of a keepalive reply, and of data down at offset 0.
    pub down: SeqNum,
    /// The ack numbers of a keepalive request: after the handshake, and after a reply. They may
    /// differ by [`ACK_TICKS`] strides.
    pub keepalive_acks: [SeqNum; 2],
    /// The ack number of data up. It may differ by [`ACK_TICKS`] strides.
    pub data_ack: SeqNum,
    /// The numbers that follow from the agent's token.
    pub of_token: Option<OfToken>,
}

/// The numbers that follow from the base of an agent's numbers, which its token holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OfToken {
    /// The base: the agent's number at tick 0.
    pub base: SeqNum,
    /// The sequence number of data up at offset 0. It may differ by [`SENT_TICKS`] strides.
    pub up: SeqNum,
    /// The ack number of data down.
    pub down_ack: SeqNum,
}

impl Numbers {
    /// The numbers between `vip` of `service` and `agent` at `tick`; `base_high` is that of its
    /// token.
    pub fn new(
        service: &TunnelService,
        vip: &TunnelVip,
        agent: SocketAddr,
        base_high: Option<u16>,
        tick: Tick,
    ) -> Numbers {
        let stride = service.constants.stride;
        let start = vip.predictor.start(agent);
        let syn_ack = predict::at(start, stride, tick);
        let down = syn_ack.plus(1);
        let reply_end = down.plus(keepalive_len(Family::of(vip.addr.ip())) as u32);
        let of_token = base_high.map(|base_high| {
            let base = forward::aligned(base_high);
            OfToken {
                base,
                up: predict::at(base, stride, tick).plus(1),
                down_ack: forward::ack_down(&service.constants, base_high, tick),
            }
        });
        let keepalive_acks = [down, reply_end];
        Numbers { tick, start, syn_ack, down, keepalive_acks, data_ack: down, of_token }
    }
}

/// Ticks that the segment which an agent acks may differ from now.
pub const ACK_TICKS: RangeInclusive<i32> = keepalive::ACK_TICKS;
/// Ticks that an agent's own numbers may differ.
pub const SENT_TICKS: RangeInclusive<i32> = forward::SENT_TICKS;

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::keys::{AgentKey, AgentKeys, KeyFile, Secret, Tenants};
    use crate::predict::Constants;
    use crate::time::UnixTime;
    use crate::tunnel::message::KEEPALIVE_LEN_MAX;
    use crate::tunnel::{DataHeader, KeepaliveRequest, TunnelSegment, handshake};
    use crate::verdict::DropReason;
    use crate::wire::tcp::{ACK, PSH, SYN};

    const NOW: UnixTime = UnixTime::from_millis(1_795_341_988_025);

    struct Test {
        service: TunnelService,
        key: AgentKey,
    }

    fn test(vip: &str) -> Test {
        let keys = KeyFile::from_random([[1; 32], [2; 32], [3; 32]]);
        let mut tenants = Tenants::default();
        let tenant = tenants.add("acme", Secret::new([4; 32])).unwrap();
        let key = tenants.issue("acme", "laptop").unwrap();
        let vip = TunnelVip::new(vip.parse().unwrap(), &keys).unwrap();
        let (vip4, vip6) = if vip.addr.is_ipv4() { (Some(vip), None) } else { (None, Some(vip)) };
        let service = TunnelService {
            constants: Constants::default(),
            tunnel_mtu: 1400,
            vip4,
            vip6,
            tenants: [tenant].into(),
            agents: Arc::new(AgentKeys::new(&tenants).unwrap()),
            open: None,
        };
        Test { service, key }
    }

    fn segment<'a>(
        ends: (SocketAddr, SocketAddr),
        flags: u8,
        (seq, ack): (SeqNum, SeqNum),
        payload: &'a [u8],
    ) -> TunnelSegment<'a> {
        let (src, dst) = ends;
        TunnelSegment {
            src,
            dst,
            seq,
            ack,
            flags,
            options: &[],
            payload,
            datagram_len: payload.len(),
        }
    }

    #[test]
    fn they_are_those_that_pops_work_with() {
        for (vip, agent, other) in [
            ("203.0.113.20:443", "198.18.0.7:40000", "198.18.0.9:1"),
            ("[2001:db8::20]:443", "[2001:db8:1::7]:40000", "[2001:db8:1::9]:1"),
        ] {
            check(&test(vip), agent.parse().unwrap(), other.parse().unwrap());
        }
    }

    fn check(test: &Test, agent: SocketAddr, other: SocketAddr) {
        let Test { service, key } = test;
        let vip = service.vip(Family::of(agent.ip())).unwrap();
        let stride = service.constants.stride;
        let tick = NOW.tick(service.constants.tick_ms);
        let numbers = Numbers::new(service, vip, agent, Some(0xfffe), tick);
        let theirs = Numbers::new(service, vip, other, Some(0x1234), tick);
        let ends = (agent, vip.addr);
        let off = |seq: SeqNum, ticks: i32| seq.plus(stride.wrapping_mul(ticks as u32));

        let syn = segment(ends, SYN, (SeqNum(7), SeqNum(0)), &[]);
        assert_eq!(handshake::syn_ack(service, NOW, &syn).unwrap().seq, numbers.syn_ack);

        let mut request = [0; KEEPALIVE_LEN_MAX];
        let (tenant, agent_id) = (key.tenant, key.agent);
        let len =
            KeepaliveRequest { tenant, agent: agent_id, nonce: 9, last_tick: tick, public: agent }
                .write(vip.addr, &key.key, &mut request);
        let up = numbers.of_token.unwrap().up;
        for ticks in -14..=5 {
            for ack in numbers.keepalive_acks {
                let request = segment(ends, ACK | PSH, (up, off(ack, ticks)), &request[..len]);
                let known = keepalive::check(service, NOW, &request);
                if !ACK_TICKS.contains(&ticks) {
                    assert_eq!(known.unwrap_err(), DropReason::KeepaliveAck, "{ticks}");
                    continue;
                }
                let reply = keepalive::reply(&known.unwrap(), 1, &request).unwrap();
                assert_eq!(reply.seq, numbers.down);
            }
        }

        // As high as bases go, to show that the numbers wrap.
        let seal = |agent, high| vip.tokens.seal(NOW, agent, high, tenant, 5).unwrap();
        let (own, to) = (seal(agent, 0xfffe), seal(other, 0x1234));
        let header = DataHeader {
            destination: to.token.family(),
            sender: own.token.family(),
            destination_odd: false,
            sender_odd: false,
            offset_steps: 3,
            channel: 0,
            session: 1,
        };
        let payload =
            [&header.write_up()[..], to.token.as_bytes(), own.token.as_bytes(), &[5; 9]].concat();
        let send = |sent: i32, acked: i32| {
            let numbers = (off(up, sent).plus(header.offset()), off(numbers.data_ack, acked));
            let segment = segment(ends, ACK | PSH, numbers, &payload);
            forward::accept(service, NOW, &segment, |_| true)
        };
        for sent in -5..=5 {
            for acked in -14..=5 {
                let down = send(sent, acked);
                if !SENT_TICKS.contains(&sent) || !ACK_TICKS.contains(&acked) {
                    assert_eq!(down, Err(DropReason::NotInSequence), "{sent} {acked}");
                    continue;
                }
                let down = down.unwrap();
                assert_eq!(down.seq, theirs.down.plus(header.offset()));
                assert_eq!(down.ack, theirs.of_token.unwrap().down_ack);
            }
        }
    }
}
