//! DPDK's error numbers, with their text (`rte_strerror`).

use std::ffi::CStr;
use std::fmt;

/// An error number: one of the system's, or one of DPDK's own above 1000.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Errno(i32);

impl Errno {
    /// Operation not supported.
    pub const ENOTSUP: Errno = Errno(95);
    /// Permission denied.
    pub const EACCES: Errno = Errno(13);
    /// Device or resource busy.
    pub const EBUSY: Errno = Errno(16);
    /// No such device.
    pub const ENODEV: Errno = Errno(19);
    /// Invalid argument.
    pub const EINVAL: Errno = Errno(22);

    /// The number itself, positive.
    pub fn number(self) -> i32 {
        self.0
    }

    /// The number in the return value of a DPDK function, which is negative.
    pub(crate) fn from_return(code: i32) -> Self {
        Errno(code.saturating_abs())
    }

    /// `rte_errno` of the calling thread.
    pub(crate) fn last() -> Self {
        // SAFETY: reads a thread-local integer; no preconditions.
        Errno(unsafe { dpdk_sys::dpdk_shim_errno() })
    }

    /// `Ok` for zero and above, else the error in `code`.
    pub(crate) fn check(code: i32) -> Result<i32, Self> {
        if code < 0 { Err(Self::from_return(code)) } else { Ok(code) }
    }
}

impl fmt::Display for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // SAFETY: `rte_strerror` takes any integer and returns a NUL-terminated text in a buffer of
        // the calling thread, which does not change until this thread calls it again.
        let text = unsafe { CStr::from_ptr(dpdk_sys::rte_strerror(self.0)) };
        write!(f, "{} (error {})", text.to_string_lossy(), self.0)
    }
}

impl fmt::Debug for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
