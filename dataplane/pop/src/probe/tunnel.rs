//! Whether a target takes a client's datagram out of a tunnel, and which way its answer goes
//! (docs/protocol.md, section 21).
//!
//! The client inside is this host, so an answer that does not come back in the tunnel comes here by
//! itself, if the network lets the target send as the VIP.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Mutex, PoisonError};

use anyrelay_core::config::Encapsulate;
use anyrelay_core::net::Family;
use anyrelay_core::relay::mapping::Tag;
use anyrelay_core::seq::SeqNum;
use anyrelay_core::wire::{gue, ip, ipv4, tcp};
use anyrelay_netlink::is_own;

use super::connection::random;
use super::findings::{Tunnel, TunnelAnswer};
use super::route::Route;
use super::segment::{Flow, Incoming, Outgoing, Quoted, open};
use super::sockets::{HeldPort, Inbox, Kind, Sender};
use super::{Patience, words};

/// Tries a tunnel of `protocol` to `target`, with the outer source `from`, for `vip`.
pub(super) fn try_one(
    protocol: Encapsulate,
    (from, target): (IpAddr, IpAddr),
    vip: SocketAddr,
    patience: Patience,
) -> Tunnel {
    let mut tunnel = Tunnel { protocol, vip, from, deaf: None, answer: TunnelAnswer::Silent };
    tunnel.answer = ask(&mut tunnel, target, patience)
        .unwrap_or_else(|error| TunnelAnswer::Untried { reason: error.to_string() });
    tunnel
}

fn ask(tunnel: &mut Tunnel, target: IpAddr, patience: Patience) -> io::Result<TunnelAnswer> {
    // All datagrams of GUE come to one port, which one socket has.
    let gue = (tunnel.protocol == Encapsulate::Gue).then_some(&GUE_TURN);
    let _turn = gue.map(|turn| turn.lock().unwrap_or_else(PoisonError::into_inner));
    let Route { own, .. } = Route::to(tunnel.vip.ip())?;
    if own == tunnel.vip.ip() {
        return Err(io::Error::other("the VIP is an address of this host"));
    }
    let port = HeldPort::hold(own)?;
    let flow = Flow { own: port.address(), peer: tunnel.vip };
    let sender = Sender::open(Family::of(target))?;
    let mut inbox = Inbox::default();
    inbox.segments(own, tunnel.vip.ip())?;
    tunnel.deaf = listen(&mut inbox, tunnel, target)?.err();
    let [tag, first] = random()?;
    let mut syn = Outgoing {
        seq: SeqNum(first),
        ack: SeqNum(0),
        flags: tcp::SYN,
        stamps: Some([Tag(tag >> 1).timestamp(), 0]),
        data_len: 0,
    };
    let source_port = DYNAMIC_PORTS | tag as u16;
    let wrap = |segment: &Outgoing| {
        let ends = (tunnel.from, target);
        encapsulate(tunnel.protocol, source_port, ends, &segment.datagram(&flow))
    };
    for _ in 0..patience.tries {
        sender.send(&wrap(&syn), target)?;
        let found = inbox.wait(patience.timeout, |kind, bytes| {
            let segment = match kind {
                Kind::Icmp => return unreachable(tunnel, target, bytes).map(Err),
                Kind::Segment => bytes,
                Kind::Inner => {
                    let (src, dst, segment) = open(flow.family(), bytes)?;
                    let is_ours = (src, dst) == (flow.peer.ip(), flow.own.ip());
                    is_ours.then_some(segment)?
                }
            };
            let answer = Incoming::read(&flow, segment)?;
            (answer.ack == syn.seq.plus(1)).then_some(Ok((answer, kind == Kind::Inner)))
        })?;
        let (answer, through) = match found {
            None => continue,
            Some(Err(reason)) => return Ok(TunnelAnswer::Unreachable { reason }),
            Some(Ok(found)) => found,
        };
        if answer.has(tcp::RST) {
            return Ok(TunnelAnswer::Refused { through });
        }
        if !answer.has(tcp::SYN | tcp::ACK) {
            continue;
        }
        // Nothing of the connection stays at the target.
        (syn.seq, syn.flags) = (syn.seq.plus(1), tcp::RST);
        sender.send(&wrap(&syn), target)?;
        let options = answer.options;
        return Ok(match through {
            true => TunnelAnswer::Through { options },
            false => TunnelAnswer::Direct { options },
        });
    }
    Ok(TunnelAnswer::Silent)
}

/// Receives what comes in the tunnel, and ICMP errors about it; why not, in words, if the address
/// is another host's or its port is taken.
fn listen(inbox: &mut Inbox, tunnel: &Tunnel, target: IpAddr) -> io::Result<Result<(), String>> {
    let from = tunnel.from;
    if !is_own(from) {
        let reason = "is not an address of this host: answers in the tunnel go there; run it at \
                      the host that has the address";
        return Ok(Err(format!("{from} {reason}")));
    }
    inbox.icmp(from)?;
    Ok(match tunnel.protocol {
        Encapsulate::IpIp => {
            inbox.ip_in_ip(ip::protocol_inside(Family::of(tunnel.vip.ip())), from, target)?;
            Ok(())
        }
        Encapsulate::Gue => {
            let advice = "end what receives there, or run it at another host";
            let port = gue::PORT;
            inbox
                .gue(from)
                .map_err(|error| format!("UDP port {port} of this host: {error}; {advice}"))
        }
    })
}

/// Why the tunnel ends before the target, if the ICMP message in `bytes` is about it.
fn unreachable(tunnel: &Tunnel, target: IpAddr, bytes: &[u8]) -> Option<String> {
    let quoted = Quoted::read(Family::of(target), bytes)?;
    let protocol = match tunnel.protocol {
        Encapsulate::IpIp => ip::protocol_inside(Family::of(tunnel.vip.ip())),
        Encapsulate::Gue => ipv4::PROTOCOL_UDP,
    };
    let is_ours = (quoted.src, quoted.dst, quoted.protocol) == (tunnel.from, target, protocol)
        && (tunnel.protocol == Encapsulate::IpIp
            || quoted.ports.is_some_and(|[_, port]| port == gue::PORT))
        && quoted.mtu().is_none();
    is_ours.then(|| words(&quoted))
}

/// The datagram `inner` in a tunnel.
fn encapsulate(
    protocol: Encapsulate,
    source_port: u16,
    (src, dst): (IpAddr, IpAddr),
    inner: &[u8],
) -> Vec<u8> {
    let carried = ip::protocol_inside(ip::family(inner));
    let (at, number) = (
        Family::of(dst).ip_header_len(),
        match protocol {
            Encapsulate::IpIp => carried,
            Encapsulate::Gue => ipv4::PROTOCOL_UDP,
        },
    );
    let mut bytes = vec![0; at + protocol.header_len()];
    bytes.extend(inner);
    let payload_len = (bytes.len() - at) as u16;
    let outer = ip::Header {
        class: 0,
        hops: ipv4::ORIGINATED_TTL,
        protocol: number,
        payload_len,
        src,
        dst,
    };
    outer.write(&mut bytes);
    if protocol == Encapsulate::Gue {
        gue::write(source_port, carried, (src, dst), bytes.get_mut(at..).unwrap_or_default());
    }
    bytes
}

const DYNAMIC_PORTS: u16 = 0xc000;
/// Held by the one thread that tries GUE.
static GUE_TURN: Mutex<()> = Mutex::new(());

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_datagram_inside_is_whole() {
        let inner = [&[0x45, 0, 0, 24][..], &[7; 20]].concat();
        for (src, dst) in [("192.0.2.1", "198.51.100.10"), ("2001:db8::1", "2001:db8::2")] {
            let ends: (IpAddr, IpAddr) = (src.parse().unwrap(), dst.parse().unwrap());
            let bytes = encapsulate(Encapsulate::IpIp, 1, ends, &inner);
            let (from, to, payload) = open(Family::of(ends.1), &bytes).unwrap();
            assert_eq!(((from, to), payload), (ends, &inner[..]));
            let bytes = encapsulate(Encapsulate::Gue, 1, ends, &inner);
            let (_, _, udp) = open(Family::of(ends.1), &bytes).unwrap();
            assert_eq!(gue::parse(udp), Some(ipv4::PROTOCOL_IPV4));
            assert_eq!(udp[gue::HEADERS_LEN..], inner);
        }
    }
}
