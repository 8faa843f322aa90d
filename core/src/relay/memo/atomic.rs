//! The atomics of [`super::slots`]; its model in `core/tests/loom.rs` has others.

pub(super) use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
