//! A POP on two vmxnet3 NICs (net_vmxnet3), in one guest.
#![allow(clippy::unwrap_used, missing_docs)]

mod common;

use anyrelay_vm::{Model, VIP, VIP4, Vm};

use common::*;

#[test]
fn the_port_opens_and_carries_traffic() {
    let mut vm = Vm::builder(Model::Vmxnet3).start().unwrap();
    let config = vm.config(1, 1);
    vm.start_pop(&config).unwrap();
    downloads(&vm);
    vm.download_by_clients(VIP4, 50).unwrap();
    a_pop_lives(&mut vm, &config);

    // This device puts all frames into its first queue, whatever the driver asks for.
    let config = vm.config(2, 2);
    vm.start_pop(&config).unwrap();
    vm.download(VIP, 20 * BODY, LIMIT).unwrap();
    let warning = "All frames of the port arrive in one of its queues";
    let script = format!(
        "for i in $(seq 50); do grep '{warning}' /run/pop.log && exit; sleep 0.1; done; exit 1"
    );
    let lines = vm.guest.run(&script).unwrap();
    assert!(lines.contains("port=\"lan\" queue=0 queues=2"), "{lines}");
    a_nic_is_unplugged(&mut vm);
}
