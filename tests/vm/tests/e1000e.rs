//! A POP on two Intel 82574L (net_e1000_em): what every NIC must do, in one guest.
#![allow(clippy::unwrap_used, missing_docs)]

mod common;

use std::time::Duration;

use anyrelay_kit::config::PopConfig;
use anyrelay_vm::{Model, NicOptions, Vm};

use common::*;

#[test]
fn a_pop_lives_on_a_nic() {
    let mut vm = Vm::builder(Model::E1000e).companion().start().unwrap();
    let config = vm.config(1, 1);
    refusals_name_the_remedy(&mut vm, &config);

    vm.start_pop(&config).unwrap();
    downloads(&vm);
    a_second_pop_is_told_of_the_first(&mut vm);
    the_nic_finds_wrong_checksums(&mut vm);
    a_pop_lives(&mut vm, &config);
    vm.start_pop(&config).unwrap();
    a_nic_is_unplugged(&mut vm);
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

    let nic = vm.nics.address(0);
    vm.guest.run(&format!("echo {nic} >/sys/bus/pci/drivers/vfio-pci/unbind")).unwrap();
    let log = vm.refused_pop(config).unwrap();
    let remedy = format!("bound to no driver: bind it with `scripts/bind-nic bind {nic}`");
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
