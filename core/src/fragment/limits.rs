//! The bounds of reassembly.

/// `[fragments]`: bounds of each worker that puts datagrams together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FragmentLimits {
    /// Datagrams that are not whole at a time.
    pub datagrams: u32,
    /// Fragments of one datagram.
    pub per_datagram: u8,
    /// Frame buffers that they may hold in all.
    pub buffers: u32,
    /// How long a datagram may take from its first fragment on, in milliseconds.
    pub timeout_ms: u32,
}
