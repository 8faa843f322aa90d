//! Opening a port: find or plug in the device, check the configuration against it, set up queues,
//! start.

use std::ffi::CString;
use std::path::Path;
use std::sync::atomic::AtomicBool;

use super::capabilities::{Capabilities, Offloads, RssTypes};
use super::config::{Device, PortSettings};
use super::error::PortError;
use super::multicast::Multicast;
use super::removal::Removal;
use super::{Inner, pci, text_of};
use crate::eal::Eal;
use crate::errno::Errno;

/// Bytes of an Ethernet header and its checksum.
const ETHERNET_OVERHEAD: u32 = 18;
/// Bytes of the two VLAN tags that drivers count when they decide on scattering.
const VLAN_TAGS: u32 = 8;
/// The most that a driver counts on top of the MTU. Some state a longest frame that has nothing to
/// do with their largest MTU (net_vmxnet3: 16384 and 9190 bytes).
const OVERHEAD_MAX: u32 = 64;

/// Opens and starts a port. When a step fails, the previous ones are undone.
pub(super) fn open(eal: &Eal, device: &Device, config: &PortSettings) -> Result<Inner, PortError> {
    check_config(device.name(), config)?;
    let id = find_or_probe(eal, device)?;
    let info = match device_info(id) {
        Ok(info) => info,
        Err(errno) => {
            let (port, action) = (device.name().to_owned(), "reading the capabilities");
            return Err(PortError::Call { port, action, errno });
        }
    };
    // SAFETY: the driver's name is a static string of the driver.
    let driver = unsafe { text_of(info.driver_name) };
    let mut inner = Inner {
        id,
        name: device.name().to_owned(),
        driver: driver.clone(),
        started: AtomicBool::new(false),
        rx_queues: config.rx_queues,
        capabilities: capabilities(&info, &driver, config),
        removal: None,
        _pools: config.pools.clone(),
        eal: eal.clone(),
    };
    check_against_device(&inner, &info, config)?;
    // Declared after `inner`: on an error the lock is released before `inner` takes it to close.
    let _control = eal.control();
    configure(&mut inner, config)?;
    set_up_queues(&inner, config)?;
    // SAFETY: configured, all queues set up, not started, no handle given out.
    let code = unsafe { dpdk_sys::rte_eth_dev_start(id) };
    inner.check("starting the port", code)?;
    inner.set_started();
    // SAFETY: a started port.
    let code = unsafe {
        if config.promiscuous {
            dpdk_sys::rte_eth_promiscuous_enable(id)
        } else {
            dpdk_sys::rte_eth_promiscuous_disable(id)
        }
    };
    // Drivers without an address filter have nothing to turn on.
    if Errno::from_return(code) != Errno::ENOTSUP {
        inner.check("setting promiscuous mode", code)?;
    }
    inner.capabilities.multicast = inner.receive_groups(&config.groups)?;
    if let (Device::Pci { .. }, Ok(name)) = (device, CString::new(device.name())) {
        inner.removal = Removal::watch(&name);
    }
    Ok(inner)
}

/// Checks a configuration without regard to the device.
fn check_config(port: &str, config: &PortSettings) -> Result<(), PortError> {
    let fault = |what: String| PortError::Config { port: port.to_owned(), what };
    if config.rx_queues == 0 || config.tx_queues == 0 {
        return Err(fault("0 queues; at least 1 RX and 1 TX queue are needed".to_owned()));
    }
    let pools = config.pools.len();
    if pools != 1 && pools != usize::from(config.rx_queues) {
        let queues = config.rx_queues;
        return Err(fault(format!(
            "{pools} pools for {queues} RX queues; give one for all of them, or one for each"
        )));
    }
    if config.rx_descriptors == 0 || config.tx_descriptors == 0 {
        return Err(fault("0 descriptors; at least 1 per queue is needed".to_owned()));
    }
    Ok(())
}

/// The number of the device's port; plugs the device in if needed.
fn find_or_probe(eal: &Eal, device: &Device) -> Result<u16, PortError> {
    let port = device.name().to_owned();
    let text = device.to_string();
    let fault = |what: &str| PortError::Config { port: port.clone(), what: what.to_owned() };
    let c_name = CString::new(port.as_str()).map_err(|_| fault("NUL byte in the name"))?;
    let c_text = CString::new(text.as_str()).map_err(|_| fault("NUL byte in the device string"))?;
    let _control = eal.control();
    let probe_error = |errno, advice| {
        let (port, device) = (port.clone(), text.clone());
        PortError::Probe { port, device, errno, advice }
    };
    if let Some(id) = port_by_name(&c_name) {
        // EAL's start probes PCI devices; a virtual device exists only while it is open.
        if matches!(device, Device::Virtual { .. }) || is_configured(id) {
            return Err(PortError::AlreadyOpen { port });
        }
        return Ok(id);
    }
    // EAL's start has probed it, and has written its lines: a second time they would say no more.
    if let Device::Pci { address, .. } = device
        && let Some((errno, obstacle)) = pci::obstacle(Path::new("/"), address)
    {
        return Err(probe_error(errno, obstacle));
    }
    // SAFETY: EAL runs; the string is NUL-terminated and copied.
    let code = unsafe { dpdk_sys::rte_dev_probe(c_text.as_ptr()) };
    Errno::check(code).map_err(|errno| probe_error(errno, probe_advice(device)))?;
    port_by_name(&c_name).ok_or_else(|| probe_error(Errno::ENODEV, probe_advice(device)))
}

fn probe_advice(device: &Device) -> String {
    let text = match device {
        Device::Virtual { .. } => {
            "check the driver's name and its arguments; the driver's own message is on stderr"
        }
        Device::Pci { .. } => {
            "the driver's own message is on stderr; check that EAL has neither --no-pci nor \
             another -a, and that DPDK's driver for the NIC is installed"
        }
    };
    text.to_owned()
}

fn port_by_name(name: &CString) -> Option<u16> {
    let mut id = 0;
    // SAFETY: a NUL-terminated name, and `id` is written only during the call.
    let code = unsafe { dpdk_sys::rte_eth_dev_get_port_by_name(name.as_ptr(), &mut id) };
    (code == 0).then_some(id)
}

/// Whether the port has queues already.
fn is_configured(id: u16) -> bool {
    device_info(id).is_ok_and(|info| info.nb_rx_queues > 0 || info.nb_tx_queues > 0)
}

fn device_info(id: u16) -> Result<dpdk_sys::rte_eth_dev_info, Errno> {
    // SAFETY: all-zero is a valid value of these plain C fields, and the call fills them.
    unsafe {
        let mut info: dpdk_sys::rte_eth_dev_info = std::mem::zeroed();
        Errno::check(dpdk_sys::rte_eth_dev_info_get(id, &mut info))?;
        Ok(info)
    }
}

/// The driver's capabilities, and those that this configuration uses.
fn capabilities(
    info: &dpdk_sys::rte_eth_dev_info,
    driver: &str,
    config: &PortSettings,
) -> Capabilities {
    let wanted = if config.rx_checksum && !leaves_checksums_out(driver) {
        dpdk_sys::DPDK_RX_OFFLOAD_TCP_CKSUM
    } else {
        0
    };
    let rss_offered = RssTypes::from_bits(info.flow_type_rss_offloads);
    let rss_set = if config.rss && config.rx_queues > 1 {
        rss_offered.intersection(RssTypes::WANTED)
    } else {
        RssTypes::NONE
    };
    Capabilities {
        max_rx_queues: info.max_rx_queues,
        max_tx_queues: info.max_tx_queues,
        rx_descriptors: config.rx_descriptors,
        tx_descriptors: config.tx_descriptors,
        min_mtu: info.min_mtu,
        max_mtu: max_mtu(info),
        rx_offloads_offered: Offloads::rx(info.rx_offload_capa),
        rx_offloads_set: Offloads::rx(info.rx_offload_capa & wanted),
        tx_offloads_offered: Offloads::tx(info.tx_offload_capa),
        tx_offloads_set: Offloads::tx(0),
        rss_offered,
        rss_set,
        multicast: Multicast::Nothing,
    }
}

/// Whether a driver that checks checksums also hands over frames without one. With virtio the
/// offload means that the host may leave checksums of its own frames unfinished
/// (`VIRTIO_NET_F_GUEST_CSUM`), and a frame that is sent on would stay so.
fn leaves_checksums_out(driver: &str) -> bool {
    driver.starts_with("net_virtio")
}

/// The largest MTU: the driver's, or what fits into its longest frame.
fn max_mtu(info: &dpdk_sys::rte_eth_dev_info) -> u16 {
    let by_frame = info.max_rx_pktlen.saturating_sub(overhead(info));
    info.max_mtu.min(u16::try_from(by_frame).unwrap_or(u16::MAX))
}

/// Bytes that the driver counts on top of the MTU: as ethdev calculates them, where that can be.
fn overhead(info: &dpdk_sys::rte_eth_dev_info) -> u32 {
    let stated = info.max_rx_pktlen.checked_sub(u32::from(info.max_mtu));
    match stated {
        Some(bytes) if info.max_mtu != u16::MAX && bytes <= OVERHEAD_MAX => bytes,
        _ => ETHERNET_OVERHEAD,
    }
}

fn check_against_device(
    inner: &Inner,
    info: &dpdk_sys::rte_eth_dev_info,
    config: &PortSettings,
) -> Result<(), PortError> {
    let (port, driver) = (inner.name.clone(), inner.driver.clone());
    let (rx, tx) = (config.rx_queues, config.tx_queues);
    if rx > info.max_rx_queues {
        let (direction, offered) = ("RX", info.max_rx_queues);
        return Err(PortError::Queues { port, driver, direction, asked: rx, offered });
    }
    if tx > info.max_tx_queues {
        let (direction, offered) = ("TX", info.max_tx_queues);
        return Err(PortError::Queues { port, driver, direction, asked: tx, offered });
    }
    let (mtu, min, max) = (config.mtu, info.min_mtu, max_mtu(info));
    if mtu < min || mtu > max {
        return Err(PortError::Mtu { port, driver, mtu, min, max });
    }
    let needed = u32::from(mtu) + overhead(info).max(ETHERNET_OVERHEAD + VLAN_TAGS);
    for pool in &config.pools {
        let data_room = pool.config().data_room;
        if u32::from(data_room) < needed {
            let pool = pool.name().to_owned();
            return Err(PortError::DataRoom { port, mtu, pool, data_room, needed });
        }
    }
    Ok(())
}

/// Sets queue counts, MTU, RSS and offloads, and adjusts the descriptor counts to the driver's
/// range.
fn configure(inner: &mut Inner, config: &PortSettings) -> Result<(), PortError> {
    // SAFETY: plain integers and null pointers, which ethdev takes as its defaults.
    let mut conf: dpdk_sys::rte_eth_conf = unsafe { std::mem::zeroed() };
    conf.rxmode.mtu = u32::from(config.mtu);
    conf.rxmode.offloads = inner.capabilities.rx_offloads_set.bits();
    conf.txmode.offloads = inner.capabilities.tx_offloads_set.bits();
    if !inner.capabilities.rss_set.is_empty() {
        conf.rxmode.mq_mode = dpdk_sys::RTE_ETH_MQ_RX_RSS;
        conf.rx_adv_conf.rss_conf.rss_hf = inner.capabilities.rss_set.bits();
    }
    // SAFETY: an existing port that is not started; `conf` is read only during the call.
    let code = unsafe {
        dpdk_sys::rte_eth_dev_configure(inner.id, config.rx_queues, config.tx_queues, &conf)
    };
    inner.check("configuring the port", code)?;
    let mut rx = config.rx_descriptors;
    let mut tx = config.tx_descriptors;
    // SAFETY: an existing port; both counts are written only during the call.
    let code = unsafe { dpdk_sys::rte_eth_dev_adjust_nb_rx_tx_desc(inner.id, &mut rx, &mut tx) };
    inner.check("adjusting the descriptor counts", code)?;
    inner.capabilities.rx_descriptors = rx;
    inner.capabilities.tx_descriptors = tx;
    Ok(())
}

fn set_up_queues(inner: &Inner, config: &PortSettings) -> Result<(), PortError> {
    // SAFETY: an existing port. -1, "any", is what both set-up calls take too.
    let socket = unsafe { dpdk_sys::rte_eth_dev_socket_id(inner.id) }.cast_unsigned();
    let Capabilities { rx_descriptors, tx_descriptors, .. } = inner.capabilities;
    for queue in 0..config.rx_queues {
        let Some(pool) = config.pool(queue) else { continue };
        // SAFETY: a configured, stopped port; a null configuration means the driver's defaults; the
        // pool outlives the port, which holds a handle on it.
        let code = unsafe {
            dpdk_sys::rte_eth_rx_queue_setup(
                inner.id,
                queue,
                rx_descriptors,
                socket,
                std::ptr::null(),
                pool.as_ptr(),
            )
        };
        inner.check("setting up an RX queue", code)?;
    }
    for queue in 0..config.tx_queues {
        // SAFETY: as above.
        let code = unsafe {
            dpdk_sys::rte_eth_tx_queue_setup(
                inner.id,
                queue,
                tx_descriptors,
                socket,
                std::ptr::null(),
            )
        };
        inner.check("setting up a TX queue", code)?;
    }
    Ok(())
}
