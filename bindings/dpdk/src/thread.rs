//! Registration of threads with DPDK, which gives them mempool caches.
//!
//! Source: DPDK 22.11 `rte_lcore.h`, `rte_thread_register`.

use std::fmt;
use std::marker::PhantomData;

use crate::eal::Eal;
use crate::errno::Errno;

/// The calling thread's registration as a non-EAL lcore; dropping it, on the same thread, ends the
/// registration.
///
/// Without it every frame taken from or returned to a [`crate::Mempool`] passes through the pool's
/// shared ring instead of the thread's own cache, which about halves throughput.
pub struct ThreadGuard {
    eal: Eal,
    lcore: u32,
    /// Registration belongs to the thread: the guard must not leave it.
    _not_send: PhantomData<*const ()>,
}

/// Why a thread was not registered.
#[derive(Debug, thiserror::Error)]
pub enum ThreadError {
    /// The thread already has an lcore: it was registered before, or started EAL.
    #[error("thread registration: this thread already is lcore {lcore}; register each thread once")]
    AlreadyRegistered {
        /// Its lcore.
        lcore: u32,
    },
    /// `rte_thread_register` failed.
    #[error("thread registration: {errno}; at most 128 lcores exist, EAL's own included")]
    Register {
        /// DPDK's reason.
        errno: Errno,
    },
}

impl ThreadGuard {
    /// Registers the calling thread.
    ///
    /// # Errors
    /// When the thread already has an lcore, or DPDK has none left.
    pub fn register(eal: &Eal) -> Result<ThreadGuard, ThreadError> {
        let lcore = current_lcore();
        if lcore != dpdk_sys::DPDK_LCORE_ID_ANY {
            return Err(ThreadError::AlreadyRegistered { lcore });
        }
        // Counted before the registration, so that no pool is freed in between.
        eal.thread_registered();
        // SAFETY: EAL runs (`eal` is alive) and the thread has no lcore yet.
        if unsafe { dpdk_sys::rte_thread_register() } < 0 {
            let errno = Errno::last();
            eal.thread_unregistered();
            return Err(ThreadError::Register { errno });
        }
        Ok(ThreadGuard { eal: eal.clone(), lcore: current_lcore(), _not_send: PhantomData })
    }

    /// The thread's lcore.
    pub fn lcore(&self) -> u32 {
        self.lcore
    }
}

impl fmt::Debug for ThreadGuard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ThreadGuard(lcore {})", self.lcore)
    }
}

impl Drop for ThreadGuard {
    fn drop(&mut self) {
        // SAFETY: this thread registered in `register`, and the guard cannot leave the thread.
        unsafe { dpdk_sys::rte_thread_unregister() };
        self.eal.thread_unregistered();
    }
}

fn current_lcore() -> u32 {
    // SAFETY: reads a thread-local integer; no preconditions.
    unsafe { dpdk_sys::dpdk_shim_lcore_id() }
}
