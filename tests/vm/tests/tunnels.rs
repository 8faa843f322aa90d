//! Targets at the end of a tunnel with the kernel's own devices (ipip, sit, ip6tnl, GUE), in a
//! guest, since not every kernel has them. The POPs and the client are those of a lab.
//!
//! The guest is configured by the lines of docs/operations.md, "Targets in a tunnel", all of which
//! are run.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyrelay_kit::hex::hex;
use anyrelay_lab::body::{Body, CHUNK, hash_of};
use anyrelay_lab::config::TARGET_PORT;
use anyrelay_lab::{Direction, Egress, Encapsulation, Lab, Service};
use anyrelay_vm::{Guest, Target};

const GUIDE: &str = include_str!("../../../docs/operations.md");
/// What GUE adds to the line of a device.
const GUE: &str = "encap gue encap-sport auto encap-dport 6080";
const POPS: usize = 3;
/// Of a download and of an upload.
const BYTES: usize = 1_000_000;
/// Routes move after each of these.
const PIECE: usize = 50_000;
/// How long a connect, a read or a write may take.
const LIMIT: Duration = Duration::from_secs(20);

#[test]
fn kernels_take_datagrams_out_of_tunnels_as_the_guide_configures_them() {
    let services = services();
    let lab = services.iter().cloned().fold(Lab::builder(), |lab, one| lab.service(one));
    let mut lab = lab.pops(POPS).direct().build().unwrap();
    let mut target = target(&lab);
    let hash = serve(&mut target.guest, &services);
    let mut guide = Guide::read();
    for service in &services {
        let (up, down) = guide.configuration(service);
        eprintln!("# {service:?}\n{up}");
        run(&mut target.guest, &up);
        let vip = service.vip;
        assert_eq!(download(&mut lab, vip), hash, "{service:?}");
        let (sent, arrived) = upload(&mut lab, vip);
        assert_eq!(arrived, sent, "{service:?}");
        check_counters(&lab, service);
        run(&mut target.guest, &down);
    }
    guide.check_all_run();
}

/// Each protocol, between all families of clients and targets, with both ways back.
fn services() -> Vec<Service> {
    let mut services = Vec::new();
    for encapsulation in [Encapsulation::Ipip, Encapsulation::Gue] {
        for families in [[false, false], [true, false], [false, true], [true, true]] {
            let through = Service::tunnel(encapsulation, families);
            services.extend([through.clone(), through.direct()]);
        }
    }
    for (service, n) in services.iter_mut().zip(0..) {
        service.name = format!("service{n}");
        service.vip.set_port(TARGET_PORT + n);
        service.targets[0].set_port(TARGET_PORT + n);
    }
    services
}

/// A guest in the place of the lab's target: strict about reverse paths, and without timestamps.
fn target(lab: &Lab) -> Target {
    let router = &lab.topology.target_router;
    let mut target = Target::start(router).unwrap();
    router
        .ip(&[
            "addr del 198.51.100.1/24 dev target",
            "addr del 2001:db8:2::1/64 dev target",
            "addr add 198.51.100.1/24 dev lan",
            "addr add 2001:db8:2::1/64 dev lan nodad",
            "link set lan up",
        ])
        .unwrap();
    let script = "sysctl -w net.ipv4.conf.all.rp_filter=1 net.ipv4.conf.default.rp_filter=1
        sysctl -w net.ipv4.tcp_timestamps=0
        ip link set eth1 up
        ip address add 198.51.100.10/24 dev eth1
        ip address add 2001:db8:2::10/64 dev eth1 nodad
        ip route add default via 198.51.100.1
        ip -6 route add default via 2001:db8:2::1";
    run(&mut target.guest, script);
    target
}

/// Runs lines to the first that fails. The shell of busybox takes its own `ip` for any without a
/// path.
fn run(guest: &mut Guest, lines: &str) {
    guest.run(&format!("set -ex; ip() {{ /usr/bin/ip \"$@\"; }}\n{lines}")).unwrap();
}

/// Starts a server for each service: `/body` is what is to be downloaded, whose hash this gives;
/// `/cgi-bin/hash` answers with that of what is uploaded.
fn serve(guest: &mut Guest, services: &[Service]) -> String {
    let script =
        "#!/bin/sh\nprintf '\\r\\n\\r\\n'\nhead -c $CONTENT_LENGTH | sha256sum | cut -c -64";
    guest.write("/www/cgi-bin/hash", script).unwrap();
    guest.run(&format!("head -c {BYTES} /dev/urandom >/www/body; chmod -R 755 /www")).unwrap();
    for service in services {
        guest.run(&format!("httpd -h /www -p {}", service.vip.port())).unwrap();
    }
    guest.run("sha256sum /www/body | cut -c -64").unwrap().trim().to_owned()
}

/// The lines of the guide, and which of them have run.
struct Guide {
    lines: BTreeSet<&'static str>,
    run: BTreeSet<&'static str>,
}

impl Guide {
    fn read() -> Self {
        let (_, section) = GUIDE.split_once("\n## Targets in a tunnel\n").unwrap();
        let (section, _) = section.split_once("\n## ").unwrap();
        assert!(section.contains(&format!("`{GUE}`")), "another line of GUE devices");
        let lines = section.lines().filter_map(|line| line.strip_prefix("    "));
        Self { lines: lines.collect(), run: BTreeSet::new() }
    }

    /// What configures a target for a service, and what undoes that.
    fn configuration(&mut self, service: &Service) -> (String, String) {
        let (vip, over) = (service.vip.is_ipv6(), service.targets[0].is_ipv6());
        let is_gue = matches!(service.egress, Egress::Tunnel(Encapsulation::Gue, _));
        let (family, over_family) = (flag(vip), flag(over));
        let (mut up, mut down) = (Vec::new(), vec!["ip link del pops".to_owned()]);
        if is_gue {
            // All modules are loaded when the guest starts.
            let modules = self.line("modprobe -a ").trim_start_matches("modprobe -a ");
            up.extend(modules.split(' ').map(|name| format!("grep -q '^{name} ' /proc/modules")));
            up.push(self.line(&format!("ip{over_family} fou add port 6080 gue")).to_owned());
            down.push(format!("ip{over_family} fou del port 6080"));
        }
        let kind = match (vip, over) {
            (false, false) => "ipip",
            (true, false) => "sit",
            (_, true) => "ip6tnl",
        };
        let device = self.line(&format!("ip link add pops type {kind} "));
        let device = device.split('#').next().unwrap().trim_end();
        let (device, named) = device.rsplit_once(' ').unwrap();
        // Protocols and ways back that are used beside each other have addresses of their own.
        let from = service.tunnel_from().unwrap();
        assert!(["100.64.8.1", "2001:db8:64::1"].contains(&named), "another address");
        up.push(format!("{device} {from} {}", if is_gue { GUE } else { "" }));
        up.push(self.line("ip link set pops up").to_owned());
        let address = format!("ip address add {}/", service.vip.ip());
        let address = self.line(&address);
        up.push(address.to_owned());
        down.push(address.replace(" add ", " del "));
        if service.is_direct() {
            let sysctl = self.line("sysctl -w net.ipv4.conf.all.rp_filter=0");
            up.extend((!vip).then(|| sysctl.to_owned()));
            down.push("sysctl -w net.ipv4.conf.all.rp_filter=1".to_owned());
            let route = self.line(&format!("ip{family} route replace default via "));
            let (route, _) = route.rsplit_once(' ').unwrap();
            up.push(format!("{route} {}", service.mss()));
        } else {
            let route = self.line(&format!("ip{family} route add default dev pops table 100"));
            let rule = self.line(&format!("ip{family} rule add from {} ", service.vip.ip()));
            up.extend([route, rule].map(str::to_owned));
            // The route ends with its device.
            down.push(rule.replace(" add ", " del "));
        }
        (up.join("\n"), down.join("\n"))
    }

    /// The line of the guide that begins so.
    fn line(&mut self, start: &str) -> &'static str {
        let mut lines = self.lines.iter().filter(|line| line.starts_with(start));
        let line = lines.next().unwrap_or_else(|| panic!("the guide has no line {start:?}"));
        assert_eq!(lines.next(), None, "another line begins with {start:?}");
        self.run.insert(line);
        line
    }

    fn check_all_run(&self) {
        let left: Vec<_> = self.lines.difference(&self.run).collect();
        assert!(left.is_empty(), "never run: {left:?}");
    }
}

fn flag(is_ipv6: bool) -> &'static str {
    if is_ipv6 { " -6" } else { "" }
}

/// Gets `/body` while routes move; gives its hash.
fn download(lab: &mut Lab, vip: SocketAddr) -> String {
    let mut stream = connect(lab, vip);
    stream.write_all(b"GET /body HTTP/1.0\r\n\r\n").unwrap();
    let mut answer = Vec::new();
    for n in 0.. {
        let piece = (&mut stream).take(PIECE as u64).read_to_end(&mut answer).unwrap();
        if piece == 0 {
            break;
        }
        move_route(lab, n);
    }
    let body = body_of(&answer);
    assert_eq!(body.len(), BYTES);
    hex(&hash_of(body, |_| {}).unwrap().0)
}

/// Uploads a body while routes move; gives its hash, and that of what arrived.
fn upload(lab: &mut Lab, vip: SocketAddr) -> (String, String) {
    let mut stream = connect(lab, vip);
    let head = format!("POST /cgi-bin/hash HTTP/1.0\r\nContent-Length: {BYTES}\r\n\r\n");
    stream.write_all(head.as_bytes()).unwrap();
    let (mut body, mut buffer) = (Body::new(vip.port().into(), BYTES), [0; CHUNK]);
    for n in 0.. {
        let piece = body.next(&mut buffer);
        if piece.is_empty() {
            break;
        }
        stream.write_all(piece).unwrap();
        move_route(lab, n);
    }
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    let arrived = String::from_utf8_lossy(body_of(&answer)).trim().to_owned();
    (hex(&body.hash()), arrived)
}

fn connect(lab: &Lab, vip: SocketAddr) -> TcpStream {
    let connect = move || {
        let stream = TcpStream::connect_timeout(&vip, LIMIT)?;
        stream.set_read_timeout(Some(LIMIT))?;
        stream.set_write_timeout(Some(LIMIT))?;
        Ok::<_, std::io::Error>(stream)
    };
    let connected = lab.topology.client.run(connect).unwrap();
    connected.unwrap_or_else(|error| panic!("connect to {vip}: {error}; {}", drops(lab)))
}

fn body_of(answer: &[u8]) -> &[u8] {
    let head = answer.windows(4).position(|four| four == b"\r\n\r\n").expect("no head");
    let text = String::from_utf8_lossy(&answer[..head]);
    assert!(text.starts_with("HTTP/1.0 200") || text.starts_with("HTTP/1.1 200"), "{text}");
    &answer[head + 4..]
}

fn move_route(lab: &mut Lab, n: usize) {
    let direction = Direction::BOTH[n % 2];
    lab.routes.to(direction, n % POPS).unwrap();
}

/// Answers pass POPs in `through` alone, and in `direct` no client is told an MTU.
fn check_counters(lab: &Lab, service: &Service) {
    let sum = |name: &str, labels: &[(&str, &str)]| -> f64 {
        lab.pops.iter().map(|pop| pop.metric(name, labels).unwrap()).sum()
    };
    let labels = [("service", service.name.as_str()), ("direction", "down")];
    let down = sum("anyrelay_service_packets_total", &labels);
    assert_eq!(down == 0.0, service.is_direct(), "{down} answers: {service:?}");
    for kind in ["icmp_fragmentation_needed", "icmp_packet_too_big"] {
        assert_eq!(sum("anyrelay_replies_total", &[("kind", kind)]), 0.0, "{service:?}");
    }
    for reason in ["unknown_target", "tcp_checksum", "tunnel_mark"] {
        let labels = [("reason", reason)];
        let dropped = sum("anyrelay_drops_total", &labels);
        assert_eq!(dropped, 0.0, "{reason}: {service:?}");
    }
}

fn drops(lab: &Lab) -> String {
    let of_pop = |pop: &anyrelay_lab::Pop| pop.metrics().unwrap().nonzero("anyrelay_drops_total");
    lab.pops.iter().map(of_pop).collect::<Vec<_>>().join("; ")
}
