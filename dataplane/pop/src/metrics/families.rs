//! The metric families: names, labels and help texts.

use prometheus::proto::MetricType;

/// A metric family: its name, its labels in the order of their values, and its help.
pub(super) struct MetricInfo {
    pub(super) name: &'static str,
    pub(super) labels: &'static [&'static str],
    pub(super) help: &'static str,
}

impl MetricInfo {
    const fn new(name: &'static str, labels: &'static [&'static str], help: &'static str) -> Self {
        MetricInfo { name, labels, help }
    }

    /// The type, by the naming convention.
    pub(super) fn kind(&self) -> MetricType {
        if self.name.ends_with("_total") { MetricType::COUNTER } else { MetricType::GAUGE }
    }
}

const PORT: &[&str] = &["port"];
const PORT_TRAFFIC: &[&str] = &["port", "worker", "direction"];
const TARGET: &[&str] = &["service", "target"];
const TARGET_TRAFFIC: &[&str] = &["service", "target", "direction"];
const SERVICE_TRAFFIC: &[&str] = &["service", "worker", "direction"];

pub(super) static PORT_PACKETS: MetricInfo =
    MetricInfo::new("anyrelay_port_packets_total", PORT_TRAFFIC, "Frames received and sent.");
pub(super) static PORT_BYTES: MetricInfo = MetricInfo::new(
    "anyrelay_port_bytes_total",
    PORT_TRAFFIC,
    "Bytes of frames received and sent, Ethernet headers included.",
);
pub(super) static GATEWAY_SYNS: MetricInfo = MetricInfo::new(
    "anyrelay_gateway_syns_total",
    &["port", "worker"],
    "SYNs received from a gateway of a port.",
);
pub(super) static SERVICE_PACKETS: MetricInfo = MetricInfo::new(
    "anyrelay_service_packets_total",
    SERVICE_TRAFFIC,
    "Packets forwarded: up to targets or into a tunnel, down to clients.",
);
pub(super) static SERVICE_BYTES: MetricInfo = MetricInfo::new(
    "anyrelay_service_bytes_total",
    SERVICE_TRAFFIC,
    "Bytes forwarded, from the IP header on.",
);
pub(super) static SERVICE_COPIES: MetricInfo = MetricInfo::new(
    "anyrelay_service_copies_total",
    &["service", "worker"],
    "Packets sent to further targets of a client; not part of anyrelay_service_packets_total.",
);
pub(super) static TARGET_SYNS: MetricInfo =
    MetricInfo::new("anyrelay_target_syns_total", TARGET, "SYNs sent to the target.");
pub(super) static TARGET_PACKETS: MetricInfo = MetricInfo::new(
    "anyrelay_target_packets_total",
    TARGET_TRAFFIC,
    "Segments forwarded to the target (up), copies included, and from it (down).",
);
pub(super) static TARGET_BYTES: MetricInfo = MetricInfo::new(
    "anyrelay_target_bytes_total",
    TARGET_TRAFFIC,
    "Bytes of these segments, from the IP header on.",
);
pub(super) static TARGET_COPIES: MetricInfo = MetricInfo::new(
    "anyrelay_target_copies_total",
    TARGET,
    "Segments sent to the target that went to another one as well.",
);
pub(super) static TARGET_REFUSALS: MetricInfo = MetricInfo::new(
    "anyrelay_target_refusals_total",
    TARGET,
    "RSTs of the target without timestamps, as a host sends them that has no socket.",
);
pub(super) static TARGET_OWNERS: MetricInfo = MetricInfo::new(
    "anyrelay_target_owner_segments_total",
    TARGET,
    "Segments of the target that showed that it has the connection, of clients with several.",
);
pub(super) static TARGET_OPEN: MetricInfo = MetricInfo::new(
    "anyrelay_target_takes_connections",
    TARGET,
    "Whether new connections go to the target now.",
);
pub(super) static TARGETS_SERIAL: MetricInfo = MetricInfo::new(
    "anyrelay_targets_serial",
    &["service"],
    "The serial of the service's targets file; 0 for targets in the config.",
);
pub(super) static TARGETS_INFO: MetricInfo = MetricInfo::new(
    "anyrelay_targets_info",
    &["digest"],
    "1, with the digest of all targets as they are written.",
);
pub(super) static TARGETS_IN_FORCE: MetricInfo = MetricInfo::new(
    "anyrelay_targets_in_force_info",
    &["digest"],
    "1, with the digest of the targets that are in force now, on which POPs must agree.",
);
pub(super) static TARGETS_LATE: MetricInfo = MetricInfo::new(
    "anyrelay_targets_late_total",
    &[],
    "Targets files that changed after the date of a change: connections may have broken.",
);
pub(super) static DROPS: MetricInfo = MetricInfo::new(
    "anyrelay_drops_total",
    &["reason", "port", "worker"],
    "Frames not sent on, with link noise: link_control, other_group, arp_not_ours, nd_not_ours.",
);
pub(super) static SERVICE_DROPS: MetricInfo = MetricInfo::new(
    "anyrelay_service_drops_total",
    &["reason", "service", "worker"],
    "Frames of a service not sent on; part of anyrelay_drops_total.",
);
pub(super) static SYNS_WITHOUT_ADDRESS: MetricInfo = MetricInfo::new(
    "anyrelay_syns_without_client_address_total",
    &["service", "worker"],
    "SYNs of services with relay.client_address that had no room for the address.",
);
pub(super) static RAISED_MTUS: MetricInfo = MetricInfo::new(
    "anyrelay_icmp_mtu_raised_total",
    SERVICE_TRAFFIC,
    "ICMP errors that announced an MTU below relay.icmp_mtu_floor, to targets (up), to clients.",
);
pub(super) static REPLIES: MetricInfo = MetricInfo::new(
    "anyrelay_replies_total",
    &["kind", "worker"],
    "Frames that the POP answered itself.",
);
pub(super) static REPLIES_WITHHELD: MetricInfo = MetricInfo::new(
    "anyrelay_replies_withheld_total",
    &["kind", "worker"],
    "The POP's own answers that a rate limit suppressed.",
);
pub(super) static ABSORBED: MetricInfo = MetricInfo::new(
    "anyrelay_absorbed_total",
    &["kind", "worker"],
    "Frames absorbed as soft state.",
);
pub(super) static ISSUED_ELSEWHERE: MetricInfo = MetricInfo::new(
    "anyrelay_tunnel_issued_elsewhere_packets_total",
    &["issued_by", "worker"],
    "Tunnel datagrams with a token that another POP issued, by its number: routes have moved.",
);
pub(super) static TOKEN_EPOCH: MetricInfo = MetricInfo::new(
    "anyrelay_token_epoch_current",
    &[],
    "The epoch of new tokens; present with tunnels.",
);
pub(super) static TOKEN_EPOCH_START: MetricInfo = MetricInfo::new(
    "anyrelay_token_epoch_start_timestamp_seconds",
    &["epoch"],
    "The start of the epoch, in seconds since 1970; 0 if the key file states none.",
);
pub(super) static TOKEN_EPOCH_END: MetricInfo = MetricInfo::new(
    "anyrelay_token_epoch_end_timestamp_seconds",
    &["epoch"],
    "The end of the epoch's tokens, in seconds since 1970; present with a successor.",
);
pub(super) static QUEUE_DEPTH: MetricInfo = MetricInfo::new(
    "anyrelay_egress_queue_depth",
    PORT,
    "Frames that wait for the worker that sends on the port.",
);
pub(super) static QUEUE_OVERFLOW: MetricInfo = MetricInfo::new(
    "anyrelay_egress_queue_overflow_total",
    &["port", "worker"],
    "Frames dropped because that queue was full.",
);
pub(super) static REASSEMBLED: MetricInfo = MetricInfo::new(
    "anyrelay_reassembled_datagrams_total",
    &["worker"],
    "Datagrams that were reassembled.",
);
pub(super) static REASSEMBLED_FRAGMENTS: MetricInfo = MetricInfo::new(
    "anyrelay_reassembled_fragments_total",
    &["worker"],
    "Fragments of the datagrams that were reassembled.",
);
pub(super) static FRAGMENTS_HANDED_OVER: MetricInfo = MetricInfo::new(
    "anyrelay_fragments_handed_over_total",
    &["worker"],
    "Fragments handed over to the worker that reassembles their datagram.",
);
pub(super) static FRAGMENTS_WAITING: MetricInfo = MetricInfo::new(
    "anyrelay_fragments_waiting",
    &["worker"],
    "Frame buffers that hold fragments of incomplete datagrams.",
);
pub(super) static HINTS: MetricInfo = MetricInfo::new(
    "anyrelay_hints_total",
    &["result", "worker"],
    "Refusals of targets that other POPs were told of, and that they told of.",
);
pub(super) static HINT_DATAGRAMS: MetricInfo = MetricInfo::new(
    "anyrelay_hint_datagrams_total",
    &["result"],
    "Datagrams of hints, sent to each peer and received.",
);
pub(super) static HINT_OVERFLOW: MetricInfo = MetricInfo::new(
    "anyrelay_hint_overflow_total",
    &[],
    "Hints of other POPs that were lost because the queue to the worker was full.",
);
pub(super) static MEMO_ENTRIES: MetricInfo = MetricInfo::new(
    "anyrelay_memo_entries",
    &["kind"],
    "SYNs and RSTs that the endpoint memo holds.",
);
pub(super) static FAST_FRAMES: MetricInfo =
    MetricInfo::new("anyrelay_fast_frames_total", &["worker"], "Frames that went the fast way.");
pub(super) static POLLS: MetricInfo = MetricInfo::new(
    "anyrelay_polls_total",
    &["worker", "state"],
    "Turns of the worker's loop, with and without frames received.",
);
pub(super) static PORT_UP: MetricInfo = MetricInfo::new(
    "anyrelay_port_up",
    PORT,
    "Whether the port's link, and the interface below it, are up.",
);
pub(super) static PORT_LINK_LOSSES: MetricInfo = MetricInfo::new(
    "anyrelay_port_link_losses_total",
    PORT,
    "How often the port's link, or the interface below it, failed.",
);
pub(super) static GATEWAY_UP: MetricInfo = MetricInfo::new(
    "anyrelay_gateway_up",
    &["port", "gateway"],
    "Whether the gateway gets its share of the destinations.",
);
pub(super) static GATEWAY_LOSSES: MetricInfo = MetricInfo::new(
    "anyrelay_gateway_losses_total",
    &["port", "gateway"],
    "How often the gateway fell silent.",
);
pub(super) static PORT_RX_MISSED: MetricInfo = MetricInfo::new(
    "anyrelay_port_rx_missed_total",
    PORT,
    "Frames that the port dropped because no worker received them in time.",
);
pub(super) static PORT_RX_ERRORS: MetricInfo =
    MetricInfo::new("anyrelay_port_rx_errors_total", PORT, "Frames received with errors.");
pub(super) static PORT_RX_NO_BUFFER: MetricInfo = MetricInfo::new(
    "anyrelay_port_rx_no_buffer_total",
    PORT,
    "Failed allocations of a frame buffer by the port.",
);
pub(super) static PORT_QUEUE_PACKETS: MetricInfo = MetricInfo::new(
    "anyrelay_port_rx_queue_packets_total",
    &["port", "queue"],
    "Frames received by each RX queue of the port.",
);
pub(super) static PORT_TX_ERRORS: MetricInfo =
    MetricInfo::new("anyrelay_port_tx_errors_total", PORT, "Frames that the port failed to send.");
pub(super) static PROBES: MetricInfo = MetricInfo::new(
    "anyrelay_probes_total",
    &["result", "worker"],
    "Probes that workers passed through their own path; excused if the cause is not the POP's.",
);
pub(super) static READY: MetricInfo = MetricInfo::new(
    "anyrelay_ready",
    &[],
    "Whether the POP is ready for the traffic of all its services, as in /readyz.",
);
pub(super) static READY_RELAY: MetricInfo = MetricInfo::new(
    "anyrelay_ready_relay",
    &[],
    "Whether the POP is ready for relays, as in /readyz/relay.",
);
pub(super) static READY_TUNNEL: MetricInfo = MetricInfo::new(
    "anyrelay_ready_tunnel",
    &[],
    "Whether the POP is ready for tunnels, as in /readyz/tunnel.",
);
pub(super) static CONFIG_INFO: MetricInfo = MetricInfo::new(
    "anyrelay_config_info",
    &["digest"],
    "Digest of config and keys: equal on all POPs with the same behaviour.",
);
pub(super) static BUILD_INFO: MetricInfo = MetricInfo::new(
    "anyrelay_build_info",
    &["version", "dpdk", "instructions"],
    "The versions of the program and of DPDK, and the vector instructions of workers.",
);
pub(super) static RELOADS: MetricInfo =
    MetricInfo::new("anyrelay_reloads_total", &["result"], "Reloads, done and refused.");
pub(super) static BUFFERS: MetricInfo =
    MetricInfo::new("anyrelay_frame_buffers", &["state"], "Frame buffers, free and used.");
pub(super) static CLOCK_SYNCHRONISED: MetricInfo = MetricInfo::new(
    "anyrelay_clock_synchronised",
    &[],
    "Whether the kernel's clock is synchronised; present with tunnels, unless it is trusted.",
);
pub(super) static CLOCK_ERROR: MetricInfo = MetricInfo::new(
    "anyrelay_clock_estimated_error_seconds",
    &[],
    "Estimated error of the clock; present with anyrelay_clock_synchronised.",
);
pub(super) static CLOCK_ERROR_MAX: MetricInfo = MetricInfo::new(
    "anyrelay_clock_error_max_seconds",
    &[],
    "The estimated error from which on the POP is not ready for tunnels: half of a tick.",
);
pub(super) static RESIDENT: MetricInfo =
    MetricInfo::new("process_resident_memory_bytes", &[], "Resident memory size in bytes.");

/// All families, in the order of the page.
pub(super) static FAMILIES: &[&MetricInfo] = &[
    &PORT_PACKETS,
    &PORT_BYTES,
    &GATEWAY_SYNS,
    &SERVICE_PACKETS,
    &SERVICE_BYTES,
    &SERVICE_COPIES,
    &TARGET_SYNS,
    &TARGET_PACKETS,
    &TARGET_BYTES,
    &TARGET_COPIES,
    &TARGET_REFUSALS,
    &TARGET_OWNERS,
    &TARGET_OPEN,
    &TARGETS_SERIAL,
    &TARGETS_INFO,
    &TARGETS_IN_FORCE,
    &TARGETS_LATE,
    &DROPS,
    &SERVICE_DROPS,
    &SYNS_WITHOUT_ADDRESS,
    &RAISED_MTUS,
    &REPLIES,
    &REPLIES_WITHHELD,
    &ABSORBED,
    &ISSUED_ELSEWHERE,
    &TOKEN_EPOCH,
    &TOKEN_EPOCH_START,
    &TOKEN_EPOCH_END,
    &QUEUE_DEPTH,
    &QUEUE_OVERFLOW,
    &REASSEMBLED,
    &REASSEMBLED_FRAGMENTS,
    &FRAGMENTS_HANDED_OVER,
    &FRAGMENTS_WAITING,
    &HINTS,
    &HINT_DATAGRAMS,
    &HINT_OVERFLOW,
    &MEMO_ENTRIES,
    &FAST_FRAMES,
    &POLLS,
    &PORT_UP,
    &PORT_LINK_LOSSES,
    &GATEWAY_UP,
    &GATEWAY_LOSSES,
    &PORT_RX_MISSED,
    &PORT_RX_ERRORS,
    &PORT_RX_NO_BUFFER,
    &PORT_QUEUE_PACKETS,
    &PORT_TX_ERRORS,
    &PROBES,
    &READY,
    &READY_RELAY,
    &READY_TUNNEL,
    &CONFIG_INFO,
    &BUILD_INFO,
    &RELOADS,
    &BUFFERS,
    &CLOCK_SYNCHRONISED,
    &CLOCK_ERROR,
    &CLOCK_ERROR_MAX,
    &RESIDENT,
];
