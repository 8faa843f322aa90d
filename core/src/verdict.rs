//! What the POP decided about a frame: forwarded, answered, kept, or dropped for a named reason.

use crate::net::PortIndex;

/// What became of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Sent on, rewritten, through this port.
    Forward(PortIndex),
    /// Answered by the POP itself, back through the port it came from.
    Reply(ReplyKind),
    /// Taken in: what it said is remembered as soft state.
    Absorb(AbsorbKind),
    /// Not sent on.
    Drop(DropReason),
}

/// Defines an enum whose variants have a label (for metrics and `explain`) and a sentence.
macro_rules! labelled {
    ($(#[$doc:meta])* $name:ident { $($variant:ident = $label:literal, $text:literal;)+ }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(u8)]
        pub enum $name {
            $(#[doc = $text] $variant,)+
        }

        impl $name {
            /// All of them, in the order of their numbers.
            pub const ALL: &'static [$name] = &[$($name::$variant,)+];
            /// How many there are.
            pub const COUNT: usize = Self::ALL.len();

            /// The label in metrics, `explain` and the docs.
            pub const fn label(self) -> &'static str {
                match self { $($name::$variant => $label,)+ }
            }

            /// What it means, a sentence.
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
    /// An answer of the POP's own.
    ReplyKind {
        Arp = "arp", "ARP reply for an address of the port.";
        NeighbourAdvertisement = "neighbour_advertisement", "Neighbour advertisement for an address of the port.";
        Echo = "echo", "Echo reply for a VIP or an address of the port.";
        UnservedPort = "rst_unserved_port", "RST to a SYN for a VIP port without a service.";
        PendingRst = "rst_pending", "RST of a target, given to the client whose segment it fits.";
        NoTimestamps = "rst_no_timestamps", "RST to a target whose SYN-ACK has no timestamps.";
        TimeExceeded = "icmp_time_exceeded", "ICMP time exceeded for a segment at its last hop.";
        FragmentationNeeded = "icmp_fragmentation_needed", "ICMP frag-needed for a segment that does not fit.";
        PacketTooBig = "icmp_packet_too_big", "ICMPv6 packet-too-big for a segment that does not fit.";
        SynAck = "syn_ack", "SYN-ACK to a SYN for a tunnel's VIP.";
        Keepalive = "keepalive", "Reply to an agent's keepalive.";
    }
}

impl ReplyKind {
    /// Those that a rate limit may hold back. Keepalives beyond theirs are not looked at, so that
    /// nobody knows whether they would be answered.
    pub const LIMITED: &'static [ReplyKind] = &[
        ReplyKind::Echo,
        ReplyKind::UnservedPort,
        ReplyKind::NoTimestamps,
        ReplyKind::TimeExceeded,
        ReplyKind::FragmentationNeeded,
        ReplyKind::PacketTooBig,
        ReplyKind::SynAck,
    ];
}

labelled! {
    /// What was learned from a frame that ends here.
    AbsorbKind {
        Neighbour = "neighbour", "An ARP reply or a neighbour advertisement gave a neighbour's hardware address.";
        PendingRst = "pending_rst", "A RST without timestamps waits for a client segment that it fits.";
        TunnelAck = "tunnel_ack", "A segment without data to a tunnel's VIP: nothing to be done.";
        TunnelIcmp = "tunnel_icmp", "An ICMP error about a POP's answer to an agent: nothing to be done.";
    }
}

labelled! {
    /// Why a frame was not sent on. Each has a counter and a row in the failure table of
    /// `docs/operations.md`.
    DropReason {
        Runt = "runt", "Shorter than its Ethernet header.";
        WrongMac = "wrong_mac", "Sent to another station's hardware address.";
        WrongVlan = "wrong_vlan", "Tagged for another VLAN than the port's.";
        Ethertype = "ethertype", "Neither IPv4, IPv6 nor ARP.";
        ArpMalformed = "arp_malformed", "ARP that is not IPv4 over Ethernet.";
        ArpNotOurs = "arp_not_ours", "ARP about an address that is not the port's.";
        Ipv4Malformed = "ipv4_malformed", "IPv4 header cut off or with lengths that contradict each other.";
        Ipv4Checksum = "ipv4_checksum", "Wrong IPv4 header checksum.";
        Ipv4Options = "ipv4_options", "IPv4 options with lengths that lie.";
        Ipv6Malformed = "ipv6_malformed", "IPv6 header cut off or with more payload than there is.";
        Ipv6Options = "ipv6_options", "IPv6 extension headers with lengths that lie, too many, out of place, or with options that must be known.";
        NdMalformed = "nd_malformed", "Neighbour discovery that was forwarded or breaks a rule of its form.";
        NdNotOurs = "nd_not_ours", "Neighbour discovery about an address that is not the port's.";
        SourceRoute = "source_route", "IPv4 source route or IPv6 routing header.";
        Fragment = "fragment", "Fragment, and the policy is to drop them.";
        FragmentMalformed = "fragment_malformed", "Fragment that is empty, not a multiple of eight bytes though more follow, or behind other IPv6 extension headers.";
        FragmentTiny = "fragment_tiny", "First fragment without the whole TCP header, or another with a part of it.";
        FragmentTooLong = "fragment_too_long", "Fragment of a datagram beyond 65,535 bytes, or longer than a frame buffer.";
        FragmentConflict = "fragment_conflict", "Fragment of a datagram whose fragments overlap or contradict each other about its end, protocol, ECN or side.";
        FragmentDuplicate = "fragment_duplicate", "Fragment that was there already.";
        FragmentTooMany = "fragment_too_many", "Fragment of a datagram in more pieces than are put together.";
        FragmentTableFull = "fragment_table_full", "Fragment for which there was no place among those that wait.";
        FragmentShare = "fragment_share", "Fragment of a network whose share of those that wait is used up.";
        FragmentTimeout = "fragment_timeout", "Fragment whose datagram did not become whole in time.";
        FragmentQueueFull = "fragment_queue_full", "Fragment for another worker, whose queue was full.";
        NotOurs = "not_ours", "To no address that this POP serves.";
        WrongSide = "wrong_side", "Client frame on a target port, or target frame on a client port.";
        Protocol = "protocol", "Neither TCP nor ICMP.";
        TcpMalformed = "tcp_malformed", "TCP header cut off or with a wrong data offset.";
        TcpChecksum = "tcp_checksum", "Wrong TCP checksum: found by the port, or by the POP before it acts on a segment itself.";
        TcpFlags = "tcp_flags", "Flags that no segment has: SYN with RST or FIN, or none at all.";
        TcpOptions = "tcp_options", "TCP options with lengths that lie, or timestamps twice.";
        OptionsFull = "options_full", "No room for the timestamps among the TCP options.";
        UnservedPort = "unserved_port", "To a VIP port without a service, and no SYN.";
        SourceNotAllowed = "source_not_allowed", "The source can not be a client's address or, of an ICMP message, a station's.";
        SynAckFromClient = "syn_ack_from_client", "A client's SYN|ACK.";
        SynFromTarget = "syn_from_target", "A target's SYN without ACK.";
        UnknownTarget = "unknown_target", "To an egress address, but from no target of a service there.";
        TargetWithoutTimestamps = "target_without_timestamps", "A target's segment without timestamps: it has no tag.";
        BadTag = "bad_tag", "The tag decodes to no client.";
        CycleLimit = "cycle_limit", "The permutation exceeded its limit of cycle-walking steps.";
        TtlExceeded = "ttl_exceeded", "TTL used up.";
        TooBig = "too_big", "Does not fit the egress port's MTU.";
        IcmpMalformed = "icmp_malformed", "ICMP message shorter than its header.";
        IcmpChecksum = "icmp_checksum", "Wrong ICMP checksum.";
        IcmpType = "icmp_type", "ICMP that is neither echo request nor a mapped error.";
        IcmpQuote = "icmp_quote", "ICMP error whose quote is too short or not a segment of ours.";
        IcmpForged = "icmp_forged", "ICMP error about a segment of a tunnel that no POP sent.";
        NoRoute = "no_route", "No gateway on that side, and the destination is on no link.";
        NeighbourUnresolved = "neighbour_unresolved", "The next hop's hardware address is not known yet.";
        RateRst = "rate_rst", "RST of our own beyond the rate limit.";
        RateVariants = "rate_variants", "Two-variant RST or ICMP beyond the rate limit.";
        RateEcho = "rate_echo", "Echo request beyond the rate limit.";
        RateIcmp = "rate_icmp", "ICMP error to be passed on, beyond the rate limit of the prefix whose segments it is about.";
        RateSynPrefix = "rate_syn_prefix", "Client's SYN beyond the rate limit of its source's prefix.";
        RateSynService = "rate_syn_service", "Client's SYN beyond the rate limit of its service.";
        RateSynAck = "rate_syn_ack", "SYN for a tunnel's VIP beyond the rate limit of its source's prefix.";
        RateKeepalive = "rate_keepalive", "Keepalive that was not looked at: too many had a wrong MAC.";
        TunnelMalformed = "tunnel_malformed", "To a tunnel's VIP, with data that is no message of an agent's.";
        BodyTooBig = "body_too_big", "Datagram of an agent beyond the tunnel's MTU.";
        NotInSequence = "not_in_sequence", "Datagram of an agent whose sequence or ack number is none of these ticks.";
        KeepaliveAck = "keepalive_ack", "Keepalive whose ack number is none of these ticks.";
        UnknownAgent = "unknown_agent", "Keepalive of an agent that is not listed, is revoked, or may not use the tunnel.";
        KeepaliveMac = "keepalive_mac", "Keepalive with a wrong MAC.";
        OwnToken = "own_token", "The sender's token was not made by these POPs for this VIP.";
        OwnTokenEpoch = "own_token_epoch", "The sender's token is of an epoch that is not accepted.";
        TokenSource = "token_source", "The sender's token is that of another address.";
        UnknownTenant = "unknown_tenant", "The sender's tenant may not use the tunnel.";
        DestinationFamily = "destination_family", "The tunnel has no VIP of the destination's family.";
        DestinationToken = "destination_token", "The destination's token was not made by these POPs for this tunnel.";
        DestinationTokenEpoch = "destination_token_epoch", "The destination's token is of an epoch that is not accepted.";
        OtherTenant = "other_tenant", "The destination is another tenant's agent.";
        DestinationNotAllowed = "destination_not_allowed", "The destination can not be an agent's address.";
        NoRoom = "no_room", "The buffer has no room for the rewritten headers.";
        NoBuffer = "no_buffer", "No free buffer for a frame of our own.";
        NotContiguous = "not_contiguous", "Received in more than one buffer.";
        EgressQueueFull = "egress_queue_full", "The queue to the worker that owns the TX ring is full.";
        TxFull = "tx_full", "The port's TX ring took no more.";
    }
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
