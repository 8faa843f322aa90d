//! A POP on two Intel 82574L (net_e1000_em): what every NIC must do, in one guest.
#![allow(clippy::unwrap_used, missing_docs)]

use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, Instant};

use anyrelay_kit::config::PopConfig;
use anyrelay_kit::frames::{ACK, Tcp, framed, ip};
use anyrelay_lab::packet::PacketSocket;
use anyrelay_lab::traffic::Connection;
use anyrelay_vm::{Model, NicOptions, VIP, VIP6, Vm};

/// How long a download may stand still, and a state may take to be noticed.
const LIMIT: Duration = Duration::from_secs(10);
const BODY: usize = 1 << 20;

#[test]
fn a_pop_lives_on_a_nic() {
    let mut vm = Vm::builder(Model::E1000e).companion().start().unwrap();
    let config = vm.config(1, 1);
    refusals_name_the_remedy(&mut vm, &config);

    vm.start_pop(&config).unwrap();
    downloads(&vm);
    a_second_pop_is_told_of_the_first(&mut vm);
    the_nic_finds_wrong_checksums(&mut vm);
    routers_that_forgot_the_pop_find_it_again(&mut vm);
    a_cable_is_pulled_and_put_back(&mut vm);
    connections_survive_a_kill(&mut vm, &config);
    vm.stop_pop().unwrap();
    for mtu in [2500, 9000] {
        large_frames_pass(&mut vm, &config, mtu);
    }
    vm.network.set_mtu(1500).unwrap();
    vm.start_pop(&config).unwrap();
    a_nic_is_unplugged(&mut vm);
}

fn downloads(vm: &Vm) {
    for vip in [VIP, VIP6] {
        vm.download(vip, BODY, LIMIT).unwrap();
    }
}

/// Each start that cannot succeed ends with what is wrong and what to do about it.
fn refusals_name_the_remedy(vm: &mut Vm, config: &PopConfig) {
    let pages = "/proc/sys/vm/nr_hugepages";
    let before = vm.guest.run(&format!("cat {pages}; echo 0 >{pages}")).unwrap();
    let log = vm.refused_pop(config).unwrap();
    assert!(log.contains("`scripts/hugepages reserve 256M`"), "{log}");
    vm.guest.run(&format!("echo {} >{pages}", before.trim())).unwrap();

    let companion = NicOptions::companion_address();
    let log = vm.refused_pop(config).unwrap();
    assert!(log.contains("is not viable, because the kernel uses others of the group"), "{log}");
    assert!(log.contains(&format!("{companion} (driver virtio-pci)")), "{log}");
    // What EAL says of the device, it says once.
    assert_eq!(log.matches("VFIO group is not viable").count(), 1, "{log}");
    vm.guest.run(&format!("echo {companion} >/sys/bus/pci/drivers/virtio-pci/unbind")).unwrap();

    let nic = NicOptions::address(0);
    vm.guest.run(&format!("echo {nic} >/sys/bus/pci/drivers/vfio-pci/unbind")).unwrap();
    let log = vm.refused_pop(config).unwrap();
    let remedy =
        format!("bound to no driver: bind it with `dpdk-devbind.py --bind=vfio-pci {nic}`");
    assert!(log.contains(&remedy), "{log}");
    vm.bind().unwrap();
}

fn a_second_pop_is_told_of_the_first(vm: &mut Vm) {
    let script = "cd /etc/anyrelay
        sed -e s/9100/9101/ -e 's/memory_mb = .*/memory_mb = 64/' -e 's/mbufs = .*/mbufs = 4096/' \
            pop.toml >second.toml
        timeout 20 anyrelay run --config second.toml 2>&1";
    let output = vm.guest.output(script, Duration::from_secs(30)).unwrap();
    assert_eq!(output.status, 1, "{}", output.text);
    assert!(output.text.contains("another process has its IOMMU group"), "{}", output.text);
    assert_eq!(vm.readiness().unwrap(), "ready");
    downloads(vm);
}

/// Segments with a wrong TCP checksum are dropped by the verdict of the NIC.
fn the_nic_finds_wrong_checksums(vm: &mut Vm) {
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
fn routers_that_forgot_the_pop_find_it_again(vm: &mut Vm) {
    vm.network.flush_neighbours().unwrap();
    downloads(vm);
    assert_eq!(vm.readiness().unwrap(), "ready");
}

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

/// The guest's kernel cannot unplug a NIC before the POP has released it.
fn a_nic_is_unplugged(vm: &mut Vm) {
    vm.machine.unplug("lan").unwrap();
    vm.wait_end().unwrap();
    let log = vm.pop_log().unwrap();
    assert!(log.contains("port \"lan\": the kernel asks for its NIC back"), "{log}");
    let device = format!("/sys/bus/pci/devices/{}", NicOptions::address(1));
    let gone =
        format!("for i in $(seq 100); do [ -e {device} ] || exit 0; sleep 0.1; done; exit 1");
    vm.guest.run(&gone).unwrap();
}
