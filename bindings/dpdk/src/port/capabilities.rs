//! The capabilities of a port, and those in use.

use std::fmt;

use super::multicast::Multicast;

/// The capabilities of a port, and those in use.
#[derive(Clone, Debug)]
pub struct Capabilities {
    /// The maximum number of RX queues.
    pub max_rx_queues: u16,
    /// The maximum number of TX queues.
    pub max_tx_queues: u16,
    /// Descriptors of each RX queue.
    pub rx_descriptors: u16,
    /// Descriptors of each TX queue.
    pub tx_descriptors: u16,
    /// The least MTU, in bytes.
    pub min_mtu: u16,
    /// The largest MTU, in bytes.
    pub max_mtu: u16,
    /// RX offloads that the driver offers.
    pub rx_offloads_offered: Offloads,
    /// RX offloads in use.
    pub rx_offloads_set: Offloads,
    /// TX offloads that the driver offers.
    pub tx_offloads_offered: Offloads,
    /// TX offloads in use.
    pub tx_offloads_set: Offloads,
    /// The header fields that the driver can hash to spread frames over RX queues.
    pub rss_offered: RssTypes,
    /// The header fields that it hashes; none with one RX queue, or without
    /// [`super::PortSettings::rss`].
    pub rss_set: RssTypes,
    /// How it receives [`super::PortSettings::groups`].
    pub multicast: Multicast,
}

/// A set of offloads of one direction, in DPDK's bits.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Offloads {
    bits: u64,
    direction: Direction,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Direction {
    Rx,
    Tx,
}

impl Offloads {
    pub(super) fn rx(bits: u64) -> Offloads {
        Offloads { bits, direction: Direction::Rx }
    }

    pub(super) fn tx(bits: u64) -> Offloads {
        Offloads { bits, direction: Direction::Tx }
    }

    /// DPDK's bits: `RTE_ETH_RX_OFFLOAD_*` or `RTE_ETH_TX_OFFLOAD_*`.
    pub fn bits(self) -> u64 {
        self.bits
    }

    /// Whether the port checks the TCP checksum of received frames.
    pub fn has_rx_tcp_checksum(self) -> bool {
        self.direction == Direction::Rx && self.bits & dpdk_sys::DPDK_RX_OFFLOAD_TCP_CKSUM != 0
    }

    /// DPDK's names of the offloads, such as `TCP_CKSUM`.
    pub fn names(self) -> Vec<String> {
        let bits = (0..u64::BITS).map(|shift| 1 << shift).filter(|bit| self.bits & bit != 0);
        bits.map(|bit| self.name(bit)).collect()
    }

    fn name(self, bit: u64) -> String {
        // SAFETY: both take any bit and return static NUL-terminated strings.
        unsafe {
            super::text_of(match self.direction {
                Direction::Rx => dpdk_sys::rte_eth_dev_rx_offload_name(bit),
                Direction::Tx => dpdk_sys::rte_eth_dev_tx_offload_name(bit),
            })
        }
    }
}

impl fmt::Debug for Offloads {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.names()).finish()
    }
}

/// A set of header fields that RSS hashes, in DPDK's bits (`RTE_ETH_RSS_*`).
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct RssTypes(u64);

impl RssTypes {
    /// The fields to hash: addresses of IPv4 and IPv6, and TCP ports with them.
    pub(super) const WANTED: RssTypes = RssTypes(
        dpdk_sys::DPDK_RSS_IPV4
            | dpdk_sys::DPDK_RSS_IPV6
            | dpdk_sys::DPDK_RSS_TCP_IPV4
            | dpdk_sys::DPDK_RSS_TCP_IPV6,
    );
    /// No fields.
    pub(super) const NONE: RssTypes = RssTypes(0);

    pub(super) fn from_bits(bits: u64) -> RssTypes {
        RssTypes(bits)
    }

    pub(super) fn intersection(self, other: RssTypes) -> RssTypes {
        RssTypes(self.0 & other.0)
    }

    /// DPDK's bits.
    pub fn bits(self) -> u64 {
        self.0
    }

    /// Whether nothing is hashed.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Whether IPv4 addresses are hashed.
    pub fn ipv4(self) -> bool {
        self.0 & dpdk_sys::DPDK_RSS_IPV4 != 0
    }

    /// Whether addresses and ports of TCP over IPv4 are hashed.
    pub fn tcp_ipv4(self) -> bool {
        self.0 & dpdk_sys::DPDK_RSS_TCP_IPV4 != 0
    }

    /// Whether IPv6 addresses are hashed.
    pub fn ipv6(self) -> bool {
        self.0 & dpdk_sys::DPDK_RSS_IPV6 != 0
    }

    /// Whether addresses and ports of TCP over IPv6 are hashed.
    pub fn tcp_ipv6(self) -> bool {
        self.0 & dpdk_sys::DPDK_RSS_TCP_IPV6 != 0
    }
}

impl fmt::Debug for RssTypes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let named = [
            (self.ipv4(), "ipv4"),
            (self.tcp_ipv4(), "ipv4-tcp"),
            (self.ipv6(), "ipv6"),
            (self.tcp_ipv6(), "ipv6-tcp"),
        ];
        f.debug_list().entries(named.iter().filter(|(set, _)| *set).map(|(_, name)| name)).finish()
    }
}

/// The state of a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LinkStatus {
    /// Whether the link is up.
    pub up: bool,
    /// Speed in Mbit/s; `None` when the driver does not know.
    pub speed_mbit_s: Option<u32>,
}

impl LinkStatus {
    pub(super) fn from_raw(link: &dpdk_sys::rte_eth_link) -> LinkStatus {
        let known = link.link_speed != 0 && link.link_speed != u32::MAX;
        LinkStatus {
            up: u32::from(link.link_status()) == dpdk_sys::RTE_ETH_LINK_UP,
            speed_mbit_s: known.then_some(link.link_speed),
        }
    }
}
