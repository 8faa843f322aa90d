//! Tests of the program `anyrelay`: its commands, and POPs on virtual devices.
//!
//! One test program, so that what they share is built once. Each test runs in a process of its own.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

mod commands;
mod fixtures;
mod fragments;
mod health;
mod key_files;
mod layouts;
mod map_tunnel;
mod memory;
mod readiness;
mod replay;
mod replay_tunnel;
mod run;
mod targets;
mod targets_file;
mod tenants;
mod warnings;
