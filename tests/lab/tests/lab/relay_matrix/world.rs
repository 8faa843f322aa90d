//! A client and a server that are joined directly, or through POPs.

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyrelay_lab::middlebox::Trouble;
use anyrelay_lab::topology::Shape;
use anyrelay_lab::traffic::{Connection, Server, bind_from, connect_to};
use anyrelay_lab::{
    Decapsulator, Device, Egress, Lab, Service, Topology, link, registry, topology,
};

use crate::common::sockets::Ends;
use crate::common::{LIMIT, milliseconds};

/// What the paths between the hosts do.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Paths {
    /// They carry whole datagrams.
    Whole,
    /// They cut datagrams in fragments, and both hosts allow it.
    Cutting,
}

impl Paths {
    pub const ALL: [Self; 2] = [Self::Whole, Self::Cutting];
}

/// The MTU of IPv4 routers that cut.
const CUT: u32 = 1000;
/// The length to which boxes cut IPv6.
const CUT_IPV6: usize = 1280;
const REASSEMBLE: &str = "[pop]\nfragments = \"reassemble\"\n[fragments]\ntimeout_ms = 300\n";

/// A client and a server's host, and how the one reaches the other.
pub struct World {
    pub net: Arc<Topology>,
    /// Where the client connects.
    pub to: SocketAddr,
    /// Where the server listens.
    pub at: SocketAddr,
    /// Whether datagrams to the server's host, and those from it, are of IPv6, also those of a
    /// tunnel.
    pub is_far_ipv6: [bool; 2],
}

/// A lab of two POPs, and the end of its tunnel, if it has one.
pub struct ThroughPops {
    pub lab: Lab,
    service: Service,
    _end: Option<Decapsulator>,
}

impl ThroughPops {
    pub fn build(service: &Service, paths: Paths) -> Self {
        let mut builder = Lab::builder().service(service.clone()).pops(2).hints();
        if paths == Paths::Cutting {
            // A packet socket would get IPv4 reassembled by the kernel.
            builder = builder.path_mtu(CUT).device(Device::Pcap).overlay(REASSEMBLE);
            if service.has_ipv6() {
                builder = builder.cut_ipv6(CUT_IPV6);
            }
        }
        if service.is_direct() {
            builder = builder.direct();
        }
        let lab = builder.build().unwrap();
        prepare(&lab.topology, paths);
        let end = Decapsulator::of(&lab.topology.target, service).unwrap();
        Self { lab, service: service.clone(), _end: end }
    }

    pub fn world(&self) -> World {
        let target = self.service.targets[0];
        let at = match self.service.egress {
            Egress::Tunnel(..) => self.service.vip,
            _ => target,
        };
        let net = self.lab.topology.clone();
        let back = if self.service.is_direct() { self.service.vip } else { target };
        let is_far_ipv6 = [target, back].map(|address| address.is_ipv6());
        World { net, to: self.service.vip, at, is_far_ipv6 }
    }
}

/// What both kinds of world have in common.
fn prepare(net: &Topology, paths: Paths) {
    // Clients may use a port again that waits, after a second.
    net.client.sysctl("net.ipv4.tcp_tw_reuse", "1").unwrap();
    if paths == Paths::Cutting {
        for host in [&net.client, &net.target] {
            host.sysctl("net.ipv4.ip_no_pmtu_disc", "1").unwrap();
            // Less than the machine carries, or fragments would be lost for want of room.
            link::limit_rate((host, "net0"), 100).unwrap();
        }
    }
}

impl World {
    /// Without POPs, in the family of the service's clients.
    pub fn direct(service: &Service, paths: Paths) -> Self {
        registry::prepare().unwrap();
        let ipv6 = service.vip.is_ipv6();
        let mut shape = Shape { pops: 0, direct: true, ipv6, ..Shape::default() };
        if paths == Paths::Cutting {
            let cutter = Trouble { cut_ipv6: Some(CUT_IPV6), ..Trouble::NONE };
            shape.path_mtu = Some(CUT);
            shape.boxes = [ipv6.then_some(cutter); 2];
        }
        let net = Topology::build(&registry::new_lab_id(), &shape).unwrap();
        prepare(&net, paths);
        let ip: IpAddr = if ipv6 { topology::TARGET6.into() } else { topology::TARGET.into() };
        let at = SocketAddr::new(ip, service.targets[0].port());
        World { net: net.into(), to: at, at, is_far_ipv6: [ipv6; 2] }
    }

    /// A listener in place of the last one.
    pub fn listen(&self) -> TcpListener {
        let at = self.at;
        let bind = move || in_place_of_another(|| TcpListener::bind(at));
        self.net.target.run(bind).unwrap()
    }

    /// A server of bodies in place of the last listener.
    pub fn serve(&self) -> Server {
        in_place_of_another(|| Server::start(&self.net.target, self.at))
    }

    /// A connection to [`Self::serve`].
    pub fn connect(&self) -> Connection {
        let connection = Connection::open(&self.net.client, self.to, LIMIT).unwrap().unwrap();
        set_timeouts(connection.stream());
        connection
    }

    /// A connection by both of its sockets, over which data went both ways.
    pub fn pair(&self, listener: &TcpListener) -> Pair {
        self.pair_from(listener, 0).0
    }

    /// The same from a port of the client's, and how long the connect took.
    pub fn pair_from(&self, listener: &TcpListener, port: u16) -> (Pair, Duration) {
        let to = self.to;
        let ip: IpAddr =
            if to.is_ipv6() { topology::CLIENT6.into() } else { topology::CLIENT.into() };
        let connect = move || {
            let socket = bind_from(SocketAddr::new(ip, port), Some(LIMIT))?;
            let start = Instant::now();
            connect_to(socket, to).map(|stream| (stream, start.elapsed()))
        };
        let (client, took) = self.net.client.run(connect).unwrap().unwrap();
        let server = listener.accept().unwrap().0;
        for stream in [&client, &server] {
            set_timeouts(stream);
        }
        let pair = Pair { client, server };
        pair.talk();
        (pair, took)
    }

    /// The states of both sockets, after at most 3 s if they are not these.
    pub fn states(&self, ends: [Ends; 2], expected: [&str; 2]) -> String {
        let start = Instant::now();
        loop {
            let [client, server] = ends;
            let now = [client.state(&self.net.client), server.state(&self.net.target)];
            if now == expected || start.elapsed() > SOON {
                return now.join(" and ");
            }
            std::thread::sleep(milliseconds(5));
        }
    }
}

/// What takes no longer than a retransmission or two.
pub const SOON: Duration = Duration::from_secs(3);

/// A connection by its sockets.
pub struct Pair {
    pub client: TcpStream,
    pub server: TcpStream,
}

impl Pair {
    pub fn ends(&self) -> [Ends; 2] {
        [Ends::of(&self.client), Ends::of(&self.server)]
    }

    /// Sends a word each way.
    pub fn talk(&self) {
        for (mut from, mut to) in [(&self.client, &self.server), (&self.server, &self.client)] {
            let mut heard = [0; 5];
            from.write_all(b"hello").unwrap();
            to.read_exact(&mut heard).unwrap();
            assert_eq!(&heard, b"hello");
        }
    }
}

fn set_timeouts(stream: &TcpStream) {
    stream.set_read_timeout(Some(LIMIT)).unwrap();
    stream.set_write_timeout(Some(LIMIT)).unwrap();
}

/// A listener that was dropped may live on for a moment, in the thread that accepts.
fn in_place_of_another<T, E: std::fmt::Debug>(mut bind: impl FnMut() -> Result<T, E>) -> T {
    let start = Instant::now();
    loop {
        match bind() {
            Ok(bound) => return bound,
            Err(error) => assert!(start.elapsed() < SOON, "{error:?}"),
        }
        std::thread::sleep(milliseconds(5));
    }
}
