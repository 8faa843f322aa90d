//! The atomics of [`super::slot`]; its model in `core/tests/loom.rs` has others.

pub(super) use std::sync::atomic::{AtomicU64, Ordering};
