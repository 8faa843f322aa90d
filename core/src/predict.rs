//! Sequence numbers of tunnels, predicted from the clock (the draft, section 1.3).

/// What a tunnel's sequence numbers are predicted with: the same on all POPs, told to agents.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Constants {
    /// Length of a tick (T), in milliseconds.
    pub tick_ms: u32,
    /// By how much sequence numbers grow from tick to tick (STRIDE).
    pub stride: u32,
    /// By how many ticks acks of data stay behind (LAG).
    pub lag: u16,
    /// What offsets of data stay below (OFFSET), in bytes.
    pub offset: u16,
}

impl Default for Constants {
    fn default() -> Self {
        Constants { tick_ms: 8000, stride: 4096, lag: 4, offset: 16_384 }
    }
}
