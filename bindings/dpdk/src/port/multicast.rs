//! The Ethernet groups that a port receives.
//!
//! A NIC passes frames for its own address and for all stations, and drops those for groups that
//! nobody asked it for.
//!
//! Source: DPDK 22.11 `rte_ethdev.h`.

use std::ptr;

use super::Inner;
use super::error::PortError;
use crate::errno::Errno;

/// How a port receives the groups of [`super::PortSettings::groups`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Multicast {
    /// No groups were asked for.
    Nothing,
    /// The driver passes these groups.
    Groups,
    /// The driver has no list of groups, or too short a one, and passes all groups.
    All,
    /// The driver can do neither. Most virtual devices pass all frames; one on top of an interface
    /// of the kernel passes what that one does.
    NotSet,
}

impl Inner {
    /// Asks a started port for these groups.
    pub(super) fn receive_groups(&self, groups: &[[u8; 6]]) -> Result<Multicast, PortError> {
        if groups.is_empty() {
            return Ok(Multicast::Nothing);
        }
        let address = |group: &[u8; 6]| dpdk_sys::rte_ether_addr { addr_bytes: *group };
        let mut list: Vec<dpdk_sys::rte_ether_addr> = groups.iter().map(address).collect();
        let count = u32::try_from(list.len()).unwrap_or(u32::MAX);
        // SAFETY: a started port; `list` has `count` addresses and is only read during the call.
        let code =
            unsafe { dpdk_sys::rte_eth_dev_set_mc_addr_list(self.id, list.as_mut_ptr(), count) };
        if code == 0 {
            return Ok(Multicast::Groups);
        }
        // SAFETY: a started port.
        let code = unsafe { dpdk_sys::rte_eth_allmulticast_enable(self.id) };
        if Errno::from_return(code) == Errno::ENOTSUP {
            return Ok(Multicast::NotSet);
        }
        self.check("receiving all multicast frames", code)?;
        Ok(Multicast::All)
    }

    /// Takes back what [`Inner::receive_groups`] asked for. A driver on top of a kernel interface
    /// would leave it there.
    pub(super) fn forget_groups(&self) {
        // SAFETY: an open port; a null list of no addresses removes all of them.
        unsafe {
            match self.capabilities.multicast {
                Multicast::Groups => {
                    dpdk_sys::rte_eth_dev_set_mc_addr_list(self.id, ptr::null_mut(), 0);
                }
                Multicast::All => drop(dpdk_sys::rte_eth_allmulticast_disable(self.id)),
                Multicast::Nothing | Multicast::NotSet => {}
            }
        }
    }
}
