//! Segments deferred while another one is being made, or until the uplink has changed its port.

use anyrelay_core::tunnel::agent::OutgoingSegment;

/// Deferred segments with their ports. They are few and rare, so they may be allocated.
#[derive(Debug, Default)]
pub struct Deferred(Vec<(u16, Vec<u8>)>);

impl Deferred {
    /// Defers `outgoing`; drops it if there are [`DEFERRED_MAX`] already.
    pub fn push(&mut self, outgoing: &OutgoingSegment<'_>) {
        if self.0.len() < DEFERRED_MAX {
            self.0.push((outgoing.port, outgoing.segment.to_vec()));
        }
    }

    /// Removes the segments from `port`.
    pub fn take_from(&mut self, port: u16) -> Vec<Vec<u8>> {
        let own = self.0.extract_if(.., |(from, _)| *from == port);
        own.map(|(_, segment)| segment).collect()
    }

    /// Removes all segments, with their ports.
    pub fn take_all(&mut self) -> Vec<(u16, Vec<u8>)> {
        std::mem::take(&mut self.0)
    }
}

/// The maximum number of deferred segments.
pub const DEFERRED_MAX: usize = 4;
