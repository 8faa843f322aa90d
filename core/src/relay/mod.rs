//! Relay mode: a stock client, a VIP, a stock target, and nothing remembered in between.

pub mod feistel;
pub mod fragment_id;
pub mod icmp;
pub mod options;
pub mod packet_id;
pub mod pending_rst;
pub mod permutation;
pub mod prefix;
pub mod rendezvous;
pub mod rendezvous6;
pub mod translate;
pub mod translate6;
