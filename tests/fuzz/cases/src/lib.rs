//! What the fuzz targets do with an input: each has a module with a function `run`, which panics
//! when a promise is broken. libFuzzer calls them (`tests/fuzz/fuzz_targets`), and the core's tests
//! run the corpus through them without libFuzzer (`core/tests/fuzz.rs`).
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

pub mod agent_packet;
pub mod agent_receive;
pub mod capture;
pub mod config_file;
pub mod corpus;
pub mod fragments;
pub mod hints;
pub mod key_files;
pub mod pop_handle;
pub mod quotes;
pub mod tunnel_message;
pub mod tunnel_token;
pub mod wire;

/// A target: its name, and what it does with an input.
pub type Target = (&'static str, fn(&[u8]));

/// All of them. Each has an entry in `tests/fuzz/Cargo.toml` and a folder in `tests/fuzz/corpus`.
pub const TARGETS: [Target; 12] = [
    ("agent_packet", agent_packet::run),
    ("agent_receive", agent_receive::run),
    ("capture", capture::run),
    ("config_file", config_file::run),
    ("fragments", fragments::run),
    ("hints", hints::run),
    ("key_files", key_files::run),
    ("pop_handle", pop_handle::run),
    ("quotes", quotes::run),
    ("tunnel_message", tunnel_message::run),
    ("tunnel_token", tunnel_token::run),
    ("wire", wire::run),
];
