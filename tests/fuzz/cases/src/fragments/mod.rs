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
    Admitted, Arrival, Fragment, FragmentHash, FragmentLimits, ReassemblyTable, Waiting,
};
use anyrelay_core::keys::Secret;
use anyrelay_core::net::PortIndex;
use anyrelay_core::net::Side;
use anyrelay_core::time::Instant;
use anyrelay_core::verdict::DropReason;
use anyrelay_core::wire::ethernet::Ethernet;

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
            counters: Counters::default(),
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
        let at = Arrival { now, port, side: side(piece.port) };
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
            let at = Arrival { now, port: PortIndex(0), side: side(0) };
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

/// Its frame, written by hand.
fn frame(piece: &Piece) -> Vec<u8> {
    let mut payload = vec![0; piece.len];
    if let Some(byte) = payload.get_mut(12).filter(|_| piece.offset == 0) {
        *byte = piece.header_words << 4;
    }
    let mut frame = vec![2; 12];
    if piece.is_tagged {
        frame.extend([0x81, 0x00, 0, 9]);
    }
    let word = piece.offset as u16;
    if piece.key.is_six {
        frame.extend([0x86, 0xdd, 0x60, piece.ecn << 4, 0, 0]);
        frame.extend((8 + piece.len as u16).to_be_bytes());
        frame.extend([44, 64]);
        let dst = Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, (8 + piece.key.dst).into());
        let IpAddr::V6(src) = source(&piece.key) else { unreachable!("IPv6") };
        [src, dst].iter().for_each(|ip| frame.extend(ip.octets()));
        frame.extend([piece.protocol, 0]);
        frame.extend((word | u16::from(piece.more)).to_be_bytes());
        frame.extend(piece.key.id.to_be_bytes());
    } else {
        frame.extend([8, 0]);
        let options = if piece.has_options { &[1; 4][..] } else { &[] };
        let mut header = vec![0x45 + (options.len() / 4) as u8, piece.ecn];
        header.extend((20 + options.len() as u16 + piece.len as u16).to_be_bytes());
        header.extend((piece.key.id as u16).to_be_bytes());
        header.extend((word >> 3 | u16::from(piece.more) << 13).to_be_bytes());
        let IpAddr::V4(src) = source(&piece.key) else { unreachable!("IPv4") };
        header.extend([64, piece.protocol, 0, 0]);
        header.extend(src.octets());
        header.extend([10, 1, 0, 8 + piece.key.dst]);
        header.extend(options);
        let sum = read::checksum(&header).to_be_bytes();
        header[10..12].copy_from_slice(&sum);
        frame.extend(header);
    }
    frame.extend(payload);
    frame
}
