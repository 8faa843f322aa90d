//! Fragments one by one, and the decisions of the table on them.

use crate::verdict::DropReason;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use proptest::prelude::*;

use super::*;
use crate::bucket::BucketHash;
use crate::counters::Counters;
use crate::frame::Frame;
use crate::frame::HeapFrame;
use crate::keys::Secret;
use crate::net::{PortIndex, Side};
use crate::time::Instant;
use crate::wire::ethernet::Ethernet;
use crate::wire::ipv4::{self, Ipv4};
use crate::wire::{ipv6, put_u16};

mod hash;
mod header;
mod read;
mod reference;
mod shares;
mod table;

const LIMITS: FragmentLimits =
    FragmentLimits { datagrams: 16, per_datagram: 8, buffers: 64, timeout_ms: 100 };

fn table(limits: FragmentLimits) -> ReassemblyTable {
    let secret = Secret::new([7; 32]);
    let (hash, networks) = (FragmentHash::new(&secret), BucketHash::new(&secret));
    ReassemblyTable::new(limits, 2048, hash.unwrap(), networks.unwrap())
}

/// The IPv4 fragment `from..to` of the datagram `id` with that protocol, as a frame.
fn ipv4_frame(id: u16, protocol: u8, from: usize, to: usize, more: bool) -> Vec<u8> {
    let mut frame = vec![2; 12];
    frame.extend([8, 0]);
    let (total_len, word) = ((20 + to - from) as u16, (from / 8) as u16);
    let mut header = [0; 20];
    let fragment = word | if more { ipv4::MORE_FRAGMENTS } else { 0 };
    let (src, dst) = (0x0a00_0001, 0x0a00_0002);
    ipv4::Header { total_len, id, fragment, protocol, src, dst, ..ipv4::ORIGINATED }
        .write(&mut header);
    frame.extend(header);
    // Payload whose thirteenth byte reads as a TCP header of 20 bytes.
    frame.extend((from..to).map(|_| 0x50));
    frame
}

fn ipv6_frame(id: u32, from: usize, to: usize, more: bool) -> Vec<u8> {
    let mut frame = vec![2; 12];
    frame.extend([0x86, 0xdd]);
    let mut datagram = vec![0; 48];
    let (src, dst) = (0x2001 << 112 | 1, 0x2001 << 112 | 2);
    ipv6::Header {
        payload_len: (8 + to - from) as u16,
        next_header: ipv6::PROTOCOL_FRAGMENT,
        src,
        dst,
        ..ipv6::ORIGINATED
    }
    .write(&mut datagram);
    let header =
        ipv6::FragmentHeader { at: 40, next_header_at: 6, next_header: 6, offset: from, more, id };
    header.write(&mut datagram);
    datagram.extend((from..to).map(|_| 0x50));
    frame.extend(datagram);
    frame
}

fn read(frame: &[u8]) -> Option<Result<Fragment, DropReason>> {
    Fragment::read(&Ethernet::parse(frame).unwrap(), frame)
}

fn ipv4(id: u16, from: usize, to: usize, more: bool) -> Fragment {
    read(&ipv4_frame(id, 6, from, to, more)).unwrap().unwrap()
}

/// A fragment of some host of the network 10.1.`network`.0/24.
fn of_network(network: u8, id: u16, from: usize, to: usize, more: bool) -> Fragment {
    let fragment = ipv4(id, from, to, more);
    let src = Ipv4Addr::new(10, 1, network, id as u8).into();
    Fragment { key: DatagramKey { src, ..fragment.key }, ..fragment }
}

/// A table with its counters and a clock in milliseconds.
struct Clocked {
    table: ReassemblyTable,
    counters: Counters,
    now: u64,
}

impl Clocked {
    fn new(limits: FragmentLimits) -> Clocked {
        Clocked { table: table(limits), counters: Counters::new([]), now: 0 }
    }

    fn admit(&mut self, fragment: &Fragment) -> Admitted {
        self.admit_at(Side::Client, fragment)
    }

    fn admit_at(&mut self, side: Side, fragment: &Fragment) -> Admitted {
        self.admit_through(PortIndex(1), side, fragment)
    }

    fn admit_through(&mut self, port: PortIndex, side: Side, fragment: &Fragment) -> Admitted {
        let at = FragmentArrival { now: Instant::from_millis(self.now), port, side };
        self.table.admit(at, fragment, &self.counters)
    }

    fn expire(&mut self) {
        self.table.expire(Instant::from_millis(self.now), &self.counters);
    }

    fn drops(&self, reason: DropReason) -> u64 {
        self.counters.drops(PortIndex(1), reason)
    }

    fn all_drops(&self) -> u64 {
        DropReason::ALL.iter().map(|&reason| self.drops(reason)).sum()
    }
}
