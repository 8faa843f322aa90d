//! Where frames go and what is said about them, given by the caller.

use std::net::{Ipv6Addr, SocketAddr};

use crate::frame::{Frame, HeapFrame};
use crate::net::{IpEndpoint, PortIndex};
use crate::relay::hints::Hint;
use crate::relay::mapping::Mapping;
use crate::time::Tick;
use crate::tunnel::open::OpenAgent;
use crate::tunnel::{KeepaliveRequest, Return, SegmentKind};
use crate::verdict::{ReplyKind, Verdict};

/// Where frames go.
pub trait Output<F: Frame> {
    /// Whether [`Output::explain`] is wanted. A constant, so that it costs nothing where it is not.
    const EXPLAINS: bool = false;

    /// Takes a frame that is to leave through `port`.
    fn transmit(&mut self, port: PortIndex, frame: F);

    /// The same for `frames`, in their order.
    #[inline]
    fn transmit_all(&mut self, port: PortIndex, frames: impl Iterator<Item = F>) {
        frames.for_each(|frame| self.transmit(port, frame));
    }

    /// An empty frame with room in front, for a frame that the POP originates; `None` when there is
    /// none.
    fn allocate(&mut self) -> Option<F>;

    /// Takes what other POPs are to be told of; false when there is no room for it.
    fn hint(&mut self, _hint: Hint) -> bool {
        false
    }

    /// Receives each step of the reasoning about the current frame.
    fn explain(&mut self, _note: Note<'_>) {}
}

/// Keeps what leaves, each frame behind its port: for offline use and tests.
impl Output<HeapFrame> for Vec<(PortIndex, HeapFrame)> {
    fn transmit(&mut self, port: PortIndex, frame: HeapFrame) {
        self.push((port, frame));
    }

    fn allocate(&mut self) -> Option<HeapFrame> {
        Some(HeapFrame::new(&[]))
    }
}

/// What is known of a target about a client's segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Nothing: it may have the connection.
    Unknown,
    /// It has it.
    Owner,
    /// It refused segments near this one.
    Refused,
    /// It refused this very segment.
    RefusedThis,
    /// It has a connection of another client at the egress endpoint.
    OfAnother,
    /// It was asked after all others refused, and has not answered.
    Asked,
}

/// A step of the reasoning about a frame.
#[derive(Clone, Copy, Debug)]
pub enum Note<'a> {
    /// The frame belongs to this service.
    Service(&'a str),
    /// The client of a relay, its egress endpoint and its target, by the egress mode of this name.
    Mapped(&'static str, Mapping),
    /// A target that a client's segment may have to go to, and what is known of it.
    Target(IpEndpoint, Standing),
    /// A client's segment to targets that want to know the client's address: whether it tells them,
    /// or has no room for it.
    ClientAddress {
        /// Whether it tells them.
        is_told: bool,
    },
    /// A segment of an agent to a tunnel.
    Tunnelled {
        /// The agent as the POP sees it.
        agent: SocketAddr,
        /// The VIP.
        vip: SocketAddr,
        /// The POP's tick.
        tick: Tick,
        /// The kind of the segment, if it has one.
        incoming: Option<SegmentKind>,
        /// The tick of its ack number, as a difference from the POP's; `None` when it is of no
        /// tick, or is not checked.
        acked: Option<i32>,
    },
    /// The keepalive request in the segment. Its MAC is not verified yet.
    Keepalive {
        /// The request.
        request: KeepaliveRequest,
        /// Whether it names where it is from, and a tick near the POP's: else it gets no token.
        named: bool,
    },
    /// The contents of the sender's token of a datagram: among others, the POP that issued it.
    Sender {
        /// The contents.
        holds: Return,
        /// The tick of the datagram's sequence number, as a difference from the POP's.
        sent: Option<i32>,
    },
    /// The contents of the destination's token of a datagram.
    Destination {
        /// The contents.
        holds: Return,
    },
    /// A packet to an open address.
    OpenAddress {
        /// The address.
        address: Ipv6Addr,
        /// What it stands for.
        agent: OpenAgent,
    },
    /// An open packet of an agent: its inner addresses.
    OpenPacket {
        /// The inner source.
        src: Ipv6Addr,
        /// What the inner source stands for, if it is an open address.
        agent: Option<OpenAgent>,
        /// The inner destination.
        dst: Ipv6Addr,
        /// The tick of the packet's sequence number, as a difference from the POP's.
        sent: Option<i32>,
    },
    /// An ICMP error quotes a segment of a tunnel.
    TunnelQuote {
        /// The VIP that sent the segment.
        vip: SocketAddr,
        /// The agent that it was for.
        agent: SocketAddr,
        /// The agent whose datagram it carried, if it is genuine.
        sender: Option<SocketAddr>,
    },
    /// The POP sent a frame of its own because of this one.
    Sent(ReplyKind),
    /// A rate limit held back a frame of the POP's own.
    Withheld(ReplyKind),
    /// The verdict on the frame. A frame that is sent because of a drop is noted after it.
    Verdict(Verdict),
}
