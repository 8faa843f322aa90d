//! The environment abstraction layer: started once per process, cleaned up when its last user goes.
//!
//! Source: DPDK 22.11 `rte_eal.h`.

use std::ffi::{CStr, CString, c_char};
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, ThreadId};

use crate::errno::Errno;

/// A handle on DPDK's environment. Clones are the same environment; pools, ports and thread guards
/// hold one each. `rte_eal_cleanup` runs when the last handle goes.
#[derive(Clone)]
pub struct Eal {
    inner: Arc<Inner>,
}

struct Inner {
    init_thread: ThreadId,
    /// Live [`crate::ThreadGuard`]s.
    registered_threads: AtomicUsize,
    /// Set when memory must outlive this handle: see [`Eal::keep_memory`].
    keep_memory: AtomicBool,
    /// Taken by everything that creates, changes or destroys pools and ports.
    control: Mutex<()>,
}

/// Why the environment did not start.
#[derive(Debug, thiserror::Error)]
pub enum EalError {
    /// `Eal::init` was called before in this process; DPDK starts once, even after its end.
    #[error(
        "EAL: already initialised in this process; DPDK can start only once, so share the first handle"
    )]
    AlreadyInitialised,
    /// An argument has a NUL byte in it.
    #[error("EAL: argument {argument:?} contains a NUL byte; remove it")]
    Argument {
        /// The argument.
        argument: String,
    },
    /// `rte_eal_init` failed.
    #[error(
        "EAL: start with arguments {arguments:?} failed: {errno}; the lines that EAL wrote to stderr say why \
         (without hugepages: --no-huge -m MEGABYTES)"
    )]
    Init {
        /// The arguments as passed.
        arguments: Vec<String>,
        /// DPDK's reason.
        errno: Errno,
    },
}

/// DPDK starts once per process; this is what remembers that.
static INITIALISED: AtomicBool = AtomicBool::new(false);

impl Eal {
    /// Starts DPDK (`rte_eal_init`) with EAL arguments, program name not included.
    ///
    /// The calling thread becomes the main lcore: EAL pins it to that lcore's cores, threads
    /// started later inherit that, and every further lcore is a thread of its own. To float
    /// instead, and have one lcore only, pass `--lcores 0@(0-1)` with the machine's cores.
    ///
    /// # Errors
    /// On the second call in a process, also after a failed first one, and whenever EAL refuses.
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
        // SAFETY: `argv` holds `argc` writable NUL-terminated strings and a null pointer, none of
        // them ever freed; INITIALISED makes this the process's only call.
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

    /// DPDK's version as the loaded library states it: `DPDK 22.11.11`.
    pub fn version() -> String {
        // SAFETY: no preconditions; returns a static NUL-terminated string.
        let text = unsafe { CStr::from_ptr(dpdk_sys::rte_version()) };
        text.to_string_lossy().into_owned()
    }

    /// Held while pools and ports are created, changed or destroyed: DPDK wants those calls one at
    /// a time.
    pub(crate) fn control(&self) -> MutexGuard<'_, ()> {
        // The lock guards no data, so there is nothing that a panic could have left half done.
        self.inner.control.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether no other thread can be inside a mempool cache: memory may be freed only then, since
    /// a thread that is just giving back a frame counts it as free before it is done.
    pub(crate) fn is_quiet(&self) -> bool {
        thread::current().id() == self.inner.init_thread
            && self.inner.registered_threads.load(Ordering::SeqCst) == 0
    }

    /// Forgoes the cleanup at the end, because frames are out that live in DPDK's memory.
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
        // SAFETY: init succeeded, every pool, port and thread guard held a handle and is gone, no
        // frame is out (`keep_memory`), and this is the main lcore's thread.
        unsafe { dpdk_sys::rte_eal_cleanup() };
    }
}
