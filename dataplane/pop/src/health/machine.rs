//! When a target is up, and when it is down: so many checks in a row decide.

/// The state of one target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Machine {
    rise: u32,
    fall: u32,
    is_up: bool,
    /// The results in a row that speak against the state.
    against: u32,
}

impl Machine {
    /// A target that is up or not at first, comes up after `rise` successes in a row, and goes down
    /// after `fall` failures in a row.
    pub fn new(rise: u32, fall: u32, is_up: bool) -> Self {
        Machine { rise, fall, is_up, against: 0 }
    }

    /// Takes the result of a check. Returns whether the state changed.
    pub fn record(&mut self, is_success: bool) -> bool {
        if is_success == self.is_up {
            self.against = 0;
            return false;
        }
        self.against = self.against.saturating_add(1);
        let needed = if self.is_up { self.fall } else { self.rise };
        if self.against < needed {
            return false;
        }
        self.is_up = is_success;
        self.against = 0;
        true
    }

    /// Whether the target is up.
    pub fn is_up(&self) -> bool {
        self.is_up
    }

    /// Whether the last result speaks against the state, and did not decide.
    pub fn is_undecided(&self) -> bool {
        self.against > 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The states after each result: `+` is a success or up.
    fn states(machine: &mut Machine, results: &str) -> String {
        let mut states = String::new();
        for result in results.chars() {
            let before = machine.is_up();
            let changed = machine.record(result == '+');
            assert_eq!(changed, before != machine.is_up());
            states.push(if machine.is_up() { '+' } else { '-' });
        }
        states
    }

    #[test]
    fn as_many_results_in_a_row_as_configured_change_the_state() {
        let mut machine = Machine::new(2, 3, true);
        assert_eq!(states(&mut machine, "+--+---"), "++++++-");
        assert_eq!(states(&mut machine, "+-+-++"), "-----+");
        assert_eq!(states(&mut Machine::new(2, 3, false), "---++"), "----+");
        assert_eq!(states(&mut Machine::new(1, 1, true), "-+-"), "-+-");
    }

    #[test]
    fn it_is_undecided_while_results_speak_against_it() {
        let mut machine = Machine::new(2, 2, true);
        let mut undecided = Vec::new();
        for result in [true, false, true, false, false, false, true, true] {
            machine.record(result);
            undecided.push(machine.is_undecided());
        }
        assert_eq!(undecided, [false, true, false, true, false, false, true, false]);
    }
}
