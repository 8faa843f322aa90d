//! Rules for what a POP sends for the open side of a tunnel: packets of hosts down to agents, those
//! of agents out of the tunnel or down to another, and errors about both. Of the core, they use
//! what an open address and a tick stand for, which the vectors fix.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::ops::RangeInclusive;

use anyrelay_core::net::PortIndex;
use anyrelay_core::predict;
use anyrelay_core::seq::SeqNum;
use anyrelay_core::snapshot::{Destination, Tunnel};
use anyrelay_core::time::Tick;
use anyrelay_core::tunnel::open::{OpenAgent, OpenService};
use anyrelay_kit::frames::addresses;
use anyrelay_kit::tunnel::open::{OpenSegment, check_down, check_error, check_onward};

use super::cases::Case;

/// Whether `ip`, which a POP sent because of the datagram `came`, is of an open side, and all that
/// such a datagram must be.
///
/// # Panics
/// If it is one and is not.
pub fn checked(case: &Case, port: PortIndex, came: Option<&[u8]>, ip: &[u8]) -> bool {
    let (src, _) = addresses(ip).unwrap();
    let opens = || case.snapshot.tunnels().filter(|tunnel| tunnel.service.open.is_some());
    let came = || came.expect("an open packet is sent because of no datagram");
    if let Some(down) = OpenSegment::read(ip).filter(|segment| segment.is_down)
        && let Some(open) = opens().find_map(|tunnel| Open::at(case, tunnel, down.src.into()))
    {
        holds(check_down(ip), ip);
        open.numbers_down(&down, 0..=0);
        open.down(port, came(), down.inner);
    } else if let IpAddr::V6(src) = src
        && let Some(open) = opens().find_map(|tunnel| Open::of(case, tunnel, src.to_bits()))
    {
        if src == open.side.icmp_source {
            open.error_to_host(came(), ip);
        } else {
            open.out(came(), ip);
        }
    } else {
        return false;
    }
    true
}

/// Whether the source of the datagram `ip` is an open address.
pub fn is_from_agent(case: &Case, ip: &[u8]) -> bool {
    let Some((IpAddr::V6(src), _)) = addresses(ip) else { return false };
    matches!(case.snapshot.classify(src.to_bits()), Destination::Open(_))
}

/// The open side of a tunnel of a case.
struct Open<'a> {
    case: &'a Case,
    tunnel: &'a Tunnel,
    side: &'a OpenService,
}

impl<'a> Open<'a> {
    /// The one at that VIP.
    fn at(case: &'a Case, tunnel: &'a Tunnel, vip: SocketAddr) -> Option<Self> {
        let (side, of) = tunnel.service.open_side()?;
        (of.addr == vip).then_some(Open { case, tunnel, side })
    }

    /// The one that an IPv6 address is of.
    fn of(case: &'a Case, tunnel: &'a Tunnel, src: u128) -> Option<Self> {
        let (side, _) = tunnel.service.open_side()?;
        let is_its = side.addresses.holds(src) || side.icmp_source.to_bits() == src;
        is_its.then_some(Open { case, tunnel, side })
    }

    fn agent(&self, ip: u128) -> OpenAgent {
        self.side.addresses.decode(self.case.now.unix, ip).expect("an address of no agent")
    }

    fn tick(&self) -> Tick {
        self.case.now.unix.tick(self.tunnel.service.constants.tick_ms)
    }

    /// The number of this tick from a start whose low bits are those of `low`.
    fn based(&self, agent: OpenAgent, low: u32) -> u32 {
        let base = SeqNum(u32::from(agent.base_high) << 16 | low);
        predict::at(base, self.tunnel.service.constants.stride, self.tick()).0
    }

    /// The POPs' number of this tick.
    fn started(&self, agent: OpenAgent) -> u32 {
        let (_, vip) = self.tunnel.service.open_side().unwrap();
        let start = vip.predictor.start(agent.at.into());
        predict::at(start, self.tunnel.service.constants.stride, self.tick()).0
    }

    fn strides(&self, ticks: i32) -> u32 {
        self.tunnel.service.constants.stride.wrapping_mul(ticks as u32)
    }

    /// The numbers of a segment to an agent are those of one of these ticks, counted from now.
    fn numbers_down(&self, down: &OpenSegment<'_>, mut ticks: RangeInclusive<i32>) {
        let agent = self.agent(ends6(down.inner).1);
        assert_eq!(agent.at, down.dst, "an open packet to another agent than its address says");
        let lag = i32::from(self.tunnel.service.constants.lag);
        let seq = self.started(agent).wrapping_add(1 + down.offset);
        let ack = self.based(agent, 0x6000).wrapping_sub(self.strides(lag)).wrapping_add(1);
        let is_of = |tick: i32| {
            let further = |number: u32| number.wrapping_add(self.strides(tick));
            (down.seq, down.ack) == (further(seq), further(ack))
        };
        assert!(ticks.any(is_of), "numbers of no tick: {down:?}");
    }

    /// The segment up is of the agent that has its packet's source, and of a tick near now.
    fn flow(&self, up: &OpenSegment<'_>) {
        let agent = self.agent(ends6(up.inner).0);
        assert_eq!(agent.at, up.src, "an agent sends from another's open address");
        let is_near = |mut ticks: RangeInclusive<i32>, number: u32, now: u32| {
            ticks.any(|tick| now.wrapping_add(self.strides(tick)) == number)
        };
        let seq = self.based(agent, 0x8000).wrapping_add(1 + up.offset);
        assert!(is_near(-3..=3, up.seq, seq), "a segment out of sequence passes: {up:?}");
        let ack = self.started(agent).wrapping_add(1);
        assert!(is_near(-12..=3, up.ack, ack), "an acknowledgment of nothing passes: {up:?}");
    }

    /// The segment up that came, which is of this tunnel.
    fn came_up<'b>(&self, came: &'b [u8]) -> Option<OpenSegment<'b>> {
        let up = OpenSegment::read(came).filter(|up| !up.is_down)?;
        let (_, vip) = self.tunnel.service.open_side()?;
        (vip.addr == up.dst.into()).then_some(up)
    }

    /// A packet went down: that of a host, of an agent, or an error to an agent.
    fn down(&self, port: PortIndex, came: &[u8], inner: &[u8]) {
        let (src, dst) = ends6(inner);
        if came[0] >> 4 == 6 && src != self.side.icmp_source.to_bits() {
            holds(check_onward(came, inner, None), came);
            assert!(self.side.addresses.holds(dst), "a packet to no open address goes down");
            assert!(self.case.snapshot.classify(src).is_other(), "an open packet of a forged host");
            let side = self.case.snapshot.config.ports[usize::from(port.0)].side;
            assert!(side.takes_clients(), "a packet of a port towards targets goes down");
            return;
        }
        let up = self.came_up(came);
        if src != self.side.icmp_source.to_bits() {
            let up = up.expect("a packet goes down that nobody sent");
            self.flow(&up);
            holds(check_onward(up.inner, inner, Some(up.class)), came);
            return;
        }
        let packet = match &up {
            Some(up) => {
                self.flow(up);
                up.inner
            }
            None => self.quoted(came),
        };
        self.error(inner, packet, up.is_some());
        assert!(self.side.addresses.holds(dst), "an error to a host goes down");
    }

    /// A packet left the tunnel.
    fn out(&self, came: &[u8], ip: &[u8]) {
        let up = self.came_up(came).expect("a packet leaves a tunnel that nobody sent");
        self.flow(&up);
        holds(check_onward(up.inner, ip, Some(up.class)), came);
        let (_, dst) = ends6(ip);
        let config = self.case.snapshot.config.tunnels.iter().find(|t| t.name == self.tunnel.name);
        let to = &config.and_then(|tunnel| tunnel.open.as_ref()).unwrap().to;
        let len = to.iter().filter(|net| net.contains(dst)).map(|net| net.prefix_len).max();
        let len = len.expect("a packet goes where agents may not send to");
        // No prefix of `to` is within infrastructure here, but private ones are.
        let may = self.case.snapshot.client_ok(Ipv6Addr::from_bits(dst).into());
        let is_private = dst >> 121 == 0xfc >> 1;
        assert!(may || is_private && len > 7, "a packet of an agent goes to infrastructure");
    }

    /// A host is told about its packet.
    fn error_to_host(&self, came: &[u8], ip: &[u8]) {
        let is_own = came[0] >> 4 == 6;
        let packet = if is_own { came } else { self.quoted(came) };
        self.error(ip, packet, is_own);
    }

    fn error(&self, error: &[u8], packet: &[u8], is_own: bool) {
        holds(check_error(error, self.side.icmp_source.to_bits(), packet), error);
        assert!(!is_own || error[7] == 64, "another hop limit than that of the POP's own errors");
    }

    /// The packet in the segment that an ICMP error quotes, which a POP sent not long ago.
    fn quoted<'b>(&self, came: &'b [u8]) -> &'b [u8] {
        let down = OpenSegment::quoted(came).expect("an error about no open packet");
        self.numbers_down(&down, -12..=3);
        down.inner
    }
}

/// Source and destination of an IPv6 packet.
fn ends6(packet: &[u8]) -> (u128, u128) {
    match addresses(packet) {
        Some((IpAddr::V6(src), IpAddr::V6(dst))) => (src.to_bits(), dst.to_bits()),
        _ => panic!("no IPv6 packet: {packet:02x?}"),
    }
}

fn holds(checked: Result<(), &'static str>, bytes: &[u8]) {
    checked.unwrap_or_else(|rule| panic!("{rule}: {bytes:02x?}"));
}
