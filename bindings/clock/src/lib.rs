//! How good the kernel's wall clock is, as the kernel itself says.
//!
//! [`read`] only asks: it changes nothing and needs no capability. What it tells was told to the
//! kernel by whoever disciplines the clock (chronyd, ntpd, systemd-timesyncd). Once nobody does
//! any more, the kernel lets the maximum error grow, and calls its clock unsynchronised when that
//! passes 16 s, which takes about nine hours.
//!
//! Source: adjtimex(2), and `kernel/time/ntp.c` of Linux.

use std::io;
use std::time::Duration;

/// What the kernel says of its wall clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KernelClock {
    /// Whether somebody disciplines it, and did so lately.
    pub is_synchronised: bool,
    /// By how much it is thought to be wrong.
    pub estimated_error: Duration,
    /// By how much it may be wrong at worst.
    pub maximum_error: Duration,
}

/// Asks the kernel.
///
/// # Errors
/// The system's reason, such as `EPERM` where a system call filter forbids the question.
pub fn read() -> io::Result<KernelClock> {
    // SAFETY: `timex` is a C struct of integers alone, for which all zeros is a value.
    let mut timex: libc::timex = unsafe { std::mem::zeroed() };
    // SAFETY: the pointer is to a live `timex` of our own, which the call fills and does not keep;
    // its `modes` is 0, so nothing is set.
    let state = unsafe { libc::adjtimex(&raw mut timex) };
    if state < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(from_kernel(state, &timex))
}

fn from_kernel(state: libc::c_int, timex: &libc::timex) -> KernelClock {
    let micros = |value: libc::c_long| Duration::from_micros(value.try_into().unwrap_or(0));
    KernelClock {
        is_synchronised: state != libc::TIME_ERROR && timex.status & libc::STA_UNSYNC == 0,
        estimated_error: micros(timex.esterror),
        maximum_error: micros(timex.maxerror),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn zeroed() -> libc::timex {
        // SAFETY: as in `read`.
        unsafe { std::mem::zeroed() }
    }

    #[test]
    fn the_kernel_answers() {
        let clock = read().unwrap();
        assert!(!clock.is_synchronised || clock.maximum_error <= Duration::from_secs(16));
    }

    #[test]
    fn either_sign_of_an_unsynchronised_clock_is_enough() {
        let mut timex = libc::timex { esterror: 1500, maxerror: 2_000_000, ..zeroed() };
        let clock = from_kernel(libc::TIME_OK, &timex);
        assert!(clock.is_synchronised);
        assert_eq!(clock.estimated_error, Duration::from_micros(1500));
        assert_eq!(clock.maximum_error, Duration::from_secs(2));
        assert!(!from_kernel(libc::TIME_ERROR, &timex).is_synchronised);
        timex.status = libc::STA_PLL | libc::STA_UNSYNC;
        assert!(!from_kernel(libc::TIME_OK, &timex).is_synchronised);
    }
}
