//! Whether a device is about to be taken away while its port is open.
//!
//! The kernel asks the owner of a device on vfio-pci to give it up when the device is unplugged or
//! unbound, and the unplugging waits for that. EAL passes the request on.
//!
//! Source: DPDK 22.11 `rte_dev.h` (`rte_dev_event_callback_register`).

use std::ffi::{CStr, CString, c_char, c_void};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// A subscription to the removal of one device; ends when dropped.
pub(super) struct Removal {
    name: CString,
    requested: Arc<AtomicBool>,
}

impl Removal {
    /// Subscribes to the removal of the device of this name; `None` if EAL has no memory for it.
    pub fn watch(name: &CStr) -> Option<Removal> {
        let removal = Removal { name: name.to_owned(), requested: Arc::default() };
        let argument = Arc::into_raw(Arc::clone(&removal.requested));
        // SAFETY: EAL runs; the name is copied. `argument` is a counted reference to a flag, which
        // `drop` gives back only after EAL has forgotten it.
        let code = unsafe {
            dpdk_sys::rte_dev_event_callback_register(
                removal.name.as_ptr(),
                Some(on_event),
                argument.cast_mut().cast(),
            )
        };
        // If it failed, `drop` finds nothing to unregister, and one flag stays allocated.
        (code == 0).then_some(removal)
    }

    /// Whether the device is to be removed.
    pub fn is_requested(&self) -> bool {
        self.requested.load(Ordering::Relaxed)
    }
}

impl Drop for Removal {
    fn drop(&mut self) {
        let argument = Arc::as_ptr(&self.requested);
        // SAFETY: EAL runs; name, function and argument are those of the registration.
        let removed = unsafe {
            dpdk_sys::rte_dev_event_callback_unregister(
                self.name.as_ptr(),
                Some(on_event),
                argument.cast_mut().cast(),
            )
        };
        // Otherwise EAL still knows the flag, for instance because the callback runs right now, and
        // it stays allocated.
        if removed > 0 {
            // SAFETY: the reference that `watch` gave to EAL, which has forgotten it.
            drop(unsafe { Arc::from_raw(argument) });
        }
    }
}

/// Called on EAL's interrupt thread.
unsafe extern "C" fn on_event(
    _device: *const c_char,
    event: dpdk_sys::rte_dev_event_type,
    argument: *mut c_void,
) {
    if event == dpdk_sys::RTE_DEV_EVENT_REMOVE {
        // SAFETY: the flag of `watch`, alive while the callback is registered.
        unsafe { &*argument.cast::<AtomicBool>() }.store(true, Ordering::Relaxed);
    }
}
