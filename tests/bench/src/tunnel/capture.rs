//! Captures of segments to a tunnel's VIP: datagrams of as many agents, and floods of SYNs.
//!
//! The numbers in them depend on the tick, so a capture is good for three ticks after it was made.

use std::fs::File;
use std::io::BufWriter;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::Context;
use anyrelay_core::keys::{KeyFile, Secret, Tenants};
use anyrelay_core::net::Family;
use anyrelay_core::predict::Constants;
use anyrelay_core::time::UnixTime;
use anyrelay_core::tunnel::TunnelService;
use anyrelay_kit::frames::{Ipv6Header, Mac, SYN, Segment, framed};
use anyrelay_kit::pcap;
use anyrelay_kit::tunnel::{self, ForgedAgent};

use super::{Case, Kind};
use crate::config;
use crate::packets::PACKETS;

/// Makes segments that the POP of the bench takes.
pub struct Maker {
    service: TunnelService,
    now: UnixTime,
}

impl Maker {
    /// For segments that arrive from now on.
    ///
    /// # Errors
    /// When the bench's own keys do not hold.
    pub fn new() -> anyhow::Result<Self> {
        let millis = SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis();
        Maker::at(UnixTime::from_millis(u64::try_from(millis)?))
    }

    /// For segments that arrive at `now`.
    ///
    /// # Errors
    /// When the bench's own keys do not hold.
    pub fn at(now: UnixTime) -> anyhow::Result<Self> {
        let constants = Constants { tick_ms: TICK_MS, ..Constants::default() };
        let service =
            tunnel::open_service(&KeyFile::parse(&config::keys())?, &tenants()?, constants);
        Ok(Maker { service, now })
    }

    /// The frame of `case` from or to agent `number`.
    ///
    /// # Errors
    /// When the agent has no open address.
    pub fn datagram(&self, case: &Case, number: u32) -> anyhow::Result<Vec<u8>> {
        let Kind::Data(family) = case.kind else {
            let agent = self.agent(Family::V4, number);
            let own = agent.open.context("no open address")?.to_bits();
            let packet = |src, dst| {
                let header = Ipv6Header { next: 17, hop_limit: 61, ..Ipv6Header::new(src, dst) };
                header.with(&body(case.body_bytes))
            };
            let host = HOSTS + u128::from(number);
            return Ok(match case.kind {
                Kind::OpenDown => framed_in(&packet(host, own)),
                _ => frame(agent.open_packet(0, &packet(own, host))),
            });
        };
        Ok(self.data(family, number, case.body_bytes))
    }

    /// A frame of agent `number` to another agent.
    pub fn data(&self, family: Family, number: u32, body_len: usize) -> Vec<u8> {
        let (from, to) = (self.agent(family, number), self.agent(family, number + PACKETS));
        frame(from.data(&to, 0, number.into(), &body(body_len)))
    }

    fn agent(&self, family: Family, number: u32) -> ForgedAgent {
        ForgedAgent::new(&self.service, self.now, address(family, number), BASE_HIGH)
    }

    /// A SYN from an address.
    ///
    /// # Errors
    /// When there is no VIP of that family.
    pub fn syn(&self, from: SocketAddr) -> anyhow::Result<Vec<u8>> {
        let vip = self.service.vip(Family::of(from.ip())).context("no VIP")?;
        let options = vec![2, 4, 0x05, 0x64, 1, 3, 3, 8];
        Ok(frame(Segment { options, ..Segment::new(from, vip.addr, SYN) }))
    }
}

/// The tenant of all agents, which are one agent with as many addresses.
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
pub fn write(path: &Path, frames: impl Iterator<Item = Vec<u8>>) -> anyhow::Result<()> {
    Ok(pcap::write(BufWriter::new(File::create(path)?), frames.map(|frame| (0, frame)))?)
}

fn body(len: usize) -> Vec<u8> {
    (0..len).map(|byte| (byte % 251) as u8).collect()
}

/// Any unicast address outside of those of the bench's config, no two of the same number.
fn address(family: Family, number: u32) -> SocketAddr {
    let ip: IpAddr = match family {
        Family::V4 => Ipv4Addr::from_bits(0xc612_0000 + number.wrapping_mul(7919) % 131_072).into(),
        Family::V6 => {
            Ipv6Addr::from_bits(0x2001_0db8_0099 << 80 | u128::from(number) << 64 | 1).into()
        }
    };
    SocketAddr::new(ip, 1024 + (number.wrapping_mul(40503) % 64512) as u16)
}

/// The frame of a segment that comes in.
pub fn frame(segment: Segment) -> Vec<u8> {
    framed_in(&Segment { ttl: 61, ..segment }.from_host())
}

/// The frame of a datagram that comes in.
pub fn framed_in(datagram: &[u8]) -> Vec<u8> {
    framed(IN_MAC, NEIGHBOUR_MAC, None, datagram)
}

/// Long, so that a capture is good for a whole run.
pub const TICK_MS: u32 = 60_000;
const BASE_HIGH: u16 = 7;
/// Hosts outside of the tunnel, from this address on.
const HOSTS: u128 = 0x2600_0001 << 96;
const IN_MAC: Mac = [2, 0, 0, 0, 1, 1];
const NEIGHBOUR_MAC: Mac = [2, 0, 0, 0, 0x0a, 1];
