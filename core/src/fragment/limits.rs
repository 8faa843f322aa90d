//! The bounds of reassembly.

/// `[fragments]`: bounds of each worker that reassembles datagrams.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FragmentLimits {
    /// Incomplete datagrams at a time.
    pub datagrams: u32,
    /// Fragments of one datagram.
    pub per_datagram: u8,
    /// Frame buffers that incomplete datagrams may hold in all.
    pub buffers: u32,
    /// Time from a datagram's first fragment until it expires, in milliseconds.
    pub timeout_ms: u32,
}
