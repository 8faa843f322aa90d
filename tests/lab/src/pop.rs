//! A POP of a lab: its namespace and the process that forwards in it, which can be killed any time.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::config::METRICS;
use crate::metrics::Metrics;
use crate::nftables::Kernel;
use crate::{LabError, Namespace, Process, Result, Service, http};

/// What forwards in the POPs of a lab.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Forwarder {
    /// `anyrelay run`.
    Relay,
    /// HAProxy in TCP mode, which has the state of each connection in its own kernel.
    HaProxy,
    /// nginx's module stream, of which the same is true.
    NginxStream,
    /// The POP's kernel, by nftables: a target by a hash of the client, connections tracked.
    Nftables,
    /// The same, where each packet is rewritten by itself.
    Stateless,
}

/// One POP.
#[derive(Debug)]
pub struct Pop {
    namespace: Arc<Namespace>,
    index: usize,
    /// The program with its arguments.
    arguments: Vec<String>,
    /// The file it is configured by, to be changed before [`Self::sighup`].
    pub config: PathBuf,
    log: PathBuf,
    starts: u32,
    process: Option<Process>,
    /// What forwards in place of a process.
    kernel: Option<Kernel>,
}

impl Pop {
    pub(crate) fn new(
        namespace: Arc<Namespace>,
        index: usize,
        arguments: Vec<String>,
        config: PathBuf,
    ) -> Self {
        let log = config.with_extension("log");
        Self { namespace, index, arguments, config, log, starts: 0, process: None, kernel: None }
    }

    /// One without a process: its kernel forwards.
    pub(crate) fn of_kernel(
        namespace: Arc<Namespace>,
        index: usize,
        kernel: Kernel,
        config: PathBuf,
    ) -> Self {
        Self { kernel: Some(kernel), ..Self::new(namespace, index, Vec::new(), config) }
    }

    /// `pop1`, `pop2` ...
    #[must_use]
    pub fn name(&self) -> String {
        format!("pop{}", self.index + 1)
    }

    /// The id of its process, if it has one.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.process.as_ref().map(Process::pid)
    }

    /// Its namespace.
    #[must_use]
    pub fn namespace(&self) -> &Namespace {
        &self.namespace
    }

    /// Starts its process, in place of one that still runs, without waiting until it is ready; or
    /// loads the rules of its kernel, which forwards then.
    ///
    /// # Errors
    /// If it cannot be started.
    pub fn start(&mut self) -> Result<()> {
        self.bury();
        if let Some(kernel) = &mut self.kernel {
            self.starts += 1;
            return kernel.start(&self.namespace, self.starts);
        }
        let mut command = self.namespace().command(&self.arguments[0]);
        command.args(&self.arguments[1..]);
        self.process = Some(Process::spawn(&self.name(), &mut command, Some(&self.log))?);
        self.starts += 1;
        Ok(())
    }

    /// Ends its process by SIGKILL, as a crash would. It is gone soon, but not at once: the kernel
    /// has its packet sockets to close, which [`Self::start`] and [`Self::bury`] wait for. A kernel
    /// that forwards stops at once, and forgets its connections with the next start.
    pub fn kill9(&mut self) {
        if let Some(process) = &mut self.process {
            process.signal(Signal::KILL);
        }
        self.stop_kernel();
    }

    /// Kills its process, if it has one, and waits until it is gone; a kernel forwards no more.
    pub fn bury(&mut self) {
        self.process = None;
        self.stop_kernel();
    }

    /// Whether its process exists, or its kernel forwards.
    #[must_use]
    pub fn is_running(&mut self) -> bool {
        if let Some(kernel) = &self.kernel {
            return kernel.forwards();
        }
        self.process.as_mut().is_some_and(|process| matches!(process.status(), Ok(None)))
    }

    /// Kills it if it runs, starts it, and waits until it is ready.
    ///
    /// # Errors
    /// As [`Self::start`] and [`Self::wait_ready`].
    pub fn restart(&mut self) -> Result<()> {
        self.start()?;
        self.wait_ready(Duration::from_secs(20))
    }

    /// Sends SIGTERM: it says that it is not ready, forwards on for its `drain_seconds`, and ends.
    ///
    /// # Errors
    /// If it does not run.
    pub fn drain(&mut self) -> Result<()> {
        self.running()?.signal(Signal::TERM);
        Ok(())
    }

    /// Waits for the end of its process; gives the exit code.
    ///
    /// # Errors
    /// If it does not run, or has not ended after `limit`.
    pub fn wait_end(&mut self, limit: Duration) -> Result<Option<i32>> {
        let status = self.running()?.wait(limit)?;
        self.process = None;
        Ok(status.code())
    }

    /// Tells it to read its configuration again.
    ///
    /// # Errors
    /// If it does not run.
    pub fn sighup(&mut self) -> Result<()> {
        self.running()?.signal(Signal::HUP);
        Ok(())
    }

    /// As [`Self::sighup`], and waits until it has taken what it read.
    ///
    /// # Errors
    /// If it refuses or does not answer, with what it logged.
    pub fn reload(&mut self) -> Result<()> {
        let before = self.log().len();
        self.sighup()?;
        let start = Instant::now();
        loop {
            let detail = self.log().get(before..).unwrap_or_default().to_owned();
            if detail.contains("reloaded") {
                return Ok(());
            }
            if detail.contains("refused") || start.elapsed() > RELOAD_LIMIT {
                let what = format!("the reload of {}", self.name());
                return Err(LabError::NotReady { what, waited: start.elapsed(), detail });
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Leads the services of a POP of [`Forwarder::Nftables`] or [`Forwarder::Stateless`] to these
    /// targets from now on.
    ///
    /// # Errors
    /// If something else forwards in it, or `nft` refuses.
    pub fn lead(&mut self, services: &[Service]) -> Result<()> {
        let name = self.name();
        let none = || LabError::Unexpected(format!("{name} has no nftables rules to change"));
        let kernel = self.kernel.as_mut().ok_or_else(none)?;
        kernel.lead(&self.namespace, self.starts, services)
    }

    /// How often it was started: with each start its metrics begin anew.
    #[must_use]
    pub fn starts(&self) -> u32 {
        self.starts
    }

    /// Whether it says now that it is ready.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        if let Some(kernel) = &self.kernel {
            return kernel.forwards();
        }
        matches!(http::get(self.namespace(), METRICS, "/readyz"), Ok((200, _)))
    }

    /// Waits until it is ready.
    ///
    /// # Errors
    /// If it ends or is not ready within `limit`, with the end of its log.
    pub fn wait_ready(&mut self, limit: Duration) -> Result<()> {
        let start = Instant::now();
        while !self.is_ready() {
            let ended = !self.is_running();
            if ended || start.elapsed() > limit {
                return Err(LabError::NotReady {
                    what: self.name(),
                    waited: start.elapsed(),
                    detail: format!("ended: {ended}; its log says:\n{}", self.log_tail(30)),
                });
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(())
    }

    /// All its metrics, now.
    ///
    /// # Errors
    /// If it does not answer.
    pub fn metrics(&self) -> Result<Metrics> {
        let (_, body) = http::get(self.namespace(), METRICS, "/metrics")?;
        Ok(Metrics::parse(&body))
    }

    /// The sum over one metric's samples with these labels, now.
    ///
    /// # Errors
    /// If it does not answer.
    pub fn metric(&self, name: &str, labels: &[(&str, &str)]) -> Result<f64> {
        Ok(self.metrics()?.sum(name, labels))
    }

    /// Everything its processes have logged so far, over restarts.
    #[must_use]
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    fn log_tail(&self, lines: usize) -> String {
        let log = self.log();
        let all: Vec<&str> = log.lines().collect();
        all[all.len().saturating_sub(lines)..].join("\n")
    }

    fn stop_kernel(&mut self) {
        if let Some(kernel) = &mut self.kernel {
            kernel.stop(&self.namespace);
        }
    }

    fn running(&mut self) -> Result<&mut Process> {
        let name = self.name();
        self.process.as_mut().ok_or_else(|| LabError::Unexpected(format!("{name} does not run")))
    }
}

/// How long a reload may take.
const RELOAD_LIMIT: Duration = Duration::from_secs(30);
