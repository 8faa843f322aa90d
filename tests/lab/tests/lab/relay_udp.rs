//! UDP through relays of the modes that have no tag, with the kernels' own UDP, and QUIC, at both
//! ends.

use std::collections::BTreeSet;
use std::io::{ErrorKind, Result};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::common::flaps::{flip_only, kill_carriers, while_flipping};
use crate::common::{drops, full, metric, milliseconds};
use anyrelay_lab::lab::LabBuilder;
use anyrelay_lab::quic::{self, Client, Connection, Identity, Way};
use anyrelay_lab::{
    Decapsulator, Device, Direction, Egress, Encapsulation, Lab, Namespace, Service,
};

/// One of each mode, or some.
fn services() -> Vec<Service> {
    let tunnel = Service::tunnel;
    let mut all = vec![
        Service { egress: Egress::Transparent, ..Service::default() },
        Service::prefix(),
        tunnel(Encapsulation::Ipip, [false, false]),
    ];
    if full() {
        all.push(Service::transparent6());
        for families in [[true, false], [false, true], [true, true]] {
            all.push(tunnel(Encapsulation::Gue, families));
            all.push(tunnel(Encapsulation::Ipip, families));
        }
        all.push(tunnel(Encapsulation::Gue, [false, false]).direct());
        all.push(tunnel(Encapsulation::Ipip, [true, true]).direct());
    }
    all.into_iter().map(Service::with_udp).collect()
}

/// A lab, with its target's end of the tunnel if it has one.
fn build(service: &Service, builder: LabBuilder) -> (Lab, Option<Decapsulator>) {
    let builder = builder.service(service.clone());
    let builder = if service.is_direct() { builder.direct() } else { builder };
    let lab = builder.build().unwrap();
    let end = Decapsulator::of(&lab.topology.target, service).unwrap();
    (lab, end)
}

/// The directions that go through POPs.
fn directions(service: &Service) -> &'static [Direction] {
    if service.is_direct() { &[Direction::Up] } else { &Direction::BOTH }
}

/// Where the server listens.
fn server_of(service: &Service) -> SocketAddr {
    match service.egress {
        Egress::Tunnel(..) => service.vip,
        _ => service.targets[0],
    }
}

/// An address of the client's own.
fn any(service: &Service) -> SocketAddr {
    let ip: IpAddr = match service.vip.is_ipv6() {
        true => Ipv6Addr::UNSPECIFIED.into(),
        false => Ipv4Addr::UNSPECIFIED.into(),
    };
    SocketAddr::new(ip, 0)
}

/// A socket in a namespace, which waits for at most 300 ms.
fn socket(place: &Namespace, at: SocketAddr) -> UdpSocket {
    let socket = place.run(move || UdpSocket::bind(at)).unwrap().unwrap();
    socket.set_read_timeout(Some(milliseconds(300))).unwrap();
    socket
}

/// A client of the VIP.
fn client(lab: &Lab, service: &Service) -> UdpSocket {
    let socket = socket(&lab.topology.client, any(service));
    socket.connect(service.vip).unwrap();
    socket
}

/// Answers each datagram by what `answer` makes of it, until told to stop; gives who sent.
struct Answering {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<BTreeSet<SocketAddr>>,
}

impl Answering {
    fn start(lab: &Lab, service: &Service, answer: fn(&[u8]) -> Vec<u8>) -> Self {
        let socket = socket(&lab.topology.target, server_of(service));
        let stop = Arc::new(AtomicBool::new(false));
        let is_over = stop.clone();
        let thread = std::thread::spawn(move || {
            let (mut peers, mut buffer) = (BTreeSet::new(), [0; 4096]);
            while !is_over.load(Ordering::Relaxed) {
                if let Ok((len, peer)) = socket.recv_from(&mut buffer) {
                    peers.insert(peer);
                    socket.send_to(&answer(&buffer[..len]), peer).unwrap();
                }
            }
            peers
        });
        Answering { stop, thread }
    }

    fn finish(self) -> BTreeSet<SocketAddr> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().unwrap()
    }
}

/// Moves bodies over a connection until told to stop; how many, or why one broke.
async fn keep_moving(
    connection: Connection,
    way: Way,
    stop: Arc<AtomicBool>,
) -> std::result::Result<u64, String> {
    const BYTES: usize = 200_000;
    let mut bodies = 0;
    while !stop.load(Ordering::Relaxed) {
        bodies += 1;
        match quic::move_body(&connection, way, (bodies, BYTES), |_| {}).await {
            Ok(true) => {}
            Ok(false) => return Err(format!("{way:?}, body {bodies}: not what was sent")),
            Err(error) => return Err(format!("{way:?}, body {bodies}: {error}")),
        }
    }
    Ok(bodies)
}

/// One QUIC connection moves bodies both ways until told to stop.
fn move_over_quic(
    lab: &Lab,
    service: &Service,
    identity: &Identity,
    stop: &Arc<AtomicBool>,
) -> JoinHandle<anyrelay_lab::Result<[std::result::Result<u64, String>; 2]>> {
    let (from, vip) = (any(service), service.vip);
    let (identity, stop) = (identity.clone(), stop.clone());
    let moving = move || {
        quic::runtime().unwrap().block_on(async {
            let client = Client::connect(from, vip, &identity).await.unwrap().unwrap();
            let moving = |way| keep_moving(client.connection.clone(), way, stop.clone());
            let down = tokio::spawn(moving(Way::Down));
            let moved = [moving(Way::Up).await, down.await.unwrap()];
            client.close().await;
            moved
        })
    };
    lab.topology.client.thread(moving).unwrap()
}

#[test]
fn quic_outlives_flips_and_killed_pops() {
    let identity = Identity::make().unwrap();
    for service in services() {
        let (mut lab, _end) = build(&service, Lab::builder());
        let (stop, over) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
        let is_over = over.clone();
        let at = server_of(&service);
        let is_over = move || is_over.load(Ordering::Relaxed);
        let server = quic::serve(&lab.topology.target, at, &identity, is_over).unwrap();
        let client = move_over_quic(&lab, &service, &identity, &stop);
        let moved = directions(&service);
        flip_only(&mut lab, moved, if full() { 300 } else { 15 });
        kill_carriers(&mut lab, moved, if full() { 6 } else { 2 });
        for &direction in moved {
            lab.routes.spray(direction, &[0, 1, 2]).unwrap();
        }
        std::thread::sleep(milliseconds(if full() { 10_000 } else { 1000 }));
        stop.store(true, Ordering::Relaxed);
        let outcome = client.join().unwrap().unwrap();
        over.store(true, Ordering::Relaxed);
        assert_eq!(server.join().unwrap().unwrap().unwrap(), 1, "one connection");
        for bodies in outcome {
            assert!(bodies.unwrap_or_else(|why| panic!("{why}: {service:?}")) > 3, "{service:?}");
        }
        for reason in ["unknown_target", "udp_checksum", "udp_malformed", "no_room"] {
            assert_eq!(drops(&lab, reason), 0.0, "{reason}: {service:?}");
        }
        let labels = [("service", "web"), ("direction", "up")];
        let up = metric(&lab, "anyrelay_service_packets_total", &labels);
        assert!(up > 1000.0, "{up}: {service:?}");
    }
}

#[test]
fn every_datagram_meets_one_socket_while_routes_flip() {
    for service in services() {
        let (mut lab, _end) = build(&service, Lab::builder());
        let server = Answering::start(&lab, &service, <[u8]>::to_vec);
        let client = client(&lab, &service);
        client.set_read_timeout(Some(milliseconds(5))).unwrap();
        let count = if full() { 10_000_u32 } else { 1000 };
        let mut answered = BTreeSet::new();
        while_flipping(&mut lab.routes, || {
            let mut take = |limit: Duration| {
                let start = Instant::now();
                while start.elapsed() < limit {
                    let mut bytes = [0; 64];
                    if let Ok(len) = client.recv(&mut bytes) {
                        let number: [u8; 4] = bytes[..len].try_into().unwrap();
                        assert!(answered.insert(u32::from_be_bytes(number)), "twice");
                    }
                }
            };
            for number in 0..count {
                client.send(&number.to_be_bytes()).unwrap();
                take(milliseconds(1));
            }
            take(milliseconds(500));
        });
        let own = client.local_addr().unwrap();
        let peers = server.finish();
        assert_eq!(peers.len(), 1, "{service:?}: {peers:?}");
        if service.egress != Egress::Prefix {
            assert_eq!(peers.first(), Some(&own), "{service:?}");
        }
        // A datagram on its way to a POP whose queue is full is lost, as on any path.
        let lost = count as usize - answered.len();
        assert!(lost * 50 <= count as usize, "{lost} of {count}: {service:?}");
        println!("{:?}: {lost} of {count} were not answered", service.egress);
    }
}

fn refused(read: Result<usize>) -> bool {
    read.is_err_and(|error| error.kind() == ErrorKind::ConnectionRefused)
}

#[test]
fn a_closed_port_is_refused_on_either_side() {
    for service in services() {
        let (mut lab, _end) = build(&service, Lab::builder());
        // A host tells another of one error a second, after the first six.
        for host in [&lab.topology.client, &lab.topology.target] {
            host.sysctl("net.ipv4.icmp_ratelimit", "0").unwrap();
            host.sysctl("net.ipv6.icmp.ratelimit", "0").unwrap();
        }
        let client = client(&lab, &service);
        let rounds = if full() { 100 } else { 15 };
        let told = while_flipping(&mut lab.routes, || {
            let ask = |_: &i32| {
                client.send(b"is anybody there?").unwrap();
                let told = refused(client.recv(&mut [0; 64]));
                std::thread::sleep(milliseconds(20));
                told
            };
            (0..rounds).filter(ask).count() as i32
        });
        assert_eq!(told, rounds, "{service:?}");
        // And the server, of a client that is gone.
        let server = socket(&lab.topology.target, server_of(&service));
        client.send(b"hello").unwrap();
        let (_, peer) = server.recv_from(&mut [0; 64]).unwrap();
        server.connect(peer).unwrap();
        drop(client);
        server.send(b"an answer").unwrap();
        assert!(refused(server.recv(&mut [0; 64])), "{service:?}");
    }
}

/// Datagrams of which no link carries a whole: their senders cut them.
#[test]
fn long_datagrams_come_through_in_fragments() {
    const LONG: usize = 1800;
    const REASSEMBLE: &str = "[pop]\nfragments = \"reassemble\"\n";
    for service in services() {
        // Packet sockets would get those of IPv4 reassembled by the kernel.
        let builder = Lab::builder().device(Device::Pcap).overlay(REASSEMBLE);
        let (lab, _end) = build(&service, builder);
        // What comes out of a tunnel in fragments is refused: the answers in one are short.
        let answers_long = !matches!(service.egress, Egress::Tunnel(..));
        let answer: fn(&[u8]) -> Vec<u8> = match answers_long {
            true => |bytes| bytes.iter().rev().copied().collect(),
            false => |bytes| vec![bytes[0], (bytes.len() >> 8) as u8, bytes.len() as u8],
        };
        let server = Answering::start(&lab, &service, answer);
        let client = client(&lab, &service);
        client.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
        let mut lost = 0;
        for number in 0..50_u8 {
            let sent: Vec<u8> = (0..LONG).map(|at| number.wrapping_add(at as u8)).collect();
            let mut got = vec![0; 4096];
            let len = loop {
                client.send(&sent).unwrap();
                match client.recv(&mut got) {
                    Ok(len) => break len,
                    // Nobody repeats a datagram, such as the first one to a gateway.
                    Err(error) => assert!(lost < 2, "{number}: {error}: {service:?}"),
                }
                lost += 1;
            };
            assert_eq!(got[..len], answer(&sent), "{service:?}");
        }
        assert_eq!(server.finish().len(), 1);
        let reassembled = metric(&lab, "anyrelay_reassembled_datagrams_total", &[]);
        assert!(reassembled >= if answers_long { 100.0 } else { 50.0 }, "{reassembled}");
    }
}
