//! The way of a new snapshot from control to a worker.

use std::sync::Arc;

use anyrelay_core::snapshot::Snapshot;
use crossbeam::queue::ArrayQueue;

/// Holds the newest snapshot that the worker has not taken yet, if there is one. Lock-free; nothing
/// is freed on the worker's side as long as control keeps a handle on what it posted.
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
    /// Leaves a snapshot in the place of one that was not taken, if there was one.
    pub fn post(&self, snapshot: Arc<Snapshot>) {
        drop(self.newest.force_push(snapshot));
    }

    /// Takes the newest snapshot, if there is one that was not taken before.
    #[inline]
    pub fn take(&self) -> Option<Arc<Snapshot>> {
        self.newest.pop()
    }
}
