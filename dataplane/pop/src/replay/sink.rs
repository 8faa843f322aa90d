//! Collects the engine's output during a replay.

use anyrelay_core::frame::HeapFrame;
use anyrelay_core::net::PortIndex;
use anyrelay_core::pop::{Note, Output};
use anyrelay_core::snapshot::Snapshot;

use super::{describe, port_name};

/// The engine's output for one frame, and the reasons.
pub struct Sink<'a> {
    snapshot: &'a Snapshot,
    explain: bool,
    /// The sent frames, in order.
    pub sent: Vec<(PortIndex, HeapFrame)>,
    /// The reasons, as text to append to the frame's description.
    pub reasons: String,
}

impl<'a> Sink<'a> {
    /// An empty sink; collects reasons only if `explain`.
    pub fn new(snapshot: &'a Snapshot, explain: bool) -> Self {
        Sink { snapshot, explain, sent: Vec::new(), reasons: String::new() }
    }

    /// The name of a port.
    pub fn port_name(&self, port: u8) -> String {
        port_name(self.snapshot, port)
    }
}

impl Output<HeapFrame> for Sink<'_> {
    const EXPLAINS: bool = true;

    fn transmit(&mut self, port: PortIndex, frame: HeapFrame) {
        self.sent.push((port, frame));
    }

    fn allocate(&mut self) -> Option<HeapFrame> {
        Some(HeapFrame::new(&[]))
    }

    fn explain(&mut self, note: Note<'_>) {
        if self.explain {
            let snapshot = self.snapshot;
            describe::reason(&mut self.reasons, note, |port| port_name(snapshot, port));
        }
    }
}
