//! Every way against a slow twin: read to plain fields, built anew, summed from nothing.

use super::families::may_be_fragmented;
use super::options::{self, OptionsRule, TimestampsAt, TimestampsOption};
use super::plain::{Plain, endpoints, endpoints6, normal, plain, rule, written_anew};
use super::*;
use crate::frame::HeapFrame;
use crate::net::Endpoints;
use crate::seq::SeqNum;
use crate::wire::ipv4::Ipv4;
use crate::wire::ipv6::{Ipv6, Upper};
use crate::wire::{Ipv6Datagram, tcp};
use proptest::prelude::*;

/// A frame of `front` bytes and `datagram`, and nothing behind it.
fn frame(front: usize, datagram: &[u8]) -> HeapFrame {
    HeapFrame::new(&[&vec![0xee; front][..], datagram].concat())
}

fn segment(front: usize, datagram: &[u8]) -> Segment {
    let ip = Ipv4::parse(datagram).unwrap();
    let tcp = Tcp::parse(&datagram[ip.header_len..]).unwrap();
    Segment { l3: front, ip: Datagram::V4(ip), tcp }
}

fn segment6(front: usize, datagram: &[u8]) -> Segment {
    let header = Ipv6::parse(datagram).unwrap();
    let upper = header.upper(datagram).unwrap();
    let tcp = Tcp::parse(&datagram[upper.at..]).unwrap();
    Segment { l3: front, ip: Datagram::V6(Ipv6Datagram { header, upper }), tcp }
}

fn to_ipv4(endpoints: Endpoints, options: OptionsRule, id: u16) -> IpRewrite {
    let timestamps = Timestamps::Keep;
    IpRewrite::V4(Rewrite { endpoints, timestamps, options, client_address: false, id })
}

fn to_ipv6(endpoints: Endpoints<u128>, options: OptionsRule) -> IpRewrite {
    let timestamps = Timestamps::Keep;
    IpRewrite::V6(Rewrite { endpoints, timestamps, options, client_address: false, id: 0 })
}

/// Plans and applies a rewrite; gives back where the IP header is, and the planned length.
fn rewrite<F: Frame>(
    frame: &mut F,
    segment: &Segment,
    to: &IpRewrite,
) -> Result<(usize, usize), DropReason> {
    let at = segment.l3
        + match &segment.ip {
            Datagram::V4(ip) => ip.header_len,
            Datagram::V6(ip) => ip.upper.at,
        };
    let options = frame.bytes().get(at + tcp::HEADER_LEN..at + segment.tcp.header_len);
    let plan = plan(segment, options.unwrap_or_default(), to)?;
    Ok((apply(frame, segment, to, &plan)?, plan.total_len()))
}

proptest! {
    #[test]
    fn from_ipv4_to_ipv6(
        plain in plain(), from in endpoints(), to in endpoints6(),
        options in rule(), front in 0usize..30,
        id: u16, df: bool, extra in 0usize..=10,
    ) {
        let plain = Plain { src_port: from.src.port, dst_port: from.dst.port, ..plain };
        let flags = if df { 0x4000 } else { 0 };
        let datagram = plain.ipv4(from.src.ip, from.dst.ip, id, flags, &vec![1; extra * 4]);
        let segment = segment(front, &datagram);
        let mut frame = frame(front, &datagram);
        let (l3, len) = rewrite(&mut frame, &segment, &to_ipv6(to, options)).unwrap();
        let want = plain.moved(to.src.port, to.dst.port, options).ipv6(to.src.ip, to.dst.ip, 0, 0);
        prop_assert_eq!(want.len(), len);
        prop_assert_eq!(normal(frame.bytes()[l3..].to_vec(), &[56]), normal(want, &[56]));
    }

    #[test]
    fn from_ipv6_to_ipv4(
        plain in plain(), from in endpoints6(), to in endpoints(),
        options in rule(), front in 0usize..30,
        flow in 0u32..1 << 20, id: u16, extensions in 0usize..=8,
    ) {
        let plain = Plain { src_port: from.src.port, dst_port: from.dst.port, ..plain };
        let datagram = plain.ipv6(from.src.ip, from.dst.ip, flow, extensions);
        let segment = segment6(front, &datagram);
        let mut frame = frame(front, &datagram);
        let (l3, planned) = rewrite(&mut frame, &segment, &to_ipv4(to, options, id)).unwrap();
        let len = 40 + plain.options.len() + plain.data.len();
        let (id, flags) = if len <= 1260 { (id, 0) } else { (0, 0x4000) };
        let want = plain.moved(to.src.port, to.dst.port, options);
        let want = want.ipv4(to.src.ip, to.dst.ip, id, flags, &[]);
        prop_assert_eq!(want.len(), planned);
        prop_assert_eq!(may_be_fragmented(len), flags == 0);
        prop_assert_eq!(normal(frame.bytes()[l3..].to_vec(), &[36]), normal(want, &[36]));
    }

    #[test]
    fn from_ipv6_to_ipv6(
        plain in plain(), from in endpoints6(), to in endpoints6(),
        options in rule(), front in 0usize..30,
        flow in 0u32..1 << 20, extensions in 0usize..=8,
    ) {
        let plain = Plain { src_port: from.src.port, dst_port: from.dst.port, ..plain };
        let datagram = plain.ipv6(from.src.ip, from.dst.ip, flow, extensions);
        let segment = segment6(front, &datagram);
        let mut frame = frame(front, &datagram);
        let (l3, len) = rewrite(&mut frame, &segment, &to_ipv6(to, options)).unwrap();
        prop_assert_eq!(l3, front);
        let want =
            plain.moved(to.src.port, to.dst.port, options);
        let want = want.ipv6(to.src.ip, to.dst.ip, flow, extensions);
        prop_assert_eq!(want.len(), len);
        let at = 56 + 8 * extensions;
        prop_assert_eq!(normal(frame.bytes()[front..].to_vec(), &[at]), normal(want, &[at]));
    }

    /// With timestamps that are set, put in, or taken out.
    #[test]
    fn from_ipv6_to_ipv6_with_timestamps(
        plain in plain(), from in endpoints6(), to in endpoints6(),
        timestamps in timestamps(), rule in rule(), front in 0usize..30,
        flow in 0u32..1 << 20, extensions in 0usize..=8,
    ) {
        let plain = Plain { src_port: from.src.port, dst_port: from.dst.port, ..plain };
        let (timestamps, new) = match stamped(&plain.options, timestamps, rule) {
            Some(found) => found,
            None => return Ok(()),
        };
        let datagram = plain.ipv6(from.src.ip, from.dst.ip, flow, extensions);
        let mut frame = frame(front, &datagram);
        let to = Rewrite { endpoints: to, timestamps, options: rule, client_address: false, id: 0 };
        let found =
            rewrite(&mut frame, &segment6(front, &datagram), &IpRewrite::V6(to));
        let Some(options) = new else {
            prop_assert_eq!(found, Err(DropReason::OptionsFull));
            return Ok(());
        };
        let (l3, len) = found.unwrap();
        let Endpoints { src, dst } = to.endpoints;
        let want = Plain { options, ..plain.moved(src.port, dst.port, OptionsRule::Keep) };
        let want = want.ipv6(src.ip, dst.ip, flow, extensions);
        prop_assert_eq!(want.len(), len);
        let at = 56 + 8 * extensions;
        prop_assert_eq!(normal(frame.bytes()[l3..].to_vec(), &[at]), normal(want, &[at]));
    }

    /// Both ways after each other give back what was sent, two hops on.
    #[test]
    fn there_and_back(plain in plain(), from in endpoints(), via in endpoints6(), id: u16) {
        let plain = Plain {
            src_port: from.src.port, dst_port: from.dst.port, hops: plain.hops | 3, ..plain
        };
        let datagram = plain.ipv4(from.src.ip, from.dst.ip, id, 0, &[]);
        let mut frame = frame(14, &datagram);
        let there = to_ipv6(via, OptionsRule::Keep);
        let (l3, _) = rewrite(&mut frame, &segment(14, &datagram), &there).unwrap();
        let there = segment6(l3, &frame.bytes()[l3..]);
        let (l3, _) = rewrite(&mut frame, &there, &to_ipv4(from, OptionsRule::Keep, id)).unwrap();
        let whole = datagram.len() <= 1260;
        let (id, flags) = if whole { (id, 0) } else { (0, 0x4000) };
        let plain = Plain { hops: plain.hops - 2, ..plain };
        let want = plain.ipv4(from.src.ip, from.dst.ip, id, flags, &[]);
        prop_assert_eq!(normal(frame.bytes()[l3..].to_vec(), &[36]), normal(want, &[36]));
    }
}

/// What happens to timestamps, wherever they are.
fn timestamps() -> impl Strategy<Value = Timestamps> {
    let at = TimestampsAt(0);
    prop_oneof![
        any::<u32>().prop_map(move |value| Timestamps::SetValue(at, value)),
        any::<u32>().prop_map(move |echo| Timestamps::SetEcho(at, echo)),
        any::<(u32, u32)>()
            .prop_map(|(value, echo)| Timestamps::Insert(TimestampsOption { value, echo })),
        Just(Timestamps::Strip),
    ]
}

/// What happens to the timestamps in `options`, and what these become, written anew; no options
/// where there is no room. `None` where it does not happen to such options.
fn stamped(
    options: &[u8],
    timestamps: Timestamps,
    rule: OptionsRule,
) -> Option<(Timestamps, Option<Vec<u8>>)> {
    let anew = |options: &[u8]| match rule {
        OptionsRule::Keep => options.to_vec(),
        rule => written_anew(options, rule),
    };
    let found = options::find_timestamps(options).ok()?;
    let set = |at: TimestampsAt, by: usize, number: u32| {
        let (mut new, at) = (anew(options), usize::from(at.0) + by);
        new[at..at + 4].copy_from_slice(&number.to_be_bytes());
        Some(new)
    };
    Some(match (timestamps, found) {
        (Timestamps::SetValue(_, value), Some(at)) => {
            (Timestamps::SetValue(at, value), set(at, 2, value))
        }
        (Timestamps::SetEcho(_, echo), Some(at)) => {
            (Timestamps::SetEcho(at, echo), set(at, 6, echo))
        }
        (Timestamps::Insert(option), None) if options.len() + 12 <= 40 => {
            (timestamps, Some([&option.aligned()[..], &anew(options)].concat()))
        }
        (Timestamps::Insert(option), None) => {
            let new = options::squeeze_in_timestamps(&anew(options), option);
            (timestamps, new.map(|new| new.as_bytes().to_vec()))
        }
        (Timestamps::Strip, Some(_)) if options::begin_with_timestamps(options) => {
            (timestamps, Some(anew(&options[12..])))
        }
        (Timestamps::Strip, Some(_)) => {
            let left = options::strip_timestamps(options);
            (timestamps, Some(anew(left.as_bytes())))
        }
        _ => return None,
    })
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
    let to = to_ipv6(Endpoints::default(), OptionsRule::Keep);
    let refused = rewrite(&mut frame, &segment(14, &datagram), &to);
    assert_eq!((refused, frame.0), (Err(DropReason::NoRoom), bytes));
}

#[test]
fn what_is_too_long_for_ipv4_is_refused() {
    for (payload_len, want) in [(65_515, Ok((20, 65_535))), (65_516, Err(DropReason::TooBig))] {
        let header =
            Ipv6 { src: 1, dst: 2, next_header: 6, hop_limit: 9, traffic_class: 0, payload_len };
        let upper = Upper { protocol: 6, at: 40 };
        let segment = Segment {
            l3: 0,
            ip: Datagram::V6(Ipv6Datagram { header, upper }),
            tcp: Tcp {
                src_port: 1,
                dst_port: 2,
                seq: SeqNum(0),
                ack: SeqNum(0),
                flags: tcp::ACK,
                header_len: 20,
            },
        };
        let mut frame = Full(vec![0; 40 + payload_len]);
        assert_eq!(
            rewrite(&mut frame, &segment, &to_ipv4(Endpoints::default(), OptionsRule::Keep, 7)),
            want
        );
    }
}
