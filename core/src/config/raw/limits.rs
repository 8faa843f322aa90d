//! `[limits]` as it is written.

use serde::Deserialize;

/// `[limits]`: rates of token buckets, each with room for one second's worth, and table sizes. The
/// rates are per second and for each worker.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(in crate::config) struct RawLimits {
    /// RSTs that the POP originates, to clients and to targets each; a tenth of it to one network
    /// (an IPv4 /24 or an IPv6 /56) of clients. Default: 1000. Range: 0 to 1000000000.
    pub(in crate::config) rst_per_second: i64,
    /// Echo replies; a tenth of it to one network. Default: 1000. Range: 0 to 1000000000.
    pub(in crate::config) echo_per_second: i64,
    /// ICMP errors that the POP originates, of each kind; a tenth of it to one network. Default:
    /// 1000. Range: 0 to 1000000000.
    pub(in crate::config) icmp_per_second: i64,
    /// Queries (ARP, neighbour discovery) for clients on a port's link whose hardware addresses are
    /// not known; a tenth of it for one network. Default: 1000. Range: 1 to 1000000000.
    pub(in crate::config) neighbour_per_second: i64,
    /// ICMP errors that are passed on about the segments of one network (an IPv4 /24 or an IPv6
    /// /56) and one service. Default: 1000. Range: 0 to 1000000000.
    pub(in crate::config) icmp_forward_per_second: i64,
    /// Slots of the table of what targets answered, which the workers share: RSTs that wait, and
    /// owners of connections. Default: 65536. Range: 1 to 16777216.
    pub(in crate::config) remembered_answers: i64,
    /// SYNs that are remembered to tell their clients of refusals, by all workers together; a tenth
    /// of it within 120 s from one network. Default: 65536. Range: 1 to 16777216.
    pub(in crate::config) remembered_syns: i64,
    /// SYN-ACKs of tunnels to one network, an IPv4 /24 or an IPv6 /56. Default: 100. Range: 1 to
    /// 1000000000.
    pub(in crate::config) syn_ack_per_second: i64,
    /// Keepalive requests with a wrong MAC that are verified, from one host (IPv6: one /64); a
    /// tenth of it from one of its ports. Default: 1000. Range: 1 to 1000000000.
    pub(in crate::config) keepalive_mac_per_second: i64,
    /// SYNs of one network (an IPv4 /24 or an IPv6 /56) to one relay. Default: 5000. Range: 1 to
    /// 1000000000.
    pub(in crate::config) syn_per_prefix_per_second: i64,
    /// SYNs to one relay. Default: 200000. Range: 1 to 1000000000.
    pub(in crate::config) syn_per_service_per_second: i64,
}

impl Default for RawLimits {
    fn default() -> Self {
        RawLimits {
            rst_per_second: 1000,
            echo_per_second: 1000,
            icmp_per_second: 1000,
            neighbour_per_second: 1000,
            icmp_forward_per_second: 1000,
            remembered_answers: 65_536,
            remembered_syns: 65_536,
            syn_ack_per_second: 100,
            keepalive_mac_per_second: 1000,
            syn_per_prefix_per_second: 5000,
            syn_per_service_per_second: 200_000,
        }
    }
}
