//! Waits for many descriptors: a thin layer over epoll(7), level-triggered.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use rustix::event::{EventfdFlags, Timespec, eventfd};

/// A set of descriptors, each with a key that identifies it.
#[derive(Debug)]
pub struct Poller {
    epoll: OwnedFd,
}

impl Poller {
    /// An empty set.
    ///
    /// # Errors
    /// When the process has no descriptor left.
    pub fn new() -> io::Result<Self> {
        Ok(Poller { epoll: epoll::create(CreateFlags::CLOEXEC)? })
    }

    /// A poller to which no descriptor can be added.
    #[cfg(test)]
    pub(crate) fn broken() -> Self {
        // An eventfd is not an epoll descriptor, so adding fails.
        Poller { epoll: eventfd(0, EventfdFlags::CLOEXEC).unwrap() }
    }

    /// Starts waiting for `fd` to become readable.
    ///
    /// # Errors
    /// The error of the system call.
    pub fn add(&self, fd: impl AsFd, key: u64) -> io::Result<()> {
        Ok(epoll::add(&self.epoll, fd, EventData::new_u64(key), EventFlags::IN)?)
    }

    /// Stops waiting for `fd`. Closing a descriptor does the same.
    ///
    /// # Errors
    /// The error of the system call.
    pub fn remove(&self, fd: impl AsFd) -> io::Result<()> {
        Ok(epoll::delete(&self.epoll, fd)?)
    }

    /// Waits at most `timeout` and stores the keys of readable descriptors in `ready`.
    ///
    /// # Errors
    /// The error of the system call. A signal is not an error: `ready` is empty then.
    pub fn wait(&self, timeout: Duration, ready: &mut Vec<u64>) -> io::Result<()> {
        let mut events = [NO_EVENT; EVENTS_MAX];
        let timeout = Timespec {
            tv_sec: i64::try_from(timeout.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: timeout.subsec_nanos().into(),
        };
        ready.clear();
        match epoll::wait(&self.epoll, &mut events, Some(&timeout)) {
            Ok(count) => ready.extend(events.iter().take(count).map(|event| event.data.u64())),
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }
}

/// Wakes a [`Poller`] from another thread.
#[derive(Debug)]
pub struct Waker {
    event: OwnedFd,
}

impl Waker {
    /// A waker whose descriptor has the key `key` in `poller`.
    ///
    /// # Errors
    /// When the process has no descriptor left.
    pub fn new(poller: &Poller, key: u64) -> io::Result<Self> {
        let event = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        poller.add(&event, key)?;
        Ok(Waker { event })
    }

    /// Makes the descriptor readable.
    pub fn wake(&self) {
        // Writing fails only when the descriptor is readable already.
        let _ = rustix::io::write(&self.event, &1u64.to_ne_bytes());
    }

    /// Makes it unreadable again. Call it before handling the event, so that no wake-up is missed.
    pub fn clear(&self) {
        let _ = rustix::io::read(&self.event, &mut [0; 8]);
    }
}

const EVENTS_MAX: usize = 64;
const NO_EVENT: Event = Event { flags: EventFlags::empty(), data: EventData::new_u64(0) };

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_waker_wakes_until_it_is_cleared() {
        let poller = Poller::new().unwrap();
        let waker = Waker::new(&poller, 7).unwrap();
        let mut ready = Vec::new();
        poller.wait(Duration::ZERO, &mut ready).unwrap();
        assert!(ready.is_empty());
        waker.wake();
        waker.wake();
        poller.wait(Duration::from_secs(5), &mut ready).unwrap();
        assert_eq!(ready, [7]);
        waker.clear();
        poller.wait(Duration::ZERO, &mut ready).unwrap();
        assert!(ready.is_empty());
    }
}
