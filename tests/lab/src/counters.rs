//! Packet counts of the interfaces of a namespace.
//!
//! They are the kernel's own, so they count the same for a relay and for what it is compared with.

use std::collections::HashMap;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};

use crate::{LabError, Namespace, Result};

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
    fn parses_a_line_of_proc_net_dev() {
        let line = "  wan: 1 2 0 0 0 0 0 0 9 10 0 0 0 0 0 0";
        let want = Traffic { rx_bytes: 1, rx_packets: 2, tx_bytes: 9, tx_packets: 10 };
        assert_eq!(parse_line(line), Some(("wan".to_owned(), want)));
        assert_eq!(parse_line(" face |bytes packets"), None);
    }
}
