//! Fragments: reading them from any frame, and the reassembly table's decision on each.
//!
//! A sequence of fragments of a few datagrams of both families, with pauses between them, goes to a
//! table with small limits and to a slow [`twin`] that keeps every byte. After every step:
//!
//! - both decide the same, and count the same drops, each with its reason, at the same ports,
//! - frames and datagrams are within their bounds, in all and for each network, and the table
//!   counts as many as the twin,
//! - a datagram that is reported whole has all of its bytes, each once, from one sender's datagram.
//!
//! After the timeout all is forgotten, and as many datagrams fit as at first. The input is also
//! read as a frame, and compared with what `etherparse` reads.
//!
//! Input: limits 1, then for each step: what 1, datagram 1, offset 1, length 1, more 1, pause 1.

mod read;
mod twin;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use anyrelay_core::bucket::BucketHash;
use anyrelay_core::counters::Counters;
use anyrelay_core::fragment::{
    Admitted, Fragment, FragmentArrival, FragmentHash, FragmentLimits, ReassemblyTable, Waiting,
};
use anyrelay_core::keys::Secret;
use anyrelay_core::net::PortIndex;
use anyrelay_core::net::Side;
use anyrelay_core::time::Instant;
use anyrelay_core::verdict::DropReason;
use anyrelay_core::wire::ethernet::Ethernet;
use anyrelay_kit::frames::{FRAGMENT, Ipv4Header, Ipv6Header, fragment6, framed};

use twin::{Decision, Piece, Twin};

/// Runs one input.
pub fn run(input: &[u8]) {
    read::any_frame(input);
    let Some((&limits, mut rest)) = input.split_first() else { return };
    let mut both = Both::new(limits);
    while let Some((step, more)) = rest.split_first_chunk() {
        both.step(step);
        both.compare();
        rest = more;
    }
    both.settle();
}

/// The table and its twin.
struct Both {
    table: ReassemblyTable,
    counters: Counters,
    twin: Twin,
    now_ms: u64,
}

impl Both {
    fn new(choice: u8) -> Both {
        let pick = |shift: u8| usize::from(choice >> shift & 3);
        let limits = FragmentLimits {
            datagrams: [1, 2, 5, 16][pick(0)],
            per_datagram: [2, 3, 5, 8][pick(2)],
            buffers: [2, 4, 16, 64][pick(4)],
            timeout_ms: 100,
        };
        let frame_len_max = [600, 1518, 2048, 1 << 17][pick(6)];
        let secret = Secret::new([7; 32]);
        let (hash, networks) = (FragmentHash::new(&secret), BucketHash::new(&secret));
        Both {
            table: ReassemblyTable::new(limits, frame_len_max, hash.unwrap(), networks.unwrap()),
            counters: Counters::new([]),
            twin: Twin::new(limits, frame_len_max),
            now_ms: 0,
        }
    }

    fn step(&mut self, step: &[u8; 6]) {
        let [what, .., pause] = *step;
        self.now_ms += u64::from(pause & 0x7f) / 4;
        let now = Instant::from_millis(self.now_ms);
        if pause & 0x80 != 0 {
            self.table.expire(now, &self.counters);
            self.twin.expire(self.now_ms);
        }
        let piece = piece(step);
        let frame = frame(&piece);
        let read = Fragment::read(&Ethernet::parse(&frame).unwrap(), &frame);
        if piece.offset == 0 && !piece.more {
            assert_eq!(read, None, "a whole datagram is no fragment");
            return;
        }
        let fragment = read.unwrap().unwrap();
        read::same(&fragment, &piece);
        assert_eq!(fragment.key.src, source(&piece.key));
        if what & 7 == 7 {
            // The owner of the frames has no room for an admitted fragment.
            self.table.discard(&fragment.key, &self.counters);
            return self.twin.discard(piece.key);
        }
        let port = PortIndex(piece.port);
        let at = FragmentArrival { now, port, side: side(piece.port) };
        let admitted = self.table.admit(at, &fragment, &self.counters);
        match (admitted, self.twin.admit(self.now_ms, &piece)) {
            (Admitted::Waits, Decision::Waits) | (Admitted::Refused, Decision::Refused) => {}
            (Admitted::Completes(reassembled), Decision::Whole(whole)) => {
                assert_eq!(reassembled.port, PortIndex(whole.port));
                assert_eq!((reassembled.len, reassembled.fragments), (whole.len, whole.fragments));
                assert_eq!(reassembled.is_marked, whole.is_marked);
            }
            (admitted, decision) => panic!("{admitted:?}, not {decision:?}: {piece:?}"),
        }
    }

    /// Both say the same of themselves.
    fn compare(&self) {
        assert_eq!(self.table.kept(), self.twin.kept());
        assert!(self.table.kept() <= self.twin.limits.buffers as usize);
        assert_eq!(self.table.is_empty(), self.twin.is_empty());
        for (is_six, network) in [(false, 0), (false, 1), (true, 0), (true, 1)] {
            let key = twin::Key { is_six, network, id: 0, dst: 0 };
            let (datagrams, frames) = self.twin.waiting(key);
            let (datagrams, frames) = (datagrams as u32, frames as u32);
            assert_eq!(self.table.waiting_of(source(&key)), Waiting { datagrams, frames });
            let of_targets = self.twin.of_targets(key);
            assert!(of_targets || datagrams <= self.twin.limits.datagrams.div_ceil(4));
            assert!(of_targets || frames <= self.twin.limits.buffers.div_ceil(4));
        }
        for port in 0..PORTS {
            for &reason in DropReason::ALL {
                let (ours, twins) =
                    (self.counters.drops(PortIndex(port), reason), self.twin.drops(port, reason));
                assert_eq!(ours, twins, "drops with {reason:?} at {port}");
            }
        }
    }

    /// After its time all is forgotten and counted, and every place is free.
    fn settle(&mut self) {
        self.now_ms += u64::from(self.twin.limits.timeout_ms) + 1;
        self.table.expire(Instant::from_millis(self.now_ms), &self.counters);
        self.twin.expire(self.now_ms);
        self.compare();
        assert!(self.table.is_empty() && self.table.kept() == 0);
        assert_eq!(self.twin.admitted, self.twin.passed + self.twin.dropped(), "all are accounted");
        let (datagrams, buffers) = (self.twin.limits.datagrams, self.twin.limits.buffers);
        for id in 0..=datagrams.min(buffers) {
            let mut piece = piece(&[0, 0, 0, 4, 1, 0]);
            // Of a network each: one alone has a quarter.
            piece.key.network = id as u8;
            let frame = frame(&piece);
            let read = Fragment::read(&Ethernet::parse(&frame).unwrap(), &frame);
            let now = Instant::from_millis(self.now_ms);
            let at = FragmentArrival { now, port: PortIndex(0), side: side(0) };
            let admitted = self.table.admit(at, &read.unwrap().unwrap(), &self.counters);
            let has_room = id < datagrams.min(buffers);
            assert_eq!(admitted == Admitted::Waits, has_room, "{id} of {datagrams}");
        }
    }
}

/// Ports, two of which are on a side.
const PORTS: u8 = 3;

fn side(port: u8) -> Side {
    if port == 2 { Side::Target } else { Side::Client }
}

/// The fragment that a step speaks of.
fn piece(&[what, datagram, offset, len, more, _]: &[u8; 6]) -> Piece {
    let is_six = datagram & 1 != 0;
    let far = if datagram & 0x40 != 0 { 32 } else { 1 };
    Piece {
        key: twin::Key {
            is_six,
            network: datagram >> 7,
            id: u32::from(datagram >> 1 & 7),
            dst: datagram >> 4 & 1,
        },
        port: (what >> 3 & 3).min(PORTS - 1),
        protocol: if what >> 5 == 7 { 1 } else { 6 },
        offset: usize::from(offset) * 8 * far % (1 << 16),
        len: usize::from(len & 63) * 8 + usize::from(len >> 6),
        more: more & 1 != 0,
        ecn: more >> 1 & 3,
        // Most TCP headers are whole in the first fragment.
        header_words: if more & 0x80 != 0 { more >> 3 & 15 } else { 5 },
        has_options: !is_six && more & 0x40 != 0,
        is_tagged: datagram & 0x20 != 0,
    }
}

/// Where the datagram comes from: an address of an IPv4 /24 or an IPv6 /56.
fn source(&twin::Key { is_six, network, id, .. }: &twin::Key) -> IpAddr {
    // Senders of a network differ in their last byte, by the parity of what they send.
    let host = 1 + (id & 1) as u8;
    if is_six {
        Ipv6Addr::new(0x2001, 0xdb8, 0, u16::from(network) << 8, 0, 0, 0, host.into()).into()
    } else {
        Ipv4Addr::new(10, 0, network, host).into()
    }
}

/// Its frame.
fn frame(piece: &Piece) -> Vec<u8> {
    let mut payload = vec![0; piece.len];
    if let Some(byte) = payload.get_mut(12).filter(|_| piece.offset == 0) {
        *byte = piece.header_words << 4;
    }
    let (offset, host) = (piece.offset as u16, 8 + piece.key.dst);
    let datagram = match source(&piece.key) {
        IpAddr::V6(src) => {
            let dst = Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, host.into());
            let header = Ipv6Header::new(src.to_bits(), dst.to_bits());
            let (hop_limit, traffic_class) = (64, piece.ecn);
            let header = Ipv6Header { hop_limit, traffic_class, flow: 0, ..header };
            let rest = fragment6(piece.protocol, offset, piece.more, piece.key.id, &payload);
            header.after(FRAGMENT, &rest)
        }
        IpAddr::V4(src) => {
            let header = Ipv4Header {
                ttl: 64,
                tos: piece.ecn,
                id: piece.key.id as u16,
                fragment: offset >> 3 | u16::from(piece.more) << 13,
                protocol: piece.protocol,
                options: if piece.has_options { vec![1; 4] } else { Vec::new() },
                ..Ipv4Header::new(src.to_bits(), Ipv4Addr::new(10, 1, 0, host).to_bits())
            };
            header.with(&payload)
        }
    };
    framed([2; 6], [2; 6], piece.is_tagged.then_some(9), &datagram)
}
