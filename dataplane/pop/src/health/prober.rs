//! The thread that checks one target, again and again.

use std::io;
use std::net::SocketAddr;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crossbeam::channel::{Receiver, RecvTimeoutError, Sender, TryRecvError, bounded};

use super::config::CheckConfig;
use super::probe::Checked;

/// The result of a check, and the target.
pub(super) type Report = (SocketAddr, Checked);

/// A thread that checks one target. It ends after this is dropped: at once, or when the check is
/// done that it is at; a command is killed.
#[derive(Debug)]
pub(super) struct Prober {
    /// Dropped to stop the thread.
    stop: Sender<()>,
    thread: JoinHandle<()>,
}

impl Prober {
    /// Starts to check the target `address`, the first time within the first interval. Checks of
    /// one target do not overlap.
    pub(super) fn start(
        config: &CheckConfig,
        address: SocketAddr,
        reports: Sender<Report>,
    ) -> io::Result<Self> {
        let (stop, stopped) = bounded(0);
        let config = config.clone();
        let thread = thread::Builder::new()
            .name("check".to_owned())
            .spawn(move || run(&config, address, &reports, &stopped))?;
        Ok(Prober { stop, thread })
    }

    /// Stops the thread, without waiting for it.
    pub(super) fn stop(self) -> JoinHandle<()> {
        drop(self.stop);
        self.thread
    }
}

fn run(
    config: &CheckConfig,
    address: SocketAddr,
    reports: &Sender<Report>,
    stopped: &Receiver<()>,
) {
    let is_stopped = || stopped.try_recv() == Err(TryRecvError::Disconnected);
    let mut due = Instant::now() + jitter(config.interval);
    loop {
        let wait = due.saturating_duration_since(Instant::now());
        if stopped.recv_timeout(wait) == Err(RecvTimeoutError::Disconnected) {
            return;
        }
        let start = Instant::now();
        let checked = config.probe.check(address, config.timeout, &is_stopped);
        if is_stopped() || reports.send((address, checked)).is_err() {
            return;
        }
        // A machine that stood still makes no burst of checks up.
        due = (due + config.interval).max(start);
    }
}

/// A random part of `interval`, so that not all targets are checked at once.
fn jitter(interval: Duration) -> Duration {
    let mut bytes = [0; 4];
    // Without random numbers they are.
    let random = getrandom::fill(&mut bytes).map_or(0, |()| u32::from_ne_bytes(bytes));
    interval.mul_f64(f64::from(random) / (f64::from(u32::MAX) + 1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_check_is_within_the_first_interval() {
        let interval = Duration::from_secs(100);
        let all: Vec<_> = (0..100).map(|_| jitter(interval)).collect();
        assert!(all.iter().all(|wait| *wait < interval));
        assert!(all.iter().any(|wait| *wait > interval / 2));
        assert!(all.iter().any(|wait| *wait < interval / 2));
    }
}
