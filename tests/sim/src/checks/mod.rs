//! Rules for every frame that leaves a POP, written down a second time from `docs/protocol.md`, and
//! the same mapping for ever, whichever POP a segment meets.

mod addresses;
mod client_address;
mod datagram;
mod echo;
mod link;
mod pool;
mod refusals;
mod tunnel;

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use anyrelay_core::verdict::ReplyKind;
use anyrelay_kit::frames::{
    ACK, ETHERTYPE_ARP, ETHERTYPE_IPV4, ETHERTYPE_IPV6, ICMPV6, RST, SYN, TCP, word,
};

use crate::refusals::{PopTime, Refusals};
use crate::setup::{self, Mode, Port, Service, Setup, TUNNEL4, TUNNEL6, Targets, is_egress};
use crate::targets::{Choice, TargetList};
use crate::wire::{self, Datagram, ETHERNET_LEN, SegmentView};
use addresses::is_client;
use client_address::without_client_address;
use datagram::{check_icmp, check_identity, check_ip, check_options, check_reset};
use echo::check_fragment;
use link::{check_arp, check_solicitation};
use tunnel::check_tunnel;

/// A frame that came in, and what is known of it.
#[derive(Clone, Copy, Debug)]
pub struct Input<'a> {
    pub port: Port,
    pub frame: &'a [u8],
    /// Bits were flipped on the way.
    pub damaged: bool,
}

/// The POP that a frame leaves, and what its clocks say.
#[derive(Clone, Copy, Debug)]
pub struct At<'a> {
    pub pop: usize,
    pub version: u32,
    pub now_ms: u64,
    pub unix_ms: u64,
    /// Its targets, of each service.
    pub targets: &'a [TargetList],
}

impl At<'_> {
    /// The POP, and its monotonic clock.
    pub fn time(&self) -> PopTime {
        (self.pop, self.now_ms)
    }

    /// What is chosen for a client of a service.
    pub fn choose(&self, setup: &Setup, service: usize, client: SocketAddr) -> Choice {
        self.targets[service].choose(&setup.services[service].hashes, client, self.unix_ms)
    }
}

/// Egress and tag of a client, whatever options its segments have; the tag is 0 where there is
/// none.
type Mapped = (SocketAddr, u32);

/// The mappings that POPs have shown so far.
#[derive(Debug, Default)]
pub struct Memory {
    mapped: BTreeMap<(SocketAddr, usize), Mapped>,
    owners: BTreeMap<(SocketAddr, SocketAddr), SocketAddr>,
    /// What POPs know of targets.
    refusals: Refusals,
    /// Clients that share egress and target with another.
    pub collided: Vec<SocketAddr>,
}

/// The rule that is broken, if one is.
pub type Checked = Result<(), String>;

/// A segment that a POP sent on, before and after.
struct Passed<'a> {
    setup: &'a Setup,
    at: At<'a>,
    /// The service, by its place.
    service: usize,
    from: SegmentView<'a>,
    to: SegmentView<'a>,
    damaged: bool,
}

impl<'a> Passed<'a> {
    /// The same with other options on its way to the target.
    fn with_options<'b>(&self, options: &'b [u8]) -> Passed<'b>
    where
        'a: 'b,
    {
        let to = SegmentView { options, ..self.to };
        let Passed { setup, at, service, from, damaged, .. } = *self;
        Passed { setup, at, service, from, to, damaged }
    }

    fn mode(&self) -> Mode {
        self.setup.services[self.service].mode
    }
}

fn require(holds: bool, rule: &str) -> Checked {
    if holds { Ok(()) } else { Err(rule.to_owned()) }
}

impl Memory {
    /// Of POPs that remember little, if they do.
    pub fn new(is_forgetful: bool) -> Self {
        let mut memory = Memory::default();
        memory.refusals.is_forgetful = is_forgetful;
        memory
    }

    /// The client that a segment of a target is for, by its egress endpoint and its tag.
    pub fn client(&self, service: usize, egress: SocketAddr, tag: u32) -> Option<SocketAddr> {
        let of = |(key, mapped): (&(SocketAddr, usize), &Mapped)| {
            (key.1 == service && *mapped == (egress, tag)).then_some(key.0)
        };
        self.mapped.iter().find_map(of)
    }

    /// Checks a frame that left through `port`.
    pub fn check(
        &mut self,
        setup: &Setup,
        at: At<'_>,
        (port, frame): (Port, &[u8]),
        input: Option<&Input<'_>>,
        replies: &[ReplyKind],
    ) -> Checked {
        require(frame.len() > ETHERNET_LEN, "a runt is sent")?;
        require(frame[6..12] == setup::mac(at.pop, port), "wrong source MAC")?;
        let payload = &frame[ETHERNET_LEN..];
        match word(frame, 12) {
            ETHERTYPE_ARP => check_arp(at.pop, port, frame),
            ETHERTYPE_IPV4 | ETHERTYPE_IPV6 => {
                if let Some(checked) = check_fragment(payload, input) {
                    return checked;
                }
                let ip = Datagram::read(payload).ok_or("a malformed datagram is sent")?;
                if ip.protocol == ICMPV6 && input.is_none() {
                    return check_solicitation(at.pop, port, &ip);
                }
                require(frame[..6] == setup::router_mac(port), "wrong destination MAC")?;
                let padding = &payload[ip.bytes.len()..];
                require(
                    padding.is_empty() || (frame.len() == 60 && padding.iter().all(|b| *b == 0)),
                    "the frame is longer than its datagram",
                )?;
                let input = input.ok_or("a datagram is sent for no reason")?;
                check_ip(&ip)?;
                self.check_datagram(setup, at, port, &ip, input, replies)
            }
            _ => Err("a frame of an unknown type is sent".into()),
        }
    }

    /// An address of a prefix that stands for a client.
    pub fn egress_of_prefix(&self, first: u128) -> Option<u128> {
        self.mapped.values().find_map(|(egress, _)| match egress.ip() {
            IpAddr::V6(ip) if ip.to_bits() >> 96 == first >> 96 => Some(ip.to_bits()),
            _ => None,
        })
    }

    fn check_datagram(
        &mut self,
        setup: &Setup,
        at: At<'_>,
        port: Port,
        ip: &Datagram<'_>,
        input: &Input<'_>,
        replies: &[ReplyKind],
    ) -> Checked {
        let from = input.frame.get(ETHERNET_LEN..).and_then(Datagram::read);
        let from = from.ok_or("a malformed datagram or a fragment is sent on or answered")?;
        if ip.protocol != TCP && port != input.port {
            // Whether it is right in all is seen where it arrives.
            require(!input.damaged && from.protocol != TCP, "an ICMP error out of damage")?;
            require(wire::icmp_holds(ip), "a wrong ICMP message is sent on")?;
            let of_tunnel = |of: &Service| {
                matches!(of.mode, Mode::Tunnel(..)) && of.vip.ip() == ip.src && port == Port::Wan
            };
            // One about the outer datagram becomes another, of the VIP.
            let ttl = if setup.services.iter().any(of_tunnel) { 64 } else { from.ttl - 1 };
            return require(from.ttl > 1 && ip.ttl == ttl, "TTL is not one less, or not 64");
        }
        if ip.protocol != TCP {
            return check_icmp(setup, (at.pop, port), ip, &from, input);
        }
        let out = ip.segment().ok_or("a malformed segment is sent")?;
        require(out.src != out.dst && out.src.ip() != out.dst.ip(), "a LAND segment is sent")?;
        let segment = from.segment().ok_or("a malformed segment is sent on")?;
        if [TUNNEL4, TUNNEL6].contains(&segment.dst) {
            require(port == Port::Wan && !input.damaged, "a damaged tunnel segment is acted on")?;
            return check_tunnel(ip, &segment, &out);
        }
        if port == input.port {
            let service = setup.service_of(segment.src, segment.dst.ip());
            let old = |at: usize| setup.services[at].targets_are == Targets::Old;
            let kind = match port {
                Port::Lan if service.is_some_and(old) => ReplyKind::NoTimestamps,
                _ => ReplyKind::PendingRst,
            };
            require(replies == [kind], "a RST that nobody asked for")?;
            return check_reset(&from, &segment, ip, &out, input);
        }
        require(from.ttl > 1 && ip.ttl == from.ttl - 1, "TTL is not one less")?;
        require(from.tos == ip.tos, "DSCP or ECN is changed")?;
        check_identity(&from, ip)?;
        let numbers = |s: &SegmentView<'_>| (s.seq, s.ack, s.flags, s.window);
        require(numbers(&segment) == numbers(&out), "numbers, flags or window are changed")?;
        require(segment.data == out.data, "data are changed")?;
        require(segment.checksum_holds == out.checksum_holds, "damage is hidden or done")?;
        require(out.checksum_holds != input.damaged, "damage does not show")?;
        let service = match port {
            Port::Lan => setup.service_at(segment.dst).ok_or("sent on from no VIP")?,
            Port::Wan => {
                setup.service_of(segment.src, segment.dst.ip()).ok_or("sent on from no target")?
            }
        };
        let damaged = input.damaged;
        let passed = Passed { setup, at, service, from: segment, to: out, damaged };
        match port {
            Port::Lan => self.check_up(&passed),
            Port::Wan => self.check_down(&passed),
        }
    }

    fn check_up(&mut self, passed: &Passed<'_>) -> Checked {
        let options = without_client_address(passed)?;
        let passed = &passed.with_options(&options);
        let Passed { setup, at, service, from, to, damaged } = passed;
        require(is_client(setup, at.pop, from.src), "no client sent this")?;
        let targets = &setup.services[*service].targets;
        require(targets.contains(&to.dst), "to no target of the service")?;
        require(to.flags & (SYN | ACK) != SYN | ACK, "a SYN|ACK goes to a target")?;
        let tag = match passed.mode() {
            Mode::Pool(..) | Mode::Pool6(..) => pool::check_up(passed)?,
            Mode::Prefix(..) => {
                require(is_egress(passed.mode(), to.src.ip()), "from no egress address")?;
                require(to.src.port() == from.src.port(), "from another port")?;
                require(from.options == to.options || from.has(SYN), "options are changed")?;
                0
            }
            Mode::Transparent | Mode::Tunnel(..) => {
                require(to.src == from.src, "transparent, but from another address")?;
                require(from.timestamps() == to.timestamps(), "timestamps are changed")?;
                0
            }
        };
        check_options(from, to, setup.mss(*service, at.version), 0)?;
        if *damaged {
            return Ok(());
        }
        let found = (to.src, tag);
        let first = *self.mapped.entry((from.src, *service)).or_insert(found);
        require(first == found, "another egress or tag than before")?;
        let owner = *self.owners.entry((to.src, to.dst)).or_insert(from.src);
        if owner != from.src {
            self.collided.extend([owner, from.src]);
        }
        Ok(())
    }

    fn check_down(&mut self, passed: &Passed<'_>) -> Checked {
        let Passed { setup, at, service, from, to, damaged } = passed;
        require(to.src == setup.services[*service].vip, "not from the VIP of the service")?;
        require(is_client(setup, at.pop, to.dst), "to no client")?;
        require(!to.opens(), "a SYN goes to a client")?;
        let (tag, less) = match passed.mode() {
            mode if mode.is_pool() && from.timestamps().is_none() => {
                return self.check_refusal(passed);
            }
            Mode::Pool(..) | Mode::Pool6(..) => pool::check_down(passed)?,
            Mode::Prefix(..) => {
                require(to.dst.port() == from.dst.port(), "to another port")?;
                require(from.options == to.options || from.has(SYN), "options are changed")?;
                (0, 0)
            }
            Mode::Transparent | Mode::Tunnel(..) => {
                require(to.dst == from.dst, "transparent, but to another address")?;
                require(from.timestamps() == to.timestamps(), "timestamps are changed")?;
                (0, 0)
            }
        };
        check_options(from, to, setup.mss(*service, at.version), less)?;
        if *damaged {
            return Ok(());
        }
        let known = self.mapped.get(&(to.dst, *service));
        let known = known.ok_or("to a client that nothing came from")?;
        require(*known == (from.dst, tag), "to another client than it came from")
    }

    /// A target's RST without timestamps that a POP sent on. Whose it is follows from what the POP
    /// knows.
    fn check_refusal(&self, passed: &Passed<'_>) -> Checked {
        let Passed { service, from, to, damaged, .. } = passed;
        require(!damaged, "a damaged RST is believed")?;
        require(from.has(RST), "mapped without a tag")?;
        require(from.options == to.options, "options are changed")?;
        let known = self.mapped.get(&(to.dst, *service)).ok_or("to an unknown client")?;
        require(known.0 == from.dst, "to another client than it came from")
    }
}
