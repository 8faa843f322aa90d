//! Counters of the outer side.

use nix::errno::Errno;

/// Counters of the uplinks since the agent's start.
#[derive(Clone, Copy, Debug, Default)]
pub struct UplinkCounts {
    /// Segments to the VIP.
    pub sender: SendCounts,
    /// Segments from the VIP with a wrong length or checksum.
    pub damaged: u64,
}

/// Outcomes of sending.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SendCounts {
    /// Accepted by the kernel.
    pub sent: u64,
    /// Longer than the path MTU.
    pub too_big: u64,
    /// Dropped because the send queue stayed full.
    pub queue_full: u64,
    /// Refused by the kernel for another reason.
    pub refused: u64,
    /// The last such reason.
    pub last_error: Option<Errno>,
    /// ICMP errors about the size of segments of this flow.
    pub icmp_taken: u64,
    /// ICMP errors about the size of other segments: forged, or another program's.
    pub icmp_refused: u64,
}

impl SendCounts {
    /// The sums of both, with the last error of the later one.
    pub fn and(self, later: SendCounts) -> SendCounts {
        SendCounts {
            sent: self.sent + later.sent,
            too_big: self.too_big + later.too_big,
            queue_full: self.queue_full + later.queue_full,
            refused: self.refused + later.refused,
            last_error: later.last_error.or(self.last_error),
            icmp_taken: self.icmp_taken + later.icmp_taken,
            icmp_refused: self.icmp_refused + later.icmp_refused,
        }
    }
}
