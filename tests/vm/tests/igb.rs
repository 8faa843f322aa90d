//! A POP on two Intel 82576 (net_e1000_igb), in one guest. QEMU has this NIC from version 8, and
//! Debian 12 such a QEMU in its backports, from where `scripts/setup --full` gets it.
#![allow(clippy::unwrap_used, missing_docs)]

mod common;

use anyrelay_vm::{Model, Vm};

use common::*;

#[test]
fn a_pop_lives_on_a_nic() {
    let mut vm = Vm::builder(Model::Igb).start().unwrap();
    let config = vm.config(1, 1);
    vm.start_pop(&config).unwrap();
    downloads(&vm);
    the_nic_finds_wrong_checksums(&mut vm);
    a_pop_lives(&mut vm, &config);

    let config = vm.config(2, 2);
    vm.start_pop(&config).unwrap();
    two_queues_are_filled(&mut vm);
    a_nic_is_unplugged(&mut vm);
}
