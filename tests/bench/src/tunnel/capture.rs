//! Captures of segments to a tunnel's VIP: datagrams of as many agents, and floods of SYNs.
//!
//! The numbers in them depend on the tick, so a capture is good for three ticks after it was made.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::Context;
use anyrelay_core::keys::{AgentKeys, KeyFile, Secret, Tenants};
use anyrelay_core::net::Family;
use anyrelay_core::predict::{self, Constants};
use anyrelay_core::seq::SeqNum;
use anyrelay_core::time::UnixTime;
use anyrelay_core::tunnel::{DataHeader, TunnelService, TunnelVip};
use anyrelay_core::wire::checksum;

use crate::packets::PACKETS;
use crate::relay;

/// Makes segments that the POP of the bench takes.
pub struct Maker {
    service: TunnelService,
    tenant: u16,
    now: UnixTime,
}

impl Maker {
    /// For segments that arrive from now on.
    ///
    /// # Errors
    /// When the bench's own keys do not hold.
    pub fn new() -> anyhow::Result<Self> {
        let keys = KeyFile::parse(&relay::keys())?;
        let tenants = tenants()?;
        let vip =
            |text: &str| -> anyhow::Result<_> { Ok(Some(TunnelVip::new(text.parse()?, &keys)?)) };
        let service = TunnelService {
            constants: Constants { tick_ms: TICK_MS, ..Constants::default() },
            tunnel_mtu: 1400,
            vip4: vip(VIP4)?,
            vip6: vip(VIP6)?,
            tenants: vec![TENANT].into(),
            agents: Arc::new(AgentKeys::new(&tenants)?),
        };
        let millis = SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis();
        let now = UnixTime::from_millis(u64::try_from(millis)?);
        Ok(Maker { service, tenant: TENANT, now })
    }

    /// A frame of agent `number` to another agent.
    ///
    /// # Errors
    /// When no token can be made.
    pub fn data(&self, family: Family, number: u32, body_len: usize) -> anyhow::Result<Vec<u8>> {
        let (from, to) = (agent(family, number), agent(family, number + PACKETS));
        let vip = self.service.vip(family).context("no VIP")?;
        let seal = |agent| vip.tokens.seal(self.now, agent, BASE_HIGH, self.tenant, 1);
        let own = seal(from).context("no token")?;
        let to = seal(to).context("no token")?;
        let header = DataHeader {
            destination: family,
            sender: family,
            destination_odd: false,
            sender_odd: false,
            offset_steps: 0,
            channel: 1,
            session: number.into(),
        };
        let (tick, stride) = (self.now.tick(TICK_MS), self.service.constants.stride);
        let base = u32::from(BASE_HIGH) << 16 | 0x8000;
        let seq = predict::at(SeqNum(base), stride, tick).plus(1);
        let ack = predict::at(vip.predictor.start(from), stride, tick).plus(1);
        let mut segment = tcp_header(from, vip.addr, seq.0, ack.0, PSH_ACK, 20);
        segment.extend(header.write_up());
        segment.extend(to.token.as_bytes());
        segment.extend(own.token.as_bytes());
        segment.extend((0..body_len).map(|byte| (byte % 251) as u8));
        Ok(frame(from.ip(), vip.addr.ip(), segment))
    }

    /// A SYN from an address.
    ///
    /// # Errors
    /// When there is no VIP of that family.
    pub fn syn(&self, from: SocketAddr) -> anyhow::Result<Vec<u8>> {
        let vip = self.service.vip(Family::of(from.ip())).context("no VIP")?;
        let mut segment = tcp_header(from, vip.addr, 1, 0, SYN, 28);
        segment.extend([2, 4, 0x05, 0x64, 1, 3, 3, 8]);
        Ok(frame(from.ip(), vip.addr.ip(), segment))
    }
}

/// The tenant of all agents, who is one agent with as many addresses.
///
/// # Errors
/// Never, for these names.
pub fn tenants() -> anyhow::Result<Tenants> {
    let mut tenants = Tenants::default();
    tenants.add("acme", Secret::new([0x44; 32]))?;
    tenants.issue("acme", "agent")?;
    Ok(tenants)
}

/// Writes frames as a capture.
///
/// # Errors
/// The system's.
pub fn write(
    path: &Path,
    frames: impl Iterator<Item = anyhow::Result<Vec<u8>>>,
) -> anyhow::Result<()> {
    let mut file = BufWriter::new(File::create(path)?);
    // Version 2.4 is two halves of a word.
    for word in [0xa1b2_c3d4_u32, 4 << 16 | 2, 0, 0, 65535, 1] {
        file.write_all(&word.to_le_bytes())?;
    }
    for frame in frames {
        let frame = frame?;
        let len = u32::try_from(frame.len())?;
        for word in [0, 0, len, len] {
            file.write_all(&word.to_le_bytes())?;
        }
        file.write_all(&frame)?;
    }
    Ok(file.flush()?)
}

/// Any unicast address outside of those of the bench's config, no two of the same number.
fn agent(family: Family, number: u32) -> SocketAddr {
    let ip: IpAddr = match family {
        Family::V4 => Ipv4Addr::from_bits(0xc612_0000 + number.wrapping_mul(7919) % 131_072).into(),
        Family::V6 => {
            Ipv6Addr::from_bits(0x2001_0db8_0099 << 80 | u128::from(number) << 64 | 1).into()
        }
    };
    SocketAddr::new(ip, 1024 + (number.wrapping_mul(40503) % 64512) as u16)
}

/// A TCP header of `len` bytes, options to come, without its checksum.
pub fn tcp_header(
    from: SocketAddr,
    to: SocketAddr,
    seq: u32,
    ack: u32,
    flags: u8,
    len: u8,
) -> Vec<u8> {
    let ports = [from.port().to_be_bytes(), to.port().to_be_bytes()].concat();
    let rest = [len << 2, flags, 0xff, 0xff, 0, 0, 0, 0];
    [&ports, &seq.to_be_bytes()[..], &ack.to_be_bytes(), &rest].concat()
}

/// The frame of a segment, all checksums right.
pub fn frame(from: IpAddr, to: IpAddr, mut segment: Vec<u8>) -> Vec<u8> {
    let len = segment.len() as u16;
    let (ether_type, mut ip, pseudo) = match (from, to) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            let (from, to) = (from.octets(), to.octets());
            let [high, low] = (len + 20).to_be_bytes();
            let start = [0x45, 0, high, low, 0, 7, 0x40, 0, 61, 6, 0, 0];
            (0x0800_u16, [&start[..], &from, &to].concat(), [from, to].concat())
        }
        (from, to) => {
            let octets = |ip| match ip {
                IpAddr::V6(ip) => Ipv6Addr::octets(&ip),
                IpAddr::V4(ip) => ip.to_ipv6_mapped().octets(),
            };
            let (from, to) = (octets(from), octets(to));
            let [high, low] = len.to_be_bytes();
            (
                0x86dd,
                [&[0x60, 0, 0, 0, high, low, 6, 61][..], &from, &to].concat(),
                [from, to].concat(),
            )
        }
    };
    if ether_type == 0x0800 {
        let sum = checksum::checksum(&ip);
        ip[10..12].copy_from_slice(&sum.to_be_bytes());
    }
    let sum = checksum::sum(checksum::sum(u32::from(len) + 6, &pseudo), &segment);
    segment[16..18].copy_from_slice(&(!checksum::fold(sum)).to_be_bytes());
    [&IN_MAC[..], &NEIGHBOUR_MAC, &ether_type.to_be_bytes(), &ip, &segment].concat()
}

/// The VIPs of the bench's tunnel.
pub const VIP4: &str = "203.0.113.20:443";
pub const VIP6: &str = "[2001:db8::20]:443";
/// Long, so that a capture is good for a whole run.
pub const TICK_MS: u32 = 60_000;
const TENANT: u16 = 1;
const BASE_HIGH: u16 = 7;
const PSH_ACK: u8 = 0x18;
/// The flag.
pub const SYN: u8 = 0x02;
const IN_MAC: [u8; 6] = [2, 0, 0, 0, 1, 1];
const NEIGHBOUR_MAC: [u8; 6] = [2, 0, 0, 0, 0x0a, 1];
