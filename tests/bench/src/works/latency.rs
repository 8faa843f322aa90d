//! The latency that a POP adds, to single frames that arrive when it is idle.
//!
//! ```text
//! bench -- a0 ===veth=== a1 -- way -- b1 ===veth=== b0 -- bench
//! ```
//!
//! The bench sends a frame at `a0` and polls for it at `b0`, one at a time, with pauses of random
//! length between them, and takes the time with one clock. The ways between `a1` and `b1` are in
//! turn: the kernel, which redirects frames as they arrive (`cable`); testpmd in the mode io, on
//! packet sockets; and the relay on packet sockets, for both values of `layout.idle`. What the POP
//! adds is the difference of its quantiles to those of `cable`: packet sockets and the system calls
//! of sending are in it, which testpmd shows. A run is void when a frame is lost, or is not what
//! the relay must make of it.

use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use anyrelay_kit::config::Table;
use anyrelay_kit::pcap;
use anyrelay_kit::rng::Rng;
use anyrelay_lab::packet::{MAX_FRAME_BYTES, PacketSocket};
use anyrelay_lab::{Namespace, command, link, registry};
use serde_json::{Map, Value, json};

use crate::config;
use crate::cpu::Thread;
use crate::packets::{Arguments, Setting};
use crate::relay::Relay;
use crate::stats::rounded;
use crate::testpmd::{self, Testpmd};

/// What carries frames from `a1` to `b1`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Cable,
    Testpmd,
    Relay(&'static str),
}

const WAYS: [(&str, Way); 4] = [
    ("cable", Way::Cable),
    ("testpmd_io", Way::Testpmd),
    ("spin", Way::Relay("spin")),
    ("backoff", Way::Relay("backoff")),
];

/// Makes all rounds; gives the result as JSON.
///
/// # Errors
/// When something does not run, or a run is void.
pub fn measure(arguments: &Arguments, folder: &Path, rounds: u32) -> anyhow::Result<Value> {
    let input = arguments.capture("min_512", "in");
    let setting = Setting { mbufs: FEW_MBUFS, ..arguments.setting(&input, folder)? };
    let output = arguments.capture("min_512", "out");
    let (same, relayed) = (Frames::read(&input, &input)?, Frames::read(&input, &output)?);
    let wires = Wires::new()?;
    let mut runs = WAYS.map(|_| Run::default());
    for number in 1..=rounds {
        for ((key, way), run) in WAYS.iter().zip(&mut runs) {
            let frames = if matches!(way, Way::Relay(_)) { &relayed } else { &same };
            let found = wires.run(&setting, *way, frames).context(*key)?;
            let quantiles = Quantiles::of(&found.samples);
            eprintln!("latency round {number}, {key}: {quantiles}");
            run.add(found);
        }
    }
    Ok(result(&runs))
}

fn result(runs: &[Run; 4]) -> Value {
    let quantiles = runs.each_ref().map(|run| Quantiles::of(&run.samples));
    let cable = quantiles[0];
    let mut result = Map::new();
    println!("latency of single frames, p50 / p99 / p99.9; added: less that of the cable");
    for (((key, way), of_way), run) in WAYS.iter().zip(&quantiles).zip(runs) {
        let mut json = of_way.json("");
        print!("  {key:<11} {of_way}");
        if *way != Way::Cable {
            let added = of_way.less(&cable);
            print!(", added {added}");
            json.extend(added.json("added_"));
        }
        let waited = run.waited_share();
        println!("{}", if waited > BUSY { ": others had its CPU" } else { "" });
        json.insert("waited_share".to_owned(), rounded(waited).into());
        json.insert("samples".to_owned(), of_way.count.into());
        result.insert((*key).to_owned(), json.into());
    }
    json!(result)
}

/// What was seen of a way.
#[derive(Debug, Default)]
struct Run {
    /// How long each frame took.
    samples: Vec<Duration>,
    /// How long it was measured.
    elapsed: Duration,
    /// For how long of that the bench, or the thread that forwards, could have run but did not.
    waited: Duration,
}

impl Run {
    fn add(&mut self, other: Run) {
        self.samples.extend(other.samples);
        self.elapsed += other.elapsed;
        self.waited += other.waited;
    }

    /// Both threads together.
    fn waited_share(&self) -> f64 {
        self.waited.as_secs_f64() / self.elapsed.as_secs_f64().max(f64::MIN_POSITIVE)
    }
}

/// The frames that are sent, and what must arrive of each.
struct Frames(Vec<(Vec<u8>, Vec<u8>)>);

impl Frames {
    fn read(input: &Path, expected: &Path) -> anyhow::Result<Frames> {
        let read = |path: &Path| -> anyhow::Result<Vec<Vec<u8>>> {
            let file = std::fs::read(path).with_context(|| path.display().to_string())?;
            Ok(pcap::frames(&file))
        };
        Ok(Frames(read(input)?.into_iter().zip(read(expected)?).collect()))
    }
}

/// A namespace with both links.
struct Wires {
    space: Namespace,
    near: PacketSocket,
    far: PacketSocket,
}

impl Wires {
    fn new() -> anyhow::Result<Wires> {
        registry::prepare()?;
        let space = Namespace::create(&registry::new_lab_id())?;
        link::connect((&space, "a0"), (&space, "a1"), 1500)?;
        link::connect((&space, "b0"), (&space, "b1"), 1500)?;
        let near = PacketSocket::open(&space, "a0")?;
        let far = PacketSocket::open(&space, "b0")?;
        Ok(Wires { space, near, far })
    }

    /// Sends frames for as long as the setting says; gives how long each took.
    fn run(&self, setting: &Setting<'_>, way: Way, frames: &Frames) -> anyhow::Result<Run> {
        match way {
            Way::Cable => {
                self.tc(&["qdisc", "add", "dev", "a1", "ingress"])?;
                let filter = ["filter", "add", "dev", "a1", "ingress", "protocol", "all", "u32"];
                let action = ["action", "mirred", "egress", "redirect", "dev", "b1"];
                self.tc(&[&filter[..], &["match", "u32", "0", "0"], &action].concat())?;
                let found = self.send(setting, frames, None, || Ok(()));
                self.tc(&["qdisc", "del", "dev", "a1", "ingress"])?;
                found
            }
            Way::Testpmd => {
                let [near, far] = [device(0, "a1"), device(1, "b1")];
                let command = self.space.command("stdbuf");
                let mut testpmd = Testpmd::start(command, [&near, &far], setting, "io")?;
                let worker = Some((testpmd.pid(), testpmd::WORKER));
                let found = self.send(setting, frames, worker, || Ok(()))?;
                testpmd.quit()?;
                Ok(found)
            }
            Way::Relay(idle) => {
                let config = self.config(setting, idle)?;
                let command = self.space.command(setting.anyrelay);
                let mut relay = Relay::start(command, setting.folder, &config)?;
                let worker = Some((relay.pid(), "worker-0"));
                let found = self.send(setting, frames, worker, || relay.check());
                let found = relay.explain(found)?;
                relay.stop()?;
                Ok(found)
            }
        }
    }

    fn tc(&self, arguments: &[&str]) -> anyhow::Result<()> {
        command::run(self.space.command("tc").args(arguments))?;
        Ok(())
    }

    /// The relay of the captures on packet sockets.
    fn config(&self, setting: &Setting<'_>, idle: &str) -> anyhow::Result<PathBuf> {
        let config = config::pop(setting)
            .setting("in", "device", device(0, "a1"))
            .setting("out", "device", device(1, "b1"))
            .edit(|config| {
                config.others.retain(|(name, _)| name != "layout");
            })
            .other("layout", Table::default().with("idle", idle));
        config::write(setting.folder, config, None)
    }

    /// Sends frames one by one, after the first has arrived at last. `worker` is the thread that
    /// forwards, of which process.
    fn send(
        &self,
        setting: &Setting<'_>,
        frames: &Frames,
        worker: Option<(u32, &str)>,
        mut check: impl FnMut() -> anyhow::Result<()>,
    ) -> anyhow::Result<Run> {
        let (first, expected) = frames.0.first().context("an empty capture")?;
        let deadline = Instant::now() + READY_MAX;
        while self.carry(first, expected)?.is_none() {
            check()?;
            ensure!(Instant::now() < deadline, "nothing arrives after {READY_MAX:?}");
        }
        // Copies of the first that were still waiting.
        thread::sleep(Duration::from_millis(300));
        while self.far.receive(&mut [0; MAX_FRAME_BYTES]).is_some() {}
        let mut threads = Thread::all(std::process::id(), None)?;
        // The first is this one.
        threads.truncate(1);
        if let Some((pid, name)) = worker {
            threads.push(Thread::find(pid, name)?);
        }
        let waited = || threads.iter().map(Thread::waited_ns).sum::<anyhow::Result<u64>>();
        let mut rng = Rng(1);
        let mut samples = Vec::new();
        let (start, before) = (Instant::now(), waited()?);
        let end = start + setting.window;
        for (frame, expected) in frames.0.iter().cycle() {
            if Instant::now() >= end {
                break;
            }
            thread::sleep(Duration::from_micros(rng.below(PAUSE_MAX_US)));
            let taken = self.carry(frame, expected)?;
            samples.push(taken.context("void: a frame was lost")?);
        }
        check()?;
        let waited = Duration::from_nanos(waited()? - before);
        Ok(Run { samples, elapsed: start.elapsed(), waited })
    }

    /// How long a frame takes; `None` if it does not arrive.
    fn carry(&self, frame: &[u8], expected: &[u8]) -> anyhow::Result<Option<Duration>> {
        let mut buffer = [0; MAX_FRAME_BYTES];
        let start = Instant::now();
        ensure!(self.near.send(frame), "a0 does not take a frame");
        loop {
            let received = self.far.receive(&mut buffer);
            let taken = start.elapsed();
            match received {
                Some(received) if *received == *expected => return Ok(Some(taken)),
                // The relay's own questions to its neighbours.
                Some(received) if received.get(12..14) == Some(&ARP) => {}
                Some(received) => bail!("void: {received:02x?} arrived, not {expected:02x?}"),
                None if taken > LOST_AFTER => return Ok(None),
                None => {}
            }
        }
    }
}

/// A device of DPDK on an interface, as it is in the guide.
fn device(number: u32, interface: &str) -> String {
    format!("net_af_packet{number},iface={interface},framecnt=4096,qdisc_bypass=1")
}

/// Quantiles in microseconds.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Quantiles {
    p50: f64,
    p99: f64,
    /// `None` with too few samples.
    p999: Option<f64>,
    count: usize,
}

impl Quantiles {
    fn of(samples: &[Duration]) -> Quantiles {
        let mut samples = samples.to_vec();
        samples.sort();
        let count = samples.len();
        // The smallest sample that as many are not above.
        let at = |share: f64| {
            let index = ((count as f64 * share).ceil() as usize).max(1) - 1;
            samples.get(index).copied().unwrap_or_default().as_nanos() as f64 / 1e3
        };
        let p999 = (count >= FOR_P999).then(|| at(0.999));
        Quantiles { p50: at(0.5), p99: at(0.99), p999, count }
    }

    fn less(&self, other: &Quantiles) -> Quantiles {
        let p999 = self.p999.zip(other.p999).map(|(own, other)| own - other);
        Quantiles { p50: self.p50 - other.p50, p99: self.p99 - other.p99, p999, ..*self }
    }

    fn json(&self, start: &str) -> Map<String, Value> {
        let of = |key: &str, value: Value| (format!("{start}{key}_us"), value);
        let (p50, p99) = (rounded(self.p50).into(), rounded(self.p99).into());
        [of("p50", p50), of("p99", p99), of("p999", self.p999.map(rounded).into())]
            .into_iter()
            .collect()
    }
}

impl std::fmt::Display for Quantiles {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:.1} / {:.1} / ", self.p50, self.p99)?;
        match self.p999 {
            Some(p999) => write!(f, "{p999:.1} us"),
            None => write!(f, "- us"),
        }
    }
}

/// Uniform between 0 and this, so that a POP which backs off is met at all depths of its sleep.
const PAUSE_MAX_US: u64 = 8000;
const LOST_AFTER: Duration = Duration::from_millis(200);
const READY_MAX: Duration = Duration::from_secs(20);
/// Samples without which there is no p99.9.
const FOR_P999: usize = 1000;
/// Frame buffers: no capture fills them here.
const FEW_MBUFS: u32 = 16_384;
/// The share of the time from which on it is said that the machine was busy.
const BUSY: f64 = 0.01;
const ARP: [u8; 2] = [8, 6];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_samples() {
        let samples: Vec<_> = (1..=1000).map(Duration::from_micros).collect();
        let of_all = Quantiles::of(&samples);
        assert_eq!((of_all.p50, of_all.p99, of_all.p999), (500.0, 990.0, Some(999.0)));
        let few = Quantiles::of(&samples[..10]);
        assert_eq!((few.p50, few.p99, few.p999), (5.0, 10.0, None));
        let added = of_all.less(&few);
        assert_eq!((added.p50, added.p99, added.p999), (495.0, 980.0, None));
        assert_eq!(added.json("added_")["added_p50_us"], 495.0);
    }
}
