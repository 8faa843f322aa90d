//! Safe layer over DPDK 22.11. It knows no protocol except the IP headers that [`IpFragTable`]
//! needs.
//!
//! Guarantees:
//!
//! - **Lifetimes.** [`Mempool`], [`Port`], [`RxQueue`], [`TxQueue`], [`IpFragTable`] and
//!   [`ThreadGuard`] each keep [`Eal`] alive, and a port keeps its pools, so handles may be dropped
//!   in any order. Memory is freed only where nothing can still use it: a pool whose last handle is
//!   dropped while frames are in use, while a registered thread runs, or on another thread than the
//!   one that started EAL, stays allocated (and EAL initialised) until the process ends.
//! - **Ownership.** A frame ([`Mbuf`]) has one owner and returns to its pool when dropped; each
//!   queue of a port has one handle.
//! - **Packet path.** [`RxQueue::receive`], [`TxQueue::send`], [`Burst`] and [`Mbuf`] neither
//!   allocate, lock nor panic; RX, TX and freeing a burst call C once per burst.
//!
//! ```no_run
//! use dpdk::{Burst, Device, Eal, Mempool, MempoolConfig, Port, PortSettings};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let args = ["--no-huge", "-m", "128", "--no-pci"].map(String::from);
//! let eal = Eal::init(&args)?;
//! let pool = Mempool::new(&eal, "frames", &MempoolConfig::default())?;
//! let device: Device = "net_ring0".parse()?;
//! let (_port, mut rx, mut tx) = Port::open(&eal, &device, &PortSettings::new(pool))?;
//! let mut burst = Burst::new();
//! loop {
//!     rx[0].receive(&mut burst);
//!     tx[0].send(&mut burst);
//!     burst.clear(); // frees the frames that the port did not accept
//! }
//! # }
//! ```
//!
//! Source: the DPDK 22.11 API reference; each item names the DPDK functions that it uses.

mod burst;
mod eal;
mod errno;
mod fragments;
mod mbuf;
mod mempool;
mod port;
mod thread;

pub use burst::{BURST_CAPACITY, Burst, Drain};
pub use eal::{Eal, EalError};
pub use errno::Errno;
pub use fragments::{
    FRAGMENTS_MAX, FragmentHeaders, IpFragTable, IpFragTableConfig, IpFragTableError, Reassembly,
};
pub use mbuf::{ChecksumVerdict, HEADROOM, Mbuf};
pub use mempool::{Mempool, MempoolConfig, MempoolError, data_room_for_mtu};
pub use port::{
    Capabilities, Device, DeviceError, LinkStatus, Multicast, Offloads, Port, PortError,
    PortSettings, PortStats, RssTypes, RxQueue, TxQueue,
};
pub use thread::{ThreadError, ThreadGuard};
