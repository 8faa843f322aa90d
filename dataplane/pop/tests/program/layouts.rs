//! Both layouts, with two workers, through the binary: the frames and the counters of a capture add
//! up.
use std::collections::HashSet;
use std::fs;
use std::net::Ipv4Addr;

use crate::common::{Config, Folder, Pop, WAN_MAC, pcap};

/// The capacity of a queue between workers, so that none is dropped.
const CLIENTS: u16 = 1500;

/// Sends a SYN of each client through a POP and returns its frames towards the target. `worker_tx`
/// are the frames that each worker is to send on the port lan.
fn relay(mut config: Config, lan_tx: &str, worker_tx: [u64; 2]) -> Vec<Vec<u8>> {
    let folder = Folder::new();
    let syns: Vec<Vec<u8>> = (0..CLIENTS)
        .map(|number| {
            let client = (Ipv4Addr::new(10, 0, (number >> 8) as u8, 9), 1000 + number);
            let vip = (Ipv4Addr::new(203, 0, 113, 10), 443);
            pcap::segment(WAN_MAC, client, vip, pcap::SYN, pcap::WITH_TIMESTAMPS)
        })
        .collect();
    let (input, nothing) = (folder.path("in.pcap"), folder.path("nothing.pcap"));
    fs::write(&input, pcap::capture(&syns)).unwrap();
    fs::write(&nothing, pcap::capture(&[])).unwrap();
    let wan_out = folder.path("wan.pcap");
    config.wan = format!("net_pcap0,rx_pcap={},tx_pcap={}", input.display(), wan_out.display());
    let lan_out: Vec<_> = lan_tx.split(',').map(|name| folder.path(name)).collect();
    let tx: String = lan_out.iter().map(|path| format!(",tx_pcap={}", path.display())).collect();
    config.lan = format!("net_pcap1,rx_pcap={}{tx}", nothing.display());

    let mut pop = Pop::start(&folder.pop(&config), config.metrics, &[]);
    let all = u64::from(CLIENTS);
    let lan_tx_packets = [("port", "lan"), ("direction", "tx")];
    pop.wait_for_frames(syns.len());
    let metrics = pop.metrics();
    assert_eq!(metrics.drops(), Vec::<String>::new());
    assert_eq!(metrics.sum("anyrelay_service_packets_total", &[("direction", "up")]), all);
    let wan_rx = [("port", "wan"), ("direction", "rx")];
    assert_eq!(metrics.sum("anyrelay_port_packets_total", &wan_rx), all);
    let bytes: usize = syns.iter().map(Vec::len).sum();
    assert_eq!(metrics.sum("anyrelay_port_bytes_total", &wan_rx), bytes as u64);
    assert_eq!(metrics.sum("anyrelay_port_packets_total", &lan_tx_packets), all);
    assert_eq!(metrics.sum("anyrelay_port_bytes_total", &lan_tx_packets), bytes as u64);
    for (worker, expected) in ["0", "1"].into_iter().zip(worker_tx) {
        let labels = [("port", "lan"), ("direction", "tx"), ("worker", worker)];
        assert_eq!(
            metrics.sum("anyrelay_port_packets_total", &labels),
            expected,
            "worker {worker}"
        );
    }
    assert_eq!(metrics.sum("anyrelay_egress_queue_overflow_total", &[]), 0);
    assert_eq!(metrics.sum("anyrelay_egress_queue_depth", &[]), 0);
    // Every frame buffer is free: the sample is taken once a second.
    pop.wait_for("to have all its buffers back", |pop| {
        pop.metrics().sum("anyrelay_frame_buffers", &[("state", "used")]) == 0
    });
    pop.stop();
    lan_out.iter().flat_map(|path| pcap::frames(&fs::read(path).unwrap())).collect()
}

/// Each client's SYN is sent once, with the same egress address, port and tag in both layouts.
fn check(frames: &[Vec<u8>]) {
    assert_eq!(frames.len(), usize::from(CLIENTS));
    let mut seen = HashSet::new();
    for frame in frames {
        assert_eq!(frame[..6], [2, 0, 0, 0, 0, 0x12], "to the target's gateway");
        assert_eq!(frame[26..29], [100, 64, 8], "from the pool");
        assert_eq!(frame[30..34], [198, 51, 100, 10]);
        assert_eq!(frame[36..38], 8443_u16.to_be_bytes());
        // Egress address, port, and TSval: options start at 54, timestamps at 60.
        let tag = &frame[62..66];
        assert!(seen.insert([&frame[26..30], &frame[34..36], tag].concat()), "twice");
    }
}

fn two_workers(layout: &'static str) -> Config {
    let mut config = Config::new();
    config.layout = layout;
    config.workers = vec![r#""wan:0""#, r#""lan:0""#];
    config
}

const ALL: u64 = CLIENTS as u64;

#[test]
fn run_to_completion_with_a_ring_for_each_worker_sends_where_it_received() {
    let frames = relay(two_workers("run-to-completion"), "lan0.pcap,lan1.pcap", [ALL, 0]);
    check(&frames);
}

#[test]
fn run_to_completion_with_one_ring_hands_over_to_its_owner() {
    let frames = relay(two_workers("run-to-completion"), "lan.pcap", [0, ALL]);
    check(&frames);
}

#[test]
fn pipeline_sends_through_the_owner() {
    // Worker 1 receives nothing and so owns both rings.
    let mut config = two_workers("pipeline");
    config.workers = vec![r#""wan:0", "lan:0""#, ""];
    check(&relay(config, "lan.pcap", [0, ALL]));
}

#[test]
fn pipeline_workers_send_through_their_own_rings() {
    // The owner of lan is the worker that does not receive from it.
    check(&relay(two_workers("pipeline"), "lan.pcap", [ALL, 0]));
}
