//! Tests of the lab, and of POPs and agents in it, with real kernels' TCP.
//!
//! One program, so that what they share is built once. Each test runs in a process of its own.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

mod agent_host;
mod agent_routes;
mod control;
mod gateways;
mod links;
mod probe;
mod probe_tunnels;
mod relay_bare;
mod relay_client_address;
mod relay_closes;
mod relay_control;
mod relay_echo;
mod relay_flaps;
mod relay_fragments;
mod relay_hints;
mod relay_ipv6;
mod relay_limits;
mod relay_matrix;
mod relay_paths;
mod relay_refusals;
mod relay_resets;
mod relay_services;
mod relay_short;
mod relay_target_refusals;
mod relay_targets;
mod relay_time_wait;
mod relay_tunnels;
mod relay_udp;
mod relay_uploads;
mod topology;
mod tunnel_idle;
mod tunnel_keys;
mod tunnel_life;
mod tunnel_net;
mod tunnel_open;
mod tunnel_spoof;
mod tunnel_traffic;
