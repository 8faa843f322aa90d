//! Raw FFI to DPDK 22.11: what `bindgen` makes of its headers, and C shims (`shims.c`) for those of
//! its functions that are `static inline`. Nothing here is written by hand in Rust; the safe layer
//! is the package `dpdk`.
//!
//! Source of every item: the DPDK headers that `pkg-config libdpdk` names when this is built. Only
//! what `dpdk` uses is generated (the allow-list in `build.rs`).
#![no_std]
#![allow(
    missing_docs,
    non_camel_case_types,
    non_snake_case,
    non_upper_case_globals,
    unsafe_op_in_unsafe_fn,
    clippy::all,
    clippy::undocumented_unsafe_blocks
)]

include!(concat!(env!("OUT_DIR"), "/bindings.rs"));
