//! How a frame ends: sent on, answered, kept, or dropped, and counted in each case.
//!
//! [`ship`] is the one way out for everything that is sent on; [`reply`] is the way back for what
//! the POP answers.

pub(super) mod answer;
mod endings;
mod errors;
mod ethernet;
mod fragment;
pub(super) mod headers;
mod originate;
mod queries;
pub(super) mod reply;
pub(super) mod ship;
pub(super) mod wrap;

pub(super) use endings::Egress;
pub(super) use errors::port_unreachable;
pub(super) use ethernet::ethertype;
pub(super) use originate::originate;
pub(super) use queries::send_query;
