//! A POP on two Intel 82574L (net_e1000_em): what every NIC must do.
#![allow(clippy::unwrap_used, missing_docs)]

use std::time::Duration;

use anyrelay_vm::{Model, VIP, VIP6, Vm};

const LIMIT: Duration = Duration::from_secs(10);
const BODY: usize = 1 << 20;

#[test]
fn a_pop_forwards() {
    let mut vm = Vm::builder(Model::E1000e).start().unwrap();
    let config = vm.config(1, 1);
    vm.start_pop(&config).unwrap();
    for vip in [VIP, VIP6] {
        vm.download(vip, BODY, LIMIT).unwrap();
    }
    vm.stop_pop().unwrap();
}
