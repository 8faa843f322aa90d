//! What `bench relay` measures, by name. Each work is an object of the result.

mod beside;
pub mod drops;
mod latency;
mod workers;

use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::{Map, Value, json};

use crate::config::Services;
use crate::packets::{self, MBUFS, MBUFS_MILLION, MILLION};
use crate::report::{self, Machine};

/// Measures the relay beside testpmd.
#[derive(Debug, Args)]
pub struct Arguments {
    #[command(flatten)]
    packets: packets::Arguments,
    /// What to measure: names of captures and works. `pool` is all captures of pool mode, `all` is
    /// everything.
    #[arg(long = "work", value_delimiter = ',', value_parser = NAMES, default_value = "pool")]
    works: Vec<String>,
    /// Where to draw the result, as PNG.
    #[arg(long)]
    pub plot: Option<PathBuf>,
}

impl Arguments {
    fn wants(&self, name: &str, in_pool: bool) -> bool {
        self.works.iter().any(|work| match work.as_str() {
            "all" => true,
            "pool" => in_pool,
            work => work == name,
        })
    }
}

/// A capture that is measured beside testpmd.
#[derive(Clone, Copy, Debug)]
pub struct Capture {
    /// Its key in the result, and the start of its files' names.
    pub key: &'static str,
    /// Its longest frame, in bytes.
    pub frame_bytes: u32,
    /// How many packets it has.
    pub packets: u32,
    /// What the relay serves.
    pub services: Services,
}

impl Capture {
    const fn new(key: &'static str, frame_bytes: u32, packets: u32, services: Services) -> Self {
        Capture { key, frame_bytes, packets, services }
    }

    /// Frame buffers of every program that loops over it.
    fn mbufs(&self) -> u32 {
        if self.packets >= MILLION { MBUFS_MILLION } else { MBUFS }
    }

    /// Whether `pool` means it too.
    fn in_pool(&self) -> bool {
        self.services == Services::Pool
    }
}

/// Makes all rounds of what was asked for; gives the result as JSON.
///
/// # Errors
/// When something does not run, or a run is void.
pub fn measure(
    arguments: &Arguments,
    folder: &Path,
    rounds: u32,
    commit: &str,
) -> anyhow::Result<Value> {
    let (mut relay, mut testpmd) = (Map::new(), Map::new());
    let (mut dpdk, mut results) = (String::new(), Vec::new());
    for capture in CAPTURES.iter().filter(|it| arguments.wants(it.key, it.in_pool())) {
        let measured = beside::measure(&arguments.packets, capture, folder, rounds)?;
        if let Some(round) = measured.0.last() {
            dpdk.clone_from(&round.relay.dpdk);
        }
        relay.insert(capture.key.to_owned(), report::of_relay(capture, &measured));
        testpmd.insert(capture.key.to_owned(), report::of_testpmd(&measured));
        results.push((*capture, measured));
    }
    report::print_table(&results);
    for (key, measure) in OTHERS {
        if arguments.wants(key, false) {
            relay.insert(key.to_owned(), measure(&arguments.packets, folder, rounds)?);
        }
    }
    Ok(json!({
        "schema": 1,
        "machine": Machine::here(&dpdk, commit)?.json(),
        "rounds": rounds,
        "relay": relay,
        "testpmd": testpmd,
    }))
}

type Measure = fn(&packets::Arguments, &Path, u32) -> anyhow::Result<Value>;

/// What is measured beside testpmd.
pub const CAPTURES: [Capture; 12] = [
    Capture::new("min_512", 66, 512, Services::Pool),
    Capture::new("1514_512", 1514, 512, Services::Pool),
    Capture::new("min_65536", 66, 65_536, Services::Pool),
    Capture::new("1514_65536", 1514, 65_536, Services::Pool),
    Capture::new("min_1000000", 66, MILLION, Services::Pool),
    Capture::new("services", 66, 512, Services::Many),
    Capture::new("prefix", 86, 512, Services::Prefix),
    Capture::new("transparent", 66, 512, Services::Transparent),
    Capture::new("transparent6", 86, 512, Services::Transparent6),
    Capture::new("pool6", 86, 512, Services::Pool6),
    Capture::new("ipip", 86, 512, Services::Ipip),
    Capture::new("gue", 98, 512, Services::Gue),
];

const OTHERS: [(&str, Measure); 3] =
    [("drops", drops::measure), ("workers", workers::measure), ("latency", latency::measure)];

const NAMES: [&str; 17] = [
    "pool",
    "all",
    "min_512",
    "1514_512",
    "min_65536",
    "1514_65536",
    "min_1000000",
    "services",
    "prefix",
    "transparent",
    "transparent6",
    "pool6",
    "ipip",
    "gue",
    "drops",
    "workers",
    "latency",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_work_can_be_named() {
        let works = CAPTURES.iter().map(|capture| capture.key).chain(OTHERS.map(|(key, _)| key));
        let names: Vec<_> = ["pool", "all"].into_iter().chain(works).collect();
        assert_eq!(names, NAMES);
    }

    #[test]
    fn groups_are_what_they_say() {
        let path = PathBuf::new();
        let packets = packets::Arguments {
            captures: path.clone(),
            anyrelay: path,
            seconds: 1,
            instructions: "auto".into(),
        };
        let works = vec!["pool".to_owned(), "workers".to_owned()];
        let arguments = Arguments { packets, works, plot: None };
        let wanted = CAPTURES.iter().filter(|it| arguments.wants(it.key, it.in_pool()));
        assert_eq!(wanted.count(), 5);
        assert!(arguments.wants("workers", false) && !arguments.wants("drops", false));
    }
}
