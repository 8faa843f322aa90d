//! What POPs know of targets, modelled a second time from `docs/protocol.md`, sections 9, 18 and
//! 19: the SYNs and the RSTs without timestamps that came to each, owners of connections, targets
//! that were asked, and what becomes of a client's segment then. Slow, and without bounds.
//!
//! A model without one of the rules plays a POP that lacks it (`mutants`).

mod decide;
mod facts;
mod memo;
mod rule;

pub use decide::{Deed, Question};
pub use facts::Refusal;
pub use memo::{Fate, Owner, Place, PopTime, Refusals, Syn, mapped};
pub use rule::Rule;
