//! How long hardware addresses are used, and how many are kept.

/// A neighbour is queried again when its last answer is older than this.
pub const REFRESH_MS: u64 = 20_000;
/// A neighbour whose last answer is older than this is not used.
pub const EXPIRE_MS: u64 = 60_000;
/// A neighbour is queried at most once in this time.
pub const ASK_INTERVAL_MS: u64 = 1_000;
/// Most on-link hosts of each family that are remembered, besides gateways.
pub const HOSTS_MAX: usize = 4096;
