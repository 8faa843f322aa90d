//! Runs of the relay.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use anyrelay_kit::config::{self, Egress, PopConfig, Table};

use crate::cpu::{self, Thread};
use crate::packets::{MBUFS, Setting, WARM_UP};
use crate::tunnel;

/// What one run of the relay gave.
#[derive(Clone, Debug)]
pub struct Measured {
    /// Millions of packets forwarded per CPU-second of the worker, while it was measured.
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
    let config = write_config(setting, Some(listen))?;
    let log = setting.folder.join("relay.log");
    let child = Command::new(setting.anyrelay)
        .arg("run")
        .arg("--config")
        .arg(config)
        .stdin(Stdio::null())
        .stderr(File::create(&log)?)
        .spawn()
        .with_context(|| setting.anyrelay.display().to_string())?;
    let mut relay = Relay { child, listen };
    let (pages, cpu_ns, elapsed) = relay.measure(setting).with_context(|| tail(&log))?;
    relay.stop().with_context(|| tail(&log))?;
    Ok(Observed { pages, cpu_ns, elapsed, totals: Totals::read(&log)? })
}

/// What one run of the relay showed.
#[derive(Debug)]
pub struct Observed {
    /// Its metrics before and after it was measured.
    pub pages: [Page; 2],
    /// The worker's time on its CPU between them.
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

    /// The same in millions per CPU-second of the worker.
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
    let config = write_config(setting, None)?;
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
struct Relay {
    child: Child,
    listen: SocketAddr,
}

impl Relay {
    fn measure(&mut self, setting: &Setting<'_>) -> anyhow::Result<([Page; 2], u64, Duration)> {
        let deadline = Instant::now() + Duration::from_secs(20);
        while self.get("/readyz").is_none_or(|(status, _)| status != 200) {
            if let Some(status) = self.child.try_wait()? {
                bail!("it ended with {status}");
            }
            ensure!(Instant::now() < deadline, "it is not ready after 20 s");
            thread::sleep(Duration::from_millis(50));
        }
        let worker = Thread::find(self.child.id(), "worker-0")?;
        thread::sleep(WARM_UP);
        let (before, cpu_ns, start) = (self.page()?, worker.cpu_ns()?, Instant::now());
        thread::sleep(setting.window);
        let (after, elapsed) = (self.page()?, start.elapsed());
        Ok(([before, after], worker.cpu_ns()? - cpu_ns, elapsed))
    }

    fn page(&self) -> anyhow::Result<Page> {
        let (_, page) = self.get("/metrics").context("no metrics")?;
        Ok(Page(page))
    }

    fn get(&self, path: &str) -> Option<(u16, String)> {
        let mut stream = TcpStream::connect_timeout(&self.listen, Duration::from_secs(1)).ok()?;
        stream.set_read_timeout(Some(Duration::from_secs(5))).ok()?;
        write!(stream, "GET {path} HTTP/1.1\r\nConnection: close\r\n\r\n").ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        let (head, body) = answer.split_once("\r\n\r\n")?;
        Some((head.split(' ').nth(1)?.parse().ok()?, body.to_owned()))
    }

    fn stop(&mut self) -> anyhow::Result<()> {
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

/// The relay's config and keys: those that captures.py goes by. Without `metrics` for `replay`.
fn write_config(
    setting: &Setting<'_>,
    metrics: Option<SocketAddr>,
) -> anyhow::Result<std::path::PathBuf> {
    let mut config = config(setting);
    if let Some(at) = metrics {
        let metrics = Table::default().with("listen", at.to_string());
        config.others.push(("metrics".to_owned(), metrics));
    }
    write_private(&setting.folder.join("keys.toml"), &keys())?;
    if setting.tunnel {
        let tenants = tunnel::tenants()?.serialize();
        write_private(&setting.folder.join("tenants.toml"), &tenants)?;
    }
    let path = setting.folder.join("pop.toml");
    fs::write(&path, config.text())?;
    Ok(path)
}

/// Writes a file that no other user can read, as secrets must be.
fn write_private(path: &Path, text: &str) -> std::io::Result<()> {
    let mut file =
        File::options().create(true).truncate(true).write(true).mode(0o600).open(path)?;
    file.write_all(text.as_bytes())
}

/// The relay's config without metrics; with tunnels, its ports have IPv6 too.
fn config(setting: &Setting<'_>) -> PopConfig {
    let (v4, v6) = (["10.0.1.2/24", "10.0.2.2/24"], ["2001:db8:1::2/64", "2001:db8:2::2/64"]);
    let families = if setting.tunnel { 2 } else { 1 };
    let of = |v4, v6| [v4, v6][..families].to_vec();
    let gateways = of("10.0.2.1", "2001:db8:2::1");
    let macs = of("02:00:00:00:0b:01", "02:00:00:00:0b:01");
    let input = setting.input.display();
    let receives = config::port("in", "both", &of(v4[0], v6[0]))
        .with("device", format!("net_pcap0,rx_pcap={input},infinite_rx=1"))
        .with("mac", "02:00:00:00:01:01");
    let sends = config::port("out", "both", &of(v4[1], v6[1]))
        .with("device", "net_null1,no-rx=1")
        .with("mac", "02:00:00:00:01:02")
        .with("gateways", gateways)
        .with("gateway_macs", macs);
    let dpdk = Table::default().with("hugepages", true).with("memory_mb", 512);
    let egress = Egress::Pool("100.64.8.0/24");
    let web = config::relay("web", "203.0.113.10:443", &["198.51.100.10:8443"], egress);
    let config = PopConfig::new("bench", 1, &[receives, sends])
        .set("drain_seconds", 0)
        .other("dpdk", dpdk.with("mbufs", MBUFS))
        .other("layout", Table::default().with("idle", "spin"))
        .relay(web.with("mss", 1448))
        .edit(|config| config.workers[0] = config::worker(setting.core, &["in:0", "out:0"]));
    if setting.tunnel { config.set("clock", "trusted").tunnel(tunnel::table()) } else { config }
}

/// The relay's key file.
pub fn keys() -> String {
    let secret: String = (0..32).map(|byte| format!("{byte:02x}")).collect();
    let (sequence, token) = ("11".repeat(32), "22".repeat(32));
    format!("relay = \"{secret}\"\nsequence = \"{sequence}\"\ntoken = \"{token}\"\n")
}
