//! Runs of DPDK's testpmd, the peer: the same ports, capture, number of buffers and burst.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};

use crate::cpu::{self, Thread};
use crate::packets::{BURST, Setting, WARM_UP};

/// Millions of packets sent per CPU-second of the forwarding thread, in the forward mode `mode`.
///
/// # Errors
/// When it does not run or says nothing.
pub fn run(setting: &Setting<'_>, mode: &str) -> anyhow::Result<f64> {
    let input = setting.input.display();
    let devices = [&format!("net_pcap0,rx_pcap={input},infinite_rx=1"), "net_null1,no-rx=1"];
    let mut testpmd = Testpmd::start(Command::new("stdbuf"), devices, setting, mode)?;
    let rate = testpmd.measure(setting)?;
    testpmd.quit()?;
    Ok(rate)
}

/// A running testpmd; it is killed when dropped.
pub struct Testpmd {
    child: Child,
    stdin: ChildStdin,
    lines: Receiver<String>,
}

impl Testpmd {
    /// Runs it with two devices between which it forwards. `command` is stdbuf(1), wherever it is
    /// to run: into a pipe testpmd would keep its answers until a buffer is full.
    ///
    /// # Errors
    /// When it does not run or says nothing.
    pub fn start(
        mut command: Command,
        devices: [&str; 2],
        setting: &Setting<'_>,
        mode: &str,
    ) -> anyhow::Result<Testpmd> {
        // It becomes testpmd.
        command
            .args(["-oL", "dpdk-testpmd", "--lcores", &format!("0@0,1@{}", setting.core)])
            .args(["--in-memory", "--no-pci", &format!("--vdev={}", devices[0])])
            .args([&format!("--vdev={}", devices[1]), "--", "--interactive", "--nb-cores=1"])
            .arg(format!("--total-num-mbufs={}", setting.mbufs))
            .args([format!("--forward-mode={mode}"), format!("--burst={BURST}")])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null());
        let mut child = command.spawn().context("dpdk-testpmd (Debian's package dpdk-dev)")?;
        let stdin = child.stdin.take().context("no stdin")?;
        let stdout = child.stdout.take().context("no stdout")?;
        let (sender, lines) = channel();
        thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        let mut testpmd = Testpmd { child, stdin, lines };
        writeln!(testpmd.stdin, "start")?;
        // It answers when its ports are up.
        testpmd.sent()?;
        Ok(testpmd)
    }

    fn measure(&mut self, setting: &Setting<'_>) -> anyhow::Result<f64> {
        let worker = Thread::find(self.pid(), WORKER)?;
        thread::sleep(WARM_UP);
        let (sent, cpu_ns) = (self.sent()?, worker.cpu_ns()?);
        thread::sleep(setting.window);
        let (sent, cpu_ns) = (self.sent()? - sent, worker.cpu_ns()? - cpu_ns);
        ensure!(sent > 0, "it forwards nothing");
        Ok(cpu::rate(sent, cpu_ns))
    }

    /// Packets sent until now.
    fn sent(&mut self) -> anyhow::Result<u64> {
        writeln!(self.stdin, "show port stats 1")?;
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let line = self.lines.recv_timeout(left).context("it gives no statistics")?;
            let Some(rest) = line.trim_start().strip_prefix("TX-packets:") else { continue };
            let count = rest.split_ascii_whitespace().next().context("no count")?;
            return count.parse().with_context(|| line.clone());
        }
    }

    /// The id of its process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Ends it.
    ///
    /// # Errors
    /// When it does not end.
    pub fn quit(&mut self) -> anyhow::Result<()> {
        writeln!(self.stdin, "quit")?;
        let deadline = Instant::now() + Duration::from_secs(20);
        while self.child.try_wait()?.is_none() {
            ensure!(Instant::now() < deadline, "it does not quit");
            thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }
}

impl Drop for Testpmd {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The name of its forwarding thread.
pub const WORKER: &str = "rte-worker-1";
