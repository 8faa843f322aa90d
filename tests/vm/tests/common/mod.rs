//! What every NIC must do. No test uses all of it.
#![allow(dead_code)]

use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, Instant};

use anyrelay_kit::config::PopConfig;
use anyrelay_kit::frames::{ACK, Tcp, framed, ip};
use anyrelay_lab::packet::PacketSocket;
use anyrelay_lab::traffic::Connection;
use anyrelay_vm::{VIP, VIP4, VIP6, Vm};

/// How long a download may stand still, and a state may take to be noticed.
pub const LIMIT: Duration = Duration::from_secs(10);
pub const BODY: usize = 1 << 20;

/// What each NIC is asked to do, in this order; the POP of `config` runs, and has stopped then.
pub fn a_pop_lives(vm: &mut Vm, config: &PopConfig) {
    routers_that_forgot_the_pop_find_it_again(vm);
    a_cable_is_pulled_and_put_back(vm);
    connections_survive_a_kill(vm, config);
    vm.stop_pop().unwrap();
    for mtu in [2500, 9000] {
        large_frames_pass(vm, config, mtu);
    }
    vm.network.set_mtu(1500).unwrap();
}

/// A body from each service.
pub fn downloads(vm: &Vm) {
    for vip in [VIP, VIP6] {
        vm.download(vip, BODY, LIMIT).unwrap();
    }
}

/// Segments with a wrong TCP checksum are dropped by the verdict of the NIC.
pub fn the_nic_finds_wrong_checksums(vm: &mut Vm) {
    const COUNT: usize = 20;
    let (client, vip) = (ip("198.18.0.9"), ip("203.0.113.10"));
    let socket = PacketSocket::open(&vm.network.client, "wan").unwrap();
    for port in 2000..2000 + COUNT as u16 {
        let mut datagram = Tcp::new((client, port), (vip, 443), ACK).stamped(1, 2).datagram();
        datagram[36] ^= 0x55; // The TCP checksum, after 20 bytes of IPv4.
        let (nic, router) = ([0x52, 0x54, 0, 0, 0, 1], [2, 0, 0, 0, 0, 9]);
        assert!(socket.send(&framed(nic, router, None, &datagram)));
    }
    let labels = [("reason", "tcp_checksum"), ("port", "wan")];
    let start = Instant::now();
    loop {
        let drops = vm.metrics().unwrap().sum("anyrelay_drops_total", &labels);
        if drops >= COUNT as f64 {
            break;
        }
        assert!(start.elapsed() < LIMIT, "{drops} drops: {}", vm.drops().unwrap());
    }
}

/// A router that has forgotten the POP solicits it by a group, which the NIC must pass.
pub fn routers_that_forgot_the_pop_find_it_again(vm: &mut Vm) {
    vm.network.flush_neighbours().unwrap();
    downloads(vm);
    assert_eq!(vm.readiness().unwrap(), "ready");
}

/// The POP is not ready while the link of a port is down.
fn a_cable_is_pulled_and_put_back(vm: &mut Vm) {
    for port in vm.ports() {
        vm.machine.set_link(port, false).unwrap();
        vm.wait_unready(&format!("port {port}: the link is down"), LIMIT).unwrap();
        vm.machine.set_link(port, true).unwrap();
        vm.wait_ready(LIMIT).unwrap();
        downloads(vm);
    }
}

/// After kill -9 the next POP takes the NIC as it was left, and connections go on.
fn connections_survive_a_kill(vm: &mut Vm, config: &PopConfig) {
    let mut connection = Connection::open(&vm.network.client, VIP, LIMIT).unwrap().unwrap();
    connection.download(1, BODY).unwrap();
    vm.signal_pop("KILL").unwrap();
    vm.wait_end().unwrap();
    vm.start_pop(config).unwrap();
    connection.download(2, BODY).unwrap();
    downloads(vm);
}

/// Frames of this MTU pass both ways.
fn large_frames_pass(vm: &mut Vm, config: &PopConfig, mtu: u16) {
    vm.network.set_mtu(mtu).unwrap();
    let large = ["wan", "lan"]
        .into_iter()
        .fold(config.clone(), |config, port| config.setting(port, "mtu", mtu));
    vm.start_pop(&large).unwrap();
    let own = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 2));
    let answered = vm.network.ping(own, mtu, 3).unwrap();
    assert_eq!(answered, 3, "MTU {mtu}: {}", vm.drops().unwrap());
    downloads(vm);
    let dropped = vm.metrics().unwrap();
    let dropped = dropped.sum("anyrelay_drops_total", &[("reason", "not_contiguous")]);
    assert!(dropped == 0.0, "MTU {mtu}: {dropped} frames are scattered");
    vm.stop_pop().unwrap();
}

/// 100 clients are spread over the two queues of each port, each with a worker of its own. The POP
/// samples its ports once a second.
pub fn two_queues_are_filled(vm: &mut Vm) {
    vm.download_by_clients(VIP4, 100).unwrap();
    let start = Instant::now();
    loop {
        let metrics = vm.metrics().unwrap();
        let busy = |port, number| {
            let queue = [("port", port), ("queue", number)];
            let worker = [("port", port), ("worker", number), ("direction", "rx")];
            metrics.sum("anyrelay_port_rx_queue_packets_total", &queue) > 100.0
                && metrics.sum("anyrelay_port_packets_total", &worker) > 100.0
        };
        if vm.ports().into_iter().all(|port| busy(port, "0") && busy(port, "1")) {
            break;
        }
        assert!(start.elapsed() < LIMIT, "{metrics:?}");
        std::thread::sleep(Duration::from_millis(200));
    }
}

/// The guest's kernel cannot unplug a NIC before the POP has released it.
pub fn a_nic_is_unplugged(vm: &mut Vm) {
    vm.machine.unplug("lan").unwrap();
    vm.wait_end().unwrap();
    let log = vm.pop_log().unwrap();
    assert!(log.contains("port \"lan\": the kernel asks for its NIC back"), "{log}");
    let device = format!("/sys/bus/pci/devices/{}", vm.nics.address(1));
    let gone =
        format!("for i in $(seq 100); do [ -e {device} ] || exit 0; sleep 0.1; done; exit 1");
    vm.guest.run(&gone).unwrap();
}
