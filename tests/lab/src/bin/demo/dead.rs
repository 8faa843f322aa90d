//! The POPs that were killed and are not ready again yet.

use anyrelay_lab::Pop;

use crate::record::Record;

/// Which POPs are dead.
pub struct Dead(Vec<bool>);

impl Dead {
    /// None of so many.
    pub fn none(pops: usize) -> Self {
        Self(vec![false; pops])
    }

    /// A POP was killed.
    pub fn add(&mut self, pop: usize) {
        self.0[pop] = true;
    }

    /// This POP, or another one if it was killed and is not ready again.
    pub fn alive(&mut self, pop: usize, pops: &[Pop], record: &Record) -> Option<usize> {
        if self.0[pop] && pops[pop].is_ready() {
            self.0[pop] = false;
        }
        if !self.0[pop] {
            return Some(pop);
        }
        record.note(format!("{} is not ready again yet", pops[pop].name()));
        self.0.iter().position(|dead| !dead)
    }
}
