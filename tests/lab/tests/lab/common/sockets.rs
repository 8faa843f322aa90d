//! Kernel sockets: their states as `/proc` shows them, and keepalives of a second.

use std::io::Read;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpStream};
use std::time::Duration;

use anyrelay_lab::{Namespace, Topology, topology};
use rustix::net::sockopt;

use super::{TARGET, VIP};

/// How segments come to the target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Path {
    /// From the VIP, through POPs.
    Pops,
    /// As sent to the target's own address; a lab has this path if it is built with `direct`.
    Direct,
}

impl Path {
    pub const BOTH: [Self; 2] = [Self::Direct, Self::Pops];

    /// Where clients connect.
    pub fn address(self) -> SocketAddrV4 {
        if self == Self::Pops { VIP } else { TARGET }
    }

    /// How many connections of it the target has in this state, in the words of `ss`.
    pub fn at_target(self, net: &Topology, state: &str) -> usize {
        let is_client = |ip: &Ipv4Addr| ip.octets()[..3] == topology::CLIENT.octets()[..3];
        let here = |socket: &Socket| {
            socket.local == TARGET && is_client(socket.peer.ip()) == (self == Self::Direct)
        };
        let sockets = sockets(&net.target);
        sockets.iter().filter(|socket| socket.state == state && here(socket)).count()
    }
}

/// The two ends of a connection as one of them sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ends {
    pub local: SocketAddr,
    pub peer: SocketAddr,
}

impl Ends {
    pub fn of(stream: &TcpStream) -> Self {
        Self { local: stream.local_addr().unwrap(), peer: stream.peer_addr().unwrap() }
    }

    /// The state of its socket in the words of `ss`, or [`GONE`].
    pub fn state(&self, namespace: &Namespace) -> &'static str {
        let is_it = |socket: &Socket| {
            self.local == SocketAddr::V4(socket.local) && self.peer == SocketAddr::V4(socket.peer)
        };
        sockets(namespace).iter().find(|socket| is_it(socket)).map_or(GONE, |it| it.state)
    }
}

pub const GONE: &str = "gone";

#[derive(Debug)]
struct Socket {
    local: SocketAddrV4,
    peer: SocketAddrV4,
    state: &'static str,
}

fn sockets(namespace: &Namespace) -> Vec<Socket> {
    let mut text = String::new();
    namespace.open("/proc/thread-self/net/tcp").unwrap().read_to_string(&mut text).unwrap();
    let address = |word: &str| {
        let (ip, port) = word.split_once(':').unwrap();
        let ip = u32::from_str_radix(ip, 16).unwrap().to_le_bytes();
        SocketAddrV4::new(ip.into(), u16::from_str_radix(port, 16).unwrap())
    };
    let socket = |line: &str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let state = usize::from_str_radix(words[3], 16).unwrap();
        Socket { local: address(words[1]), peer: address(words[2]), state: STATES[state - 1] }
    };
    text.lines().skip(1).map(socket).collect()
}

/// By the numbers of the kernel, from 1.
const STATES: [&str; 12] = [
    "ESTAB",
    "SYN-SENT",
    "SYN-RECV",
    "FIN-WAIT-1",
    "FIN-WAIT-2",
    "TIME-WAIT",
    "UNCONN",
    "CLOSE-WAIT",
    "LAST-ACK",
    "LISTEN",
    "CLOSING",
    "SYN-RECV",
];

/// Probes after a second of silence, each second, and gives up when three are unanswered.
pub fn keep_alive(stream: &TcpStream) {
    sockopt::set_tcp_keepidle(stream, Duration::from_secs(1)).unwrap();
    sockopt::set_tcp_keepintvl(stream, Duration::from_secs(1)).unwrap();
    sockopt::set_tcp_keepcnt(stream, 3).unwrap();
    sockopt::set_socket_keepalive(stream, true).unwrap();
}
