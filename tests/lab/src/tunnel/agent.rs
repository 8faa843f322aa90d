//! A running `anyrelay-agent` in its place.

use std::net::{Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::Value;

use crate::counters::InterfaceCounters;
use crate::{LabError, Namespace, Process, Result, command, lab};

/// An agent that was not started yet.
#[derive(Debug, Clone)]
pub struct AgentBuilder {
    name: String,
    host: Arc<Namespace>,
    vip: SocketAddr,
    key: PathBuf,
    work: PathBuf,
    local: Vec<String>,
}

impl AgentBuilder {
    pub(crate) fn new(
        name: String,
        host: Arc<Namespace>,
        vip: SocketAddr,
        key: PathBuf,
        work: &Path,
    ) -> Self {
        let work = work.to_owned();
        Self { name, host, vip, key, work, local: Vec::new() }
    }

    /// Its name, as it was issued.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Where its token is published.
    #[must_use]
    pub fn token_file(&self) -> PathBuf {
        self.work.join(format!("{}.token", self.name))
    }

    /// Where it keeps port and base.
    #[must_use]
    pub fn state_file(&self) -> PathBuf {
        self.file("state")
    }

    /// Makes it a `serve --udp-target`.
    #[must_use]
    pub fn serve(mut self, target: SocketAddr) -> Self {
        self.local = ["serve", "--udp-target"].map(str::to_owned).to_vec();
        self.local.push(target.to_string());
        self
    }

    /// Makes it a `connect --udp-listen`, to the peer that publishes into this file.
    #[must_use]
    pub fn connect(mut self, listen: SocketAddr, peer: &Path) -> Self {
        self.local = ["connect", "--udp-listen"].map(str::to_owned).to_vec();
        self.local.push(listen.to_string());
        self.local.extend(["--peer".to_owned(), format!("file:{}", peer.display())]);
        self
    }

    /// Makes it something else: the program's command and what belongs to it.
    #[must_use]
    pub fn command(mut self, words: &[&str]) -> Self {
        self.local = words.iter().map(|word| (*word).to_owned()).collect();
        self
    }

    /// Adds options to its command.
    #[must_use]
    pub fn with(mut self, options: &[&str]) -> Self {
        self.local.extend(options.iter().map(|word| (*word).to_owned()));
        self
    }

    /// Makes it one that runs by a config file: of its `[agent]`, and of these further sections.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn run(mut self, sections: &str) -> Result<Self> {
        let path = self.file("toml");
        let text = format!(
            "[agent]\nvip = \"{}\"\nkey = {:?}\nstate = {:?}\npublish = [\"file:{}\"]\n\
             control = {:?}\n{sections}",
            self.vip,
            self.key,
            self.file("state"),
            self.token_file().display(),
            self.file("control"),
        );
        lab::write(&path, &text)?;
        self.local = vec!["run".to_owned(), "--config".to_owned(), path.display().to_string()];
        Ok(self)
    }

    /// Starts it, without waiting until it is ready.
    ///
    /// # Errors
    /// If the binary is missing or cannot be started.
    pub fn start(self) -> Result<Agent> {
        let mut agent = Agent { builder: self, process: None };
        agent.start()?;
        Ok(agent)
    }

    fn file(&self, extension: &str) -> PathBuf {
        self.work.join(format!("{}.{extension}", self.name))
    }
}

/// An agent that was started, and may have ended.
#[derive(Debug)]
pub struct Agent {
    builder: AgentBuilder,
    process: Option<Process>,
}

impl Agent {
    /// Its name, as it was issued.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.builder.name
    }

    /// The namespace that it runs in.
    #[must_use]
    pub fn host(&self) -> &Namespace {
        &self.builder.host
    }

    /// Where its token is published.
    #[must_use]
    pub fn token_file(&self) -> PathBuf {
        self.builder.token_file()
    }

    /// Where it keeps port and base.
    #[must_use]
    pub fn state_file(&self) -> PathBuf {
        self.builder.state_file()
    }

    /// Starts it once more, in place of one that still runs: same key, same state file.
    ///
    /// # Errors
    /// As [`AgentBuilder::start`].
    pub fn start(&mut self) -> Result<()> {
        self.process = None;
        let builder = &self.builder;
        let (verb, rest) = builder
            .local
            .split_first()
            .ok_or_else(|| LabError::Unexpected(format!("{} has nothing to do", builder.name)))?;
        // `ip netns exec` becomes the agent, so signals to the process are the agent's.
        let mut command = builder.host.command(agent_binary()?);
        command.arg(verb);
        if verb != "run" {
            command.arg("--vip").arg(builder.vip.to_string()).arg("--key").arg(&builder.key);
            command.arg("--publish").arg(builder.token_file());
            command.arg("--state").arg(builder.file("state"));
            command.arg("--control").arg(builder.file("control"));
        }
        command.args(rest);
        let log = builder.file("log");
        self.process = Some(Process::spawn(&builder.name, &mut command, Some(&log))?);
        Ok(())
    }

    /// Ends it by SIGKILL, as a crash would, and waits until it is gone.
    pub fn kill9(&mut self) {
        self.process = None;
    }

    /// Stops its process where it is, or lets it go on.
    pub fn freeze(&mut self, frozen: bool) {
        if let Some(process) = &mut self.process {
            process.signal(if frozen { Signal::STOP } else { Signal::CONT });
        }
    }

    /// Sends SIGTERM and waits for the end; gives the exit code.
    ///
    /// # Errors
    /// If it does not run, or has not ended after `limit`.
    pub fn terminate(&mut self, limit: Duration) -> Result<Option<i32>> {
        let name = self.builder.name.clone();
        let missing = || LabError::Unexpected(format!("{name} does not run"));
        let mut process = self.process.take().ok_or_else(missing)?;
        process.signal(Signal::TERM);
        Ok(process.wait(limit)?.code())
    }

    /// The id of its process, if it has one.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.process.as_ref().map(Process::pid)
    }

    /// Whether its process exists.
    #[must_use]
    pub fn is_running(&mut self) -> bool {
        self.process.as_mut().is_some_and(|process| matches!(process.status(), Ok(None)))
    }

    /// What `anyrelay-agent status --json` says.
    ///
    /// # Errors
    /// If it does not answer.
    pub fn status(&self) -> Result<Value> {
        let mut status = Command::new(agent_binary()?);
        let control = self.builder.file("control");
        let text = command::run(status.args(["status", "--json", "--control"]).arg(control))?;
        serde_json::from_str(&text).map_err(|error| {
            LabError::Unexpected(format!("the status is no JSON: {error}: {text}"))
        })
    }

    /// One of its counters, 0 if there is none of that name.
    ///
    /// # Errors
    /// If it does not answer.
    pub fn counter(&self, name: &str) -> Result<u64> {
        Ok(self.status()?["counters"][name].as_u64().unwrap_or(0))
    }

    /// How many frames came to its interface that it did not take.
    ///
    /// # Errors
    /// If it does not answer.
    pub fn lost_in_ring(&self) -> Result<u64> {
        let status = self.status()?;
        let counters = &status["counters"];
        let counted = |name: &str| counters[name].as_u64().unwrap_or(0);
        let names = [
            "datagrams_received",
            "open_packets_received",
            "keepalives_answered",
            "handshakes",
            "resets",
            "fins",
        ];
        let refused = counters.as_object().into_iter().flatten();
        let refused = refused
            .filter(|(name, _)| {
                name.starts_with("refused_") && !OWN_REFUSALS.contains(&name.as_str())
            })
            .filter_map(|(_, value)| value.as_u64());
        let taken: u64 = names.iter().map(|name| counted(name)).chain(refused).sum();
        let taken = taken + status["outer"]["damaged"].as_u64().unwrap_or(0);
        let came = InterfaceCounters::open(self.host())?.read()?;
        Ok(came.get("net0").map_or(0, |traffic| traffic.rx_packets.saturating_sub(taken)))
    }

    /// Its token, as it says.
    ///
    /// # Errors
    /// If it does not answer, or has none yet.
    pub fn token(&self) -> Result<String> {
        let status = self.status()?;
        let token = status["token"].as_str();
        token.map(str::to_owned).ok_or_else(|| LabError::Unexpected(format!("no token: {status}")))
    }

    /// Its open address, once its device is up.
    ///
    /// # Errors
    /// If it does not answer, or has none.
    pub fn open_address(&self) -> Result<Ipv6Addr> {
        let status = self.status()?;
        let open = &status["open"];
        let address = open["address"].as_str().filter(|_| open["state"] == "up");
        let address = address.and_then(|text| text.parse().ok());
        address.ok_or_else(|| LabError::Unexpected(format!("no open address: {status}")))
    }

    /// Waits until it says `ready`.
    ///
    /// # Errors
    /// If it ends or is not within `limit`: with its status and the end of its log.
    pub fn wait_ready(&mut self, limit: Duration) -> Result<()> {
        self.wait_until("ready", limit, |status| status["state"] == "ready")
    }

    /// Waits until its status is as it should be.
    ///
    /// # Errors
    /// As [`Self::wait_ready`].
    pub fn wait_until(
        &mut self,
        what: &str,
        limit: Duration,
        mut holds: impl FnMut(&Value) -> bool,
    ) -> Result<()> {
        let start = Instant::now();
        loop {
            let status = self.status();
            if status.as_ref().is_ok_and(&mut holds) {
                return Ok(());
            }
            let ended = !self.is_running();
            if ended || start.elapsed() > limit {
                let log = self.process.as_ref().map(|process| process.log_tail(30));
                return Err(LabError::NotReady {
                    what: format!("{}: {what}", self.builder.name),
                    waited: start.elapsed(),
                    detail: format!(
                        "ended: {ended}; status: {}; its log says:\n{}",
                        status.map_or_else(|error| error.to_string(), |status| status.to_string()),
                        log.unwrap_or_default()
                    ),
                });
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Everything that it has logged so far, over restarts.
    #[must_use]
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.builder.file("log")).unwrap_or_default()
    }

    /// The names of its nftables tables in its namespace, such as `ip anyrelay_agent_40000`.
    ///
    /// # Errors
    /// If `nft` does not tell.
    pub fn tables(&self) -> Result<Vec<String>> {
        tables(self.host())
    }
}

/// The names of agents' nftables tables in a namespace.
///
/// # Errors
/// If `nft` does not tell.
pub fn tables(namespace: &Namespace) -> Result<Vec<String>> {
    let text = command::run(namespace.command("nft").args(["list", "tables"]))?;
    let names = text.lines().filter_map(|line| line.strip_prefix("table "));
    Ok(names.filter(|name| name.contains("anyrelay")).map(str::to_owned).collect())
}

/// Counters of what the agent did not send, not of what it did not take.
const OWN_REFUSALS: [&str; 5] = [
    "refused_not_ready",
    "refused_too_big",
    "refused_open_not_ipv6",
    "refused_open_source",
    "refused_open_too_big",
];

/// The agent's binary: `ANYRELAY_AGENT_BIN`, or where cargo puts it beside the running program.
///
/// # Errors
/// [`LabError::MissingBinary`], which says how to build it.
pub fn agent_binary() -> Result<PathBuf> {
    lab::binary("anyrelay-agent", "ANYRELAY_AGENT_BIN")
}
