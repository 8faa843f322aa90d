//! A POP on two Intel 82576 (net_e1000_igb), in one guest. QEMU has this NIC from version 8, and
//! Debian 12 such a QEMU in its backports, from where `scripts/setup --full` gets it.
#![allow(clippy::unwrap_used, missing_docs)]

mod common;

use anyrelay_vm::{Model, VIP4, Vm};

use common::*;

#[test]
fn a_pop_lives_on_a_nic() {
    let mut vm = Vm::builder(Model::Igb).start().unwrap();
    let config = vm.config(1, 1);
    vm.start_pop(&config).unwrap();
    downloads(&vm);
    the_nic_finds_wrong_checksums(&mut vm);
    routers_that_forgot_the_pop_find_it_again(&mut vm);
    a_cable_is_pulled_and_put_back(&mut vm);
    connections_survive_a_kill(&mut vm, &config);
    vm.stop_pop().unwrap();
    for mtu in [2500, 9000] {
        large_frames_pass(&mut vm, &config, mtu);
    }
    vm.network.set_mtu(1500).unwrap();
    several_queues_are_filled(&mut vm);
    vm.start_pop(&config).unwrap();
    a_nic_is_unplugged(&mut vm);
}

/// The NIC spreads connections over its queues, each with a worker.
fn several_queues_are_filled(vm: &mut Vm) {
    let config = vm.config(2, 2);
    vm.start_pop(&config).unwrap();
    vm.download_by_clients(VIP4, 100).unwrap();
    let metrics = vm.metrics().unwrap();
    for port in vm.ports() {
        for queue in ["0", "1"] {
            let labels = [("port", port), ("queue", queue)];
            let frames = metrics.sum("anyrelay_port_rx_queue_packets_total", &labels);
            assert!(frames > 100.0, "{port}:{queue} received {frames} frames");
        }
    }
    vm.stop_pop().unwrap();
}
