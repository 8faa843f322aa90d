//! Kernel sockets: their states as `/proc` shows them, and keepalives of a second.

use std::io::Read;
use std::net::{IpAddr, SocketAddr, SocketAddrV4, TcpStream};
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
        let is_client = |peer: SocketAddr| match peer.ip() {
            IpAddr::V4(ip) => ip.octets()[..3] == topology::CLIENT.octets()[..3],
            IpAddr::V6(_) => false,
        };
        let here = |socket: &Socket| {
            socket.local == TARGET.into() && is_client(socket.peer) == (self == Self::Direct)
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
        let is_it = |socket: &Socket| self.local == socket.local && self.peer == socket.peer;
        sockets(namespace).iter().find(|socket| is_it(socket)).map_or(GONE, |it| it.state)
    }
}

pub const GONE: &str = "gone";

#[derive(Debug)]
struct Socket {
    local: SocketAddr,
    peer: SocketAddr,
    state: &'static str,
}

fn sockets(namespace: &Namespace) -> Vec<Socket> {
    let address = |word: &str| {
        let (ip, port) = word.split_once(':').unwrap();
        // Words in the order of the host, of which an IPv6 address has four.
        let word = |i| u32::from_str_radix(&ip[i..i + 8], 16).unwrap().to_le_bytes();
        let ip: Vec<u8> = (0..ip.len()).step_by(8).flat_map(word).collect();
        let ip: IpAddr = match <[u8; 4]>::try_from(ip.as_slice()) {
            Ok(ip) => ip.into(),
            Err(_) => <[u8; 16]>::try_from(ip).unwrap().into(),
        };
        SocketAddr::new(ip, u16::from_str_radix(port, 16).unwrap())
    };
    let socket = |line: &str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let state = usize::from_str_radix(words[3], 16).unwrap();
        Socket { local: address(words[1]), peer: address(words[2]), state: STATES[state - 1] }
    };
    let mut all = Vec::new();
    for file in ["tcp", "tcp6"] {
        let mut text = String::new();
        let path = format!("/proc/thread-self/net/{file}");
        namespace.open(&path).unwrap().read_to_string(&mut text).unwrap();
        all.extend(text.lines().skip(1).map(socket));
    }
    all
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

/// Whether a host's TIME-WAIT outlives RSTs. A peer that sends its FIN twice, as an ACK came late,
/// gets two ACKs and answers the second with a RST when it is gone: with POPs or without.
pub fn guard_time_wait(host: &Namespace, on: bool) {
    host.sysctl("net.ipv4.tcp_rfc1337", if on { "1" } else { "0" }).unwrap();
}
