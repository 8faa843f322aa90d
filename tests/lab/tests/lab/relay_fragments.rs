//! Fragments and the kernels' own TCP: on the way to POPs, and on the way out of them.
//!
//! Routers between the hosts and the POPs cut what is longer than 1000 bytes, as both hosts clear
//! DF; over IPv6, where routers may not, boxes beside the hosts do. Each fragment that they made is
//! accounted for. Where POPs are to see those of IPv4, their ports are not af_packet: the kernel
//! reassembles IPv4 datagrams for its packet sockets. More of it is tested on captures
//! (`dataplane/pop/tests/program/fragments.rs`): attacks, floods, several queues.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::time::Duration;

use crate::common::{
    VIP, connect, connect_to, drops, eventually, metric, narrow_ports, serve, snmp,
};
use anyrelay_lab::config::TARGET_PORT;
use anyrelay_lab::firewall::Firewall;
use anyrelay_lab::lab::LabBuilder;
use anyrelay_lab::traffic::{Connection, Server};
use anyrelay_lab::{Device, Direction, Lab, Layout, Service, link, topology};

const BYTES: usize = 3_000_000;
/// Payload of a segment with timestamps over IPv4.
const MSS: usize = 1448;
const FRAGMENT: &str = "ip frag-off & 0x3fff != 0";
/// So much that no datagram comes through in fewer than two fragments.
const PATH_MTU: u32 = 1000;
const CUT: usize = 1280;
const REASSEMBLE: &str = "[pop]\nfragments = \"reassemble\"\n[fragments]\ntimeout_ms = 300\n";

/// A lab whose hosts clear DF, and whose paths to the POPs fragment.
fn fragmenting(builder: LabBuilder, service: &Service) -> Lab {
    let mut builder = builder.service(service.clone()).path_mtu(PATH_MTU);
    if service.has_ipv6() {
        builder = builder.cut_ipv6(CUT);
    }
    let lab = builder.build().unwrap();
    for host in [&lab.topology.client, &lab.topology.target] {
        host.sysctl("net.ipv4.ip_no_pmtu_disc", "1").unwrap();
        // Less than the machine carries: what is lost is to be lost for want of a fragment.
        link::limit_rate((host, "net0"), 100).unwrap();
    }
    lab
}

fn serve_all(lab: &Lab, service: &Service) -> Server {
    let is_ipv6 = service.targets.iter().all(SocketAddr::is_ipv6);
    let ip = if is_ipv6 { topology::TARGET6.into() } else { topology::TARGET.into() };
    Server::start(&lab.topology.target, SocketAddr::new(ip, TARGET_PORT)).unwrap()
}

/// In how many segments so many bytes come that are cut in fragments, at least: a few are short.
fn long_segments(bytes: usize) -> u64 {
    (bytes / MSS * 9 / 10) as u64
}

/// What became of all fragments on their way to the POPs.
#[derive(Debug, PartialEq)]
struct Account {
    /// By routers and boxes.
    made: u64,
    /// By the POPs, into datagrams.
    reassembled: u64,
    datagrams: u64,
    /// Given up, for want of others.
    timed_out: u64,
    /// Dropped for another reason that has to do with fragments.
    refused: u64,
}

impl Account {
    /// When no fragment waits any more.
    fn of(lab: &Lab) -> Self {
        eventually("all fragments are reassembled or given up", Duration::from_secs(30), || {
            metric(lab, "anyrelay_fragments_waiting", &[]) == 0.0
        });
        let net = &lab.topology;
        let routers = [&net.client_router, &net.target_router];
        let refused = [
            "fragment",
            "fragment_malformed",
            "fragment_tiny",
            "fragment_too_long",
            "fragment_conflict",
            "fragment_duplicate",
            "fragment_too_many",
            "fragment_table_full",
            "fragment_share",
            "fragment_queue_full",
        ];
        let account = Self {
            made: routers.map(|router| snmp(router, "FragCreates")).iter().sum::<u64>()
                + net.boxes.iter().map(|cutter| cutter.done().fragments).sum::<u64>(),
            reassembled: metric(lab, "anyrelay_reassembled_fragments_total", &[]) as u64,
            datagrams: metric(lab, "anyrelay_reassembled_datagrams_total", &[]) as u64,
            timed_out: drops(lab, "fragment_timeout") as u64,
            refused: refused.iter().map(|reason| drops(lab, reason) as u64).sum(),
        };
        println!("{account:?}");
        assert_eq!(account.refused, 0, "{account:?}");
        let seen = account.reassembled + account.timed_out;
        // Queues of a machine that is busy with other things may lose a few.
        assert!(seen <= account.made && seen * 100 >= account.made * 95, "{account:?}");
        account
    }
}

/// Every segment of two transfers comes in fragments, and every one goes on.
fn all_are_reassembled(device: Device, layout: Layout, service: &Service) {
    let builder = Lab::builder().pops(1).device(device).layout(layout).overlay(REASSEMBLE);
    let lab = fragmenting(builder, service);
    let _server = serve_all(&lab, service);
    let mut connection = connect_to(&lab, service.vip);
    connection.download(1, BYTES).unwrap();
    connection.upload(2, BYTES).unwrap();
    let account = Account::of(&lab);
    let segments = long_segments(2 * BYTES);
    assert!(account.datagrams >= segments, "{account:?}: {segments} segments");
    assert!(account.timed_out * 50 <= account.made, "{account:?}");
    assert_eq!(drops(&lab, "too_big") + drops(&lab, "tcp_checksum"), 0.0);
    let handed_over = metric(&lab, "anyrelay_fragments_handed_over_total", &[]) as u64;
    match layout {
        Layout::RunToCompletion => assert_eq!(handed_over, 0, "there is one worker"),
        // A hash of the datagram says which of the two has it.
        Layout::Pipeline => assert!(handed_over * 3 >= account.made, "{handed_over}, {account:?}"),
    }
}

#[test]
fn datagrams_of_ipv4_are_reassembled() {
    all_are_reassembled(Device::Pcap, Layout::RunToCompletion, &Service::default());
}

#[test]
fn datagrams_are_reassembled_by_two_workers() {
    all_are_reassembled(Device::Pcap, Layout::Pipeline, &Service::default());
}

#[test]
fn datagrams_are_reassembled_on_xdp_sockets() {
    all_are_reassembled(Device::AfXdp, Layout::RunToCompletion, &Service::default());
}

/// The kernel does not reassemble IPv6 for packet sockets.
#[test]
fn datagrams_of_ipv6_are_reassembled() {
    let service = Service::transparent6();
    all_are_reassembled(Device::AfPacket, Layout::RunToCompletion, &service);
}

/// Up of IPv4, which go on over IPv6; down of IPv6, which go on over IPv4.
#[test]
fn datagrams_are_reassembled_between_families() {
    all_are_reassembled(Device::Pcap, Layout::Pipeline, &Service::prefix());
}

/// One packet in twelve goes to another POP than the rest: about one datagram in six is whole at
/// neither.
#[test]
fn fragments_at_two_pops_are_given_up_and_tcp_goes_on() {
    const SPRAYED: usize = 100_000;
    for (device, service) in
        [(Device::Pcap, Service::default()), (Device::AfPacket, Service::transparent6())]
    {
        let builder = Lab::builder().pops(2).device(device).overlay(REASSEMBLE);
        let mut lab = fragmenting(builder, &service);
        let server = serve_all(&lab, &service);
        let mut connection = connect_to(&lab, service.vip);
        for direction in Direction::BOTH {
            lab.routes.spray(direction, &[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]).unwrap();
        }
        connection.download(1, SPRAYED).unwrap();
        connection.upload(2, SPRAYED).unwrap();
        let account = Account::of(&lab);
        println!("longest stall {:?}", connection.longest_stall);
        assert!(account.datagrams >= long_segments(2 * SPRAYED), "{account:?}");
        // 15% of the datagrams.
        assert!(account.timed_out * 20 >= account.made, "{account:?}");
        for pop in &lab.pops {
            let timed_out = [("reason", "fragment_timeout")];
            let alone = pop.metric("anyrelay_drops_total", &timed_out).unwrap();
            assert!(alone > 0.0, "{}: {account:?}", pop.name());
        }
        for direction in Direction::BOTH {
            lab.routes.to(direction, 1).unwrap();
        }
        connection.download(3, BYTES).unwrap();
        assert_eq!(server.accepted(), 1, "the same connection");
    }
}

/// What docs/limits.md says of af_packet: no fragment of IPv4 is seen, whatever the policy is.
#[test]
fn kernels_put_ipv4_datagrams_together_on_af_packet() {
    let lab = fragmenting(Lab::builder().pops(1), &Service::default());
    let _server = serve(&lab);
    let mut connection = connect(&lab);
    connection.download(1, BYTES).unwrap();
    connection.upload(2, BYTES).unwrap();
    let segments = long_segments(2 * BYTES);
    let by_kernel = snmp(lab.pops[0].namespace(), "ReasmOKs");
    assert!(by_kernel >= segments, "{by_kernel} by the kernel, {segments} segments");
    assert_eq!(drops(&lab, "fragment"), 0.0);
}

/// Who clears DF comes to a halt where fragments are dropped; who does not learns the path's MTU.
#[test]
fn dropped_fragments_stop_only_those_who_clear_df() {
    let lab = fragmenting(Lab::builder().pops(1).device(Device::Pcap), &Service::default());
    // Sockets keep what was set when they were made.
    lab.topology.target.sysctl("net.ipv4.ip_no_pmtu_disc", "0").unwrap();
    let _server = serve(&lab);
    let mut connection = connect(&lab);
    connection.download(1, 300_000).unwrap();
    assert_eq!(drops(&lab, "fragment"), 0.0, "the target sets DF");
    let wait = Some(Duration::from_secs(2));
    connection.stream().set_read_timeout(wait).unwrap();
    connection.stream().set_write_timeout(wait).unwrap();
    let error = connection.upload(2, 300_000).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::WouldBlock, "{error}");
    let dropped = drops(&lab, "fragment");
    let made = snmp(&lab.topology.client_router, "FragCreates");
    assert!(dropped > 4.0 && dropped <= made as f64, "{dropped} of {made}");
    drop(connection);
    lab.topology.client.sysctl("net.ipv4.ip_no_pmtu_disc", "0").unwrap();
    let mut other =
        Connection::open(&lab.topology.client, VIP, crate::common::LIMIT).unwrap().unwrap();
    other.upload(3, 300_000).unwrap();
}

/// The way out becomes narrow under a live connection: the POP itself sends fragments.
#[test]
fn a_pop_fragments_what_no_longer_fits() {
    let mut lab = Lab::builder().pops(1).build().unwrap();
    for host in [&lab.topology.client, &lab.topology.target] {
        // Both clear DF.
        host.sysctl("net.ipv4.ip_no_pmtu_disc", "1").unwrap();
    }
    let _server = serve(&lab);
    let mut connection = connect(&lab);
    connection.download(1, 100_000).unwrap();
    narrow_ports(&mut lab, 1000);
    let routers = [&lab.topology.client_router, &lab.topology.target_router].map(|router| {
        let firewall = Firewall::new(router).unwrap();
        firewall.count("pieces", &format!("iifname pop1 {FRAGMENT}")).unwrap();
        firewall.count("long", "iifname pop1 meta length > 1000").unwrap();
        firewall
    });
    connection.download(2, BYTES).unwrap();
    connection.upload(3, BYTES).unwrap();
    for router in routers {
        let pieces = router.packets("pieces").unwrap();
        assert!(pieces > (BYTES / 1448) as u64, "{pieces} pieces");
        assert_eq!(router.packets("long").unwrap(), 0, "none is too long");
    }
    assert_eq!(drops(&lab, "too_big"), 0.0);
}
