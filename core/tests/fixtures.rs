//! The fixtures of `tests/fixtures` through the engine alone: every frame that must come out does,
//! byte for byte and in order, nothing else does, and all counters are right. Their truth was made
//! with scapy from `docs/protocol.md`; see `tests/fixtures/README.md`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyrelay_core::config::Config;
use anyrelay_core::counters::{Counters, Traffic};
use anyrelay_core::frame::HeapFrame;
use anyrelay_core::keys::{KeyFile, Tenants};
use anyrelay_core::net::{PortIndex, Towards};
use anyrelay_core::pop::BURST;
use anyrelay_core::snapshot::Snapshot;
use anyrelay_core::time::{Instant, Now, UnixTime};
use anyrelay_core::verdict::{AbsorbKind, DropReason, ReplyKind};
use anyrelay_kit::hex::hex;
use anyrelay_kit::pop::{Collector, RunningPop};
use anyrelay_kit::{config, pcap};
use serde_json::{Value, json};

/// Cases whose timers or neighbours make the moment of each frame matter.
const ONE_AT_A_TIME: [&str; 4] = ["neighbours", "on-link-client", "silent-gateway", "moved-target"];

const POLL_INTERVAL_NS: u64 = 100_000_000;
const NANOS_PER_SEC: u64 = 1_000_000_000;

struct Case {
    name: String,
    snapshot: Arc<Snapshot>,
    input: Vec<(u64, Vec<u8>)>,
    output: Vec<Vec<u8>>,
    counters: Value,
}

fn cases() -> Vec<Case> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures");
    let folders = fs::read_dir(root).unwrap().map(|entry| entry.unwrap().path());
    let mut folders: Vec<PathBuf> =
        folders.filter(|path| path.join("config.toml").exists()).collect();
    folders.sort();
    assert!(folders.len() >= 22, "only {} cases", folders.len());
    folders.iter().map(|folder| Case::load(folder)).collect()
}

impl Case {
    fn load(folder: &Path) -> Case {
        let name = folder.file_name().unwrap().to_string_lossy().into_owned();
        let text = |file| fs::read_to_string(folder.join(file)).unwrap();
        let config = Config::parse(&name, &text("config.toml")).unwrap();
        let keys = KeyFile::parse(&text("keys.toml")).unwrap();
        let tenants = match fs::read_to_string(folder.join("tenants.toml")) {
            Ok(text) => Tenants::parse(&text).unwrap(),
            Err(_) => Tenants::default(),
        };
        let snapshot = Arc::new(config::snapshot(&config, &keys, &tenants));
        let input = pcap::read(&fs::read(folder.join("in.pcap")).unwrap());
        let output = pcap::frames(&fs::read(folder.join("out.pcap")).unwrap());
        let counters = serde_json::from_str(&text("counters.json")).unwrap();
        Case { name, snapshot, input, output, counters }
    }

    /// The port that a frame is addressed to, else the first.
    fn port(&self, frame: &[u8]) -> PortIndex {
        let ports = &self.snapshot.config.ports;
        let to = ports.iter().position(|port| frame.starts_with(&port.mac.unwrap().octets()));
        PortIndex(to.unwrap_or(0) as u8)
    }

    /// Runs all frames, up to `burst` of the same port together, between which no second passes.
    fn run(&self, burst: usize) -> (Vec<Vec<u8>>, Value) {
        let mut pop = RunningPop::single(Arc::clone(&self.snapshot));
        let mut out = Collector::default();
        let (mut frames, mut port) = (Vec::new(), PortIndex(0));
        let (mut now, mut poll_at) = (Now::default(), 0);
        for (time, bytes) in &self.input {
            let is_later = now.instant.as_nanos() + NANOS_PER_SEC <= *time;
            let is_apart = port != self.port(bytes) || is_later;
            if frames.len() == burst || (!frames.is_empty() && is_apart) {
                pop.burst(now, 0, port, frames.drain(..), &mut out);
            }
            let unix = UnixTime::from_millis(*time / 1_000_000);
            now = Now { instant: Instant::from_nanos(*time), unix };
            if *time >= poll_at {
                poll_at = time + POLL_INTERVAL_NS;
                pop.poll(now, 0, &mut out);
            }
            port = self.port(bytes);
            pop.counters.port(port).rx.add(1, bytes.len() as u64);
            frames.push(HeapFrame::new(bytes));
        }
        pop.burst(now, 0, port, frames, &mut out);
        for (port, frame) in &out.sent {
            pop.counters.port(*port).tx.add(1, frame.len() as u64);
        }
        let frames = out.sent.into_iter().map(|(_, frame)| frame).collect();
        (frames, report(&self.snapshot, &pop.counters))
    }
}

fn report(snapshot: &Snapshot, counters: &Counters) -> Value {
    let traffic =
        |traffic: &Traffic| json!({"packets": traffic.packets.get(), "bytes": traffic.bytes.get()});
    let drops = |count: &dyn Fn(DropReason) -> u64| {
        non_zero(DropReason::ALL.iter().map(|&reason| (reason.label(), count(reason))))
    };
    let ports = (0..).map(PortIndex).zip(&snapshot.config.ports).map(|(index, port)| {
        let counts = counters.port(index);
        let drops = drops(&|reason| counters.drops(index, reason));
        let (rx, tx) = (traffic(&counts.rx), traffic(&counts.tx));
        (port.name.clone(), json!({"rx": rx, "tx": tx, "drops": drops}))
    });
    let services = snapshot.services().iter().map(|service| {
        let (name, slot) = (service.name(), service.slot());
        let counts = counters.service(slot);
        let drops = drops(&|reason| counters.service_drops(slot, reason));
        let (up, down) = (traffic(&counts.up), traffic(&counts.down));
        let raised = [("up", Towards::Targets), ("down", Towards::Clients)];
        let raised = raised.map(|(to, side)| (to, counts.raised_mtus(side).get()));
        let raised = non_zero(raised.into_iter());
        let counts = json!({"up": up, "down": down, "raised_mtus": raised, "drops": drops});
        (name.to_owned(), counts)
    });
    let replies = ReplyKind::ALL.iter().map(|&kind| (kind.label(), counters.replies(kind)));
    let withheld = ReplyKind::LIMITED.iter().map(|&kind| (kind.label(), counters.withheld(kind)));
    let absorbed = AbsorbKind::ALL.iter().map(|&kind| (kind.label(), counters.absorbed(kind)));
    json!({
        "ports": ports.collect::<BTreeMap<_, _>>(),
        "services": services.collect::<BTreeMap<_, _>>(),
        "replies": non_zero(replies),
        "withheld": non_zero(withheld),
        "absorbed": non_zero(absorbed),
    })
}

fn non_zero(counts: impl Iterator<Item = (&'static str, u64)>) -> BTreeMap<&'static str, u64> {
    counts.filter(|(_, count)| *count > 0).collect()
}

fn assert_equal_frames(name: &str, got: &[Vec<u8>], expected: &[Vec<u8>]) {
    for (number, (got, expected)) in got.iter().zip(expected).enumerate() {
        let number = number + 1;
        assert_eq!(hex(got), hex(expected), "{name}: frame {number} of out.pcap");
    }
    assert_eq!(got.len(), expected.len(), "{name}: number of frames");
}

#[test]
fn frames_and_counters_are_those_of_the_fixtures() {
    for case in cases() {
        let (frames, counters) = case.run(1);
        assert_equal_frames(&case.name, &frames, &case.output);
        assert_eq!(counters, case.counters, "{}: counters", case.name);
    }
}

#[test]
fn bursts_give_the_same() {
    let grouped = |case: &Case| !ONE_AT_A_TIME.contains(&case.name.as_str());
    for case in cases().into_iter().filter(grouped) {
        for burst in [2, 7, BURST] {
            let (frames, counters) = case.run(burst);
            assert_equal_frames(&case.name, &frames, &case.output);
            assert_eq!(counters, case.counters, "{}: counters at bursts of {burst}", case.name);
        }
    }
}

/// The fixtures reach every reason but those that only a driver, a full queue or a lack of memory
/// gives, those of tunnels between agents, and those of reassembly, which the core does not do.
#[test]
fn nearly_every_drop_reason_is_met() {
    use DropReason::*;
    let elsewhere = [NoTarget, NoRoute, NoRoom, NoBuffer, NotContiguous, EgressQueueFull, TxFull];
    let first_of_tunnels = RateSynAck as usize;
    let tunnels = &DropReason::ALL[first_of_tunnels..OpenSource as usize];
    let fragments = &DropReason::ALL[FragmentMalformed as usize..=FragmentQueueFull as usize];
    let mut met = BTreeMap::new();
    for case in cases() {
        for port in case.counters["ports"].as_object().unwrap().values() {
            met.extend(port["drops"].as_object().unwrap().clone());
        }
    }
    for reason in DropReason::ALL.iter().filter(|reason| {
        !elsewhere.contains(reason) && !tunnels.contains(reason) && !fragments.contains(reason)
    }) {
        assert!(met.contains_key(reason.label()), "no fixture has a drop for {reason}");
    }
}
