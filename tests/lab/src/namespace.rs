//! One network namespace and a thread that lives in it.
//!
//! A socket, and what `/proc` shows of the network, belong to the namespace of the thread that
//! opens them; both stay there when handed to another thread. So [`Namespace::run`] does things on
//! the namespace's own thread, and the process's other threads never change theirs.

use std::fs::File;
use std::os::fd::AsFd;
use std::process::Command;
use std::sync::mpsc;
use std::thread::JoinHandle;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::{LabError, Result, command, registry};

type Job = Box<dyn FnOnce() + Send>;

/// A network namespace that is deleted, with what still runs in it, when dropped.
#[derive(Debug)]
pub struct Namespace {
    name: String,
    jobs: Option<mpsc::Sender<Job>>,
    thread: Option<JoinHandle<Result<()>>>,
}

impl Namespace {
    /// Makes the namespace with `lo` up, and no IPv6 on any interface made in it later.
    ///
    /// # Errors
    /// If it cannot be made or entered.
    pub fn create(name: &str) -> Result<Self> {
        registry::add_namespace(name)?;
        // From here on the guard exists, so that a failure below deletes the namespace.
        let mut namespace = Self { name: name.to_owned(), jobs: None, thread: None };
        let (jobs, queue) = mpsc::channel::<Job>();
        namespace.jobs = Some(jobs);
        namespace.thread = Some(namespace.thread(move || queue.into_iter().for_each(|job| job()))?);
        for scope in ["all", "default"] {
            namespace.sysctl(&format!("net.ipv6.conf.{scope}.disable_ipv6"), "1")?;
        }
        namespace.ip(&["link set lo up"])?;
        Ok(namespace)
    }

    /// Its name as `ip netns` knows it.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Runs a job inside the namespace, one at a time, and returns its result.
    ///
    /// # Errors
    /// If an earlier job has panicked.
    pub fn run<T: Send + 'static>(&self, job: impl FnOnce() -> T + Send + 'static) -> Result<T> {
        let (sender, receiver) = mpsc::sync_channel(1);
        let job: Job = Box::new(move || drop(sender.send(job())));
        let gone = || LabError::NamespaceGone(self.name.clone());
        self.jobs.as_ref().ok_or_else(gone)?.send(job).map_err(|_| gone())?;
        receiver.recv().map_err(|_| gone())
    }

    /// Starts a thread of its own inside the namespace, for work that lasts. Its result is an error
    /// if the namespace could not be entered.
    ///
    /// # Errors
    /// If the namespace cannot be opened, or no thread can be started.
    pub fn thread<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<JoinHandle<Result<T>>> {
        let path = format!("/run/netns/{}", self.name);
        let file = File::open(&path).map_err(LabError::io(format!("open {path}")))?;
        std::thread::Builder::new()
            .name(self.name.clone())
            .spawn(move || {
                move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network))
                    .map_err(|errno| LabError::io(format!("enter {path}"))(errno.into()))?;
                Ok(work())
            })
            .map_err(LabError::io("start a thread"))
    }

    /// A command that will run inside the namespace.
    #[must_use]
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.name]).arg(program);
        command
    }

    /// Runs lines of `ip`, such as `link set lo up`, in the namespace.
    ///
    /// # Errors
    /// With the line that failed and `ip`'s words.
    pub fn ip(&self, lines: &[impl AsRef<str>]) -> Result<()> {
        let batch: String = lines.iter().map(|line| format!("{}\n", line.as_ref())).collect();
        let mut ip = Command::new("ip");
        ip.args(["-n", &self.name, "-batch", "-"]);
        command::run_with_input(&mut ip, &batch).map(drop).map_err(|error| match error {
            LabError::Command { command, status, output } => {
                LabError::Command { command, status, output: format!("{output}\n{batch}") }
            }
            other => other,
        })
    }

    /// Sets a sysctl of the namespace, such as `net.ipv4.tcp_timestamps`.
    ///
    /// # Errors
    /// With the name of the sysctl.
    pub fn sysctl(&self, key: &str, value: &str) -> Result<()> {
        let path = format!("/proc/sys/{}", key.replace('.', "/"));
        let (target, value) = (path.clone(), value.to_owned());
        self.run(move || std::fs::write(target, value))?
            .map_err(LabError::io(format!("write {path} in {}", self.name)))
    }

    /// Opens a file for reading as the namespace sees it, such as `/proc/thread-self/net/dev`.
    ///
    /// # Errors
    /// With the path.
    pub fn open(&self, path: &str) -> Result<File> {
        let target = path.to_owned();
        self.run(move || File::open(target))?
            .map_err(LabError::io(format!("open {path} in {}", self.name)))
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        drop(self.jobs.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
        registry::remove_namespace(&self.name);
    }
}
