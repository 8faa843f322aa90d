//! Headers of the agent's outer segments.
//!
//! Their checksum is left to the caller: it depends on the local address, which the agent's state
//! machine does not know.

use crate::predict::WINDOW;
use crate::seq::SeqNum;
use crate::tunnel::handshake::WINDOW_SCALE;
use crate::wire::tcp::{self, kind};

use super::Agent;

impl Agent {
    /// The header of a segment to the VIP.
    #[inline]
    pub(super) fn header<'a>(
        &self,
        seq: SeqNum,
        ack: SeqNum,
        flags: u8,
        options: &'a [u8],
    ) -> tcp::Header<'a> {
        let (src_port, dst_port) = (self.port, self.vip.port());
        tcp::Header { src_port, dst_port, seq, ack, flags, window: WINDOW as u16, options }
    }
}

/// The options of a SYN: MSS and window scale.
pub(super) const fn syn_options(mss: u16) -> [u8; SYN_OPTIONS_LEN] {
    let [high, low] = mss.to_be_bytes();
    [kind::MSS, 4, high, low, kind::NOP, kind::WINDOW_SCALE, 3, WINDOW_SCALE]
}

/// Length in bytes of the options of a SYN.
pub(super) const SYN_OPTIONS_LEN: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::tcp::Options;

    #[test]
    fn a_syn_offers_mss_and_window_scale() {
        let options = syn_options(1360);
        let found: Vec<_> = Options::new(&options).map(|option| option.unwrap().kind).collect();
        assert_eq!(found, [kind::MSS, kind::WINDOW_SCALE]);
        assert_eq!(options, [2, 4, 5, 0x50, 1, 3, 3, 8]);
    }
}
