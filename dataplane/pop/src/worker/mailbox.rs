//! Hands new snapshots from control to a worker.

use std::sync::Arc;

use anyrelay_core::snapshot::Snapshot;
use crossbeam::queue::ArrayQueue;

/// Holds the newest snapshot that the worker has not taken yet, if there is one. It is lock-free,
/// and nothing is freed on the worker's side as long as control holds the snapshots that it posted.
#[derive(Debug)]
pub struct Mailbox {
    newest: ArrayQueue<Arc<Snapshot>>,
}

impl Default for Mailbox {
    fn default() -> Self {
        Mailbox { newest: ArrayQueue::new(1) }
    }
}

impl Mailbox {
    /// Posts a snapshot, in place of one that was not taken.
    pub fn post(&self, snapshot: Arc<Snapshot>) {
        drop(self.newest.force_push(snapshot));
    }

    /// Takes the newest snapshot, if it was not taken before.
    #[inline]
    pub fn take(&self) -> Option<Arc<Snapshot>> {
        self.newest.pop()
    }
}
