//! What is on the wire: one file per header.

mod mac;

pub use mac::{MacAddr, ParseMacError};
