//! A POP on two virtio-net NICs with two pairs of queues and RSS (net_virtio), in one guest.
#![allow(clippy::unwrap_used, missing_docs)]

mod common;

use anyrelay_kit::config::Table;
use anyrelay_vm::{Model, Vm};

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
        routers_that_forgot_the_pop_find_it_again(&mut vm);
        two_queues_are_filled(&mut vm);
        let metrics = vm.metrics().unwrap();
        let drops = metrics.sum("anyrelay_drops_total", &[("reason", "tcp_checksum")]);
        assert!(drops == 0.0, "{layout}: {drops} wrong checksums");
        vm.stop_pop().unwrap();
    }
}
