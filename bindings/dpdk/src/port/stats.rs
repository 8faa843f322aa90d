//! The counters of a port's driver.

use super::Port;
use super::error::PortError;

/// The counters of every driver (`rte_eth_stats`); frames and bytes since the port was opened or
/// its counters were reset.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PortStats {
    /// Frames received.
    pub rx_frames: u64,
    /// Frames sent.
    pub tx_frames: u64,
    /// Bytes received.
    pub rx_bytes: u64,
    /// Bytes sent.
    pub tx_bytes: u64,
    /// Frames dropped because no RX descriptor was free.
    pub rx_missed: u64,
    /// Frames received with errors.
    pub rx_errors: u64,
    /// Frames that were not sent because of errors.
    pub tx_errors: u64,
    /// Failed mbuf allocations of reception.
    pub rx_no_mbuf: u64,
}

impl Port {
    /// The port's counters.
    ///
    /// # Errors
    /// When the driver fails.
    pub fn stats(&self) -> Result<PortStats, PortError> {
        // SAFETY: plain integers, for which zero is a valid value.
        let mut raw: dpdk_sys::rte_eth_stats = unsafe { std::mem::zeroed() };
        let _control = self.inner.eal.control();
        // SAFETY: an open port; `raw` is written only during the call.
        let code = unsafe { dpdk_sys::rte_eth_stats_get(self.inner.id, &mut raw) };
        self.inner.check("reading the counters", code)?;
        Ok(PortStats {
            rx_frames: raw.ipackets,
            tx_frames: raw.opackets,
            rx_bytes: raw.ibytes,
            tx_bytes: raw.obytes,
            rx_missed: raw.imissed,
            rx_errors: raw.ierrors,
            tx_errors: raw.oerrors,
            rx_no_mbuf: raw.rx_nombuf,
        })
    }

    /// Sets the port's counters to zero.
    ///
    /// # Errors
    /// When the driver cannot.
    pub fn reset_stats(&self) -> Result<(), PortError> {
        let _control = self.inner.eal.control();
        // SAFETY: an open port.
        let code = unsafe { dpdk_sys::rte_eth_stats_reset(self.inner.id) };
        self.inner.check("resetting the counters", code)
    }

    /// Every counter that the driver has, by DPDK's name.
    ///
    /// # Errors
    /// When the driver fails.
    pub fn xstats(&self) -> Result<Vec<(String, u64)>, PortError> {
        const ACTION: &str = "reading the extended counters";
        let id = self.inner.id;
        let _control = self.inner.eal.control();
        // SAFETY: an open port; a null array with room for none asks how many there are.
        let count = unsafe { dpdk_sys::rte_eth_xstats_get(id, std::ptr::null_mut(), 0) };
        self.inner.check(ACTION, count)?;
        let room = count.unsigned_abs();
        let value = dpdk_sys::rte_eth_xstat { id: 0, value: 0 };
        let name = dpdk_sys::rte_eth_xstat_name { name: [0; 64] };
        let mut values = vec![value; room as usize];
        let mut names = vec![name; room as usize];
        // SAFETY: both arrays have room for `room` entries.
        let (got_values, got_names) = unsafe {
            (
                dpdk_sys::rte_eth_xstats_get(id, values.as_mut_ptr(), room),
                dpdk_sys::rte_eth_xstats_get_names(id, names.as_mut_ptr(), room),
            )
        };
        self.inner.check(ACTION, got_values)?;
        self.inner.check(ACTION, got_names)?;
        values.truncate(got_values.unsigned_abs() as usize);
        let named = values.iter().filter_map(|value| {
            let name = names.get(usize::try_from(value.id).ok()?)?;
            let bytes: Vec<u8> = name.name.iter().map(|&c| c.cast_unsigned()).collect();
            let text = bytes.split(|&byte| byte == 0).next()?;
            Some((String::from_utf8_lossy(text).into_owned(), value.value))
        });
        Ok(named.collect())
    }
}
