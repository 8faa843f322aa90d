//! Ports of the driver net_null, which receives empty frames without end and discards those that it
//! sends; and reports and refusals of ports.

use crate::common::{open, pool};
use dpdk::{
    Burst, Device, Eal, Mempool, MempoolConfig, Port, PortError, PortSettings, data_room_for_mtu,
};

#[test]
fn null_ports() {
    let eal = crate::common::eal();
    let pool = pool(&eal, "null", 1023);
    receives_and_sends(&eal, &pool);
    gives_each_queue_out_once(&eal, &pool);
    hashes_only_for_several_queues(&eal, &pool);
    refuses_what_cannot_work(&eal, &pool);
    takes_large_frames_in_one_piece(&eal);
    assert_eq!(pool.in_use(), 0);
}

fn receives_and_sends(eal: &Eal, pool: &Mempool) {
    let (port, mut rx, mut tx) = open(eal, "net_null0,size=66", pool);
    assert_eq!((port.driver(), port.name()), ("net_null", "net_null0"));
    assert_eq!((rx.index(), tx.port_name()), (0, "net_null0"));
    let mut burst = Burst::new();
    for _ in 0..100 {
        assert_eq!(rx.receive_up_to(&mut burst, 10), 10);
        assert_eq!(rx.receive(&mut burst), 54, "the rest of the burst's room");
        assert_eq!(rx.receive(&mut burst), 0, "a full burst takes nothing");
        assert!(burst.as_slice().iter().all(|mbuf| mbuf.len() == 66));
        assert_eq!(tx.send(&mut burst), 64);
    }
    let stats = port.stats().unwrap();
    assert_eq!((stats.rx_frames, stats.tx_frames), (6400, 6400));

    // Handles may be dropped in any order; the port closes with the last of them.
    drop(port);
    drop(tx);
    assert_eq!(rx.receive(&mut burst), 64);
    drop(rx);
    burst.clear();
    assert_eq!(pool.in_use(), 0);
}

fn gives_each_queue_out_once(eal: &Eal, pool: &Mempool) {
    let device: Device = "net_null0".parse().unwrap();
    let config = PortSettings { rx_queues: 3, tx_queues: 2, ..PortSettings::new(pool.clone()) };
    let (port, rx, tx) = Port::open(eal, &device, &config).unwrap();
    assert_eq!(rx.iter().map(|queue| queue.index()).collect::<Vec<_>>(), [0, 1, 2]);
    assert_eq!(tx.iter().map(|queue| queue.index()).collect::<Vec<_>>(), [0, 1]);

    let again = Port::open(eal, &device, &config).unwrap_err();
    assert!(matches!(again, PortError::AlreadyOpen { .. }), "{again}");
    // One queue handle alone keeps the port open.
    drop((port, tx));
    let last = rx.into_iter().next_back().unwrap();
    let again = Port::open(eal, &device, &config).unwrap_err();
    assert!(matches!(again, PortError::AlreadyOpen { .. }), "{again}");
    drop(last);
    let (port, ..) = Port::open(eal, &device, &config).unwrap();
    assert_eq!(port.name(), "net_null0");
}

fn hashes_only_for_several_queues(eal: &Eal, pool: &Mempool) {
    let device: Device = "net_null0".parse().unwrap();
    let one = PortSettings::new(pool.clone());
    let (port, ..) = Port::open(eal, &device, &one).unwrap();
    let capabilities = port.capabilities();
    assert!(capabilities.rss_offered.tcp_ipv4() && capabilities.rss_set.is_empty());
    assert!(capabilities.max_rx_queues >= 4 && capabilities.max_mtu >= 1500);
    drop(port);

    let four = PortSettings { rx_queues: 4, ..one.clone() };
    let (port, ..) = Port::open(eal, &device, &four).unwrap();
    let set = port.capabilities().rss_set;
    assert!(set.ipv4() && set.tcp_ipv4() && set.ipv6() && set.tcp_ipv6());
    assert_eq!(format!("{set:?}"), r#"["ipv4", "ipv4-tcp", "ipv6", "ipv6-tcp"]"#);
    drop(port);

    let off = PortSettings { rss: false, ..four };
    let (port, ..) = Port::open(eal, &device, &off).unwrap();
    assert!(port.capabilities().rss_set.is_empty());
    assert!(!port.capabilities().rx_offloads_set.has_rx_tcp_checksum(), "net_null checks nothing");
}

fn refuses_what_cannot_work(eal: &Eal, pool: &Mempool) {
    let device: Device = "net_null0".parse().unwrap();
    let good = PortSettings::new(pool.clone());
    for (config, says) in [
        (PortSettings { rx_queues: 0, ..good.clone() }, "port net_null0: 0 queues; at least 1"),
        (
            PortSettings { rx_queues: 5000, ..good.clone() },
            "5000 RX queues asked for, driver net_null",
        ),
        (
            PortSettings { tx_queues: 5000, ..good.clone() },
            "5000 TX queues asked for, driver net_null",
        ),
        (PortSettings { mtu: 40, ..good.clone() }, "MTU 40, driver net_null can do 46 to"),
        (
            PortSettings { mtu: 9000, ..good.clone() },
            "frames of MTU 9000 take 9026 bytes, an mbuf of pool null holds 2048",
        ),
        (
            PortSettings { rx_queues: 3, pools: vec![pool.clone(); 2], ..good.clone() },
            "2 pools for 3 RX queues",
        ),
        (PortSettings { tx_descriptors: 0, ..good.clone() }, "0 descriptors"),
    ] {
        let error = Port::open(eal, &device, &config).unwrap_err().to_string();
        assert!(error.contains(says), "{error:?} does not say {says:?}");
    }
    // Each refusal unplugged the device.
    let (port, ..) = Port::open(eal, &device, &good).unwrap();
    let error = port.set_mac([1, 0, 0, 0, 0, 1]).unwrap_err();
    assert!(error.to_string().contains("port net_null0: setting the Ethernet address failed"));
}

fn takes_large_frames_in_one_piece(eal: &Eal) {
    let config = MempoolConfig { mbufs: 127, cache: 0, data_room: data_room_for_mtu(9000) };
    let jumbo = Mempool::new(eal, "jumbo", &config).unwrap();
    let device: Device = "net_null1,size=9014".parse().unwrap();
    let config = PortSettings { mtu: 9000, ..PortSettings::new(jumbo.clone()) };
    let (port, mut rx, _tx) = Port::open(eal, &device, &config).unwrap();
    assert_eq!(port.mtu().unwrap(), 9000);
    let mut burst = Burst::new();
    assert_eq!(rx[0].receive(&mut burst), 64);
    assert!(burst.as_slice().iter().all(|mbuf| mbuf.is_contiguous() && mbuf.len() == 9014));
}
