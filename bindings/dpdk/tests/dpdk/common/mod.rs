//! Shared by the tests: one EAL per process without hugepages, and numbered frames.

use dpdk::{Burst, Device, Eal, Mempool, MempoolConfig, Port, PortSettings, RxQueue, TxQueue};

/// Starts EAL with a file prefix of this process, so that test binaries can run in parallel.
pub fn eal() -> Eal {
    let prefix = format!("--file-prefix=dpdk-test-{}", std::process::id());
    let args = ["--no-huge", "-m", "128", "--no-pci", "--no-shconf", "--no-telemetry", "--lcores"];
    let mut args: Vec<String> = args.map(String::from).to_vec();
    args.extend([format!("0@({})", allowed_cores()), prefix]);
    Eal::init(&args).unwrap()
}

/// The cores that this process may run on, in EAL's notation, such as `0-1`. The one lcore may run
/// on any of them, so that parallel tests do not share the first.
fn allowed_cores() -> String {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
    line.unwrap().trim().to_owned()
}

/// A pool of `mbufs` frames.
pub fn pool(eal: &Eal, name: &str, mbufs: u32) -> Mempool {
    let config = MempoolConfig { mbufs, cache: 32, ..MempoolConfig::default() };
    Mempool::new(eal, name, &config).unwrap()
}

/// Opens a device with one queue each way.
pub fn open(eal: &Eal, device: &str, pool: &Mempool) -> (Port, RxQueue, TxQueue) {
    let device: Device = device.parse().unwrap();
    let (port, mut rx, mut tx) =
        Port::open(eal, &device, &PortSettings::new(pool.clone())).unwrap();
    assert_eq!((rx.len(), tx.len()), (1, 1));
    (port, rx.pop().unwrap(), tx.pop().unwrap())
}

/// The contents of frame `number`: the number, then bytes and a length derived from it.
pub fn contents(number: u32) -> Vec<u8> {
    let len = 60 + number as usize % 1400;
    let mut bytes = number.to_be_bytes().to_vec();
    bytes.extend((4..len).map(|i| (i as u32).wrapping_mul(number | 1) as u8));
    bytes
}

/// A burst of the frames `from..to`.
pub fn burst_of(pool: &Mempool, from: u32, to: u32) -> Burst {
    let mut burst = Burst::new();
    for number in from..to {
        burst.push(pool.alloc_from(&contents(number)).unwrap()).unwrap();
    }
    burst
}
