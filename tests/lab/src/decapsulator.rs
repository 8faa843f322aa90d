//! A host's end of a tunnel from POPs, as a program: what a kernel's `ipip`, `sit`, `ip6tnl` or
//! `fou` device does, for hosts whose kernel has none.
//!
//! It takes off the outer headers of what comes from POPs, and hands the datagrams to the kernel by
//! a TUN device. What the host sends as the VIP goes back to the POPs in the tunnel, or by the
//! host's own route.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use linux_tun::Tun;
use socket2::{Domain, Protocol, Socket, Type};

use crate::config::Egress;
use crate::{LabError, Namespace, Result, Service, command};

/// Protocols of tunnels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encapsulation {
    /// IP in IP.
    Ipip,
    /// The same behind UDP and GUE.
    Gue,
}

/// The end of a tunnel; it ends when dropped.
#[derive(Debug)]
pub struct Decapsulator {
    stop: Arc<AtomicBool>,
    taken: Arc<AtomicU64>,
    threads: Vec<JoinHandle<Result<()>>>,
}

impl Decapsulator {
    /// Makes `host`, which has the target of a service of the lab, its end of the tunnel, and gives
    /// it the VIP; nothing if the service has no tunnel.
    ///
    /// # Errors
    /// With the words of `ip`, or the system's.
    pub fn of(host: &Namespace, service: &Service) -> Result<Option<Self>> {
        let (Egress::Tunnel(encapsulation, _), Some(pops), Some(target)) =
            (service.egress, service.tunnel_from(), service.targets.first())
        else {
            return Ok(None);
        };
        let pops = Some(pops).filter(|_| !service.is_direct());
        Self::start(host, encapsulation, (target.ip(), pops), service.vip.ip()).map(Some)
    }

    /// Takes what comes to `own`, and sends back what is from `vip` if it is said where to.
    ///
    /// # Errors
    /// With the words of `ip`, or the system's.
    pub fn start(
        host: &Namespace,
        encapsulation: Encapsulation,
        (own, pops): (IpAddr, Option<IpAddr>),
        vip: IpAddr,
    ) -> Result<Self> {
        let tun = host.run(|| Tun::open(DEVICE))?;
        let tun = tun.map_err(|error| LabError::Unexpected(error.to_string()))?;
        let (family, bits) = if vip.is_ipv6() { ("-6", "128 nodad") } else { ("-4", "32") };
        host.ip(&[
            format!("address add {vip}/{bits} dev lo"),
            format!("link set {DEVICE} up mtu {MTU}"),
        ])?;
        let back = [
            format!("{family} route add default dev {DEVICE} table {TABLE}"),
            format!("{family} rule add from {vip} lookup {TABLE}"),
        ];
        for line in back.iter().filter(|_| pops.is_some()) {
            command::run(host.command("ip").args(line.split(' ')))?;
        }
        let socket = host.run(move || open(encapsulation, own, vip))?;
        let socket = Arc::new(socket.map_err(LabError::io("open the socket of a tunnel"))?);
        let (tun, stop) = (Arc::new(tun), Arc::new(AtomicBool::new(false)));
        let taken = Arc::new(AtomicU64::new(0));
        let inward = {
            let (tun, socket, stop) = (Arc::clone(&tun), Arc::clone(&socket), Arc::clone(&stop));
            let taken = Arc::clone(&taken);
            host.thread(move || {
                // A raw socket of IPv4 has the outer header too.
                let skipped = match (encapsulation, own) {
                    (Encapsulation::Gue, _) => GUE_LEN,
                    (Encapsulation::Ipip, IpAddr::V4(_)) => 20,
                    (Encapsulation::Ipip, IpAddr::V6(_)) => 0,
                };
                take_in(&socket, &tun, skipped, &stop, &taken);
            })?
        };
        let mut threads = vec![inward];
        if let Some(pops) = pops {
            let stop = Arc::clone(&stop);
            let kind = if vip.is_ipv6() { 41 } else { 4 };
            let outward = move || send_out(&tun, &socket, encapsulation, pops, kind, &stop);
            threads.push(host.thread(outward)?);
        }
        Ok(Decapsulator { stop, taken, threads })
    }

    /// How many datagrams it has taken out of the tunnel.
    pub fn taken(&self) -> u64 {
        self.taken.load(Ordering::Relaxed)
    }
}

impl Drop for Decapsulator {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

fn open(encapsulation: Encapsulation, own: IpAddr, vip: IpAddr) -> io::Result<Socket> {
    let domain = if own.is_ipv6() { Domain::IPV6 } else { Domain::IPV4 };
    let carried = if vip.is_ipv6() { 41 } else { 4 };
    let (kind, protocol, port) = match encapsulation {
        Encapsulation::Ipip => (Type::RAW, carried, 0),
        Encapsulation::Gue => (Type::DGRAM, 17, GUE_PORT),
    };
    let socket = Socket::new(domain, kind, Some(Protocol::from(protocol)))?;
    socket.set_recv_buffer_size(4 << 20)?;
    socket.bind(&SocketAddr::new(own, port).into())?;
    socket.set_read_timeout(Some(TURN))?;
    Ok(socket)
}

fn take_in(socket: &Socket, tun: &Tun, skipped: usize, stop: &AtomicBool, taken: &AtomicU64) {
    let mut socket = socket;
    let mut datagram = vec![0; 65_536];
    while !stop.load(Ordering::Relaxed) {
        let Ok(len) = io::Read::read(&mut socket, &mut datagram) else { continue };
        if let Some(inner) = datagram.get(skipped..len) {
            taken.fetch_add(1, Ordering::Relaxed);
            // What the kernel refuses, it would have dropped.
            let _ = tun.write(inner);
        }
    }
}

fn send_out(
    tun: &Tun,
    socket: &Socket,
    encapsulation: Encapsulation,
    pops: IpAddr,
    kind: u8,
    stop: &AtomicBool,
) {
    let head: &[u8] = if encapsulation == Encapsulation::Gue { &[0, kind, 0, 0] } else { &[] };
    let port = if encapsulation == Encapsulation::Gue { GUE_PORT } else { 0 };
    let to = SocketAddr::new(pops, port).into();
    let mut datagram = vec![0; 65_536];
    datagram[..head.len()].copy_from_slice(head);
    let mut marked = 0;
    while !stop.load(Ordering::Relaxed) {
        match tun.read(&mut datagram[head.len()..]) {
            Ok(Some(len)) => {
                let ecn = ecn(&datagram[head.len()..]);
                if ecn != marked {
                    let _ = set_ecn(socket, pops, ecn);
                    marked = ecn;
                }
                drop(socket.send_to(&datagram[..head.len() + len], &to));
            }
            // A poll would need the device's descriptor; this costs a test little.
            _ => std::thread::sleep(Duration::from_micros(200)),
        }
    }
}

/// ECN of an IP datagram.
fn ecn(datagram: &[u8]) -> u32 {
    let class = match datagram[0] >> 4 {
        4 => datagram[1],
        _ => datagram[1] >> 4,
    };
    u32::from(class & 3)
}

/// The outer header has the ECN of the inner one (RFC 6040, section 4.1).
fn set_ecn(socket: &Socket, pops: IpAddr, ecn: u32) -> io::Result<()> {
    match pops {
        IpAddr::V4(_) => socket.set_tos_v4(ecn),
        IpAddr::V6(_) => socket.set_tclass_v6(ecn),
    }
}

const DEVICE: &str = "tunnel0";
const TABLE: u32 = 100;
/// What is left of 1500 bytes for the largest outer headers, those of GUE over IPv6.
const MTU: u32 = 1448;
const GUE_PORT: u16 = 6080;
const GUE_LEN: usize = 4;
const TURN: Duration = Duration::from_millis(100);
