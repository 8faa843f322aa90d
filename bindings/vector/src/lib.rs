//! Code compiled for the vector instructions of the CPU that it runs on.
//!
//! A program is built for every x86-64 CPU, and most of them can do more. A [`Job`] is compiled
//! once for each set of instructions in [`Isa`], and [`Isa::run`] runs the copy for one of them.
//! Its loops are then vectorised by the compiler, and [`Vector::encrypt_xor`] is AES-128 by the
//! widest instructions of the set. [`Isa::best`] is the largest set of the CPU that is proved to
//! do what it is believed to do.

mod aes128;
mod bytes;
mod isa;
mod lanes;
mod proof;

pub use aes128::{BLOCK_LEN, BLOCKS, Block, Blocks, RoundKeys};
pub use bytes::Bytes;
pub use isa::{Isa, Job, Vector};
pub use lanes::{all, bits, lane_mask, pick};
