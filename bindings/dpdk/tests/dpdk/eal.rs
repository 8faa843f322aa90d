//! EAL starts once; errors name the wrong arguments of EAL and of ports.

use crate::common::pool;
use dpdk::{Device, Eal, EalError, Mempool, MempoolConfig, Port, PortError, PortSettings};

#[test]
fn eal_and_its_refusals() {
    let nul = Eal::init(&["--no-\0huge".to_owned()]).unwrap_err();
    assert!(matches!(nul, EalError::Argument { .. }), "{nul}");

    let eal = crate::common::eal();
    assert!(Eal::version().starts_with("DPDK 22.11"), "{}", Eal::version());
    let second = Eal::init(&[]).unwrap_err();
    assert!(matches!(second, EalError::AlreadyInitialised), "{second}");

    bad_devices_are_named(&eal);
    bad_pools_are_named(&eal);

    // EAL cannot be started again, also not after its end.
    drop(eal);
    assert!(matches!(Eal::init(&[]).unwrap_err(), EalError::AlreadyInitialised));
}

fn bad_devices_are_named(eal: &Eal) {
    let config = PortSettings::new(pool(eal, "devices", 255));
    for (text, says) in [
        ("net_nonesuch0", "port net_nonesuch0: no device from \"net_nonesuch0\""),
        ("net_pcap0,rx_pcap=/nonexistent.pcap", "port net_pcap0: no device from"),
        ("net_af_packet0,iface=nonesuch9", "\"net_af_packet0,iface=nonesuch9\""),
        ("0000:ff:1f.7", "port 0000:ff:1f.7: no device from"),
    ] {
        let device: Device = text.parse().unwrap();
        let error = Port::open(eal, &device, &config).unwrap_err();
        assert!(matches!(error, PortError::Probe { .. }), "{error}");
        let error = error.to_string();
        assert!(error.contains(says) && error.contains("check the"), "{error:?}");
    }
}

fn bad_pools_are_named(eal: &Eal) {
    let good = MempoolConfig { mbufs: 255, cache: 0, ..MempoolConfig::default() };
    let first = Mempool::new(eal, "twice", &good).unwrap();
    for (name, config, says) in [
        ("twice", good.clone(), "mempool twice: 255 mbufs of 2048 bytes: File exists"),
        ("huge", MempoolConfig { mbufs: 1 << 16, ..good.clone() }, "Cannot allocate memory"),
        ("none", MempoolConfig { mbufs: 0, ..good.clone() }, "mempool none: 0 mbufs"),
        ("cache", MempoolConfig { cache: 171, ..good.clone() }, "two thirds of the 255 mbufs"),
        ("wide", MempoolConfig { mbufs: 4095, cache: 513, ..good.clone() }, "512 at most"),
        ("room", MempoolConfig { data_room: u16::MAX, ..good.clone() }, "data room of 65535"),
        ("nul\0", good.clone(), "NUL byte"),
    ] {
        let error = Mempool::new(eal, name, &config).unwrap_err().to_string();
        assert!(error.contains(says), "{error:?} does not say {says:?}");
    }
    // Dropping the pool frees its name.
    drop(first);
    Mempool::new(eal, "twice", &good).unwrap();
}
