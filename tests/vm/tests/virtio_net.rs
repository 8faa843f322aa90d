//! A POP on two virtio-net NICs with two pairs of queues and RSS (net_virtio), in one guest.
#![allow(clippy::unwrap_used, missing_docs)]

mod common;

use std::time::{Duration, Instant};

use anyrelay_kit::config::Table;
use anyrelay_vm::{Model, VIP4, Vm};

use common::*;

#[test]
fn two_queues_feed_two_workers_in_both_layouts() {
    let mut vm = Vm::builder(Model::VirtioNet).queues(2).start().unwrap();
    for layout in ["run-to-completion", "pipeline"] {
        let kind = Table::default().with("kind", layout).with("idle", "backoff");
        let config = vm.config(2, 2).other("layout", kind);
        vm.start_pop(&config).unwrap();
        // The host's kernel leaves the checksums of its own segments to the device, unless the
        // driver asks for finished ones.
        downloads(&vm);
        vm.download_by_clients(VIP4, 100).unwrap();
        routers_that_forgot_the_pop_find_it_again(&mut vm);
        let busy = each_queue_and_worker_is_busy(&mut vm);
        assert!(busy, "{layout}: {:?}", vm.metrics().unwrap());
        let metrics = vm.metrics().unwrap();
        let drops = metrics.sum("anyrelay_drops_total", &[("reason", "tcp_checksum")]);
        assert!(drops == 0.0, "{layout}: {drops} wrong checksums");
        vm.stop_pop().unwrap();
    }
}

/// Whether all queues of all ports, and the worker of each, have received frames. 100 clients
/// spread over two queues by a hash. The POP samples its ports once a second.
fn each_queue_and_worker_is_busy(vm: &mut Vm) -> bool {
    let start = Instant::now();
    while start.elapsed() < LIMIT {
        let metrics = vm.metrics().unwrap();
        let busy = |port, number| {
            let queue = [("port", port), ("queue", number)];
            let worker = [("port", port), ("worker", number), ("direction", "rx")];
            metrics.sum("anyrelay_port_rx_queue_packets_total", &queue) > 100.0
                && metrics.sum("anyrelay_port_packets_total", &worker) > 100.0
        };
        if vm.ports().into_iter().all(|port| busy(port, "0") && busy(port, "1")) {
            return true;
        }
        std::thread::sleep(Duration::from_millis(200));
    }
    false
}
