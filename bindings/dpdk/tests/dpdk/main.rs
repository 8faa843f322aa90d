//! Tests of DPDK by its virtual devices.
//!
//! One test program, so that what they share is built once. EAL starts once in a process, and each
//! test runs in one of its own.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

mod eal;
mod fragments;
mod mbuf;
mod null;
mod pcap;
mod ring;
mod threads;
