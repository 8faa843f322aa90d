//! The decision on a frame: forward, reply, absorb, or drop for a named reason.

use crate::net::PortIndex;

/// The decision on a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Rewritten and sent through this port.
    Forward(PortIndex),
    /// Answered by the POP itself, through the port that it arrived on.
    Reply(ReplyKind),
    /// Ends here; its contents may have become soft state.
    Absorb(AbsorbKind),
    /// Dropped.
    Drop(DropReason),
}

/// Defines an enum whose variants each have a label (of metrics and `explain`) and a sentence.
macro_rules! labelled {
    ($(#[$doc:meta])* $name:ident { $($variant:ident = $label:literal, $text:literal;)+ }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(u8)]
        pub enum $name {
            $(#[doc = $text] $variant,)+
        }

        impl $name {
            /// All variants, in the order of their numbers.
            pub const ALL: &'static [$name] = &[$($name::$variant,)+];
            /// The number of variants.
            pub const COUNT: usize = Self::ALL.len();

            /// The label in metrics, `explain` and the docs.
            pub const fn label(self) -> &'static str {
                match self { $($name::$variant => $label,)+ }
            }

            /// The meaning, as a sentence.
            pub const fn text(self) -> &'static str {
                match self { $($name::$variant => $text,)+ }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.label())
            }
        }
    };
}

labelled! {
    /// An answer that the POP sends itself.
    ReplyKind {
        Arp = "arp", "ARP reply for an address of the port.";
        NeighbourAdvertisement = "neighbour_advertisement",
            "Neighbour advertisement for an address of the port.";
        Echo = "echo", "Echo reply for a VIP or an address of the port.";
        UnservedPort = "rst_unserved_port", "RST to a SYN for a VIP port without a service.";
        PendingRst = "rst_pending",
            "RST of a target, delivered to the client whose segment it fits.";
        HintedRst = "rst_hinted",
            "RST of a target that another POP told of, to the client whose SYN it answers.";
        NoTimestamps = "rst_no_timestamps", "RST to a target whose SYN-ACK has no timestamps.";
        TimeExceeded = "icmp_time_exceeded", "ICMP time exceeded for a segment at its last hop.";
        FragmentationNeeded = "icmp_fragmentation_needed",
            "ICMP fragmentation needed for a segment beyond the egress port's MTU.";
        PacketTooBig = "icmp_packet_too_big",
            "ICMPv6 packet too big for a segment beyond the egress port's MTU.";
        PortUnreachable = "icmp_port_unreachable",
            "ICMP port unreachable to a UDP datagram for a VIP or an address of the port.";
        SynAck = "syn_ack", "SYN-ACK to a SYN for a tunnel's VIP.";
        Keepalive = "keepalive", "Reply to an agent's keepalive.";
    }
}

impl ReplyKind {
    /// The kinds that a rate limit may withhold. Keepalives are not among them: those beyond their
    /// limit are dropped before it is known whether they would be answered.
    pub const LIMITED: &'static [ReplyKind] = &[
        ReplyKind::Echo,
        ReplyKind::UnservedPort,
        ReplyKind::NoTimestamps,
        ReplyKind::TimeExceeded,
        ReplyKind::FragmentationNeeded,
        ReplyKind::PacketTooBig,
        ReplyKind::PortUnreachable,
        ReplyKind::SynAck,
    ];
}

labelled! {
    /// Why a frame ends at the POP without being dropped.
    AbsorbKind {
        Neighbour = "neighbour",
            "An ARP reply or a neighbour advertisement gave a neighbour's hardware address.";
        PendingRst = "pending_rst",
            "A RST without timestamps waits for a client segment that it fits.";
        Unreachable = "target_unreachable",
            "An ICMP unreachable about a segment that went to several targets is remembered.";
        TunnelAck = "tunnel_ack", "A segment without data to a tunnel's VIP needs no answer.";
        TunnelIcmp = "tunnel_icmp",
            "An ICMP error about a POP's answer to an agent needs no action.";
    }
}

labelled! {
    /// Why a frame was dropped. Each reason has a counter and a row in the failure table of
    /// `docs/operations.md`.
    DropReason {
        Runt = "runt", "Shorter than its Ethernet header.";
        LinkControl = "link_control",
            "Sent to a group of bridges or switches, such as STP's and LLDP's.";
        OtherGroup = "other_group",
            "Broadcast or multicast of a protocol or group that the port takes no part in.";
        WrongMac = "wrong_mac",
            "Sent to the hardware address of another host, from one that is no host's, or an IPv6 \
             datagram for one host sent to a group.";
        WrongVlan = "wrong_vlan", "Tagged for another VLAN than the port's.";
        Ethertype = "ethertype",
            "Sent to the port's hardware address, and neither IPv4, IPv6 nor ARP.";
        ArpMalformed = "arp_malformed", "ARP that is not IPv4 over Ethernet.";
        ArpNotOurs = "arp_not_ours",
            "ARP about an address that is not the port's, or a reply that was not asked for.";
        Ipv4Malformed = "ipv4_malformed", "IPv4 header cut off or with contradictory lengths.";
        Ipv4Checksum = "ipv4_checksum", "Wrong IPv4 header checksum.";
        Ipv4Options = "ipv4_options", "IPv4 options with false lengths.";
        Ipv6Malformed = "ipv6_malformed",
            "IPv6 header cut off or with a longer payload than the frame has.";
        Ipv6Options = "ipv6_options",
            "IPv6 extension headers with false lengths, too many, out of place, or with options \
             that a host must know.";
        NdMalformed = "nd_malformed",
            "Neighbour discovery that was forwarded or fragmented, or that breaks RFC 4861.";
        NdNotOurs = "nd_not_ours",
            "Neighbour discovery about an address that is not the port's and that the POP did \
             not query.";
        SourceRoute = "source_route", "IPv4 source route or IPv6 routing header.";
        Fragment = "fragment",
            "Fragment that is not reassembled: by the policy, or as it is inside a tunnel.";
        FragmentMalformed = "fragment_malformed",
            "Fragment that is empty, not the last and not a multiple of eight bytes, or behind \
             other IPv6 extension headers.";
        FragmentTiny = "fragment_tiny",
            "First fragment without the whole TCP header, or another with a part of it.";
        FragmentTooLong = "fragment_too_long",
            "Fragment of a datagram beyond 65,535 bytes or the size of a frame buffer.";
        FragmentConflict = "fragment_conflict",
            "Fragment of a datagram whose fragments overlap, or disagree on its end, protocol, \
             ECN or side.";
        FragmentDuplicate = "fragment_duplicate", "Fragment that repeats an earlier one.";
        FragmentTooMany = "fragment_too_many",
            "Fragment of a datagram with more fragments than are reassembled.";
        FragmentTableFull = "fragment_table_full",
            "Fragment for which the reassembly table has no room.";
        FragmentShare = "fragment_share",
            "Fragment of a network that has used up its share of the reassembly table.";
        FragmentTimeout = "fragment_timeout", "Fragment whose datagram was not complete in time.";
        FragmentQueueFull = "fragment_queue_full",
            "Fragment for another worker, whose queue is full.";
        NotOurs = "not_ours", "To no address that this POP serves.";
        WrongSide = "wrong_side",
            "Client frame on a target port, or target frame on a client port.";
        Protocol = "protocol", "Neither TCP nor ICMP, nor UDP of a relay.";
        TcpMalformed = "tcp_malformed", "TCP header cut off or with a wrong data offset.";
        TcpChecksum = "tcp_checksum",
            "Wrong TCP checksum, found by the port or by the POP before it acts on a segment \
             itself.";
        TcpFlags = "tcp_flags", "Impossible TCP flags: SYN with RST or FIN, or none at all.";
        TcpOptions = "tcp_options", "TCP options with false lengths, or two timestamps.";
        UdpMalformed = "udp_malformed",
            "UDP header cut off, or with a length beyond its datagram.";
        UdpChecksum = "udp_checksum",
            "Wrong UDP checksum, found by the port or by the POP before it acts on a datagram \
             itself, or none over IPv6.";
        OptionsFull = "options_full", "TCP options without room for timestamps.";
        UnservedPort = "unserved_port", "To a VIP port without a service, and no SYN.";
        SourceNotAllowed = "source_not_allowed",
            "A source that cannot be a client's address or, of an ICMP message, a host's.";
        SynAckFromClient = "syn_ack_from_client", "A client's SYN|ACK.";
        SynFromTarget = "syn_from_target", "A target's SYN without ACK.";
        NoTarget = "no_target", "No target of the service takes new connections at this time.";
        UnknownTarget = "unknown_target",
            "To an egress address, but from no target of a service there.";
        TunnelMark = "tunnel_mark",
            "From a target in a tunnel: a router marked it for congestion, and its sender does not \
             know of marks.";
        TargetWithoutTimestamps = "target_without_timestamps",
            "A target's segment without timestamps, and so without a tag.";
        BadTag = "bad_tag", "A tag that decodes to no client.";
        TtlExceeded = "ttl_exceeded", "TTL exceeded.";
        TooBig = "too_big", "Larger than the egress port's MTU.";
        IcmpMalformed = "icmp_malformed", "ICMP message shorter than its header.";
        IcmpChecksum = "icmp_checksum", "Wrong ICMP checksum.";
        IcmpType = "icmp_type", "ICMP that is neither an echo request nor a mapped error.";
        IcmpQuote = "icmp_quote",
            "ICMP error whose quote is too short or is not of a segment that the POP forwards.";
        IcmpForged = "icmp_forged", "ICMP error about a segment of a tunnel that no POP sent.";
        NoRoute = "no_route", "The destination is on no link, and that side has no gateway.";
        NeighbourUnresolved = "neighbour_unresolved",
            "The hardware address of the next hop is not known yet.";
        RateRst = "rate_rst", "RST of the POP's own beyond the rate limit.";
        RateEcho = "rate_echo", "Echo request beyond the rate limit.";
        RateNeighbour = "rate_neighbour",
            "To a host on a link whose hardware address is not known, beyond the rate limit of \
             queries.";
        RateIcmp = "rate_icmp",
            "ICMP error to pass on, beyond the rate limit of the network whose segments it is \
             about.";
        RateSynPrefix = "rate_syn_prefix", "A client's SYN beyond the rate limit of its network.";
        RateSynService = "rate_syn_service", "A client's SYN beyond the rate limit of its service.";
        RateSynAck = "rate_syn_ack", "SYN for a tunnel's VIP beyond the rate limit of its network.";
        RateKeepalive = "rate_keepalive",
            "Keepalive that was not verified, because too many had a wrong MAC.";
        TunnelMalformed = "tunnel_malformed",
            "To a tunnel's VIP, with data that is no message of an agent.";
        BodyTooBig = "body_too_big", "An agent's datagram beyond the tunnel's MTU.";
        NotInSequence = "not_in_sequence",
            "An agent's datagram whose sequence or ack number is of no accepted tick.";
        KeepaliveAck = "keepalive_ack", "Keepalive whose ack number is of no accepted tick.";
        UnknownAgent = "unknown_agent",
            "Keepalive of an agent that is not listed, is revoked, or may not use the tunnel.";
        KeepaliveMac = "keepalive_mac", "Keepalive with a wrong MAC.";
        OwnToken = "own_token", "The sender's token was not issued by these POPs for this VIP.";
        OwnTokenEpoch = "own_token_epoch",
            "The sender's token is of an epoch that is not accepted.";
        TokenSource = "token_source", "The sender's token was issued for another address.";
        UnknownTenant = "unknown_tenant", "The sender's tenant may not use the tunnel.";
        DestinationFamily = "destination_family",
            "The tunnel has no VIP of the destination's family.";
        DestinationToken = "destination_token",
            "The destination's token was not issued by these POPs for this tunnel.";
        DestinationTokenEpoch = "destination_token_epoch",
            "The destination's token is of an epoch that is not accepted.";
        OtherTenant = "other_tenant", "The destination is an agent of another tenant.";
        DestinationNotAllowed = "destination_not_allowed",
            "The destination cannot be an agent's address.";
        OpenSource = "open_source",
            "An agent's packet whose inner source is not its open address.";
        OpenEpoch = "open_epoch", "From or to an open address of an epoch that is not accepted.";
        OpenDestination = "open_destination",
            "An agent's packet to an address that open tunnels do not send to.";
        OpenOtherService = "open_other_service",
            "An agent's packet to an open address of another tunnel.";
        OpenAddress = "open_address", "To an open address that no POP gave to an agent.";
        OpenSpoofed = "open_spoofed",
            "From outside of the tunnel, with an open address as its source.";
        RateOpenAgent = "rate_open_agent",
            "From or to an open address beyond the rate limit of its agent.";
        RateOpenService = "rate_open_service",
            "From or to an open address beyond the rate limit of its tunnel.";
        NoRoom = "no_room", "The frame buffer has no room for the rewritten headers.";
        NoBuffer = "no_buffer", "No frame buffer was free for a frame of the POP's own.";
        NotContiguous = "not_contiguous", "Received in more than one frame buffer.";
        EgressQueueFull = "egress_queue_full",
            "The queue to the worker that owns the TX ring is full.";
        TxFull = "tx_full", "The port's TX ring is full.";
    }
}

impl DropReason {
    /// What every host of a link hears and has no part in: the switches' own protocols, and what
    /// other hosts ask each other. It says nothing of the POP's traffic.
    pub const LINK_NOISE: &'static [DropReason] = &[
        DropReason::LinkControl,
        DropReason::OtherGroup,
        DropReason::ArpNotOurs,
        DropReason::NdNotOurs,
    ];
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn labels_are_distinct_and_fit_for_prometheus() {
        let labels: HashSet<_> = DropReason::ALL.iter().map(|reason| reason.label()).collect();
        assert_eq!(labels.len(), DropReason::COUNT);
        let fits =
            |label: &str| label.bytes().all(|b| b.is_ascii_lowercase() || b"_46".contains(&b));
        assert!(labels.into_iter().all(fits));
        for (number, reason) in DropReason::ALL.iter().enumerate() {
            assert_eq!(*reason as usize, number);
        }
    }
}
