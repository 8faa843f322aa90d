//! Safe layer over DPDK 22.11. It knows no protocol but what [`IpFragTable`] needs of IP headers.
//!
//! What it promises:
//!
//! - **Order of the end.** [`Mempool`], [`Port`], [`RxQueue`], [`TxQueue`], [`IpFragTable`] and
//!   [`ThreadGuard`] each keep [`Eal`] alive, and a port keeps its pools, so nothing is freed under
//!   something that uses it, in whatever order handles are dropped. Memory is given back only where
//!   nothing can still be in it: a pool whose last handle goes while frames are out, while a
//!   registered thread runs, or on another thread than the one that started EAL, is left in place
//!   (and EAL with it) until the process ends.
//! - **One owner.** A frame ([`Mbuf`]) has one owner and goes back to its pool when dropped; each
//!   queue handle of a port is given out once.
//! - **A quiet hot path.** [`RxQueue::receive`], [`TxQueue::send`], [`Burst`] and [`Mbuf`] neither
//!   allocate, lock nor panic; RX, TX and freeing a burst leave Rust once per burst.
//!
//! ```no_run
//! use dpdk::{Burst, Device, Eal, Mempool, MempoolConfig, Port, PortConfig};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let args = ["--no-huge", "-m", "128", "--no-pci"].map(String::from);
//! let eal = Eal::init(&args)?;
//! let pool = Mempool::new(&eal, "frames", &MempoolConfig::default())?;
//! let device: Device = "net_ring0".parse()?;
//! let (_port, mut rx, mut tx) = Port::open(&eal, &device, &PortConfig::new(pool))?;
//! let mut burst = Burst::new();
//! loop {
//!     rx[0].receive(&mut burst);
//!     tx[0].send(&mut burst);
//!     burst.clear(); // what the port did not take
//! }
//! # }
//! ```
//!
//! Source: the DPDK 22.11 API reference; each item names the functions it stands on.

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
    FRAGMENTS_MAX, FragmentHeaders, IpFragTable, IpFragTableConfig, IpFragTableError, Offered,
};
pub use mbuf::{ChecksumVerdict, HEADROOM, Mbuf};
pub use mempool::{Mempool, MempoolConfig, MempoolError, data_room_for_mtu};
pub use port::{
    Capabilities, Device, DeviceError, Link, Offloads, Port, PortConfig, PortError, PortStats,
    RssTypes, RxQueue, TxQueue,
};
pub use thread::{ThreadError, ThreadGuard};
