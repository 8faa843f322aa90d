//! Effects of genuine and forged ICMP errors on the path MTU: with a real kernel, in the test's own
//! network namespace. Needs root.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::net::SocketAddr;
use std::process::Command;
use std::time::Duration;

use anyrelay_agent::outer::{FlowEndpoints, Sender, Steering};
use anyrelay_core::seq::SeqNum;
use anyrelay_core::time::Instant;
use anyrelay_core::wire::checksum;
use socket2::{Domain, Protocol, Socket, Type};

const PORT: u16 = 61_000;
/// The sequence number of the flow.
const OWN: SeqNum = SeqNum(0x0102_0304);

/// Sends an ICMP error from the VIP to the agent that quotes 28 bytes from `port` with `seq`.
fn send_too_big(endpoints: &FlowEndpoints, mtu: u16, port: u16, seq: SeqNum) {
    let ports = [port.to_be_bytes(), 443u16.to_be_bytes()].concat();
    let segment = [&ports[..], &seq.0.to_be_bytes()].concat();
    match (endpoints.local, endpoints.vip) {
        (SocketAddr::V4(local), SocketAddr::V4(vip)) => {
            let mut icmp = vec![3, 4, 0, 0, 0, 0];
            icmp.extend(mtu.to_be_bytes());
            icmp.extend([0x45, 0, 0x05, 0x78, 0, 1, 0x40, 0, 60, 6, 0, 0]);
            icmp.extend(local.ip().octets());
            icmp.extend(vip.ip().octets());
            icmp.extend(segment);
            let sum = checksum::checksum(&icmp);
            icmp[2..4].copy_from_slice(&sum.to_be_bytes());
            let socket = Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::ICMPV4)).unwrap();
            socket.bind(&SocketAddr::from((*vip.ip(), 0)).into()).unwrap();
            socket.send_to(&icmp, &SocketAddr::from((*local.ip(), 0)).into()).unwrap();
        }
        (SocketAddr::V6(local), SocketAddr::V6(vip)) => {
            // The kernel fills in the checksum of ICMPv6.
            let mut icmp = vec![2, 0, 0, 0, 0, 0];
            icmp.extend(mtu.to_be_bytes());
            icmp.extend([0x60, 0, 0, 0, 0x05, 0x50, 6, 60]);
            icmp.extend(local.ip().octets());
            icmp.extend(vip.ip().octets());
            icmp.extend(segment);
            let socket = Socket::new(Domain::IPV6, Type::RAW, Some(Protocol::ICMPV6)).unwrap();
            socket.bind(&SocketAddr::from((*vip.ip(), 0)).into()).unwrap();
            socket.send_to(&icmp, &SocketAddr::from((*local.ip(), 0)).into()).unwrap();
        }
        _ => unreachable!("two families"),
    }
}

fn ip(arguments: &str) {
    assert!(Command::new("ip").args(arguments.split(' ')).status().unwrap().success());
}

#[test]
fn only_quotes_with_the_flows_numbers_lower_the_path_mtu() {
    std::thread::spawn(|| {
        // The namespace of this thread and of its child processes.
        nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).unwrap();
        ip("link set lo mtu 1500 up");
        for address in ["192.0.2.7/32", "203.0.113.20/32"] {
            ip(&format!("address add {address} dev lo"));
        }
        for address in ["2001:db8:1::7/128", "2001:db8::20/128"] {
            ip(&format!("-6 address add {address} dev lo nodad"));
        }
        for (local, vip, header_len, least) in [
            ("192.0.2.7", "203.0.113.20:443", 20, 576),
            ("2001:db8:1::7", "[2001:db8::20]:443", 40, 1280),
        ] {
            let local = SocketAddr::new(local.parse().unwrap(), PORT);
            let endpoints = FlowEndpoints { local, vip: vip.parse().unwrap() };
            let mut sender = Sender::open(&endpoints, &Steering::default()).unwrap();
            let (now, bears) = (Instant::from_millis(1000), |seq| seq == OWN);
            let first = sender.segment_max();
            let mut told = |mtu, port, seq, at| {
                let errors = |sender: &Sender| {
                    let counts = sender.counts();
                    (counts.icmp_taken, counts.icmp_refused)
                };
                let before = errors(&sender);
                // The kernel may delay the error, and may lose one that was sent soon after the
                // addresses were added.
                for _ in 0..10 {
                    send_too_big(&endpoints, mtu, port, seq);
                    let end = std::time::Instant::now() + Duration::from_secs(3);
                    while errors(&sender) == before && std::time::Instant::now() < end {
                        sender.handle_errors(at, bears);
                    }
                    if errors(&sender) != before {
                        break;
                    }
                }
                let (taken, refused) = errors(&sender);
                (sender.segment_max(), taken, refused)
            };
            // The port of another program, and a guessed sequence number.
            assert_eq!(told(1300, PORT + 1, OWN, now), (first, 0, 1), "{vip}");
            assert_eq!(told(1300, PORT, SeqNum(0x0202_0304), now), (first, 0, 2), "{vip}");
            assert_eq!(told(1300, PORT, OWN, now), (1300 - header_len, 1, 2), "{vip}");
            // It does not fall below the minimum of all paths.
            assert_eq!(told(68, PORT, OWN, now), (least - header_len, 2, 2), "{vip}");
            let later = now.plus_millis(600_000);
            assert_eq!(told(68, PORT, SeqNum(1), later), (first, 2, 3), "{vip}: it is forgotten");
            // The kernel itself has used none of it: it sends up to the interface's MTU.
            let segment = &mut vec![0; first.min(1500 - header_len)][..];
            let outgoing = anyrelay_core::tunnel::agent::OutgoingSegment { port: PORT, segment };
            sender.push(&outgoing);
            sender.flush();
            assert_eq!((sender.counts().sent, sender.counts().too_big), (1, 0), "{vip}");
        }
    })
    .join()
    .unwrap();
}
