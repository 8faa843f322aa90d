//! The kernel's own statement about the error of its wall clock.
//!
//! [`read`] is a read-only query and needs no capability. The values come from the daemon that
//! disciplines the clock (chronyd, ntpd, systemd-timesyncd). When no daemon updates them, the
//! kernel lets the maximum error grow, and reports the clock as unsynchronised once it exceeds 16
//! s, which takes about nine hours.
//!
//! Source: adjtimex(2), and `kernel/time/ntp.c` of Linux.

use std::io;
use std::time::Duration;

/// The kernel's statement about its wall clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KernelClock {
    /// Whether a daemon disciplines the clock and did so recently.
    pub is_synchronised: bool,
    /// The estimated error (`esterror`).
    pub estimated_error: Duration,
    /// The bound of the error (`maxerror`).
    pub maximum_error: Duration,
}

/// Queries the kernel.
///
/// # Errors
/// The error of the system call, such as `EPERM` where a seccomp filter forbids it.
pub fn read() -> io::Result<KernelClock> {
    // SAFETY: `timex` is a C struct of integers alone, so all zeros is a valid value.
    let mut timex: libc::timex = unsafe { std::mem::zeroed() };
    // SAFETY: the pointer is to a live local `timex`, which the call fills and does not keep; its
    // `modes` is 0, so nothing is set.
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
