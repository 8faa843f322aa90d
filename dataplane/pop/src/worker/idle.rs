//! What a worker does when its queues are empty.
//!
//! `spin` polls on. `backoff` polls on for [`POLLS_BEFORE_NAP`] turns, so that a burst's tail is not
//! slept away, then naps for a microsecond between turns, and for 200 from [`POLLS_BEFORE_SLEEP`] on:
//! several POPs can share a core, at a cost of 200 microseconds and the timer's slack in latency.

use std::num::NonZeroU64;
use std::thread;
use std::time::Duration;

use anyrelay_core::config::Idle;

/// Counts empty turns, and sleeps when there were enough of them.
#[derive(Debug)]
pub struct IdlePolicy {
    empty_polls: u32,
    backs_off: bool,
}

impl IdlePolicy {
    /// The policy for the calling thread, whose timer slack it lowers so that a nap of a microsecond
    /// is not one of fifty.
    pub fn new(idle: Idle) -> Self {
        let backs_off = idle == Idle::Backoff;
        if backs_off {
            // Where the kernel refuses, naps are longer; nothing else changes.
            let _ = rustix::thread::set_current_timer_slack(NonZeroU64::new(TIMER_SLACK_NS));
        }
        IdlePolicy { empty_polls: 0, backs_off }
    }

    /// There was work.
    #[inline]
    pub fn reset(&mut self) {
        self.empty_polls = 0;
    }

    /// There was none.
    #[inline]
    pub fn wait(&mut self) {
        if !self.backs_off {
            std::hint::spin_loop();
            return;
        }
        self.empty_polls = self.empty_polls.saturating_add(1);
        if let Some(duration) = pause(self.empty_polls) {
            thread::sleep(duration);
        }
    }
}

/// How long to sleep after so many empty polls in a row.
fn pause(empty_polls: u32) -> Option<Duration> {
    if empty_polls <= POLLS_BEFORE_NAP {
        None
    } else if empty_polls <= POLLS_BEFORE_SLEEP {
        Some(NAP)
    } else {
        Some(SLEEP)
    }
}

/// Empty polls before the first nap.
pub const POLLS_BEFORE_NAP: u32 = 64;
/// Empty polls before the first longer sleep.
pub const POLLS_BEFORE_SLEEP: u32 = 1000;
const NAP: Duration = Duration::from_micros(1);
const SLEEP: Duration = Duration::from_micros(200);
const TIMER_SLACK_NS: u64 = 1000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sleeps_get_longer_and_end_with_work() {
        assert_eq!(pause(64), None);
        assert_eq!(pause(65), Some(NAP));
        assert_eq!(pause(1000), Some(NAP));
        assert_eq!(pause(1001), Some(SLEEP));
        assert_eq!(pause(u32::MAX), Some(SLEEP));
        let mut policy = IdlePolicy { empty_polls: u32::MAX, backs_off: true };
        policy.wait();
        assert_eq!(policy.empty_polls, u32::MAX);
        policy.reset();
        assert_eq!(policy.empty_polls, 0);
    }
}
