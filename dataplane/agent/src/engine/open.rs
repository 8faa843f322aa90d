//! The open side in the event loop.

use super::Engine;
use crate::local::LocalSide;

impl<L: LocalSide> Engine<L> {
    /// Packets of this host wait.
    pub(super) fn read_open(&mut self) {
        let Some(open) = &mut self.open else { return };
        let mut tunnel = self.flow.tunnel();
        open.readable(|packet| tunnel.send_open(packet));
    }

    /// Makes the open device what the newest token and the path allow.
    pub(super) fn follow_open(&mut self) {
        let Some(open) = &mut self.open else { return };
        let packet_max = self.flow.tunnel().open_packet_max();
        open.follow(self.flow.now, &self.flow.agent, packet_max);
    }
}
