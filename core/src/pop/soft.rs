//! What a POP remembers.

use crate::link::Links;
use crate::relay::memo::EndpointMemo;
use crate::snapshot::Snapshot;
use crate::wire::MacAddr;

/// What a POP's workers share: hardware addresses of neighbours, and the endpoint memo. Bounded,
/// allocated at start, harmless to lose.
#[derive(Debug)]
pub struct SoftState {
    /// Ports and next hops.
    pub links: Links,
    /// What is known of egress endpoints: the clients that RSTs of targets are for, and the targets
    /// that have no socket for segments.
    pub memo: EndpointMemo,
}

impl SoftState {
    /// Empty, for the ports of `snapshot` whose hardware addresses are `macs`, in the same order.
    pub fn new(snapshot: &Snapshot, macs: &[MacAddr]) -> Self {
        let limits = &snapshot.config.limits;
        let (syns, answers) = (limits.remembered_syns as usize, limits.remembered_answers as usize);
        let memo = EndpointMemo::new(snapshot.memo_key, syns, answers);
        SoftState { links: Links::new(snapshot, macs), memo }
    }
}
