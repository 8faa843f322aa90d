//! Packet counts of the interfaces of a namespace.
//!
//! They are the kernel's own, so they count the same for a relay and for what it is compared with.
//! A few of the packets are ARP.

use std::collections::HashMap;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};

use crate::{Direction, LabError, Namespace, Result, Topology};

/// What one interface has received and sent since it was made.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Frames that came in.
    pub rx_packets: u64,
    /// Bytes that came in, Ethernet headers included.
    pub rx_bytes: u64,
    /// Frames sent.
    pub tx_packets: u64,
    /// Bytes sent, Ethernet headers included.
    pub tx_bytes: u64,
}

/// A reader of the counters of all interfaces of one namespace, usable from any thread.
#[derive(Debug)]
pub struct InterfaceCounters {
    file: File,
}

impl InterfaceCounters {
    /// Opens the counters of a namespace.
    ///
    /// # Errors
    /// If `/proc` cannot be read.
    pub fn open(namespace: &Namespace) -> Result<Self> {
        Ok(Self { file: namespace.open("/proc/thread-self/net/dev")? })
    }

    /// Reads all interfaces now, by name.
    ///
    /// # Errors
    /// If `/proc` cannot be read.
    pub fn read(&mut self) -> Result<HashMap<String, Traffic>> {
        let mut text = String::new();
        self.file
            .seek(SeekFrom::Start(0))
            .and_then(|_| self.file.read_to_string(&mut text))
            .map_err(LabError::io("read interface counters"))?;
        Ok(text.lines().filter_map(parse_line).collect())
    }
}

/// Packets per POP, in the order of the POPs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Carried {
    /// That came out of the POP towards the target.
    pub up: Vec<u64>,
    /// That came out of the POP towards the client.
    pub down: Vec<u64>,
}

impl Carried {
    /// What was carried since an earlier count.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        let minus = |now: &[u64], then: &[u64]| now.iter().zip(then).map(|(n, t)| n - t).collect();
        Self { up: minus(&self.up, &earlier.up), down: minus(&self.down, &earlier.down) }
    }

    /// The smallest share of the whole that any POP has in either direction, 0 to 1.
    #[must_use]
    pub fn smallest_share(&self) -> f64 {
        let share = |counts: &[u64]| {
            let whole = counts.iter().sum::<u64>().max(1) as f64;
            counts.iter().map(|n| *n as f64 / whole).fold(1.0, f64::min)
        };
        share(&self.up).min(share(&self.down))
    }
}

/// What goes into the POPs of a lab and comes out of them, as the routers around them see it.
#[derive(Debug)]
pub struct PopCounters {
    client_side: InterfaceCounters,
    target_side: InterfaceCounters,
    names: Vec<String>,
}

impl PopCounters {
    /// Opens the counters of both routers.
    ///
    /// # Errors
    /// If `/proc` cannot be read.
    pub fn open(topology: &Topology) -> Result<Self> {
        Ok(Self {
            client_side: InterfaceCounters::open(&topology.client_router)?,
            target_side: InterfaceCounters::open(&topology.target_router)?,
            names: (1..=topology.pops.len()).map(|n| format!("pop{n}")).collect(),
        })
    }

    /// What each POP has carried since the lab was built.
    ///
    /// # Errors
    /// If `/proc` cannot be read.
    pub fn carried(&mut self) -> Result<Carried> {
        let (client_side, target_side) = (self.client_side.read()?, self.target_side.read()?);
        let received = |side: &HashMap<String, Traffic>| -> Vec<u64> {
            let of = |name| side.get(name).map_or(0, |traffic: &Traffic| traffic.rx_packets);
            self.names.iter().map(of).collect()
        };
        Ok(Carried { up: received(&target_side), down: received(&client_side) })
    }

    /// Packets that the router of a direction has sent to a POP since the lab was built.
    ///
    /// # Errors
    /// If `/proc` cannot be read.
    pub fn arrived(&mut self, direction: Direction, pop: usize) -> Result<u64> {
        let counters = match direction {
            Direction::Up => self.client_side.read()?,
            Direction::Down => self.target_side.read()?,
        };
        let traffic = self.names.get(pop).and_then(|name| counters.get(name));
        Ok(traffic.map_or(0, |traffic| traffic.tx_packets))
    }
}

/// `name: rx_bytes rx_packets (6 more) tx_bytes tx_packets ...`, as of proc_net(5).
fn parse_line(line: &str) -> Option<(String, Traffic)> {
    let (name, numbers) = line.split_once(':')?;
    let n: Vec<u64> = numbers.split_whitespace().map_while(|word| word.parse().ok()).collect();
    let traffic = Traffic {
        rx_bytes: *n.first()?,
        rx_packets: *n.get(1)?,
        tx_bytes: *n.get(8)?,
        tx_packets: *n.get(9)?,
    };
    Some((name.trim().to_owned(), traffic))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn smallest_share_looks_at_both_directions() {
        let carried = Carried { up: vec![50, 50], down: vec![90, 10] };
        assert!((carried.smallest_share() - 0.1).abs() < 1e-9);
        let later = Carried { up: vec![60, 60], down: vec![90, 40] };
        assert_eq!(later.since(&carried), Carried { up: vec![10, 10], down: vec![0, 30] });
    }

    #[test]
    fn parses_a_line_of_proc_net_dev() {
        let line = "  wan: 1 2 0 0 0 0 0 0 9 10 0 0 0 0 0 0";
        let want = Traffic { rx_bytes: 1, rx_packets: 2, tx_bytes: 9, tx_packets: 10 };
        assert_eq!(parse_line(line), Some(("wan".to_owned(), want)));
        assert_eq!(parse_line(" face |bytes packets"), None);
    }
}
