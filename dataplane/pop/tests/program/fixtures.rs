//! The fixtures of `tests/fixtures` through `anyrelay replay`, and through `anyrelay run` on DPDK's
//! net_pcap: exactly the expected frames are sent, and the counters are right.
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use crate::common::metrics::Metrics;
use crate::common::pcap::{capture, frames};
use crate::common::{Folder, Pop, anyrelay, free_address, stderr};
use anyrelay_core::verdict::{AbsorbKind, DropReason, ReplyKind};
use serde_json::{Value, json};

/// Cases that depend on the clock: the queries of ARP on the start of `run`, and the numbers of
/// tunnels on the time of the frames.
const NOT_RUN: [&str; 6] =
    ["neighbours", "on-link-client", "silent-gateway", "moved-target", "open", "open-limits"];

/// A case's folder and its counters.
struct Case {
    name: String,
    folder: PathBuf,
    counters: Value,
}

fn cases() -> Vec<Case> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures");
    let folders = fs::read_dir(root).unwrap().map(|entry| entry.unwrap().path());
    let mut cases: Vec<Case> =
        folders.filter(|path| path.join("config.toml").exists()).map(Case::load).collect();
    cases.sort_by(|a, b| a.name.cmp(&b.name));
    assert!(cases.len() >= 16, "only {} cases", cases.len());
    cases
}

impl Case {
    fn load(folder: PathBuf) -> Case {
        let name = folder.file_name().unwrap().to_string_lossy().into_owned();
        let counters = fs::read_to_string(folder.join("counters.json")).unwrap();
        Case { name, folder, counters: serde_json::from_str(&counters).unwrap() }
    }

    fn read(&self, name: &str) -> Vec<u8> {
        fs::read(self.folder.join(name)).unwrap()
    }

    /// Names and MACs of the ports, in the order of the config.
    fn ports(&self) -> Vec<(String, [u8; 6])> {
        let config = String::from_utf8(self.read("config.toml")).unwrap();
        let tables = config.split("[[port]]").skip(1);
        tables
            .map(|table| {
                let value = |key: &str| {
                    let line = table.lines().find_map(|line| line.strip_prefix(key)).unwrap();
                    line.trim_start_matches([' ', '=']).trim_matches('"').to_owned()
                };
                let mac = value("mac ");
                let bytes = mac.split(':').map(|byte| u8::from_str_radix(byte, 16).unwrap());
                (value("name "), bytes.collect::<Vec<_>>().try_into().unwrap())
            })
            .collect()
    }
}

#[test]
fn replay_gives_the_expected_frames_and_counters() {
    for case in cases() {
        let folder = Folder::new();
        let file = |name: &str| folder.path(name).to_str().unwrap().to_owned();
        let given = |name: &str| case.folder.join(name).to_str().unwrap().to_owned();
        let (out, counters) = (file("out.pcap"), file("counters.json"));
        let output = anyrelay(
            &[
                &["replay", "--config", &given("config.toml"), "--in", &given("in.pcap")][..],
                &["--out", &out, "--counters", &counters],
            ]
            .concat(),
        );
        assert!(output.status.success(), "{}: {}", case.name, stderr(&output));
        // Times are equal too, so whole files are.
        let same = fs::read(&out).unwrap() == case.read("out.pcap");
        assert!(same, "{}: out.pcap differs", case.name);
        let counters: Value = serde_json::from_slice(&fs::read(counters).unwrap()).unwrap();
        assert_eq!(counters, case.counters, "{}", case.name);
    }
}

#[test]
fn run_gives_the_expected_frames_and_counters() {
    for case in cases() {
        if !NOT_RUN.contains(&case.name.as_str()) {
            run(&case);
        }
    }
}

fn run(case: &Case) {
    let folder = Folder::new();
    let ports = case.ports();
    let input = frames(&case.read("in.pcap"));
    let port_of = |frame: &[u8]| ports.iter().position(|(_, mac)| frame.starts_with(mac));
    for (number, (name, _)) in ports.iter().enumerate() {
        let mine = |frame: &&Vec<u8>| port_of(frame).unwrap_or(0) == number;
        let frames: Vec<_> = input.iter().filter(mine).cloned().collect();
        folder.write(&format!("{name}.in.pcap"), capture(&frames));
    }
    let metrics = free_address();
    let mut config = String::from_utf8(case.read("config.toml")).unwrap();
    for (name, _) in &ports {
        for file in [format!("{name}.in.pcap"), format!("{name}.out.pcap")] {
            config = config.replace(&file, folder.path(&file).to_str().unwrap());
        }
    }
    config += &format!("[metrics]\nlisten = \"{metrics}\"\n");
    folder.write_private("keys.toml", case.read("keys.toml"));
    let config = folder.write("config.toml", config);

    let mut pop = Pop::start(&config, metrics, &[]);
    pop.wait_for_frames(input.len());
    let page = pop.metrics();
    pop.stop();

    assert_eq!(counters(&page, &case.counters), case.counters, "{}", case.name);
    let expected = frames(&case.read("out.pcap"));
    for (name, mac) in &ports {
        let sent_by = |frame: &&Vec<u8>| frame.get(6..12) == Some(mac);
        let mut expected: Vec<_> =
            expected.iter().filter(sent_by).map(|frame| hex(frame)).collect();
        let out = fs::read(folder.path(&format!("{name}.out.pcap"))).unwrap();
        let mut sent: Vec<_> = frames(&out).iter().map(|frame| hex(frame)).collect();
        if ports.len() > 1 {
            // The order of ports is not determined.
            expected.sort();
            sent.sort();
        }
        assert_eq!(sent, expected, "{}: frames out of port {name}", case.name);
    }
}

/// The metrics of a page in the form of `expected`, which has all ports and services.
fn counters(page: &Metrics, expected: &Value) -> Value {
    let names = |key: &str| expected[key].as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    let traffic = |of: &str, key: &str, name: &str, direction: &str| {
        let labels = [(key, name), ("direction", direction)];
        let sum = |what: &str| page.sum(&format!("anyrelay_{of}_{what}_total"), &labels);
        json!({"packets": sum("packets"), "bytes": sum("bytes")})
    };
    let ports = names("ports").into_iter().map(|name| {
        let drops = drops(page, "anyrelay_drops_total", ("port", &name));
        let (rx, tx) = (traffic("port", "port", &name, "rx"), traffic("port", "port", &name, "tx"));
        (name, json!({"rx": rx, "tx": tx, "drops": drops}))
    });
    let services = names("services").into_iter().map(|name| {
        let drops = drops(page, "anyrelay_service_drops_total", ("service", &name));
        let direction = |direction| traffic("service", "service", &name, direction);
        let (up, down) = (direction("up"), direction("down"));
        let raised = ["up", "down"].map(|direction| {
            let labels = [("service", &name[..]), ("direction", direction)];
            (direction, page.sum("anyrelay_icmp_mtu_raised_total", &labels))
        });
        let raised = non_zero(raised.into_iter());
        (name, json!({"up": up, "down": down, "raised_mtus": raised, "drops": drops}))
    });
    let replies = ReplyKind::ALL.iter().map(|kind| kind.label());
    let limited = ReplyKind::LIMITED.iter().map(|kind| kind.label());
    let absorbed = AbsorbKind::ALL.iter().map(|kind| kind.label());
    let kinds = |name: &str, kind: &'static str| (kind, page.sum(name, &[("kind", kind)]));
    json!({
        "ports": ports.collect::<BTreeMap<_, _>>(),
        "services": services.collect::<BTreeMap<_, _>>(),
        "replies": non_zero(replies.map(|kind| kinds("anyrelay_replies_total", kind))),
        "withheld": non_zero(limited.map(|kind| kinds("anyrelay_replies_withheld_total", kind))),
        "absorbed": non_zero(absorbed.map(|kind| kinds("anyrelay_absorbed_total", kind))),
    })
}

/// The values of a metric of drops for each reason at `place`.
fn drops(page: &Metrics, name: &str, place: (&str, &str)) -> BTreeMap<&'static str, u64> {
    let reasons = DropReason::ALL.iter().map(|reason| reason.label());
    non_zero(reasons.map(|reason| (reason, page.sum(name, &[place, ("reason", reason)]))))
}

fn non_zero(counts: impl Iterator<Item = (&'static str, u64)>) -> BTreeMap<&'static str, u64> {
    counts.filter(|(_, count)| *count > 0).collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
