//! Ethernet ports: opened with their queues, stopped and closed when the last handle is dropped.
//!
//! Source: DPDK 22.11 `rte_ethdev.h`, `rte_dev.h`.

mod capabilities;
mod config;
mod error;
mod multicast;
mod open;
mod pci;
mod queue;
mod removal;
mod stats;

use std::ffi::CStr;
use std::fmt;
use std::ptr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

pub use capabilities::{Capabilities, LinkStatus, Offloads, RssTypes};
pub use config::{Device, DeviceError, PortSettings};
pub use error::PortError;
pub use multicast::Multicast;
pub use queue::{RxQueue, TxQueue};
pub use stats::PortStats;

use removal::Removal;

use crate::eal::Eal;
use crate::errno::Errno;
use crate::mempool::Mempool;

/// An open, started port, without its queues. Clones share one port, which is stopped and closed
/// when the last of its handles, queues included, is dropped.
#[derive(Clone)]
pub struct Port {
    inner: Arc<Inner>,
}

/// The state that all handles of a port share.
pub(crate) struct Inner {
    id: u16,
    name: String,
    driver: String,
    started: AtomicBool,
    rx_queues: u16,
    capabilities: Capabilities,
    /// A PCI device's.
    removal: Option<Removal>,
    /// Kept for the frames that the port's rings hold.
    _pools: Vec<Mempool>,
    eal: Eal,
}

impl Port {
    /// Opens a port, sets up its queues and starts it: plugs in a virtual device, or takes a PCI
    /// device that EAL found (or probes it now). Returns the only handles of all queues, in order
    /// of queue number.
    ///
    /// # Errors
    /// [`PortError`] names the port, the failed operation and the remedy.
    pub fn open(
        eal: &Eal,
        device: &Device,
        config: &PortSettings,
    ) -> Result<(Port, Vec<RxQueue>, Vec<TxQueue>), PortError> {
        let inner = Arc::new(open::open(eal, device, config)?);
        let rx = (0..config.rx_queues).map(|queue| RxQueue::new(&inner, queue)).collect();
        let tx = (0..config.tx_queues).map(|queue| TxQueue::new(&inner, queue)).collect();
        Ok((Port { inner }, rx, tx))
    }

    /// DPDK's number of the port.
    pub fn id(&self) -> u16 {
        self.inner.id
    }

    /// The device's name: a virtual one's without its arguments, or a PCI address.
    pub fn name(&self) -> &str {
        &self.inner.name
    }

    /// The driver's name.
    pub fn driver(&self) -> &str {
        &self.inner.driver
    }

    /// The port's capabilities, and those in use.
    pub fn capabilities(&self) -> &Capabilities {
        &self.inner.capabilities
    }

    /// Whether the kernel asks for the port's PCI device back, because it is being unplugged or
    /// unbound. The kernel waits until all handles of the port are dropped.
    pub fn is_removal_requested(&self) -> bool {
        self.inner.removal.as_ref().is_some_and(Removal::is_requested)
    }

    /// The port's Ethernet address.
    ///
    /// # Errors
    /// When the driver fails.
    pub fn mac(&self) -> Result<[u8; 6], PortError> {
        let mut address = dpdk_sys::rte_ether_addr { addr_bytes: [0; 6] };
        let _control = self.inner.eal.control();
        // SAFETY: an open port; `address` is written only during the call.
        let code = unsafe { dpdk_sys::rte_eth_macaddr_get(self.inner.id, &mut address) };
        self.inner.check("reading the Ethernet address", code)?;
        Ok(address.addr_bytes)
    }

    /// Sets the port's Ethernet address. Drivers on top of a kernel interface set the interface's
    /// address, which outlives the port.
    ///
    /// # Errors
    /// When the address is a group address or zero, or the driver cannot set it
    /// ([`PortError::is_not_supported`]).
    pub fn set_mac(&self, mac: [u8; 6]) -> Result<(), PortError> {
        let mut address = dpdk_sys::rte_ether_addr { addr_bytes: mac };
        let _control = self.inner.eal.control();
        // SAFETY: an open port; `address` is read only during the call.
        let code =
            unsafe { dpdk_sys::rte_eth_dev_default_mac_addr_set(self.inner.id, &mut address) };
        self.inner.check("setting the Ethernet address", code)
    }

    /// The MTU in bytes, Ethernet header not included.
    ///
    /// # Errors
    /// When the driver fails.
    pub fn mtu(&self) -> Result<u16, PortError> {
        let mut mtu = 0;
        let _control = self.inner.eal.control();
        // SAFETY: an open port; `mtu` is written only during the call.
        let code = unsafe { dpdk_sys::rte_eth_dev_get_mtu(self.inner.id, &mut mtu) };
        self.inner.check("reading the MTU", code)?;
        Ok(mtu)
    }

    /// Whether the port receives frames for other Ethernet addresses too. Virtual ports without an
    /// address filter may return false and receive them nevertheless.
    pub fn is_promiscuous(&self) -> bool {
        let _control = self.inner.eal.control();
        // SAFETY: an open port.
        unsafe { dpdk_sys::rte_eth_promiscuous_get(self.inner.id) == 1 }
    }

    /// The state of the link, without waiting for it. Most virtual drivers report it as up,
    /// whatever the state of the interface below them, `net_af_packet` among them.
    ///
    /// # Errors
    /// When the driver fails.
    pub fn link(&self) -> Result<LinkStatus, PortError> {
        // SAFETY: plain integers, for which zero is a valid value.
        let mut link: dpdk_sys::rte_eth_link = unsafe { std::mem::zeroed() };
        let _control = self.inner.eal.control();
        // SAFETY: an open port; `link` is written only during the call.
        let code = unsafe { dpdk_sys::rte_eth_link_get_nowait(self.inner.id, &mut link) };
        self.inner.check("reading the link state", code)?;
        Ok(LinkStatus::from_raw(&link))
    }
}

impl fmt::Debug for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Port")
            .field("id", &self.inner.id)
            .field("name", &self.inner.name)
            .field("driver", &self.inner.driver)
            .finish_non_exhaustive()
    }
}

impl Inner {
    /// `Ok` for zero and above, else the error with the port's name and `action`.
    fn check(&self, action: &'static str, code: i32) -> Result<(), PortError> {
        Errno::check(code).map(drop).map_err(|errno| PortError::Call {
            port: self.name.clone(),
            action,
            errno,
        })
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        let _control = self.eal.control();
        if *self.started.get_mut() {
            if self.driver == "net_ring" {
                self.free_queued_frames();
            }
            self.forget_groups();
            // SAFETY: an open port, and no queue handle is left that could be inside a burst call.
            // A driver on top of a kernel interface would leave that promiscuous.
            unsafe {
                dpdk_sys::rte_eth_promiscuous_disable(self.id);
                dpdk_sys::rte_eth_dev_stop(self.id);
            }
        }
        // SAFETY: all-zero is a valid value of these plain C fields; an open port fills them.
        let device = unsafe {
            let mut info: dpdk_sys::rte_eth_dev_info = std::mem::zeroed();
            dpdk_sys::rte_eth_dev_info_get(self.id, &mut info);
            info.device
        };
        // SAFETY: stopped above; nothing uses the port number after this. The device is unplugged
        // only when it has no other port.
        unsafe {
            dpdk_sys::rte_eth_dev_close(self.id);
            if device.is_null() {
                return;
            }
            let next = dpdk_sys::rte_eth_find_next_of(0, device);
            if u32::from(next) >= dpdk_sys::RTE_MAX_ETHPORTS {
                dpdk_sys::rte_dev_remove(device);
            }
        }
    }
}

impl Inner {
    /// Frees the frames that wait in the port's rings. The driver net_ring does not free them on
    /// close, and the pool would lose them.
    fn free_queued_frames(&self) {
        const BURST: u16 = 32;
        for queue in 0..self.rx_queues {
            // The bound of the loop exceeds the size of that driver's rings.
            for _ in 0..1024 {
                let mut mbufs = [ptr::null_mut(); BURST as usize];
                // SAFETY: a started port, and an existing queue without a handle; the received
                // frames have no other owner and are freed at once.
                let count = unsafe {
                    let base = mbufs.as_mut_ptr();
                    let count = dpdk_sys::dpdk_shim_rx_burst(self.id, queue, base, BURST);
                    dpdk_sys::rte_pktmbuf_free_bulk(base, u32::from(count));
                    count
                };
                if count == 0 {
                    break;
                }
            }
        }
    }

    fn set_started(&self) {
        self.started.store(true, Ordering::Release);
    }
}

/// A string that DPDK keeps; empty for null.
///
/// # Safety
/// `text` is null or NUL-terminated and stays so during the call.
unsafe fn text_of(text: *const std::ffi::c_char) -> String {
    if text.is_null() {
        return String::new();
    }
    // SAFETY: this function's contract.
    unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned()
}
