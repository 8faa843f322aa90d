//! The POP: frames in, frames out, nothing remembered of any connection.
//!
//! [`Pop::handle_burst`] is the pure function, for a burst at a time: every frame is read and
//! classified ([`ingress`]), the cryptography of all segments is computed together ([`lanes`]), then
//! every frame is rewritten and sent, answered or dropped ([`forward`], [`answer`], [`errors`]) in
//! the order of arrival. [`Pop::poll`] does what is due without a frame.

mod answer;
mod errors;
mod errors6;
mod forward;
mod fragments;
mod incoming_fragments;
mod ingress;
mod ingress6;
mod lanes;
mod limits;
mod neighbours;
mod relay6;
mod run;
#[cfg(test)]
mod tests;
mod tunnel;

use std::sync::Arc;

use arrayvec::ArrayVec;

use std::net::SocketAddr;

use crate::counters::Counters;
use crate::frame::Frame;
use crate::link::Links;
use crate::net::PortIndex;
use crate::net::{Endpoint, Endpoint6, ServiceIndex};
use crate::relay::pending_rst::PendingRsts;
use crate::relay::permutation::{self, Client, Mapped};
use crate::snapshot::Snapshot;
use crate::time::Now;
use crate::time::Tick;
use crate::tunnel::{KeepaliveRequest, Return, SegmentKind};
use crate::verdict::{ReplyKind, Verdict};
use crate::wire::MacAddr;

pub use incoming_fragments::Arrived;

use ingress::Packet;
use lanes::Lanes;
use limits::Buckets;
use run::Run;

/// Frames of a burst at most.
pub const BURST: usize = permutation::BURST;

/// Where frames go, given by the caller.
pub trait Output<F: Frame> {
    /// Whether [`Output::explain`] is wanted. A constant, so that it costs nothing where it is not.
    const EXPLAINS: bool = false;

    /// Takes a frame that is to leave through `port`.
    fn transmit(&mut self, port: PortIndex, frame: F);

    /// An empty frame with room in front, for what the POP originates; `None` when there is none.
    fn allocate(&mut self) -> Option<F>;

    /// Is told what was decided on the frame in hand, and why.
    fn explain(&mut self, _note: Note<'_>) {}
}

/// A step of the reasoning about a frame.
#[derive(Clone, Copy, Debug)]
pub enum Note<'a> {
    /// The frame belongs to this service.
    Service(&'a str),
    /// A client of a service in pool mode, and what stands for it.
    Mapped {
        /// The client.
        client: Client,
        /// Its tag, port and address index.
        mapped: Mapped,
        /// The egress address.
        egress_ip: u32,
        /// The target.
        target: Endpoint,
    },
    /// The client of a service in transparent mode, and the target.
    Passed {
        /// The client.
        client: Endpoint,
        /// The target.
        target: Endpoint,
    },
    /// A client of a service in prefix mode, what stands for it, and the target.
    Prefixed {
        /// The client.
        client: Endpoint,
        /// Its address in the prefix, and its port.
        egress: Endpoint6,
        /// The target.
        target: Endpoint6,
    },
    /// The client of a service in transparent mode over IPv6, and the target.
    Passed6 {
        /// The client.
        client: Endpoint6,
        /// The target.
        target: Endpoint6,
    },
    /// A segment of an agent to a tunnel.
    Tunnelled {
        /// The agent as the POP sees it.
        agent: SocketAddr,
        /// The VIP.
        vip: SocketAddr,
        /// The POP's tick.
        tick: Tick,
        /// What the segment is, if it is something.
        incoming: Option<SegmentKind>,
        /// The tick that its ack number is of, as a difference from the POP's; `None` when it is of
        /// none, and for what is not checked.
        acked: Option<i32>,
    },
    /// The keepalive request that the segment is. Its MAC was not looked at yet.
    Keepalive(KeepaliveRequest),
    /// What the sender's token of a datagram holds: among other things, the POP that made it.
    Sender {
        /// What it holds.
        holds: Return,
        /// The tick that the datagram's sequence number is of, as a difference from the POP's.
        sent: Option<i32>,
    },
    /// What the destination's token of a datagram holds.
    Destination {
        /// What it holds.
        holds: Return,
    },
    /// An ICMP error quotes a segment of a tunnel.
    TunnelQuote {
        /// The VIP that the segment was from.
        vip: SocketAddr,
        /// The agent that it was for.
        agent: SocketAddr,
        /// The agent whose datagram it brought, if it is a genuine one.
        sender: Option<SocketAddr>,
    },
    /// The POP sent a frame of its own because of this one.
    Sent(ReplyKind),
    /// It would have, but for a rate limit.
    Withheld(ReplyKind),
    /// What became of the frame, or of one of the two variants it is sent in. What is sent because
    /// of a drop is told after it.
    Verdict(Verdict),
}

/// What a POP's workers share: hardware addresses of neighbours and pending RSTs. Bounded,
/// allocated at start, harmless to lose.
#[derive(Debug)]
pub struct SoftState {
    /// Ports and next hops.
    pub links: Links,
    /// RSTs that wait for the segment they answer.
    pub pending_rsts: PendingRsts,
}

impl SoftState {
    /// Empty, for the ports of `snapshot` whose hardware addresses are `macs`, in the same order.
    pub fn new(snapshot: &Snapshot, macs: &[MacAddr]) -> Self {
        SoftState {
            links: Links::new(snapshot, macs),
            pending_rsts: PendingRsts::new(snapshot.config.limits.pending_rsts as usize),
        }
    }
}

/// Room for one burst, allocated at start.
#[derive(Debug)]
struct Scratch {
    // One for each frame of the burst in hand; those behind them are of earlier bursts.
    packets: [Packet; BURST],
    lanes: Lanes,
}

/// One worker's POP.
#[derive(Debug)]
pub struct Pop {
    soft: Arc<SoftState>,
    counters: Arc<Counters>,
    buckets: Buckets,
    scratch: Box<Scratch>,
}

impl Pop {
    /// A POP that shares `soft` with the other workers and counts in `counters`, which are its own.
    pub fn new(soft: Arc<SoftState>, counters: Arc<Counters>) -> Self {
        let scratch = Scratch { packets: [Packet::NONE; BURST], lanes: Lanes::default() };
        Pop { soft, counters, buckets: Buckets::default(), scratch: Box::new(scratch) }
    }

    /// Handles the frames of a burst that came in through `port`; `frames` is empty afterwards.
    ///
    /// `now.instant` must not run backwards; `now.unix` may, as wall clocks do. Answers and forwarded frames go to `out`, in order.
    pub fn handle_burst<F: Frame, O: Output<F>>(
        &mut self,
        now: Now,
        snapshot: &Snapshot,
        port: PortIndex,
        frames: &mut ArrayVec<F, BURST>,
        out: &mut O,
    ) {
        let Scratch { packets, lanes } = &mut *self.scratch;
        let mut run = Run {
            now: now.instant,
            unix: now.unix,
            snapshot,
            soft: &self.soft,
            counters: &self.counters,
            buckets: &mut self.buckets,
            port,
            out,
        };
        lanes.clear();
        for (packet, frame) in packets.iter_mut().zip(frames.iter_mut()) {
            run.classify(packet, frame, lanes);
        }
        lanes.map(snapshot, now.unix);
        for (packet, frame) in packets.iter().zip(frames.drain(..)) {
            run.finish(packet, frame, lanes);
        }
    }

    /// Does what is due without a frame: asking for neighbours, and forgetting old RSTs. One worker of a
    /// POP calls it, about every 100 ms.
    pub fn poll<F: Frame, O: Output<F>>(&mut self, now: Now, out: &mut O) {
        let now = now.instant;
        self.soft.pending_rsts.expire(now);
        let links = &self.soft.links;
        links.due(now, |query| neighbours::send_query(links, &self.counters, query, out));
    }
}

/// The service of a packet, where it is known.
type Of = Option<ServiceIndex>;
