//! Pools of frames, allocated whole at start.
//!
//! Source: DPDK 22.11 `rte_mempool.h`, `rte_mbuf.h`.

use std::ffi::CString;
use std::fmt;
use std::ptr::NonNull;
use std::sync::Arc;

use crate::burst::Burst;
use crate::eal::Eal;
use crate::errno::Errno;
use crate::mbuf::{HEADROOM, Mbuf};

/// A pool of mbufs. Clones share one pool; a port keeps the pools that it receives into.
#[derive(Clone)]
pub struct Mempool {
    inner: Arc<Inner>,
}

/// The size of a pool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MempoolConfig {
    /// Frames in the pool. A power of two minus one uses memory best.
    pub mbufs: u32,
    /// Frames that a thread's cache holds, 0 to 512, and at most two thirds of `mbufs`. Without a
    /// cache every frame passes through the shared ring.
    pub cache: u32,
    /// The maximum length of a frame in bytes, [`HEADROOM`] not included.
    pub data_room: u16,
}

/// Why a pool was not created.
#[derive(Debug, thiserror::Error)]
pub enum MempoolError {
    /// A value that DPDK does not accept.
    #[error("mempool {pool}: {what}")]
    Config {
        /// The pool.
        pool: String,
        /// The value, why it is wrong, and its valid range.
        what: String,
    },
    /// `rte_pktmbuf_pool_create` failed.
    #[error(
        "mempool {pool}: {mbufs} mbufs of {data_room} bytes: {errno}; give DPDK more memory (-m, \
         or hugepages) or take fewer mbufs"
    )]
    Create {
        /// The pool.
        pool: String,
        /// Frames requested.
        mbufs: u32,
        /// Bytes per frame requested.
        data_room: u16,
        /// DPDK's reason.
        errno: Errno,
    },
}

struct Inner {
    raw: NonNull<dpdk_sys::rte_mempool>,
    name: String,
    config: MempoolConfig,
    eal: Eal,
}

// SAFETY: `raw` points at a multi-producer, multi-consumer mempool (the default of
// `rte_pktmbuf_pool_create`), which DPDK lets any thread use; the other fields are immutable.
unsafe impl Send for Inner {}
// SAFETY: as above.
unsafe impl Sync for Inner {}

impl Default for MempoolConfig {
    fn default() -> Self {
        MempoolConfig { mbufs: 8191, cache: 256, data_room: data_room_for_mtu(1500) }
    }
}

/// The least data room for contiguous frames of an MTU: Ethernet header, checksum and two VLAN tags
/// on top, and 2048 bytes at least, since NICs count buffers in KiB.
pub const fn data_room_for_mtu(mtu: u16) -> u16 {
    let room = mtu.saturating_add(26);
    if room <= 2048 { 2048 } else { room.saturating_add(1023) & !1023 }
}

impl Mempool {
    /// Allocates a pool; `name` is unique in the process and at most 25 bytes long.
    ///
    /// # Errors
    /// When a value is out of range, the name is taken, or memory is short.
    pub fn new(eal: &Eal, name: &str, config: &MempoolConfig) -> Result<Mempool, MempoolError> {
        let fault = |what: String| MempoolError::Config { pool: name.to_owned(), what };
        let c_name = CString::new(name)
            .map_err(|_| fault("name contains a NUL byte; remove it".to_owned()))?;
        check(config).map_err(fault)?;
        let room = config.data_room + HEADROOM;
        let _control = eal.control();
        // SAFETY: EAL runs; `c_name` is NUL-terminated and copied by DPDK; the socket is that of
        // the calling thread, or any.
        let raw = unsafe {
            let socket = dpdk_sys::rte_socket_id().cast_signed();
            dpdk_sys::rte_pktmbuf_pool_create(
                c_name.as_ptr(),
                config.mbufs,
                config.cache,
                0,
                room,
                socket,
            )
        };
        let raw = NonNull::new(raw).ok_or_else(|| MempoolError::Create {
            pool: name.to_owned(),
            mbufs: config.mbufs,
            data_room: config.data_room,
            errno: Errno::last(),
        })?;
        let inner = Inner { raw, name: name.to_owned(), config: config.clone(), eal: eal.clone() };
        Ok(Mempool { inner: Arc::new(inner) })
    }

    /// Allocates an empty frame; `None` when the pool is exhausted.
    #[inline]
    pub fn alloc(&self) -> Option<Mbuf> {
        // SAFETY: the pool is alive; the returned mbuf has no other owner, or is null.
        unsafe {
            NonNull::new(dpdk_sys::dpdk_shim_mbuf_alloc(self.inner.raw.as_ptr()))
                .map(|raw| Mbuf::from_raw(raw))
        }
    }

    /// Allocates a frame with the contents `bytes`; `None` when the pool is exhausted or `bytes` is
    /// too long for a frame.
    pub fn alloc_from(&self, bytes: &[u8]) -> Option<Mbuf> {
        let mut mbuf = self.alloc()?;
        if !mbuf.append(bytes.len()) {
            return None;
        }
        mbuf.data_mut().copy_from_slice(bytes);
        Some(mbuf)
    }

    /// Adds `count` empty frames to a burst with one call. Returns false, and changes nothing, when
    /// the burst has too little room or the pool too few frames.
    #[inline]
    #[must_use]
    pub fn alloc_bulk(&self, burst: &mut Burst, count: usize) -> bool {
        let spare = burst.spare();
        let Some(spare) = spare.get_mut(..count) else { return false };
        let count = count as u32; // at most BURST_CAPACITY
        // SAFETY: the pool is alive; `spare` has room for `count` pointers, and when the call
        // returns 0 each is an mbuf without another owner.
        unsafe {
            let pool = self.inner.raw.as_ptr();
            if dpdk_sys::dpdk_shim_mbuf_alloc_bulk(pool, spare.as_mut_ptr().cast(), count) != 0 {
                return false;
            }
            burst.grow(count as usize);
        }
        true
    }

    /// The pool's name.
    pub fn name(&self) -> &str {
        &self.inner.name
    }

    /// The size of the pool.
    pub fn config(&self) -> &MempoolConfig {
        &self.inner.config
    }

    /// Free frames, those in threads' caches included. Reads every lcore's cache, and is
    /// approximate while other threads use the pool.
    pub fn available(&self) -> u32 {
        // SAFETY: the pool is alive.
        unsafe { dpdk_sys::rte_mempool_avail_count(self.inner.raw.as_ptr()) }
    }

    /// Frames in use: in handles, and in rings of ports.
    pub fn in_use(&self) -> u32 {
        self.inner.config.mbufs.saturating_sub(self.available())
    }

    /// Free frames in threads' caches.
    pub fn in_caches(&self) -> u32 {
        // SAFETY: the pool is alive; the counts read are plain integers of other threads' caches.
        unsafe { dpdk_sys::dpdk_shim_mempool_cached(self.inner.raw.as_ptr()) }
    }

    pub(crate) fn as_ptr(&self) -> *mut dpdk_sys::rte_mempool {
        self.inner.raw.as_ptr()
    }
}

impl fmt::Debug for Mempool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mempool")
            .field("name", &self.inner.name)
            .field("config", &self.inner.config)
            .finish_non_exhaustive()
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        let _control = self.eal.control();
        // SAFETY: the pool is alive until `rte_mempool_free` below.
        let available = unsafe { dpdk_sys::rte_mempool_avail_count(self.raw.as_ptr()) };
        if available != self.config.mbufs || !self.eal.no_thread_uses_caches() {
            self.eal.keep_memory();
            return;
        }
        // SAFETY: this was the last handle, all frames are back, ports that receive into the pool
        // hold a handle, and no thread can be inside one of its caches (`no_thread_uses_caches`).
        unsafe { dpdk_sys::rte_mempool_free(self.raw.as_ptr()) };
    }
}

/// Checks the values that DPDK would reject with nothing but "invalid argument".
fn check(config: &MempoolConfig) -> Result<(), String> {
    let MempoolConfig { mbufs, cache, data_room } = *config;
    let cache_max = dpdk_sys::DPDK_MEMPOOL_CACHE_MAX;
    if mbufs == 0 {
        return Err("0 mbufs; at least 1 is needed".to_owned());
    }
    if cache > cache_max || u64::from(cache) * 3 > u64::from(mbufs) * 2 {
        return Err(format!(
            "cache of {cache}; it may hold {cache_max} at most, and two thirds of the {mbufs} mbufs"
        ));
    }
    if data_room == 0 || data_room > u16::MAX - HEADROOM {
        let most = u16::MAX - HEADROOM;
        return Err(format!("data room of {data_room} bytes; it may be 1 to {most}"));
    }
    Ok(())
}
