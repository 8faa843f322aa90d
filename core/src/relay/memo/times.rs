//! How long the memo remembers, and how often it is told the same.

/// How long it remembers, in milliseconds: longer than the 75 s between two keepalive probes of
/// most hosts.
pub const LIFETIME_MS: u64 = 120_000;

/// How long it remembers that a target cannot be reached, in milliseconds: networks mend, and a
/// live connection may be at stake.
pub const UNREACHABLE_MS: u64 = 3000;

/// For how long the same RST again is no news to other POPs, in milliseconds.
pub const REPEAT_MS: u64 = 100;

/// For how long the owner of an endpoint is no news to other POPs, in milliseconds.
pub const OWNER_REPEAT_MS: u64 = 10_000;
