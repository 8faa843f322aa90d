//! The policy for fragments (the draft, section 1.2.1).
//!
//! The fragments of one datagram may reach different POPs, and only the first one has ports. A POP
//! that received some of them must not guess, so that the policy decides before anything reads
//! ports.
//!
//! With the policy `reassemble`, the owner of the frames reads fragments ([`Fragment::read`]), asks
//! the [`ReassemblyTable`], keeps the frames that it admits, joins those of a complete datagram,
//! and completes its header ([`complete_header`]). The POP itself accepts whole datagrams only.

mod decision;
mod entries;
mod hash;
mod header;
mod limits;
mod partial;
mod read;
mod shares;
mod table;
#[cfg(test)]
mod tests;

pub use decision::{Admitted, FragmentArrival, Reassembled};
pub use hash::FragmentHash;
pub use header::{complete_header, remove_atomic};
pub use limits::FragmentLimits;
pub use partial::PER_DATAGRAM_MAX;
pub use read::{DatagramKey, Fragment};
pub(crate) use shares::LEFT_FOR_EACH;
pub use shares::Waiting;
pub use table::{EXPIRE_MAX, ReassemblyTable};
