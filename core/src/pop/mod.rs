//! The POP: frames in, frames out, no state of any connection.
//!
//! ```text
//!   frames --> classify --> Lanes::map --> relay | tunnel --> Transmit --> egress::ship --> frames
//!                  |        (all lanes     (decide)          (as data)    (executes)
//!                  |         at once)
//!                  +--> local: ARP, ND, echo, resets --> egress::reply
//! ```
//!
//! [`Pop::handle_burst`] is the pure function, for a burst at a time: `burst` has its passes.
//! Every frame ends in `egress`: sent on, answered, kept or dropped, and counted. [`Pop::poll`]
//! does what is due without a frame.

mod arrival;
mod burst;
mod classify;
mod egress;
mod fast;
mod icmp;
mod lanes;
mod limits;
mod local;
mod output;
mod packet;
mod probe;
mod relay;
mod soft;
mod tunnel;

use std::sync::Arc;

use arrayvec::ArrayVec;

use crate::counters::Counters;
use crate::frame::Frame;
use crate::net::PortIndex;
use crate::relay::hints::Hint;
use crate::relay::mapping;
use crate::snapshot::Snapshot;
use crate::time::Now;
use crate::verdict::DropReason;

pub use classify::Arrived;
pub use output::{Note, Output, Standing};
pub use probe::{is_query, probed};
pub use soft::SoftState;

use arrival::Arrival;
use burst::Scratch;
use egress::Egress;
use limits::{Buckets, Limits};

/// Frames of a burst at most.
pub const BURST: usize = mapping::BURST;

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
        Pop { soft, counters, buckets: Buckets::default(), scratch: Box::default() }
    }

    /// Handles the frames of a burst that came in through `port`; `frames` is empty afterwards.
    ///
    /// `now.instant` must not run backwards; `now.unix` may, as wall clocks do. Answers and
    /// forwarded frames go to `out`, in order. Frames of a port that does not exist are dropped.
    pub fn handle_burst<F: Frame, O: Output<F>>(
        &mut self,
        now: Now,
        snapshot: &Snapshot,
        port: PortIndex,
        frames: &mut ArrayVec<F, BURST>,
        out: &mut O,
    ) {
        let Pop { soft, counters, buckets, scratch } = self;
        match Arrival::new(now, snapshot, soft, port) {
            Some(arrival) => burst::handle(arrival, buckets, counters, scratch, frames, out),
            None => {
                for _ in frames.drain(..) {
                    counters.count_drop(port, None, DropReason::WrongMac);
                }
            }
        }
    }

    /// Looks for a fragment in a frame that came in through `port`.
    #[inline]
    pub fn incoming<F: Frame>(
        &self,
        snapshot: &Snapshot,
        port: PortIndex,
        frame: &mut F,
    ) -> Arrived {
        classify::incoming(&self.soft, snapshot, port, frame)
    }

    /// Writes the probe of this number into `frame`, which is empty, and returns the port that it
    /// comes in through. `None` when there is nothing to probe. The caller passes it to
    /// [`Pop::handle_burst`], and keeps what comes out of it, but for [queries](is_query).
    pub fn write_probe<F: Frame>(
        &self,
        snapshot: &Snapshot,
        number: u64,
        frame: &mut F,
    ) -> Option<PortIndex> {
        probe::write(snapshot, &self.soft, number, frame)
    }

    /// Counts in `counters` from now on, and gives the others back.
    pub fn swap_counters(&mut self, counters: &mut Arc<Counters>) {
        std::mem::swap(&mut self.counters, counters);
    }

    /// Takes a hint of another POP: a RST that it tells of goes to the client whose SYN it answers,
    /// or waits, as if it had arrived here.
    pub fn take_hint<F: Frame, O: Output<F>>(
        &mut self,
        now: Now,
        snapshot: &Snapshot,
        hint: &Hint,
        out: &mut O,
    ) {
        let Pop { soft, counters, buckets, .. } = self;
        let Some(relay) = relay::refusals::hinted_relay(snapshot, hint) else {
            return counters.hints.foreign.add(1);
        };
        let takes_clients = snapshot.config.ports.iter().position(|port| port.side.takes_clients());
        let port = PortIndex(takes_clients.unwrap_or_default() as u8);
        let Some(arrival) = Arrival::new(now, snapshot, soft, port) else { return };
        counters.hints.taken.add(1);
        let mut limits = Limits::new(arrival, buckets, counters);
        let mut egress = Egress { arrival, counters, out };
        relay::refusals::hinted::<F, O>(&mut egress, &mut limits, relay, hint);
    }

    /// Does what is due without a frame: queries for neighbours, and expiry of what the memo holds.
    /// One worker of a POP calls it, about every 100 ms.
    pub fn poll<F: Frame, O: Output<F>>(&mut self, now: Now, snapshot: &Snapshot, out: &mut O) {
        let now = now.instant;
        self.soft.memo.expire(now);
        let links = &self.soft.links;
        links.due(now, snapshot, |query| egress::send_query(links, &self.counters, query, out));
    }
}
