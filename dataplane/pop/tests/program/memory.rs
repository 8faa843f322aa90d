//! Memory does not grow with connections: a capture of distinct connections is streamed through
//! `anyrelay run`, and the memory after the first ten thousand is compared with that after the
//! last.
//!
//! A million connections with `ANYRELAY_FULL=1`, otherwise a hundred thousand. DPDK's net_pcap
//! reads the capture from a FIFO, so that it is never stored.
use std::fs::{self, File, OpenOptions};
use std::io::{BufWriter, Write};
use std::net::Ipv4Addr;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::common::pcap::{SYN, WITH_TIMESTAMPS, capture, segment};
use crate::common::{Config, Folder, Pop, WAN_MAC};

/// Whole bursts of net_pcap, which waits for complete ones.
const WARM_UP: u32 = 157 * 64;
const CONNECTIONS: u32 = 1_563 * 64;
const CONNECTIONS_FULL: u32 = 15_625 * 64;

/// The maximum growth, in KiB.
const GROWTH_MAX_KIB: u64 = 1024;

const _: () = assert!(WARM_UP > 10_000 && CONNECTIONS > 100_000 && CONNECTIONS_FULL == 1_000_000);

/// The memory of a process, in KiB (proc(5), `/proc/PID/status`).
#[derive(Clone, Copy, Debug)]
struct Memory {
    resident: u64,
    peak: u64,
}

impl Memory {
    fn of(pid: u32) -> Memory {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        let value = |key: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(key)).unwrap();
            line.trim().strip_suffix("kB").unwrap().trim().parse().unwrap()
        };
        Memory { resident: value("VmRSS:"), peak: value("VmHWM:") }
    }
}

/// Writes connections into the POP's capture.
struct Stream {
    fifo: BufWriter<File>,
    header_len: usize,
    written: u32,
}

impl Stream {
    /// Creates the FIFO, with the capture's header in it.
    fn create(path: &Path) -> Stream {
        assert!(Command::new("mkfifo").arg(path).status().unwrap().success());
        // Open for reading too, so that opening does not wait for the POP.
        let fifo = OpenOptions::new().read(true).write(true).open(path).unwrap();
        let mut fifo = BufWriter::with_capacity(64 * 1024, fifo);
        let header = capture(&[]);
        fifo.write_all(&header).unwrap();
        fifo.flush().unwrap();
        Stream { fifo, header_len: header.len(), written: 0 }
    }

    /// Writes SYNs of new clients until there are `total`.
    fn write_up_to(&mut self, total: u32) {
        while self.written < total {
            let frame = syn(self.written);
            let record = capture(&[frame]);
            self.fifo.write_all(&record[self.header_len..]).unwrap();
            self.written += 1;
        }
        self.fifo.flush().unwrap();
    }
}

/// The first segment of connection `number`; each has another address and port.
fn syn(number: u32) -> Vec<u8> {
    let ip = Ipv4Addr::from_bits(0xc612_0000 + number / 1000);
    let port = u16::try_from(1024 + number % 1000).unwrap();
    let vip = Ipv4Addr::new(203, 0, 113, 10);
    segment(WAN_MAC, (ip, port), (vip, 443), SYN, WITH_TIMESTAMPS)
}

#[test]
fn memory_does_not_grow_with_connections() {
    let full = std::env::var_os("ANYRELAY_FULL").is_some();
    let total = if full { CONNECTIONS_FULL } else { CONNECTIONS };
    let folder = Folder::new();
    let path = folder.path("connections.pcap");
    let mut stream = Stream::create(&path);
    let mut config = Config::new();
    config.wan = format!("net_pcap0,rx_pcap={}", path.display());
    // Every frame is a SYN, and they arrive as fast as they are written.
    config.services += "[limits]\nsyn_per_prefix_per_second = 100000000\n";
    config.services += "syn_per_service_per_second = 100000000\n";
    let file = folder.pop(&config);
    // Not ready: until there is input, the driver keeps the worker from a turn of its loop.
    let mut pop = Pop::spawn(&file, config.metrics, &[]);
    pop.wait_for("to listen", |pop| pop.get("/healthz").is_some_and(|(status, _)| status == 200));

    stream.write_up_to(WARM_UP);
    wait_for_connections(&mut pop, WARM_UP);
    let before = Memory::of(pop.pid());
    stream.write_up_to(total);
    wait_for_connections(&mut pop, total);
    let after = Memory::of(pop.pid());
    let drops = pop.metrics().drops();
    // Its end unblocks the worker, which waits for input.
    drop(stream);
    pop.stop();

    assert!(drops.is_empty(), "{drops:?}");
    println!("{total} connections: {before:?} after {WARM_UP}, {after:?} at the end, in KiB");
    assert!(after.resident.abs_diff(before.resident) <= GROWTH_MAX_KIB, "{before:?} {after:?}");
    assert!(after.peak.abs_diff(before.peak) <= GROWTH_MAX_KIB, "{before:?} {after:?}");
}

/// Waits until the POP has forwarded `total` connections. Sent frames are counted last.
fn wait_for_connections(pop: &mut Pop, total: u32) {
    let up = [("service", "web"), ("direction", "up")];
    let sent = [("port", "lan"), ("direction", "tx")];
    let mut page = pop.metrics();
    let limit = Duration::from_secs(120);
    pop.wait_up_to(limit, &format!("to send {total} connections on"), |pop| {
        page = pop.metrics();
        page.sum("anyrelay_port_packets_total", &sent) >= u64::from(total)
    });
    assert_eq!(page.sum("anyrelay_port_packets_total", &sent), u64::from(total));
    assert_eq!(page.sum("anyrelay_service_packets_total", &up), u64::from(total));
}
