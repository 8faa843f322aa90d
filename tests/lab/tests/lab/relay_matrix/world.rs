//! A client and a server that are joined directly, or through POPs.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyrelay_lab::middlebox::{Middlebox, Trouble};
use anyrelay_lab::topology::Shape;
use anyrelay_lab::traffic::{Connection, Server, bind_from, connect_to};
use anyrelay_lab::tunnel::TunnelTopology;
use anyrelay_lab::tunnel::topology::THIRD;
use anyrelay_lab::{
    Decapsulator, Device, Egress, Lab, Namespace, Service, Topology, link, registry, topology,
};

use socket2::SockRef;

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
pub struct World<'a> {
    pub client: &'a Arc<Namespace>,
    pub server: &'a Arc<Namespace>,
    /// The client's address.
    from: IpAddr,
    /// Where the client connects.
    pub to: SocketAddr,
    /// Where the server listens.
    at: SocketAddr,
    /// What is beside the client, and beside the server.
    pub sides: [Side<'a>; 2],
}

/// A router beside a host.
#[derive(Clone, Copy)]
pub struct Side<'a> {
    pub router: &'a Namespace,
    /// Its interface to the host.
    interface: &'static str,
    /// Where what the host sends comes in, on the way to a POP, or to the other end behind it.
    pub marked_at: &'static str,
    /// Whether that, and what goes to the host, is of IPv6, also a tunnel that it is in.
    pub is_ipv6_from: bool,
    is_ipv6_to: bool,
    /// The host's networks of IPv4 and IPv6.
    networks: [&'static str; 2],
    /// Bytes of a narrow link to the host.
    narrow: u32,
    /// The box that cuts IPv6 on the way to the host.
    pub cutter: Option<&'a Middlebox>,
}

impl Side<'_> {
    /// The link to the host becomes narrow.
    pub fn narrow(&self) {
        let Side { interface, narrow, networks: [v4, v6], .. } = self;
        let (network, metric) = if self.is_ipv6_to { (v6, "metric 256") } else { (v4, "") };
        let route = format!("route replace {network} dev {interface} {metric} mtu lock {narrow}");
        self.router.ip(&[route]).unwrap();
    }
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

    /// `net` is the lab's.
    pub fn world<'a>(&self, net: &'a Topology) -> World<'a> {
        let (service, target) = (&self.service, self.service.targets[0]);
        let at = match service.egress {
            Egress::Tunnel(..) => service.vip,
            _ => target,
        };
        let back = if service.is_direct() { service.vip } else { target };
        let far = [back, target].map(|address| address.is_ipv6());
        World::of(net, (service.vip, at), far)
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

/// Hosts that are joined without POPs.
pub struct Direct {
    net: Topology,
    at: SocketAddr,
}

impl Direct {
    /// By a family, with a server at this port.
    pub fn build(ipv6: bool, port: u16, paths: Paths) -> Self {
        registry::prepare().unwrap();
        let mut shape = Shape { pops: 0, direct: true, ipv6, ..Shape::default() };
        if paths == Paths::Cutting {
            let cutter = Trouble { cut_ipv6: Some(CUT_IPV6), ..Trouble::NONE };
            shape.path_mtu = Some(CUT);
            shape.boxes = [ipv6.then_some(cutter); 2];
        }
        let net = Topology::build(&registry::new_lab_id(), &shape).unwrap();
        prepare(&net, paths);
        let ip: IpAddr = if ipv6 { topology::TARGET6.into() } else { topology::TARGET.into() };
        Self { net, at: SocketAddr::new(ip, port) }
    }

    pub fn world(&self) -> World<'_> {
        World::of(&self.net, (self.at, self.at), [self.at.is_ipv6(); 2])
    }
}

impl<'a> World<'a> {
    /// A client that connects to `to`, and a server that listens at `at`. `far` says whether what
    /// the server's host sends, and what it gets, is of IPv6.
    fn of(net: &'a Topology, (to, at): (SocketAddr, SocketAddr), far: [bool; 2]) -> Self {
        let ipv6 = to.is_ipv6();
        let cutter = |side| net.boxes.get::<usize>(side);
        let client = Side {
            router: &net.client_router,
            interface: "client",
            marked_at: "client",
            is_ipv6_from: ipv6,
            is_ipv6_to: ipv6,
            networks: ["192.0.2.0/24", "2001:db8:1::/64"],
            narrow: 1300,
            cutter: cutter(0),
        };
        let server = Side {
            router: &net.target_router,
            interface: "target",
            marked_at: "target",
            is_ipv6_from: far[0],
            is_ipv6_to: far[1],
            networks: ["198.51.100.0/24", "2001:db8:2::/64"],
            // Room for a tunnel's headers and the least MTU of IPv6.
            narrow: 1400,
            cutter: cutter(1),
        };
        let from = if ipv6 { topology::CLIENT6.into() } else { topology::CLIENT.into() };
        let sides = [client, server];
        World { client: &net.client, server: &net.target, from, to, at, sides }
    }

    /// The host of the first agent, by its open address, and the third party: the one connects to
    /// the other, or the other way around. Whole datagrams.
    pub fn open(net: &'a TunnelTopology, own: Ipv6Addr, is_inward: bool) -> Self {
        const PORT: u16 = 8443;
        let third = net.third.as_ref().unwrap();
        // What the agent sends is marked behind the tunnel. Its side has more headers.
        let agents = Side {
            router: &net.router,
            interface: "site1",
            marked_at: "pop*",
            is_ipv6_from: true,
            is_ipv6_to: false,
            networks: ["198.18.1.0/24", ""],
            narrow: 1340,
            cutter: None,
        };
        let outside = Side {
            interface: "third",
            marked_at: "third",
            is_ipv6_to: true,
            networks: ["", "2001:db8:4::/64"],
            narrow: 1300,
            ..agents
        };
        let (agent, outer) = ((&net.sites[0].host, own, agents), (third, THIRD, outside));
        let [client, server] = if is_inward { [outer, agent] } else { [agent, outer] };
        client.0.sysctl("net.ipv4.tcp_tw_reuse", "1").unwrap();
        let to = SocketAddr::new(server.1.into(), PORT);
        World {
            client: client.0,
            server: server.0,
            from: client.1.into(),
            to,
            at: to,
            sides: [client.2, server.2],
        }
    }

    /// A listener in place of the last one.
    pub fn listen(&self) -> TcpListener {
        let at = self.at;
        let bind = move || in_place_of_another(|| TcpListener::bind(at));
        self.server.run(bind).unwrap()
    }

    /// A server of bodies in place of the last listener.
    pub fn serve(&self) -> Server {
        in_place_of_another(|| Server::start(self.server, self.at))
    }

    /// A connection to [`Self::serve`].
    pub fn connect(&self) -> Connection {
        let connection = Connection::open(self.client, self.to, LIMIT).unwrap().unwrap();
        set_timeouts(connection.stream());
        connection
    }

    /// A connection by both of its sockets, over which data went both ways.
    pub fn pair(&self, listener: &TcpListener) -> Pair {
        self.pair_of(listener, 0, None).0
    }

    /// The same from a port of the client's, and how long the connect took.
    pub fn pair_from(&self, listener: &TcpListener, port: u16) -> (Pair, Duration) {
        self.pair_of(listener, port, None)
    }

    /// The same with a receive buffer of the client's of so many bytes.
    pub fn pair_with_buffer(&self, listener: &TcpListener, bytes: usize) -> Pair {
        self.pair_of(listener, 0, Some(bytes)).0
    }

    fn pair_of(
        &self,
        listener: &TcpListener,
        port: u16,
        receive_buffer: Option<usize>,
    ) -> (Pair, Duration) {
        let (to, from) = (self.to, SocketAddr::new(self.from, port));
        let connect = move || {
            let socket = bind_from(from, Some(LIMIT))?;
            if let Some(bytes) = receive_buffer {
                SockRef::from(&socket).set_recv_buffer_size(bytes)?;
            }
            let start = Instant::now();
            connect_to(socket, to).map(|stream| (stream, start.elapsed()))
        };
        let (client, took) = self.client.run(connect).unwrap().unwrap();
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
            let now = [client.state(self.client), server.state(self.server)];
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
