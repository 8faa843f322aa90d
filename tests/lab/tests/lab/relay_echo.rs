//! What `ping` and `traceroute` show of a VIP: the POP, which answers for it.

use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::process::Command;
use std::time::{Duration, Instant};

use crate::common::flaps::while_flipping;
use crate::common::{drops, milliseconds};
use anyrelay_lab::{Device, Direction, Lab, Namespace, Service, command, topology};
use rustix::net::{AddressFamily, SocketType, ipproto, sockopt};

/// Of each family: its VIP, and the client's router.
fn families() -> [(Service, IpAddr, IpAddr); 2] {
    let router = |text: &str| text.parse().unwrap();
    [
        (Service::default(), topology::VIP.into(), router("192.0.2.1")),
        (Service::transparent6(), topology::VIP6.into(), router("2001:db8:1::1")),
    ]
}

/// What `ping` says after so many requests, which it sends five times a second.
fn ping(client: &Namespace, count: u32, options: &[&str], vip: IpAddr) -> String {
    let mut ping = client.command("ping");
    ping.args(["-n", "-i0.2", "-W1", "-c", &count.to_string()]).args(options);
    said(ping.arg(vip.to_string()))
}

/// Also by a program that fails, as `ping` does when there is no reply.
fn said(command: &mut Command) -> String {
    match command::run(command) {
        Ok(said) => said,
        Err(error) => error.to_string(),
    }
}

fn all_answered(said: &str, vip: IpAddr, bytes: usize, count: usize) {
    let reply = format!("{} bytes from {vip}: ", bytes + 8);
    assert_eq!(said.matches(&reply).count(), count, "{said}");
    assert!(said.contains(" 0% packet loss"), "{said}");
    assert!(!said.contains("DUP!") && !said.contains("wrong data"), "{said}");
    println!("{}", said.lines().last().unwrap_or_default());
}

#[test]
fn ping_is_answered_while_routes_flip() {
    for (service, vip, _) in families() {
        let mut lab = Lab::builder().service(service).build().unwrap();
        let client = lab.topology.client.clone();
        while_flipping(&mut lab.routes, || {
            all_answered(&ping(&client, 20, &["-s", "1400"], vip), vip, 1400, 20);
        });
    }
}

/// The fragments of one request come to different POPs. (Over IPv4 not with af_packet: there the
/// kernel puts datagrams together.)
#[test]
fn long_pings_are_answered_fragment_by_fragment() {
    for ((service, vip, _), device) in families().into_iter().zip([Device::Pcap, Device::AfPacket])
    {
        let mut lab = Lab::builder().service(service).device(device).build().unwrap();
        lab.routes.spray(Direction::Up, &[0, 1, 2]).unwrap();
        for bytes in [2000, 8000] {
            let size = bytes.to_string();
            let said = ping(&lab.topology.client, 10, &["-s", &size], vip);
            all_answered(&said, vip, bytes, 10);
        }
        assert_eq!(drops(&lab, "fragment") + drops(&lab, "ipv4_malformed"), 0.0);
        let answered = |pop: &anyrelay_lab::Pop| {
            pop.metric("anyrelay_replies_total", &[("kind", "echo")]).unwrap()
        };
        let fragments: Vec<f64> = lab.pops.iter().map(answered).collect();
        println!("{vip}: fragments answered by each POP: {fragments:?}");
        assert_eq!(fragments.iter().sum::<f64>(), 80.0, "10 * 2 and 10 * 6");
        assert!(fragments.iter().all(|by_one| *by_one > 5.0), "{fragments:?}");
    }
}

/// An ICMP error as it came in.
#[derive(Debug, PartialEq, Eq)]
struct Hop {
    from: IpAddr,
    kind: u8,
    code: u8,
}

/// Sends UDP to a port where nobody listens, with one TTL after the other, until the answer is
/// other than "time exceeded": what `traceroute` does.
fn traceroute(client: &Namespace, vip: IpAddr) -> Vec<Hop> {
    let (family, protocol, any, exceeded) = match vip {
        IpAddr::V4(_) => (AddressFamily::INET, ipproto::ICMP, "0.0.0.0:0", 11),
        IpAddr::V6(_) => (AddressFamily::INET6, ipproto::ICMPV6, "[::]:0", 3),
    };
    let open = move || -> std::io::Result<[UdpSocket; 2]> {
        let icmp = rustix::net::socket(family, SocketType::RAW, Some(protocol))?;
        // The calls are the same.
        Ok([UdpSocket::bind(any)?, UdpSocket::from(icmp)])
    };
    let [udp, icmp] = client.run(open).unwrap().unwrap();
    let mut hops = Vec::new();
    for ttl in 1..=8 {
        match vip {
            IpAddr::V4(_) => udp.set_ttl(ttl).unwrap(),
            IpAddr::V6(_) => sockopt::set_ipv6_unicast_hops(&udp, Some(ttl as u8)).unwrap(),
        }
        let port = 33_434 + ttl as u16;
        udp.send_to(b"probe", SocketAddr::new(vip, port)).unwrap();
        let hop = error_about(&icmp, vip, port);
        let is_end = hop.kind != exceeded;
        hops.push(hop);
        if is_end {
            break;
        }
    }
    hops
}

/// Waits for the error that quotes a datagram to this port.
fn error_about(icmp: &UdpSocket, vip: IpAddr, port: u16) -> Hop {
    // Raw sockets get the IPv4 header too, without options; both quotes begin with an IP header.
    let (at, quoted) = if vip.is_ipv4() { (20, 20) } else { (0, 40) };
    let start = Instant::now();
    icmp.set_read_timeout(Some(milliseconds(100))).unwrap();
    let mut buffer = [0; 2048];
    loop {
        assert!(start.elapsed() < Duration::from_secs(3), "no answer to the probe to port {port}");
        let Ok((_, from)) = icmp.recv_from(&mut buffer) else { continue };
        let to = at + 8 + quoted + 2;
        if buffer[to..to + 2] == port.to_be_bytes() {
            return Hop { from: from.ip(), kind: buffer[at], code: buffer[at + 1] };
        }
    }
}

#[test]
fn traceroute_ends_at_the_pop() {
    for (service, vip, router) in families() {
        let mut lab = Lab::builder().service(service).build().unwrap();
        let client = lab.topology.client.clone();
        let (exceeded, unreachable) = if vip.is_ipv4() { (11, (3, 3)) } else { (3, (1, 4)) };
        let want = [
            Hop { from: router, kind: exceeded, code: 0 },
            Hop { from: vip, kind: unreachable.0, code: unreachable.1 },
        ];
        for pop in 0..3 {
            lab.routes.to(Direction::Up, pop).unwrap();
            assert_eq!(traceroute(&client, vip), want, "by UDP, at POP {pop}");
            // By echo requests.
            let first = ping(&client, 1, &["-t1"], vip);
            assert!(first.contains(&format!("From {router} icmp_seq=1 Time ")), "{first}");
            all_answered(&ping(&client, 1, &["-t2"], vip), vip, 56, 1);
        }
    }
}

#[test]
fn udp_is_refused() {
    for (service, vip, _) in families() {
        let mut lab = Lab::builder().service(service).build().unwrap();
        for pop in 0..3 {
            lab.routes.to(Direction::Up, pop).unwrap();
            // Also where a TCP service is.
            for port in [9, crate::common::VIP.port()] {
                let any = if vip.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
                let bind = move || UdpSocket::bind(any).unwrap();
                let socket = lab.topology.client.run(bind).unwrap();
                socket.connect((vip, port)).unwrap();
                socket.set_read_timeout(Some(Duration::from_secs(3))).unwrap();
                let start = Instant::now();
                socket.send(b"?").unwrap();
                let error = socket.recv(&mut [0; 9]).unwrap_err();
                assert_eq!(error.kind(), ErrorKind::ConnectionRefused, "{vip} port {port}");
                println!("{vip} port {port}: refused after {:?}", start.elapsed());
            }
        }
    }
}
