//! Relay mode: a stock client, a VIP, a stock target, and nothing remembered in between.

pub mod feistel;
pub mod permutation;
pub mod rendezvous;
