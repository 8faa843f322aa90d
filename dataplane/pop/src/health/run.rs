//! Starts, reloads and stops health; and checks everything once.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyrelay_core::config::TargetList;
use anyrelay_core::problem::{Problem, Problems};
use crossbeam::channel::{Receiver, RecvTimeoutError, Sender, bounded};

use super::How;
use super::after::Runner;
use super::board::{Board, CheckStatus};
use super::config::{CheckConfig, HealthConfig, load};
use super::keeper::Keeper;
use super::outs::{Outs, Standing};
use super::pages::{Pages, Shared};
use crate::control::read;
use crate::control::signals::{self, Event};
use crate::metrics::http::{self, Limits};
use crate::targets::Dates;
use crate::worker::unix_now;

/// The options of [`run`].
#[derive(Clone, Debug)]
pub struct HealthOptions {
    /// The config's path.
    pub config: PathBuf,
    /// How files are changed.
    pub how: How,
}

/// Why health did not start, or stopped.
#[derive(Debug, thiserror::Error)]
pub enum HealthError {
    /// The files have problems.
    #[error(transparent)]
    Config(#[from] Problems),
    /// The listener could not be opened.
    #[error(
        "health.listen: {address}: {source}; it must be an address of this host that no other \
         program uses"
    )]
    Listen {
        /// Its address.
        address: SocketAddr,
        /// The error of the system call.
        source: io::Error,
    },
    /// Signal handlers or a thread could not be set up.
    #[error("no {what}: {source}")]
    Thread {
        /// The missing part.
        what: &'static str,
        /// The error of the system call.
        source: io::Error,
    },
    /// The thread of a check ended.
    #[error("the check of {file} ended by itself; report it")]
    Ended {
        /// The targets file of the check.
        file: String,
    },
}

/// Runs health until SIGTERM or SIGINT. SIGHUP reads the config again.
///
/// # Errors
/// When it does not start, or a check ends.
pub fn run(options: &HealthOptions) -> Result<(), HealthError> {
    let config = load(&options.config)?;
    let shared = Arc::new(Shared::default());
    let signals =
        signals::listen().map_err(|source| HealthError::Thread { what: "signals", source })?;
    if let Some(address) = config.listen {
        let listener =
            TcpListener::bind(address).map_err(|source| HealthError::Listen { address, source })?;
        http::serve(listener, Limits::default(), Pages(Arc::clone(&shared)))
            .map_err(|source| HealthError::Thread { what: "HTTP", source })?;
    }
    let mut running = Running { options, listen: config.listen, shared, keepers: Vec::new() };
    running.start(config)?;
    let result = running.serve(&signals);
    running.stop();
    tracing::info!("stopped");
    result
}

struct Running<'a> {
    options: &'a HealthOptions,
    listen: Option<SocketAddr>,
    shared: Arc<Shared>,
    keepers: Vec<Checking>,
}

/// The thread of a check.
struct Checking {
    file: String,
    /// Dropped to stop the thread.
    stop: Sender<()>,
    thread: JoinHandle<()>,
}

impl Running<'_> {
    /// Starts a thread for each check. Counters of files that had a check go on.
    fn start(&mut self, config: HealthConfig) -> Result<(), HealthError> {
        let how = self.options.how;
        let mut boards = Vec::new();
        for check in config.checks {
            let board = Board::new(&check, how.dry_run);
            let old = self.shared.boards.read();
            let known = old.iter().map(|board| board.status());
            if let Some(known) = known.into_iter().find(|known| known.file == check.file) {
                board.lock().counts = known.counts;
            }
            drop(old);
            let board = Arc::new(board);
            boards.push(Arc::clone(&board));
            self.keepers.push(start(check, how, board)?);
        }
        *self.shared.boards.write() = boards;
        let (checks, dry_run) = (self.keepers.len(), how.dry_run);
        tracing::info!(checks, dry_run, "running");
        Ok(())
    }

    fn serve(&mut self, events: &Receiver<Event>) -> Result<(), HealthError> {
        loop {
            match events.recv_timeout(TURN) {
                Ok(Event::Stop) => return Ok(()),
                Ok(Event::Reload) => self.reload()?,
                Err(RecvTimeoutError::Timeout) => {}
                // If the signal thread ended, the loop must not spin.
                Err(RecvTimeoutError::Disconnected) => thread::sleep(TURN),
            }
            if let Some(ended) = self.keepers.iter().find(|keeper| keeper.thread.is_finished()) {
                return Err(HealthError::Ended { file: ended.file.clone() });
            }
        }
    }

    /// Reads the config again, or says why the one that runs stays.
    fn reload(&mut self) -> Result<(), HealthError> {
        let loaded = load(&self.options.config).and_then(|config| match config.listen {
            listen if listen == self.listen => Ok(config),
            _ => {
                let file = self.options.config.display().to_string();
                let (key, reason) = ("health.listen".to_owned(), "needs a restart".to_owned());
                Err(Problems(vec![Problem { file, key, reason }]))
            }
        });
        match loaded {
            Ok(config) => {
                self.stop();
                self.start(config)?;
                self.shared.reloads_done.fetch_add(1, Ordering::Relaxed);
                tracing::info!("reloaded");
            }
            Err(problems) => {
                for problem in &problems.0 {
                    tracing::error!("{problem}");
                }
                self.shared.reloads_refused.fetch_add(1, Ordering::Relaxed);
                tracing::error!("reload refused; the running config stays in place");
            }
        }
        Ok(())
    }

    fn stop(&mut self) {
        let keepers = std::mem::take(&mut self.keepers).into_iter();
        // All are told before the first is waited for.
        let threads: Vec<_> = keepers
            .map(|Checking { stop, thread, .. }| {
                drop(stop);
                thread
            })
            .collect();
        for thread in threads {
            let _ = thread.join();
        }
    }
}

fn start(check: CheckConfig, how: How, board: Arc<Board>) -> Result<Checking, HealthError> {
    let no_thread = |source| HealthError::Thread { what: "thread for a check", source };
    let file = check.file.clone();
    let after = Runner::start(&check, &board).map_err(no_thread)?;
    let keeper = Keeper::new(check, how, board, after);
    let (stop, stopped) = bounded(0);
    let thread = thread::Builder::new()
        .name("keeper".to_owned())
        .spawn(move || keeper.run(&stopped))
        .map_err(no_thread)?;
    Ok(Checking { file, stop, thread })
}

/// Checks each target of each file once, all targets of a file at the same time. Those that an
/// operator drained are not checked.
///
/// # Errors
/// The problems of a file that changed since the config was loaded.
pub fn once(config: &HealthConfig) -> Result<Vec<CheckStatus>, Problems> {
    config.checks.iter().map(once_each).collect()
}

fn once_each(check: &CheckConfig) -> Result<CheckStatus, Problems> {
    let file = check.path.display().to_string();
    let problem =
        |reason: String| Problems(vec![Problem { file: file.clone(), key: String::new(), reason }]);
    let text = read(&check.path).map_err(problem)?;
    let list = TargetList::parse(&file, &text)?;
    let outs = Outs::read(&check.path).map_err(problem)?;
    let at = Dates::after(&list, unix_now(0), check.lead_ms).at;
    let standing = |address| (address, outs.standing(&list, address, at));
    let standings: Vec<_> = outs.addresses(&list).into_iter().map(standing).collect();
    let mut status = Board::new(check, false).status();
    status.serial = Some(list.serial);
    status.set_targets(&standings);
    let checked = standings.iter().filter(|(_, standing)| *standing != Standing::Drained);
    let reports: Vec<_> = thread::scope(|scope| {
        let threads: Vec<_> = checked
            .map(|&(address, _)| {
                let probe = move || check.probe.check(address, check.timeout, &|| false);
                (address, scope.spawn(probe))
            })
            .collect();
        let ended = threads.into_iter();
        ended.filter_map(|(address, thread)| Some((address, thread.join().ok()?))).collect()
    });
    for (address, checked) in reports {
        if let Some(target) = status.target(address) {
            target.take(&checked);
            target.is_up = Some(checked.outcome.is_ok());
        }
    }
    Ok(status)
}

/// How often the threads are looked at.
const TURN: Duration = Duration::from_millis(200);
