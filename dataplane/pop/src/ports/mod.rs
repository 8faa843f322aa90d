//! Ports and frames: the only module that names DPDK.
//!
//! [`open`] starts EAL, creates the frame pool and opens every port of the config; it returns each
//! queue once. Frames are [`PopFrame`]s, which implement the core's `Frame`. The packet path
//! ([`RxQueue::receive`], [`TxRing`], [`FramePool::allocate`]) never allocates, locks, waits or
//! panics. Source: the DPDK 22.11 guides "EAL parameters" and "Poll Mode Driver".

mod eal;
mod fragments;
mod frame;
mod queue;

use std::sync::Arc;

use anyrelay_core::config::{Config, PortConfig};
use anyrelay_core::counters::Counter;
use anyrelay_core::net::PortIndex;
use anyrelay_core::problem::{Problem, Problems};
use anyrelay_core::wire::{MacAddr, nd};
use dpdk::{
    BURST_CAPACITY, Capabilities, Device, DeviceError, Eal, EalError, IpFragTableError, Mempool,
    MempoolConfig, MempoolError, PortError, ThreadError, ThreadGuard, data_room_for_mtu,
};

pub use fragments::{FragmentTable, Kept};
pub use frame::PopFrame;
pub use queue::{Frames, RxQueue, TxRing};

/// Why the ports could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum PortsError {
    /// EAL did not start.
    #[error("DPDK did not start: {source}{advice}")]
    Eal {
        /// The error.
        source: EalError,
        /// The remedy, if the machine shows one; begins with a separator.
        advice: String,
    },
    /// The frame pool was not created.
    #[error("dpdk.mbufs, dpdk.memory_mb: {0}")]
    Pool(#[from] MempoolError),
    /// A table of fragments was not created.
    #[error("fragments.datagrams, dpdk.memory_mb: {0}")]
    Fragments(#[from] IpFragTableError),
    /// Device strings are not valid.
    #[error(transparent)]
    Devices(#[from] Problems),
    /// A port did not open, or refused a setting.
    #[error("port {name:?}: {source}")]
    Port {
        /// The port's name in the config.
        name: String,
        /// The error.
        source: PortError,
    },
}

/// DPDK's version, as the loaded library states it.
pub fn dpdk_version() -> String {
    Eal::version()
}

/// DPDK and the pool of frames, shared by all ports. Clones share one pool.
#[derive(Clone, Debug)]
pub struct FramePool {
    eal: EalHandle,
    pool: Mempool,
}

/// Hides [`Eal`], which has no `Debug`.
#[derive(Clone)]
struct EalHandle(Eal);

impl std::fmt::Debug for EalHandle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Eal")
    }
}

/// A worker thread's registration with DPDK; dropping it, on the same thread, ends it.
pub struct Registration(#[expect(dead_code, reason = "held for its Drop")] ThreadGuard);

/// The calling thread could not be registered with DPDK.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct RegistrationError(#[from] ThreadError);

impl FramePool {
    /// Allocates an empty frame with headroom; `None` when the pool is exhausted.
    #[inline]
    pub fn allocate(&self) -> Option<PopFrame> {
        self.pool.alloc().map(PopFrame::from)
    }

    /// Registers the calling thread with DPDK, which gives it a cache of frames.
    ///
    /// # Errors
    /// When DPDK has no thread numbers left.
    pub fn register_thread(&self) -> Result<Registration, RegistrationError> {
        Ok(Registration(ThreadGuard::register(&self.eal.0)?))
    }

    /// The maximum length of a frame, in bytes.
    pub fn frame_len_max(&self) -> usize {
        self.pool.config().data_room.into()
    }

    /// The number of frames in the pool.
    pub fn capacity(&self) -> u32 {
        self.pool.config().mbufs
    }

    /// The number of free frames.
    pub fn available(&self) -> u32 {
        self.pool.available()
    }
}

/// An open port, without its queues.
#[derive(Debug)]
pub struct PortHandle {
    /// Its name in the config.
    pub name: String,
    /// The POP's address on it.
    pub mac: MacAddr,
    port: dpdk::Port,
    /// The capacity of its rings, in frame buffers.
    ring_buffers: usize,
    /// Frames received by each RX queue.
    received: Vec<Arc<Counter>>,
}

/// A sample of a port's counters.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PortSample {
    /// Frames that the port dropped because no worker received them in time.
    pub rx_missed: u64,
    /// Frames received with errors.
    pub rx_errors: u64,
    /// Failed allocations of a frame buffer.
    pub rx_no_buffer: u64,
    /// Frames that were not sent because of errors.
    pub tx_errors: u64,
    /// Frames received by each RX queue.
    pub rx_queues: Vec<u64>,
}

impl PortHandle {
    /// The port's counters; zeros if the driver fails.
    pub fn sample(&self) -> PortSample {
        let stats = self.port.stats().unwrap_or_default();
        PortSample {
            rx_missed: stats.rx_missed,
            rx_errors: stats.rx_errors,
            rx_no_buffer: stats.rx_no_mbuf,
            tx_errors: stats.tx_errors,
            rx_queues: self.received.iter().map(|frames| frames.get()).collect(),
        }
    }

    /// Whether the kernel asks for the port's NIC back. It waits until the POP has stopped.
    pub fn is_removal_requested(&self) -> bool {
        self.port.is_removal_requested()
    }

    /// Why frames may not be spread over the port's RX queues.
    pub fn spreading_doubt(&self) -> Option<String> {
        let queues = self.received.len();
        (queues > 1 && self.port.capabilities().rss_set.is_empty()).then(|| {
            format!(
                "its driver {} has no RSS, so its {queues} queues have what the device puts there, \
                 perhaps all in one: compare anyrelay_port_rx_queue_packets_total, and set \
                 port.queues = 1 if so",
                self.port.driver()
            )
        })
    }

    /// Whether the link is up.
    pub fn is_up(&self) -> bool {
        self.port.link().is_ok_and(|link| link.up)
    }

    /// The port's setup, for the log.
    pub fn describe(&self) -> String {
        let capabilities = self.port.capabilities();
        format!(
            "driver {}, mac {}, rx descriptors {}, tx descriptors {}, rss {:?}, rx offloads {:?}, \
             multicast {:?}",
            self.port.driver(),
            self.mac,
            capabilities.rx_descriptors,
            capabilities.tx_descriptors,
            capabilities.rss_set,
            capabilities.rx_offloads_set,
            capabilities.multicast,
        )
    }
}

/// The result of [`open`].
#[derive(Debug)]
pub struct OpenedPorts {
    /// The pool of frames.
    pub pool: FramePool,
    /// The ports, in the order of the config.
    pub ports: Vec<PortHandle>,
    /// Each port's RX queues, in order.
    pub rx: Vec<Vec<RxQueue>>,
    /// Each port's TX rings: the requested number, or one.
    pub tx: Vec<Vec<TxRing>>,
}

/// Starts DPDK and opens the ports of `config`. Each gets `tx_rings` TX rings if its driver has
/// that many, else one. Call it once in a process, on the thread that drops the result.
///
/// # Errors
/// When DPDK, the pool or a port does not start; the open ports are closed again.
pub fn open(config: &Config, tx_rings: u16) -> Result<OpenedPorts, PortsError> {
    let devices = devices(config)?;
    let eal = Eal::init(&eal::arguments(&config.dpdk, &devices))
        .map_err(|source| PortsError::Eal { source, advice: eal::hugepage_advice(&config.dpdk) })?;
    let mtu = config.ports.iter().map(|port| port.mtu).max().unwrap_or(1500);
    let workers = u32::try_from(config.workers.len()).unwrap_or(u32::MAX).max(1);
    let mbufs = config.dpdk.mbufs;
    let pool_config = MempoolConfig {
        mbufs,
        // All caches together hold at most a quarter of the frames, so that no worker starves.
        cache: CACHE_MAX.min(mbufs / workers / 4),
        data_room: data_room_for_mtu(mtu),
    };
    let pool = Mempool::new(&eal, "frames", &pool_config)?;
    let mut opened = OpenedPorts {
        pool: FramePool { eal: EalHandle(eal), pool },
        ports: Vec::new(),
        rx: Vec::new(),
        tx: Vec::new(),
    };
    for (index, (port, device)) in (0..).zip(config.ports.iter().zip(&devices)) {
        opened
            .open_port(PortIndex(index), port, device, tx_rings)
            .map_err(|source| PortsError::Port { name: port.name.clone(), source })?;
    }
    Ok(opened)
}

impl OpenedPorts {
    /// The capacity of rings and caches, and of the workers' bursts, in frame buffers: with fewer
    /// in the pool, ports can run out. Virtual ports hold none in their RX rings.
    pub fn buffers_wanted(&self, workers: usize) -> usize {
        let rings: usize = self.ports.iter().map(|port| port.ring_buffers).sum();
        let cache = self.pool.pool.config().cache as usize;
        // A cache is flushed at one and a half times its size.
        rings + workers * (cache + cache / 2 + BURST_CAPACITY * (self.ports.len() + 1))
    }

    fn open_port(
        &mut self,
        index: PortIndex,
        config: &PortConfig,
        device: &Device,
        tx_rings: u16,
    ) -> Result<(), PortError> {
        let mut settings = dpdk::PortSettings::new(self.pool.pool.clone());
        settings.rx_queues = config.queues;
        settings.tx_queues = tx_rings.max(1);
        settings.mtu = config.mtu;
        settings.groups = groups(config);
        let eal = &self.pool.eal.0;
        let (port, rx, tx) = match dpdk::Port::open(eal, device, &settings) {
            // Fewer rings than workers: one worker owns a single ring.
            Err(PortError::Queues { asked, offered, direction: "TX", .. })
                if asked > 1 && offered >= 1 =>
            {
                settings.tx_queues = 1;
                dpdk::Port::open(eal, device, &settings)?
            }
            other => other?,
        };
        let mac = set_mac(&port, config.mac)?;
        let ring_buffers = ring_buffers(device, port.capabilities(), &settings);
        let rx: Vec<_> = rx.into_iter().map(|queue| RxQueue::new(index, queue)).collect();
        let received = rx.iter().map(RxQueue::received).collect();
        self.rx.push(rx);
        self.tx.push(tx.into_iter().map(|queue| TxRing::new(index, queue)).collect());
        let name = config.name.clone();
        self.ports.push(PortHandle { name, mac, port, ring_buffers, received });
        Ok(())
    }
}

/// The groups that a port's IPv6 addresses are in: neighbours solicit each by the group of its
/// solicited-node address, and tell all nodes of changes (RFC 4861, sections 7.2.1 and 7.2.6).
fn groups(config: &PortConfig) -> Vec<[u8; 6]> {
    let mut groups: Vec<u128> =
        config.nets::<u128>().map(|net| nd::solicited_node(net.address)).collect();
    if !groups.is_empty() {
        groups.push(nd::ALL_NODES);
    }
    groups.sort_unstable();
    groups.dedup();
    groups.into_iter().map(|group| nd::group_mac(group).octets()).collect()
}

/// The capacity of a NIC's rings, in frame buffers. Virtual ports copy frames, or have other rings.
fn ring_buffers(device: &Device, has: &Capabilities, settings: &dpdk::PortSettings) -> usize {
    if matches!(device, Device::Virtual { .. }) {
        return 0;
    }
    let rx = usize::from(has.rx_descriptors) * usize::from(settings.rx_queues);
    let tx = usize::from(has.tx_descriptors) * usize::from(settings.tx_queues);
    rx + tx
}

/// Sets the configured address. A driver that cannot set one does not filter by it either, so the
/// POP uses the address nevertheless.
fn set_mac(port: &dpdk::Port, wanted: Option<MacAddr>) -> Result<MacAddr, PortError> {
    let Some(mac) = wanted else { return port.mac().map(MacAddr::new) };
    match port.set_mac(mac.octets()) {
        Err(error) if error.is_not_supported() => Ok(mac),
        result => result.map(|()| mac),
    }
}

/// Checks the device strings of `config`, which the core does not parse.
///
/// # Errors
/// Every device string that is not valid.
pub fn check_devices(config: &Config) -> Result<(), Problems> {
    devices(config).map(drop)
}

fn devices(config: &Config) -> Result<Vec<Device>, Problems> {
    let mut problems = Vec::new();
    let mut devices = Vec::new();
    for (index, port) in config.ports.iter().enumerate() {
        match port.device.parse() {
            Ok(device) => devices.push(device),
            Err(error) => {
                let error: DeviceError = error;
                problems.push(Problem {
                    file: config.file.clone(),
                    key: format!("port[{index}].device"),
                    reason: error.to_string(),
                });
            }
        }
    }
    if problems.is_empty() { Ok(devices) } else { Err(Problems(problems)) }
}

/// The maximum number of frames in a worker's cache; enough by measurements with DPDK's own tools.
const CACHE_MAX: u32 = 256;
