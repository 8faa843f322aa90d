//! The policy of a worker whose queues are empty.
//!
//! With `spin` it polls without a pause. With `backoff` it polls without a pause for
//! [`POLLS_BEFORE_NAP`] turns, so that it does not sleep through the tail of a burst, then sleeps
//! for a microsecond between turns, and for 200 from [`POLLS_BEFORE_SLEEP`] on. Several POPs can
//! then share a core, for a latency of up to 200 microseconds and the timer's slack.

use std::num::NonZeroU64;
use std::thread;
use std::time::Duration;

use anyrelay_core::config::Idle;

/// Counts empty turns, and sleeps after enough of them.
#[derive(Debug)]
pub struct IdlePolicy {
    empty_polls: u32,
    backs_off: bool,
}

impl IdlePolicy {
    /// The policy for the calling thread. It lowers the thread's timer slack, so that a sleep of
    /// one microsecond does not take fifty.
    pub fn new(idle: Idle) -> Self {
        let backs_off = idle == Idle::Backoff;
        if backs_off {
            // If the kernel refuses, sleeps are longer.
            let _ = rustix::thread::set_current_timer_slack(NonZeroU64::new(TIMER_SLACK_NS));
        }
        IdlePolicy { empty_polls: 0, backs_off }
    }

    /// The turn had work.
    #[inline]
    pub fn reset(&mut self) {
        self.empty_polls = 0;
    }

    /// The turn had no work.
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

/// How long to sleep after `empty_polls` in a row.
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
