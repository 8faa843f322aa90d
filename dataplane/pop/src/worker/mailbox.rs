//! Passes new snapshots from control to a worker.

use std::sync::Arc;

use anyrelay_core::snapshot::Snapshot;
use crossbeam::queue::ArrayQueue;

/// The newest snapshot that the worker has not taken yet, if any. It is lock-free, and the worker
/// frees nothing as long as control holds the posted snapshots.
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
    /// Posts a snapshot, and replaces one that was not taken.
    pub fn post(&self, snapshot: Arc<Snapshot>) {
        drop(self.newest.force_push(snapshot));
    }

    /// Takes the newest snapshot, if it was not taken before.
    #[inline]
    pub fn take(&self) -> Option<Arc<Snapshot>> {
        self.newest.pop()
    }
}
