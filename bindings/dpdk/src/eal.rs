//! The environment abstraction layer: started once per process, cleaned up when its last handle is
//! dropped.
//!
//! Source: DPDK 22.11 `rte_eal.h`.

use std::ffi::{CStr, CString, c_char};
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, ThreadId};

use crate::errno::Errno;

/// A handle on DPDK's environment. Clones share one environment; pools, ports and thread guards
/// hold a clone each. Dropping the last handle runs `rte_eal_cleanup`.
#[derive(Clone)]
pub struct Eal {
    inner: Arc<Inner>,
}

struct Inner {
    init_thread: ThreadId,
    /// The number of live [`crate::ThreadGuard`]s.
    registered_threads: AtomicUsize,
    /// Set when DPDK's memory must outlive this handle; see [`Eal::keep_memory`].
    keep_memory: AtomicBool,
    /// Held while pools and ports are created, changed or destroyed.
    control: Mutex<()>,
}

/// Why the environment did not start.
#[derive(Debug, thiserror::Error)]
pub enum EalError {
    /// `Eal::init` was called before in this process. DPDK cannot start twice, also not after its
    /// end.
    #[error(
        "EAL: already initialised in this process; DPDK can start only once, so share the first \
         handle"
    )]
    AlreadyInitialised,
    /// An argument contains a NUL byte.
    #[error("EAL: argument {argument:?} contains a NUL byte; remove it")]
    Argument {
        /// The argument.
        argument: String,
    },
    /// `rte_eal_init` failed.
    #[error(
        "EAL: start with arguments {arguments:?} failed: {errno}; the lines that EAL wrote to \
         stderr say why"
    )]
    Init {
        /// The arguments as passed.
        arguments: Vec<String>,
        /// DPDK's reason.
        errno: Errno,
    },
}

/// Whether `Eal::init` was called in this process.
static INITIALISED: AtomicBool = AtomicBool::new(false);

impl Eal {
    /// Starts DPDK (`rte_eal_init`) with EAL arguments, without the program name. Its log goes to
    /// stderr alone.
    ///
    /// The calling thread becomes the main lcore: EAL pins it to that lcore's cores, threads
    /// started later inherit the affinity, and EAL starts a thread for each further lcore. To run
    /// one lcore that is not pinned, pass `--lcores 0@(0-1)` with the machine's cores.
    ///
    /// # Errors
    /// On the second call in a process, also after a failed first one, and whenever EAL fails.
    pub fn init(args: &[String]) -> Result<Eal, EalError> {
        let mut words = vec![c"dpdk".to_owned()];
        for argument in args {
            let word = CString::new(argument.as_str())
                .map_err(|_| EalError::Argument { argument: argument.clone() })?;
            words.push(word);
        }
        if INITIALISED.swap(true, Ordering::SeqCst) {
            return Err(EalError::AlreadyInitialised);
        }
        // EAL keeps pointers into its arguments, so both arrays live until the process ends.
        let argc = i32::try_from(words.len()).unwrap_or(i32::MAX);
        let mut pointers: Vec<*mut c_char> = words.into_iter().map(CString::into_raw).collect();
        pointers.push(std::ptr::null_mut());
        let argv = pointers.leak().as_mut_ptr();
        // EAL would write each line to syslog too, and a journal would have it twice.
        // SAFETY: `stderr` is open as long as the process lives; no other thread is in DPDK yet.
        unsafe { dpdk_sys::rte_openlog_stream(dpdk_sys::stderr) };
        // SAFETY: `argv` holds `argc` writable NUL-terminated strings and a null pointer, none of
        // which is ever freed; INITIALISED makes this the only call in the process.
        let code = unsafe { dpdk_sys::rte_eal_init(argc, argv) };
        if code < 0 {
            return Err(EalError::Init { arguments: args.to_vec(), errno: Errno::last() });
        }
        let inner = Inner {
            init_thread: thread::current().id(),
            registered_threads: AtomicUsize::new(0),
            keep_memory: AtomicBool::new(false),
            control: Mutex::new(()),
        };
        Ok(Eal { inner: Arc::new(inner) })
    }

    /// DPDK's version as the loaded library states it, such as `DPDK 22.11.11`.
    pub fn version() -> String {
        // SAFETY: no preconditions; returns a static NUL-terminated string.
        let text = unsafe { CStr::from_ptr(dpdk_sys::rte_version()) };
        text.to_string_lossy().into_owned()
    }

    /// The lock for creating, changing and destroying pools and ports: DPDK requires that these
    /// calls do not overlap.
    pub(crate) fn control(&self) -> MutexGuard<'_, ()> {
        // The lock guards no data, so a panic cannot leave any inconsistent.
        self.inner.control.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether no other thread can be inside a mempool cache. Memory may be freed only then: a
    /// thread that returns a frame counts it as free before its last access to the cache.
    pub(crate) fn no_thread_uses_caches(&self) -> bool {
        thread::current().id() == self.inner.init_thread
            && self.inner.registered_threads.load(Ordering::SeqCst) == 0
    }

    /// Skips the cleanup at the end, because frames in DPDK's memory are still in use.
    pub(crate) fn keep_memory(&self) {
        self.inner.keep_memory.store(true, Ordering::SeqCst);
    }

    pub(crate) fn thread_registered(&self) {
        self.inner.registered_threads.fetch_add(1, Ordering::SeqCst);
    }

    pub(crate) fn thread_unregistered(&self) {
        self.inner.registered_threads.fetch_sub(1, Ordering::SeqCst);
    }
}

impl fmt::Debug for Eal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Eal({})", Eal::version())
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        let on_init_thread = thread::current().id() == self.init_thread;
        if *self.keep_memory.get_mut() || !on_init_thread {
            return;
        }
        // SAFETY: init succeeded; every pool, port and thread guard held a handle and is gone; no
        // frame is in use (`keep_memory`); and this is the main lcore's thread.
        unsafe { dpdk_sys::rte_eal_cleanup() };
    }
}
