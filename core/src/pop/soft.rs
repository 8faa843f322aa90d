//! What a POP remembers.

use crate::link::Links;
use crate::relay::refusals::PendingRsts;
use crate::snapshot::Snapshot;
use crate::wire::MacAddr;

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
