//! Warnings for the operator in the log, derived from workers' counters.
use std::fs;
use std::net::Ipv4Addr;

use crate::common::{Config, Folder, LAN_MAC, Pop, pcap};

#[test]
fn a_target_without_timestamps_is_warned_of_and_gets_a_rst() {
    let folder = Folder::new();
    let target = (Ipv4Addr::new(198, 51, 100, 10), 8443);
    let egress = (Ipv4Addr::new(100, 64, 8, 7), 2000);
    let without = pcap::segment(LAN_MAC, target, egress, pcap::SYN_ACK, pcap::WITHOUT_TIMESTAMPS);
    let (input, output) = (folder.path("in.pcap"), folder.path("out.pcap"));
    fs::write(&input, pcap::capture(&[without.clone(), without])).unwrap();
    let mut config = Config::new();
    config.lan = format!("net_pcap1,rx_pcap={},tx_pcap={}", input.display(), output.display());
    let mut pop = Pop::start(&folder.pop(&config), config.metrics, &[]);
    // One warning, or one for each if the first was counted earlier.
    pop.wait_for("to warn of both", |pop| {
        let log = pop.log();
        // The last line may be incomplete.
        let lines = log.split_inclusive('\n').filter(|line| line.ends_with('\n'));
        let of_reason = lines.filter(|line| line.contains("target_without_timestamps"));
        let counts = of_reason.map(|line| {
            for part in ["WARN", "service=\"web\"", "sysctl net.ipv4.tcp_timestamps=1"] {
                assert!(line.contains(part), "{part} in {line}");
            }
            let count = line.split_once("count=").unwrap().1;
            count.split(' ').next().unwrap().trim().parse::<u64>().unwrap()
        });
        counts.sum::<u64>() == 2
    });
    pop.wait_for_frames(2);
    let metrics = pop.metrics();
    let reason = ("reason", "target_without_timestamps");
    assert_eq!(metrics.sum("anyrelay_service_drops_total", &[reason, ("service", "web")]), 2);
    assert_eq!(metrics.sum("anyrelay_drops_total", &[reason, ("port", "lan")]), 2);
    pop.stop();
    let sent = pcap::frames(&fs::read(&output).unwrap());
    let resets: Vec<_> = sent.iter().filter(|frame| frame[23] == 6 && frame[47] & 4 != 0).collect();
    assert_eq!(resets.len(), 2, "a RST for each");
    assert_eq!(resets[0][30..34], target.0.octets());
}

#[test]
fn fewer_buffers_than_their_holders_take_are_warned_of() {
    const WARNING: &str = "dpdk.mbufs: rings, caches, queues and fragments can hold more";
    let folder = Folder::new();
    let mut config = Config::new();
    config.fragments = "reassemble";
    config.layout = "pipeline";
    config.workers = vec![r#""wan:0""#, r#""lan:0""#];
    // A queue for each port, and for each worker: its table and queue of fragments, its cache, and
    // bursts of two output ports and one input.
    let wanted = 2 * 2048 + 2 * (2048 + 1024 + 256 * 3 / 2 + 64 * 3);
    for (mbufs, warns) in [(wanted - 1, true), (wanted, false)] {
        config.mbufs = mbufs;
        let mut pop = Pop::start(&folder.pop(&config), config.metrics, &[]);
        pop.stop();
        let log = pop.log();
        let line = log.lines().find(|line| line.contains(WARNING));
        assert_eq!(line.is_some(), warns, "{mbufs}: {log}");
        let is_it = |line: &str| line.contains(&format!("has={mbufs} wanted={wanted}"));
        assert!(line.is_none_or(is_it), "{line:?}");
    }
    // A single worker hands no fragment over.
    config.workers = vec![r#""wan:0", "lan:0""#];
    config.layout = "run-to-completion";
    config.mbufs = 2 * 2048;
    let mut pop = Pop::start(&folder.pop(&config), config.metrics, &[]);
    pop.stop();
    let wanted = 2048 + 256 * 3 / 2 + 64 * 3;
    assert!(wanted <= config.mbufs && !pop.log().contains(WARNING), "{}", pop.log());
}
