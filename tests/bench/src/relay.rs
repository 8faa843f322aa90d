//! Runs of the relay.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};

use crate::config;
use crate::cpu::{self, Thread};
use crate::packets::{Setting, WARM_UP};

/// What one run of the relay gave.
#[derive(Clone, Debug)]
pub struct Measured {
    /// Millions of packets forwarded per CPU-second of the workers, while it was measured.
    pub mpps: f64,
    /// Packets received over the whole run.
    pub received: u64,
    /// Packets sent on over the whole run.
    pub sent: u64,
    /// Packets dropped over the whole run.
    pub dropped: u64,
    /// DPDK's version.
    pub dpdk: String,
}

/// Runs the relay over the capture and measures it.
///
/// # Errors
/// When it does not run, drops anything, or forwards less than it received.
pub fn run(setting: &Setting<'_>) -> anyhow::Result<Measured> {
    let observed = observe(setting)?;
    // A tunnel's datagram is forwarded twice, up and down, and sent once.
    let Totals { received, sent, dropped, .. } = observed.totals;
    ensure!(dropped == 0 && received == sent, "void: {:?}", observed.totals);
    let mpps = observed.mpps("anyrelay_port_packets_total{direction=\"tx\"");
    let page = &observed.pages[1].0;
    let dpdk = page.split("dpdk=\"").nth(1).and_then(|rest| rest.split('"').next());
    let dpdk = dpdk.unwrap_or("unknown").to_owned();
    Ok(Measured { mpps, received, sent, dropped, dpdk })
}

/// Runs the relay over the capture, whatever it does with it.
///
/// # Errors
/// When it does not run.
pub fn observe(setting: &Setting<'_>) -> anyhow::Result<Observed> {
    let listen = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?;
    let config = config::write(setting.folder, config::pop(setting), Some(listen))?;
    let mut relay = Relay::start(Command::new(setting.anyrelay), setting.folder, &config)?;
    let measured = relay.measure(setting, listen);
    let (pages, cpu_ns, elapsed) = relay.explain(measured)?;
    Ok(Observed { pages, cpu_ns, elapsed, totals: relay.stop()? })
}

/// What one run of the relay showed.
#[derive(Debug)]
pub struct Observed {
    /// Its metrics before and after it was measured.
    pub pages: [Page; 2],
    /// The workers' time on their CPUs between them.
    pub cpu_ns: u64,
    /// The clock's time between them.
    pub elapsed: Duration,
    /// What it says of its whole run.
    pub totals: Totals,
}

impl Observed {
    /// By how much a metric has grown.
    pub fn grown(&self, start: &str) -> f64 {
        let [before, after] = &self.pages;
        after.sum(start) - before.sum(start)
    }

    /// The same in millions per CPU-second of the workers.
    pub fn mpps(&self, start: &str) -> f64 {
        cpu::rate(self.grown(start) as u64, self.cpu_ns)
    }
}

/// Metrics, as Prometheus would see them.
#[derive(Debug)]
pub struct Page(String);

impl Page {
    /// The sum of all samples whose line begins with `start`.
    pub fn sum(&self, start: &str) -> f64 {
        let lines = self.0.lines().filter(|line| line.starts_with(start));
        lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
    }
}

/// Replays the capture and compares what comes out with the file `expected`.
///
/// # Errors
/// When it does not run, or one byte differs.
pub fn check_replay(setting: &Setting<'_>, expected: &Path) -> anyhow::Result<()> {
    let config = config::write(setting.folder, config::pop(setting), None)?;
    let output = setting.folder.join("replayed.pcap");
    let status = Command::new(setting.anyrelay)
        .arg("replay")
        .args([Path::new("--config"), &config, Path::new("--in"), setting.input])
        .args([Path::new("--out"), &output])
        .stdout(Stdio::null())
        .status()
        .with_context(|| setting.anyrelay.display().to_string())?;
    ensure!(status.success(), "void: replay ended with {status}");
    let same = fs::read(&output)? == fs::read(expected)?;
    fs::remove_file(&output)?;
    ensure!(same, "void: replay makes of the capture something else than {}", expected.display());
    Ok(())
}

/// A running relay; it is killed when dropped.
pub struct Relay {
    child: Child,
    log: PathBuf,
}

impl Relay {
    /// Runs `command`, which is the relay's binary, with a config.
    ///
    /// # Errors
    /// When it does not start.
    pub fn start(mut command: Command, folder: &Path, config: &Path) -> anyhow::Result<Relay> {
        let log = folder.join("relay.log");
        let (stdin, stderr) = (Stdio::null(), File::create(&log)?);
        command.arg("run").arg("--config").arg(config).stdin(stdin).stderr(stderr);
        let child = command.spawn().with_context(|| format!("start {command:?}"))?;
        Ok(Relay { child, log })
    }

    fn measure(
        &mut self,
        setting: &Setting<'_>,
        listen: SocketAddr,
    ) -> anyhow::Result<([Page; 2], u64, Duration)> {
        let deadline = Instant::now() + READY_MAX;
        while get(listen, "/readyz").is_none_or(|(status, _)| status != 200) {
            self.check()?;
            ensure!(Instant::now() < deadline, "it is not ready after {READY_MAX:?}");
            thread::sleep(Duration::from_millis(50));
        }
        let find = |number| Thread::find(self.child.id(), &format!("worker-{number}"));
        let workers = (0..setting.workers).map(find).collect::<anyhow::Result<Vec<_>>>()?;
        let spent = || workers.iter().map(Thread::cpu_ns).collect::<anyhow::Result<Vec<_>>>();
        thread::sleep(WARM_UP);
        let (before, from, start) = (page(listen)?, spent()?, Instant::now());
        thread::sleep(setting.window);
        let (after, elapsed) = (page(listen)?, start.elapsed());
        let cpu_ns: Vec<_> = spent()?.iter().zip(&from).map(|(to, from)| to - from).collect();
        ensure!(cpu_ns.iter().all(|&ns| ns > 0), "void: a worker had no CPU time: {cpu_ns:?}");
        Ok(([before, after], cpu_ns.iter().sum(), elapsed))
    }

    /// The id of its process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Whether it still runs.
    ///
    /// # Errors
    /// When it has ended.
    pub fn check(&mut self) -> anyhow::Result<()> {
        match self.child.try_wait()? {
            Some(status) => bail!("it ended with {status}"),
            None => Ok(()),
        }
    }

    /// Adds the end of its log to an error.
    ///
    /// # Errors
    /// That one.
    pub fn explain<T>(&self, result: anyhow::Result<T>) -> anyhow::Result<T> {
        result.with_context(|| tail(&self.log))
    }

    /// Ends it; gives what it says of its whole run.
    ///
    /// # Errors
    /// When it does not end, or ends with a failure; with the end of its log.
    pub fn stop(mut self) -> anyhow::Result<Totals> {
        let ended = self.end();
        self.explain(ended)?;
        Totals::read(&self.log)
    }

    fn end(&mut self) -> anyhow::Result<()> {
        let pid = self.child.id().to_string();
        ensure!(Command::new("kill").args(["-TERM", &pid]).status()?.success(), "kill failed");
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            match self.child.try_wait()? {
                Some(status) if status.success() => return Ok(()),
                Some(status) => bail!("it ended with {status}"),
                None => ensure!(Instant::now() < deadline, "it does not stop"),
            }
            thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn page(listen: SocketAddr) -> anyhow::Result<Page> {
    let (_, page) = get(listen, "/metrics").context("no metrics")?;
    Ok(Page(page))
}

fn get(listen: SocketAddr, path: &str) -> Option<(u16, String)> {
    let mut stream = TcpStream::connect_timeout(&listen, Duration::from_secs(1)).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(5))).ok()?;
    write!(stream, "GET {path} HTTP/1.1\r\nConnection: close\r\n\r\n").ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    let (head, body) = answer.split_once("\r\n\r\n")?;
    Some((head.split(' ').nth(1)?.parse().ok()?, body.to_owned()))
}

/// What the relay says of its whole run when it stops.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Totals {
    /// Frames that came in.
    pub received: u64,
    /// Packets that services forwarded; a tunnel's count twice, up and down.
    pub forwarded: u64,
    /// Frames that were sent.
    pub sent: u64,
    /// Frames that were dropped.
    pub dropped: u64,
}

impl Totals {
    fn read(log: &Path) -> anyhow::Result<Totals> {
        let text = fs::read_to_string(log)?;
        let line =
            text.lines().rev().find(|line| line.contains(" stopped ")).context("no totals")?;
        let value = |key: &str| {
            let word = line.split_ascii_whitespace().find_map(|word| word.strip_prefix(key));
            word.and_then(|word| word.parse().ok()).with_context(|| format!("no {key} in {line}"))
        };
        let (received, forwarded) = (value("received=")?, value("forwarded=")?);
        Ok(Totals { received, forwarded, sent: value("sent=")?, dropped: value("dropped=")? })
    }
}

fn tail(log: &Path) -> String {
    let text = fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<_> = text.lines().rev().take(5).collect();
    format!("its log ends with:\n{}", lines.into_iter().rev().collect::<Vec<_>>().join("\n"))
}

/// How long it may take to start: with a million packets it copies them all first.
const READY_MAX: Duration = Duration::from_secs(30);
