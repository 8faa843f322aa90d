//! Every way against a slow twin: read to plain fields, built anew, summed from nothing.

use super::*;
use crate::frame::HeapFrame;
use crate::seq::SeqNum;
use crate::wire::checksum;
use crate::wire::ipv4::Ipv4;
use crate::wire::tcp::kind;
use proptest::collection::vec;
use proptest::prelude::*;

/// A TCP segment in plain fields.
#[derive(Clone, Debug)]
struct Plain {
    src_port: u16,
    dst_port: u16,
    numbers: [u8; 8],
    flags: u8,
    window: [u8; 2],
    /// By how much the checksum is wrong.
    error: u16,
    urgent: [u8; 2],
    options: Vec<u8>,
    data: Vec<u8>,
    hops: u8,
    class: u8,
}

impl Plain {
    /// The TCP segment between two addresses as bytes.
    fn segment(&self, addresses: &[u8]) -> Vec<u8> {
        let mut bytes = [self.src_port.to_be_bytes(), self.dst_port.to_be_bytes()].concat();
        bytes.extend(self.numbers);
        bytes.extend([(20 + self.options.len() as u8) << 2, self.flags]);
        bytes.extend([self.window, [0; 2], self.urgent].concat());
        bytes.extend(&self.options);
        bytes.extend(&self.data);
        // Both pseudo headers, word by word: addresses, protocol, length.
        let mut words = [addresses, &[0, 6], &(bytes.len() as u16).to_be_bytes()].concat();
        words.extend(&bytes);
        let mut sum = 0u64;
        for pair in words.chunks(2) {
            sum += u64::from(pair[0]) << 8 | pair.get(1).map_or(0, |low| u64::from(*low));
        }
        let right = 0xffff - (sum % 0xffff) as u16;
        let sum = (u32::from(right) + u32::from(self.error)) % 0xffff;
        bytes[16..18].copy_from_slice(&(sum as u16).to_be_bytes());
        bytes
    }

    fn ipv4(&self, src: u32, dst: u32, id: u16, flags: u16, options: &[u8]) -> Vec<u8> {
        let segment = self.segment(&[src.to_be_bytes(), dst.to_be_bytes()].concat());
        let len = 20 + options.len();
        let mut bytes = vec![0x40 | (len / 4) as u8, self.class];
        bytes.extend(((len + segment.len()) as u16).to_be_bytes());
        bytes.extend(id.to_be_bytes());
        bytes.extend(flags.to_be_bytes());
        bytes.extend([self.hops, 6, 0, 0]);
        bytes.extend(src.to_be_bytes());
        bytes.extend(dst.to_be_bytes());
        bytes.extend(options);
        let sum = checksum::checksum(&bytes);
        bytes[10..12].copy_from_slice(&sum.to_be_bytes());
        bytes.extend(segment);
        bytes
    }

    /// With `extensions` extension headers of one kind of padding each.
    fn ipv6(&self, src: u128, dst: u128, flow: u32, extensions: usize) -> Vec<u8> {
        let segment = self.segment(&[src.to_be_bytes(), dst.to_be_bytes()].concat());
        let mut bytes = (6 << 28 | u32::from(self.class) << 20 | flow).to_be_bytes().to_vec();
        bytes.extend(((segment.len() + 8 * extensions) as u16).to_be_bytes());
        bytes.extend([if extensions > 0 { 60 } else { 6 }, self.hops]);
        bytes.extend(src.to_be_bytes());
        bytes.extend(dst.to_be_bytes());
        for left in (0..extensions).rev() {
            bytes.extend([if left > 0 { 60 } else { 6 }, 0, 1, 4, 0, 0, 0, 0]);
        }
        bytes.extend(segment);
        bytes
    }

    /// What arrives of it at the other end: one hop on, between these ports, SYN options told anew.
    fn moved(&self, src_port: u16, dst_port: u16, syn: Option<MssRule>) -> Plain {
        let mut plain = Plain { src_port, dst_port, hops: self.hops - 1, ..self.clone() };
        if let Some(rule) = syn {
            plain.options = told_anew(&self.options, rule);
        }
        plain
    }
}

/// Options of a SYN by the rules, written anew one by one.
fn told_anew(options: &[u8], rule: MssRule) -> Vec<u8> {
    let (mut at, mut new) = (0, Vec::new());
    while at < options.len() && options[at] != kind::END {
        if options[at] == kind::NOP {
            new.push(kind::NOP);
            at += 1;
            continue;
        }
        let len = usize::from(options[at + 1]);
        match options[at] {
            19 | 29 | 30 | 34 | 253 | 254 => new.extend(vec![kind::NOP; len]),
            2 => {
                let mss = u16::from_be_bytes([options[at + 2], options[at + 3]]);
                let mss = mss.min(rule.clamp).saturating_sub(rule.less);
                new.extend([2, 4, (mss >> 8) as u8, mss as u8]);
            }
            _ => new.extend(&options[at..at + len]),
        }
        at += len;
    }
    new.extend(&options[at..]);
    new
}

fn options() -> impl Strategy<Value = Vec<u8>> {
    let option = prop_oneof![
        Just(vec![kind::NOP]),
        any::<u16>().prop_map(|mss| vec![2, 4, (mss >> 8) as u8, mss as u8]),
        Just(vec![3, 3, 7]),
        Just(vec![4, 2]),
        any::<[u8; 8]>().prop_map(|numbers| [&[8, 10][..], &numbers].concat()),
        (prop::sample::select(vec![19u8, 29, 30, 34, 253, 254]), vec(any::<u8>(), 0..9))
            .prop_map(|(kind, rest)| [&[kind, rest.len() as u8 + 2][..], &rest].concat()),
    ];
    (vec(option, 0..6), prop::sample::select(vec![kind::NOP, kind::END])).prop_map(
        |(options, padding)| {
            let mut bytes = Vec::new();
            for option in options {
                if bytes.len() + option.len() <= 40 {
                    bytes.extend(option);
                }
            }
            bytes.resize(bytes.len().next_multiple_of(4), padding);
            bytes
        },
    )
}

prop_compose! {
    fn plain()(
        ports: (u16, u16), numbers: [u8; 8], flags: u8, window: [u8; 2], urgent: [u8; 2],
        error in prop_oneof![3 => Just(0), 1 => 1u16..0xffff],
        options in options(),
        data in prop_oneof![4 => vec(any::<u8>(), 0..70), 1 => vec(any::<u8>(), 1100..1400)],
        hops in 2u8..=255, class: u8,
    ) -> Plain {
        let (src_port, dst_port) = ports;
        Plain { src_port, dst_port, numbers, flags, window, error, urgent, options, data, hops, class }
    }
}

fn rule() -> impl Strategy<Value = Option<MssRule>> {
    prop::option::of((any::<u16>(), 0u16..40).prop_map(|(clamp, less)| MssRule { clamp, less }))
}

prop_compose! {
    fn endpoints()(src: u32, src_port: u16, dst: u32, dst_port: u16) -> Endpoints {
        Endpoints { src, src_port, dst, dst_port }
    }
}

prop_compose! {
    fn endpoints6()(src: u128, src_port: u16, dst: u128, dst_port: u16) -> Endpoints6 {
        Endpoints6 { src, src_port, dst, dst_port }
    }
}

/// A frame of `front` bytes and `datagram`, and nothing behind it.
fn frame(front: usize, datagram: &[u8]) -> HeapFrame {
    HeapFrame::new(&[&vec![0xee; front][..], datagram].concat())
}

fn segment(front: usize, datagram: &[u8]) -> Segment {
    let ip = Ipv4::parse(datagram).unwrap();
    Segment { l3: front, ip, tcp: Tcp::parse(&datagram[ip.header_len..]).unwrap() }
}

fn segment6(front: usize, datagram: &[u8]) -> Segment6 {
    let ip = Ipv6::parse(datagram).unwrap();
    let at = ip.upper(datagram).unwrap().at;
    Segment6 { l3: front, ip, at, tcp: Tcp::parse(&datagram[at..]).unwrap() }
}

/// Checksums compared as numbers: 0 and 0xffff are one.
fn normal(mut datagram: Vec<u8>, tcp_at: usize) -> Vec<u8> {
    let field = &mut datagram[tcp_at + 16..tcp_at + 18];
    if field == [0xff; 2] {
        field.fill(0);
    }
    datagram
}

proptest! {
    #[test]
    fn from_ipv4_to_ipv6(
        plain in plain(), from in endpoints(), to in endpoints6(), syn in rule(), front in 0usize..30,
        id: u16, df: bool, extra in 0usize..=10,
    ) {
        let plain = Plain { src_port: from.src_port, dst_port: from.dst_port, ..plain };
        let flags = if df { 0x4000 } else { 0 };
        let datagram = plain.ipv4(from.src, from.dst, id, flags, &vec![1; extra * 4]);
        let segment = segment(front, &datagram);
        let mut frame = frame(front, &datagram);
        let l3 = apply_4to6(&mut frame, &segment, &Rewrite6 { endpoints: to, syn }).unwrap();
        let want = plain.moved(to.src_port, to.dst_port, syn).ipv6(to.src, to.dst, 0, 0);
        prop_assert_eq!(want.len(), len_4to6(&segment));
        prop_assert_eq!(normal(frame.bytes()[l3..].to_vec(), 40), normal(want, 40));
    }

    #[test]
    fn from_ipv6_to_ipv4(
        plain in plain(), from in endpoints6(), to in endpoints(), syn in rule(), front in 0usize..30,
        flow in 0u32..1 << 20, id: u16, extensions in 0usize..=8,
    ) {
        let plain = Plain { src_port: from.src_port, dst_port: from.dst_port, ..plain };
        let datagram = plain.ipv6(from.src, from.dst, flow, extensions);
        let segment = segment6(front, &datagram);
        let mut frame = frame(front, &datagram);
        let l3 = apply_6to4(&mut frame, &segment, &Rewrite4 { endpoints: to, syn, id }).unwrap();
        let len = 40 + plain.options.len() + plain.data.len();
        let (id, flags) = if len <= 1260 { (id, 0) } else { (0, 0x4000) };
        let want = plain.moved(to.src_port, to.dst_port, syn).ipv4(to.src, to.dst, id, flags, &[]);
        prop_assert_eq!(want.len(), len_6to4(&segment));
        prop_assert_eq!(may_be_fragmented(len), flags == 0);
        prop_assert_eq!(normal(frame.bytes()[l3..].to_vec(), 20), normal(want, 20));
    }

    #[test]
    fn from_ipv6_to_ipv6(
        plain in plain(), from in endpoints6(), to in endpoints6(), syn in rule(), front in 0usize..30,
        flow in 0u32..1 << 20, extensions in 0usize..=8,
    ) {
        let plain = Plain { src_port: from.src_port, dst_port: from.dst_port, ..plain };
        let datagram = plain.ipv6(from.src, from.dst, flow, extensions);
        let segment = segment6(front, &datagram);
        let mut frame = frame(front, &datagram);
        apply_6to6(&mut frame, &segment, &Rewrite6 { endpoints: to, syn });
        let want =
            plain.moved(to.src_port, to.dst_port, syn).ipv6(to.src, to.dst, flow, extensions);
        prop_assert_eq!(want.len(), len_6to6(&segment));
        let at = 40 + 8 * extensions;
        prop_assert_eq!(normal(frame.bytes()[front..].to_vec(), at), normal(want, at));
    }

    /// Both ways after each other give back what was sent, two hops on.
    #[test]
    fn there_and_back(plain in plain(), from in endpoints(), via in endpoints6(), id: u16) {
        let plain = Plain {
            src_port: from.src_port, dst_port: from.dst_port, hops: plain.hops | 3, ..plain
        };
        let datagram = plain.ipv4(from.src, from.dst, id, 0, &[]);
        let mut frame = frame(14, &datagram);
        let rewrite = Rewrite6 { endpoints: via, syn: None };
        let l3 = apply_4to6(&mut frame, &segment(14, &datagram), &rewrite).unwrap();
        let there = segment6(l3, &frame.bytes()[l3..]);
        let rewrite = Rewrite4 { endpoints: from, syn: None, id };
        let l3 = apply_6to4(&mut frame, &there, &rewrite).unwrap();
        let whole = datagram.len() <= 1260;
        let (id, flags) = if whole { (id, 0) } else { (0, 0x4000) };
        let plain = Plain { hops: plain.hops - 2, ..plain };
        let want = plain.ipv4(from.src, from.dst, id, flags, &[]);
        prop_assert_eq!(normal(frame.bytes()[l3..].to_vec(), 20), normal(want, 20));
    }
}

/// A buffer without room in front.
struct Full(Vec<u8>);

impl Frame for Full {
    fn bytes(&self) -> &[u8] {
        &self.0
    }

    fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.0
    }

    fn prepend(&mut self, _: usize) -> bool {
        false
    }

    fn append(&mut self, _: usize) -> bool {
        false
    }

    fn trim_front(&mut self, _: usize) {}

    fn truncate(&mut self, _: usize) {}
}

const TINY: Plain = Plain {
    src_port: 1,
    dst_port: 2,
    numbers: [0; 8],
    flags: tcp::ACK,
    window: [0; 2],
    error: 0,
    urgent: [0; 2],
    options: Vec::new(),
    data: Vec::new(),
    hops: 9,
    class: 0,
};

#[test]
fn a_buffer_without_room_is_left_as_it_is() {
    let datagram = TINY.ipv4(1, 2, 0, 0, &[]);
    let bytes = [&[0xee; 14][..], &datagram].concat();
    let mut frame = Full(bytes.clone());
    let rewrite = Rewrite6 { endpoints: Endpoints6::default(), syn: None };
    let refused = apply_4to6(&mut frame, &segment(14, &datagram), &rewrite);
    assert_eq!((refused, frame.0), (Err(DropReason::NoRoom), bytes));
}

#[test]
fn what_is_too_long_for_ipv4_is_refused() {
    let longest = |payload_len| Segment6 {
        l3: 0,
        ip: Ipv6 { src: 1, dst: 2, next_header: 6, hop_limit: 9, traffic_class: 0, payload_len },
        at: 40,
        tcp: Tcp {
            src_port: 1,
            dst_port: 2,
            seq: SeqNum(0),
            ack: SeqNum(0),
            flags: tcp::ACK,
            header_len: 20,
        },
    };
    let rewrite = Rewrite4 { endpoints: Endpoints::default(), syn: None, id: 7 };
    for (payload_len, want) in [(65_515, Ok(20)), (65_516, Err(DropReason::TooBig))] {
        let mut frame = Full(vec![0; 40 + payload_len]);
        let segment = longest(payload_len);
        assert_eq!(len_6to4(&segment), 20 + payload_len);
        assert_eq!(apply_6to4(&mut frame, &segment, &rewrite), want);
    }
}
