//! The ends of tunnels to targets, which are not part of the hosts: a target's segment comes to a
//! POP inside another datagram, and what a POP sends to a target is checked and taken out
//! (`docs/protocol.md`, section 21). To all else in a run such a service is a transparent one.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use anyrelay_kit::carried::{self, Carried};
use anyrelay_kit::frames::{ICMPV6, TCP, datagram, icmp6, put_word, repair, upper, word};

use crate::services::{Mode, Service};
use crate::wire::{self, Datagram, ETHERNET_LEN};

/// The services whose targets are reached by a tunnel.
#[derive(Clone, Debug)]
pub struct Tunnels(Vec<Tunnel>);

#[derive(Clone, Debug)]
struct Tunnel {
    vip: IpAddr,
    targets: Vec<IpAddr>,
    from: IpAddr,
    is_gue: bool,
}

impl Tunnels {
    pub fn of(services: &[Service]) -> Self {
        let tunnel = |service: &Service| {
            let Mode::Tunnel(from, is_gue) = service.mode else { return None };
            let targets = service.targets.iter().map(|target| target.ip()).collect();
            Some(Tunnel { vip: service.vip.ip(), targets, from, is_gue })
        };
        Tunnels(services.iter().filter_map(tunnel).collect())
    }

    /// A frame of the targets' side, as it comes to a POP. Where damage hides what it is, it comes
    /// as it is.
    pub fn enter(&self, frame: &[u8]) -> Option<Vec<u8>> {
        let ip = Datagram::read(frame.get(ETHERNET_LEN..)?)?;
        let inside = match ip.protocol {
            TCP => self.segment(&ip)?,
            _ => self.error(&ip)?,
        };
        Some([&frame[..ETHERNET_LEN], &inside].concat())
    }

    /// A target's segment in a tunnel.
    fn segment(&self, ip: &Datagram<'_>) -> Option<Vec<u8>> {
        let tunnel = self.0.iter().find(|tunnel| tunnel.targets.contains(&ip.src))?;
        let mut inside = ip.bytes.to_vec();
        rename(&mut inside, End::Source, tunnel.vip);
        if tunnel.targets.contains(&ip.dst) {
            rename(&mut inside, End::Destination, tunnel.vip);
        }
        Some(tunnel.around(ip.src, tunnel.from, &inside))
    }

    /// A router's error about a segment to a target: it saw the outer datagram, and its MTU has
    /// room for that. One that may not go on comes as it is.
    fn error(&self, ip: &Datagram<'_>) -> Option<Vec<u8>> {
        let message = ip.payload();
        if !wire::icmp_holds(ip) || message.len() < 8 || ip.ttl < 2 {
            return None;
        }
        let (head, quote) = message.split_at(8);
        let to = end_of(quote, End::Destination)?;
        let tunnel = self.0.iter().find(|tunnel| tunnel.targets.contains(&to))?;
        let mut inside = quote.to_vec();
        rename(&mut inside, End::Destination, tunnel.vip);
        let mut outer = tunnel.around(tunnel.from, to, &inside);
        // The quote is cut off, and the length is that of all.
        let len_at = if to.is_ipv4() { 2 } else { 4 };
        let whole = word(&inside, len_at) + tunnel.overhead();
        put_word(&mut outer, len_at, whole);
        if to.is_ipv4() {
            repair(&mut outer[..20]);
        }
        let rest: [u8; 4] = head[4..8].try_into().ok()?;
        let announced = word(&rest, 2);
        let mtu = if announced > 0 { announced + tunnel.overhead() } else { 0 };
        let [high, low] = mtu.to_be_bytes();
        let message = icmp6(head[0], head[1], [rest[0], rest[1], high, low], &outer);
        Some(datagram(ip.src, tunnel.from, ip.ttl, ip.protocol, &message))
    }

    /// What a POP sent to its targets' side, without the outer headers that it may have.
    ///
    /// # Errors
    /// If these headers are not what they must be.
    pub fn leave(&self, frame: &[u8]) -> Result<Option<Vec<u8>>, String> {
        let Some(ip) = frame.get(ETHERNET_LEN..).and_then(Datagram::read) else {
            return Ok(None);
        };
        let Some(Carried { is_gue, src, dst, inside }) = carried::sent(ip.bytes, |_| true)? else {
            return Ok(None);
        };
        let inner = Datagram::read(inside).ok_or("a malformed datagram in a tunnel")?;
        let is_this = |tunnel: &Tunnel| {
            (tunnel.from, tunnel.is_gue, tunnel.vip) == (src, is_gue, inner.dst)
                && tunnel.targets.contains(&dst)
        };
        if !self.0.iter().any(is_this) {
            return Err("a tunnel of no service".into());
        }
        let mut taken = inside.to_vec();
        let (vip, target) = (inner.dst, dst);
        let quote_at = inner.payload_at + 8;
        if inner.protocol != TCP && wire::icmp_holds(&inner) {
            if end_of(inside.get(quote_at..).unwrap_or_default(), End::Source) == Some(vip) {
                rename(&mut taken[quote_at..], End::Source, target);
            }
            rename(&mut taken, End::Destination, target);
            repair(&mut taken);
        } else {
            rename(&mut taken, End::Destination, target);
        }
        Ok(Some([&frame[..ETHERNET_LEN], &taken].concat()))
    }
}

impl Tunnel {
    fn overhead(&self) -> u16 {
        carried::overhead(self.from, self.is_gue)
    }

    /// The outer datagram, with the class of the one inside.
    fn around(&self, src: IpAddr, dst: IpAddr, inside: &[u8]) -> Vec<u8> {
        carried::around(src, dst, self.is_gue, inside)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Source,
    Destination,
}

/// Where the address of an end of a datagram is, and how long it is.
fn place(datagram: &[u8], end: End) -> Option<(usize, usize)> {
    let (at, len, header_len) = match (datagram.first()? >> 4, end) {
        (4, End::Source) => (12, 4, 20),
        (4, End::Destination) => (16, 4, 20),
        (6, End::Source) => (8, 16, 40),
        (6, End::Destination) => (24, 16, 40),
        _ => return None,
    };
    (datagram.len() >= header_len).then_some((at, len))
}

/// An end of a datagram of which no more than the header need be there.
fn end_of(datagram: &[u8], end: End) -> Option<IpAddr> {
    let (at, len) = place(datagram, end)?;
    let bytes = &datagram[at..at + len];
    let v4 = || <[u8; 4]>::try_from(bytes).ok().map(|octets| Ipv4Addr::from(octets).into());
    let v6 = || <[u8; 16]>::try_from(bytes).ok().map(|octets| Ipv6Addr::from(octets).into());
    v4().or_else(v6)
}

/// Gives an end of a datagram another address, of the same family, and has its checksums, as far as
/// they are there, hold or not as before (RFC 1624).
fn rename(datagram: &mut [u8], end: End, to: IpAddr) {
    let Some((at, len)) = place(datagram, end) else { return };
    let is_v4 = datagram[0] >> 4 == 4;
    let new = match to {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    };
    let old = datagram[at..at + len].to_vec();
    datagram[at..at + len].copy_from_slice(&new);
    let sum_of = |upper_at: usize, protocol: u8| match protocol {
        TCP => Some(upper_at + 16),
        ICMPV6 if !is_v4 => Some(upper_at + 2),
        _ => None,
    };
    let carried = upper(datagram).and_then(|(protocol, at)| sum_of(at, protocol));
    for sum_at in carried.into_iter().chain(is_v4.then_some(10)) {
        let Some(&[high, low]) = datagram.get(sum_at..sum_at + 2) else { continue };
        let mut sum = u32::from(!u16::from_be_bytes([high, low]));
        for (old, new) in old.chunks(2).zip(new.chunks(2)) {
            sum += u32::from(!word(old, 0)) + u32::from(word(new, 0));
        }
        while sum > 0xffff {
            sum = (sum & 0xffff) + (sum >> 16);
        }
        put_word(datagram, sum_at, !(sum as u16));
    }
}
