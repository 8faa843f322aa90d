//! `[limits]` as it is written.

use serde::Deserialize;

/// Rates are per second and for each worker. Where a limit gives one network a share, that is a
/// network other than a target's: an IPv4 /24 or an IPv6 /56
/// ([why](limits.md#limits-shared-by-all)).
///
/// Reload: yes.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(in crate::config) struct RawLimits {
    /// RSTs that the POP generates, to clients of ports that are not served and to targets without
    /// timestamps each; a tenth of it to one network. Range: 0 to 1000000000.
    pub(in crate::config) rst_per_second: i64,
    /// Echo replies; a tenth of it to one network. Range: 0 to 1000000000.
    pub(in crate::config) echo_per_second: i64,
    /// ICMP errors that the POP generates, of each kind (TTL exceeded, packet too big, port
    /// unreachable); a tenth of it to one network. Range: 0 to 1000000000.
    pub(in crate::config) icmp_per_second: i64,
    /// Queries (ARP, neighbour discovery) for hosts on a link towards clients whose MAC address is
    /// not known; a tenth of it for one network. Range: 1 to 1000000000.
    pub(in crate::config) neighbour_per_second: i64,
    /// ICMP errors that are passed on about the segments of one network and one service. Range: 0
    /// to 1000000000.
    pub(in crate::config) icmp_forward_per_second: i64,
    /// Slots of the table of what targets answered, which the workers share: RSTs that wait for the
    /// segment that they answer, and owners of the connections of clients that a change of targets
    /// moved ([targets that change](limits.md#targets-that-change)). Range: 1 to 16777216. Reload:
    /// restart.
    pub(in crate::config) remembered_answers: i64,
    /// Slots of the table of SYNs, which the workers share, and by which clients are told of
    /// refusals at once; a tenth of it within 120 s for one network. Range: 1 to 16777216. Reload:
    /// restart.
    pub(in crate::config) remembered_syns: i64,
    /// SYN-ACKs of tunnels to one network. Range: 1 to 1000000000.
    pub(in crate::config) syn_ack_per_second: i64,
    /// Keepalive requests with a wrong MAC that are verified, from one host (IPv6: one /64); a
    /// tenth of it from one of its ports, as an agent behind a NAT has it. A port without a wrong
    /// MAC for a second is verified even if others of its host have used up the limit: at most 4096
    /// more a second by each worker. Range: 1 to 1000000000.
    pub(in crate::config) keepalive_mac_per_second: i64,
    /// SYNs of one network to one relay. Range: 1 to 1000000000.
    pub(in crate::config) syn_per_prefix_per_second: i64,
    /// SYNs to one relay; set it to the rate that its targets can accept. Range: 1 to 1000000000.
    pub(in crate::config) syn_per_service_per_second: i64,
    /// Packets from one agent's open address, and packets to it. Range: 1 to 1000000000.
    pub(in crate::config) open_per_agent_per_second: i64,
    /// Packets from all open addresses of one tunnel, and packets to them. Range: 1 to 1000000000.
    pub(in crate::config) open_per_service_per_second: i64,
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
            open_per_agent_per_second: 100_000,
            open_per_service_per_second: 1_000_000,
        }
    }
}
