//! Ports and frames: the only module that names DPDK.
//!
//! [`open`] starts EAL, makes the frame pool and opens every port of the config; what it returns
//! hands out each queue once. Frames are [`PopFrame`]s, which the core sees as its `Frame`. Nothing
//! on the packet path ([`RxQueue::receive`], [`TxRing`], [`FramePool::allocate`]) allocates, locks,
//! waits or panics. Source: the DPDK 22.11 guides "EAL parameters" and "Poll Mode Driver".

mod eal;
mod fragments;
mod frame;
mod queue;

use anyrelay_core::config::Config;
use anyrelay_core::net::PortIndex;
use anyrelay_core::problem::{Problem, Problems};
use anyrelay_core::wire::MacAddr;
use dpdk::{
    BURST_CAPACITY, Capabilities, Device, DeviceError, Eal, EalError, IpFragTableError, Mempool,
    MempoolConfig, MempoolError, PortError, ThreadError, ThreadGuard, data_room_for_mtu,
};

pub use fragments::{FragmentTable, Kept};
pub use frame::PopFrame;
pub use queue::{Frames, RxQueue, TxRing};

/// Why the ports did not come up.
#[derive(Debug, thiserror::Error)]
pub enum PortsError {
    /// EAL did not start.
    #[error("DPDK did not start: {0}")]
    Eal(#[from] EalError),
    /// The frame pool was not made.
    #[error("dpdk.mbufs, dpdk.memory_mb: {0}")]
    Pool(#[from] MempoolError),
    /// A table of fragments was not made.
    #[error("fragments.datagrams, dpdk.memory_mb: {0}")]
    Fragments(#[from] IpFragTableError),
    /// Device strings are wrong.
    #[error(transparent)]
    Devices(#[from] Problems),
    /// A port did not open, or refused a setting.
    #[error("port {name:?}: {source}")]
    Port {
        /// The port's name in the config.
        name: String,
        /// What failed.
        source: PortError,
    },
}

/// DPDK's version, as the loaded library states it.
pub fn dpdk_version() -> String {
    Eal::version()
}

/// What all ports share: DPDK itself and the pool of frames. Clones are the same.
#[derive(Clone, Debug)]
pub struct FramePool {
    eal: EalHandle,
    pool: Mempool,
}

/// [`Eal`] says nothing of itself.
#[derive(Clone)]
struct EalHandle(Eal);

impl std::fmt::Debug for EalHandle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Eal")
    }
}

/// A worker thread's registration with DPDK; it ends when dropped, on the same thread.
pub struct Registration(#[expect(dead_code, reason = "held for its Drop")] ThreadGuard);

/// The calling thread could not be made known to DPDK.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct RegistrationError(#[from] ThreadError);

impl FramePool {
    /// Takes an empty frame with headroom; none when the pool is used up.
    #[inline]
    pub fn allocate(&self) -> Option<PopFrame> {
        self.pool.alloc().map(PopFrame::from)
    }

    /// Makes the calling thread known to DPDK, which gives it a cache of frames.
    ///
    /// # Errors
    /// When DPDK has no thread numbers left.
    pub fn register_thread(&self) -> Result<Registration, RegistrationError> {
        Ok(Registration(ThreadGuard::register(&self.eal.0)?))
    }

    /// Bytes that a frame holds at most.
    pub fn frame_len_max(&self) -> usize {
        self.pool.config().data_room.into()
    }

    /// Frames in the pool.
    pub fn capacity(&self) -> u32 {
        self.pool.config().mbufs
    }

    /// Frames that can be taken now.
    pub fn available(&self) -> u32 {
        self.pool.available()
    }
}

/// An open port, for everything but its packets.
#[derive(Debug)]
pub struct PortHandle {
    /// Its name in the config.
    pub name: String,
    /// The address that the POP uses on it.
    pub mac: MacAddr,
    port: dpdk::Port,
    /// Frame buffers that its rings can hold.
    ring_buffers: usize,
}

/// A look at a port's own counters and its link.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PortSample {
    /// Whether frames can pass.
    pub link_up: bool,
    /// Frames that the port lost because no worker took them in time.
    pub rx_missed: u64,
    /// Frames that came in damaged.
    pub rx_errors: u64,
    /// Times that no frame buffer was free.
    pub rx_no_buffer: u64,
    /// Frames that the port failed to send.
    pub tx_errors: u64,
}

impl PortHandle {
    /// The port's counters and link now; zeros and a link that is down where the driver fails.
    pub fn sample(&self) -> PortSample {
        let stats = self.port.stats().unwrap_or_default();
        PortSample {
            link_up: self.is_up(),
            rx_missed: stats.rx_missed,
            rx_errors: stats.rx_errors,
            rx_no_buffer: stats.rx_no_mbuf,
            tx_errors: stats.tx_errors,
        }
    }

    /// Whether frames can pass.
    pub fn is_up(&self) -> bool {
        self.port.link().is_ok_and(|link| link.up)
    }

    /// What was set up, for the log.
    pub fn describe(&self) -> String {
        let capabilities = self.port.capabilities();
        format!(
            "driver {}, mac {}, rx descriptors {}, tx descriptors {}, rss {:?}, rx offloads {:?}",
            self.port.driver(),
            self.mac,
            capabilities.rx_descriptors,
            capabilities.tx_descriptors,
            capabilities.rss_set,
            capabilities.rx_offloads_set,
        )
    }
}

/// All that [`open`] opened.
#[derive(Debug)]
pub struct OpenedPorts {
    /// The frames.
    pub pool: FramePool,
    /// The ports, in the order of the config.
    pub ports: Vec<PortHandle>,
    /// Each port's RX queues, in order.
    pub rx: Vec<Vec<RxQueue>>,
    /// Each port's TX rings: as many as were asked for, or one.
    pub tx: Vec<Vec<TxRing>>,
}

/// Starts DPDK and opens the ports of `config`. Each gets `tx_rings` TX rings where its driver has
/// that many, else one. To be called once in a process, on the thread that ends it.
///
/// # Errors
/// When DPDK, the pool or a port does not start; what was opened is closed again.
pub fn open(config: &Config, tx_rings: u16) -> Result<OpenedPorts, PortsError> {
    let devices = devices(config)?;
    let eal = Eal::init(&eal::arguments(&config.dpdk, &devices))?;
    let mtu = config.ports.iter().map(|port| port.mtu).max().unwrap_or(1500);
    let workers = u32::try_from(config.workers.len()).unwrap_or(u32::MAX).max(1);
    let mbufs = config.dpdk.mbufs;
    let pool_config = MempoolConfig {
        mbufs,
        // All caches together hold a quarter of the frames at most, so that no worker starves.
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
    /// Frame buffers that rings and caches can hold, and the workers' bursts on top: with fewer in
    /// the pool, ports can run dry. Virtual ports hold none in their RX rings.
    pub fn buffers_wanted(&self, workers: usize) -> usize {
        let rings: usize = self.ports.iter().map(|port| port.ring_buffers).sum();
        let cache = self.pool.pool.config().cache as usize;
        // A cache is flushed at one and a half times its size.
        rings + workers * (cache + cache / 2 + BURST_CAPACITY * (self.ports.len() + 1))
    }

    fn open_port(
        &mut self,
        index: PortIndex,
        config: &anyrelay_core::config::PortConfig,
        device: &Device,
        tx_rings: u16,
    ) -> Result<(), PortError> {
        let mut settings = dpdk::PortConfig::new(self.pool.pool.clone());
        settings.rx_queues = config.queues;
        settings.tx_queues = tx_rings.max(1);
        settings.mtu = config.mtu;
        let eal = &self.pool.eal.0;
        let (port, rx, tx) = match dpdk::Port::open(eal, device, &settings) {
            // Fewer rings than workers: one worker owns a single one.
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
        self.rx.push(rx.into_iter().map(|queue| RxQueue::new(index, queue)).collect());
        self.tx.push(tx.into_iter().map(|queue| TxRing::new(index, queue)).collect());
        self.ports.push(PortHandle { name: config.name.clone(), mac, port, ring_buffers });
        Ok(())
    }
}

/// Frame buffers that a NIC's rings hold. Virtual ports copy frames, or have rings of their own.
fn ring_buffers(device: &Device, has: &Capabilities, settings: &dpdk::PortConfig) -> usize {
    if matches!(device, Device::Virtual { .. }) {
        return 0;
    }
    let rx = usize::from(has.rx_descriptors) * usize::from(settings.rx_queues);
    let tx = usize::from(has.tx_descriptors) * usize::from(settings.tx_queues);
    rx + tx
}

/// Gives the port the address that the config asks for. A driver that cannot set one has no filter
/// for it either, so the POP uses the address all the same.
fn set_mac(port: &dpdk::Port, wanted: Option<MacAddr>) -> Result<MacAddr, PortError> {
    let Some(mac) = wanted else { return port.mac().map(MacAddr::new) };
    match port.set_mac(mac.octets()) {
        Err(error) if error.is_not_supported() => Ok(mac),
        result => result.map(|()| mac),
    }
}

/// What is wrong with the device strings of `config`, which the core does not know how to read.
///
/// # Errors
/// Every device string that names no device.
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

/// Frames that a worker's cache holds at most; measured to be enough by DPDK's own tools.
const CACHE_MAX: u32 = 256;
