//! Checks whether the wall clock is accurate enough for tunnels.
//!
//! POPs predict sequence numbers from it: with an error of some ticks, firewalls drop their
//! segments. So a POP with tunnels is not ready while the kernel does not report a synchronised
//! clock, unless the operator vouches for it (`pop.clock = "trusted"`).

use std::io;
use std::time::Duration;

use anyrelay_core::config::{ClockTrust, Config};
use kernel_clock::KernelClock;

/// Queries the kernel, if the config requires it.
pub(super) fn ask(config: &Config) -> Option<io::Result<KernelClock>> {
    let is_wanted = config.pop.clock == ClockTrust::Kernel && !config.tunnels.is_empty();
    is_wanted.then(kernel_clock::read)
}

/// Why the clock is not accurate enough; `None` if it is.
pub(super) fn doubt(answer: &io::Result<KernelClock>) -> Option<String> {
    match answer {
        Err(error) => Some(format!(
            "clock: the kernel does not say whether it is synchronised: {error}; {ADVICE}"
        )),
        Ok(clock) if !clock.is_synchronised => {
            Some(format!("clock: the kernel's is not synchronised; {ADVICE}"))
        }
        Ok(clock) if clock.estimated_error > ERROR_MAX => Some(format!(
            "clock: its estimated error is more than {} s; {ADVICE}",
            ERROR_MAX.as_secs()
        )),
        Ok(_) => None,
    }
}

const ADVICE: &str = "run chronyd or another NTP client, or state pop.clock = \"trusted\" if \
                      something else keeps it";
/// An eighth of a default tick: far below the tolerance of predictions.
const ERROR_MAX: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_is_doubted_for_each_reason_alone() {
        let good = KernelClock {
            is_synchronised: true,
            estimated_error: ERROR_MAX,
            maximum_error: Duration::from_secs(5),
        };
        assert_eq!(doubt(&Ok(good)), None);
        let wrong = KernelClock { estimated_error: ERROR_MAX + Duration::from_micros(1), ..good };
        assert!(doubt(&Ok(wrong)).unwrap().contains("estimated error is more than 1 s"));
        let adrift = KernelClock { is_synchronised: false, ..good };
        assert!(doubt(&Ok(adrift)).unwrap().contains("not synchronised"));
        let mute = doubt(&Err(io::Error::from_raw_os_error(1))).unwrap();
        assert!(mute.contains("does not say") && mute.contains("not permitted"), "{mute}");
    }
}
