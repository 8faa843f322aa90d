//! Errors that change their family, or are IPv6, against a slow twin: words from the tables of RFC
//! 7915 as they are printed, datagrams built anew from plain fields, summed from nothing.

use super::kinds::Head;
use super::*;
use crate::frame::HeapFrame;
use crate::relay::rewrite::plain::{Plain, endpoints, endpoints6, normal, plain};
use crate::wire::ipv4::Ipv4;
use crate::wire::ipv6::Ipv6;
use proptest::prelude::*;

/// The head of an error in plain numbers: type, code, the word behind the checksum.
type Said = (u8, u8, u32);

const MTU: u32 = 1400;

/// RFC 7915, section 4.2, line by line. What is not here has no translation.
fn table_for_ipv6() -> Vec<(Said, Said)> {
    let mut table = vec![
        ((3, 2, 0), (4, 1, 6)),
        ((3, 3, 0), (1, 4, 0)),
        ((3, 4, 9), (2, 0, MTU)),
        ((11, 0, 0), (3, 0, 0)),
        ((11, 1, 0), (3, 1, 0)),
    ];
    table.extend([0, 1, 5, 6, 7, 8, 11, 12].map(|code| ((3, code, 0), (1, 0, 0))));
    table.extend([9, 10, 13, 15].map(|code| ((3, code, 0), (1, 1, 0))));
    // Figure 3.
    let pointers = [(0, 0), (1, 1), (2, 4), (3, 4), (8, 7), (9, 6)];
    let addresses = (12..16).map(|pointer| (pointer, 8)).chain((16..20).map(|p| (p, 24)));
    for (from, to) in pointers.into_iter().chain(addresses) {
        table.extend([0, 2].map(|code| ((12, code, from << 24), (4, 0, to))));
    }
    table
}

/// RFC 7915, section 5.2, likewise.
fn table_for_ipv4() -> Vec<(Said, Said)> {
    let mut table = vec![
        ((1, 0, 0), (3, 1, 0)),
        ((1, 1, 0), (3, 10, 0)),
        ((1, 2, 0), (3, 1, 0)),
        ((1, 3, 0), (3, 1, 0)),
        ((1, 4, 0), (3, 3, 0)),
        ((2, 0, 1500), (3, 4, MTU)),
        ((3, 0, 0), (11, 0, 0)),
        ((3, 1, 0), (11, 1, 0)),
        ((4, 1, 6), (3, 2, 0)),
    ];
    // Figure 6.
    let pointers = [(0, 0), (1, 1), (4, 2), (5, 2), (6, 9), (7, 8)];
    let addresses = (8..24).map(|pointer| (pointer, 12)).chain((24..40).map(|p| (p, 16)));
    for (from, to) in pointers.into_iter().chain(addresses) {
        table.push(((4, 0, from), (12, 0, to << 24)));
    }
    table
}

fn head((kind, code, word): Said) -> Head {
    Head { kind, code, word }
}

#[test]
fn errors_are_said_in_the_words_of_ipv6() {
    let table = table_for_ipv6();
    for &(from, to) in &table {
        assert_eq!(head(from).for_ipv6(Some(MTU)), Some(head(to)), "{from:?}");
    }
    let listed = |kind, code| table.iter().any(|((k, c, _), _)| (*k, *c) == (kind, code));
    for (kind, code) in (0..=255).flat_map(|kind| (0..=255).map(move |code| (kind, code))) {
        // Time exceeded keeps whatever code it has.
        let said = head((kind, code, 0)).for_ipv6(Some(MTU)).is_some();
        assert_eq!(said, listed(kind, code) || kind == 11, "{kind} {code}");
    }
    for pointer in 0..=255u32 {
        let said = head((12, 0, pointer << 24)).for_ipv6(None).is_some();
        let want = table.iter().any(|(from, _)| *from == (12, 0, pointer << 24));
        assert_eq!(said, want, "{pointer}");
    }
    assert_eq!(head((3, 4, 0)).for_ipv6(None), None);
}

#[test]
fn errors_are_said_in_the_words_of_ipv4() {
    let table = table_for_ipv4();
    for &(from, to) in &table {
        assert_eq!(head(from).for_ipv4(Some(MTU)), Some(head(to)), "{from:?}");
    }
    let listed = |kind, code| table.iter().any(|((k, c, _), _)| (*k, *c) == (kind, code));
    for (kind, code) in (0..=255).flat_map(|kind| (0..=255).map(move |code| (kind, code))) {
        let said = head((kind, code, 0)).for_ipv4(Some(1400)).is_some();
        // Codes of too-big and time exceeded say nothing, or the same.
        assert_eq!(said, listed(kind, code) || kind == 2 || kind == 3, "{kind} {code}");
    }
    for pointer in (0..300).chain([1 << 24, u32::MAX]) {
        let said = head((4, 0, pointer)).for_ipv4(None).is_some();
        let want = table.iter().any(|(from, _)| *from == (4, 0, pointer));
        assert_eq!(said, want, "{pointer}");
    }
    assert_eq!(head((2, 0, 0)).for_ipv4(None), None);
}

#[test]
fn mtus_differ_by_what_headers_do_and_have_floors() {
    for (mtu, total_len, want) in [
        (1400, 1500, 1420),
        (65_535, 65_535, 65_555),
        (1260, 1500, 1280),
        (1259, 1500, 1280),
        (68, 1500, 1280),
        // Routers that do not say it: the next plateau below the datagram's length.
        (0, 1500, 1512),
        (0, 1492, 1280),
        (0, 9000, 8186),
        (0, 65_535, 32_020),
        (0, 0, 1280),
    ] {
        assert_eq!(mtu_for_ipv6(mtu, total_len), want, "{mtu} {total_len}");
    }
    for (mtu, want) in
        [(1500, 1480), (1280, 1260), (1279, 1260), (0, 1260), (65_556, 65_535), (u32::MAX, 65_535)]
    {
        assert_eq!(mtu_for_ipv4(mtu), want, "{mtu}");
    }
}

/// What is around an error.
#[derive(Clone, Copy, Debug)]
struct Around {
    hops: u8,
    class: u8,
}

/// Sums `bytes` word by word.
fn sum(bytes: &[u8]) -> u16 {
    let words = bytes
        .chunks(2)
        .map(|pair| u64::from(pair[0]) << 8 | pair.get(1).map_or(0, |low| u64::from(*low)));
    0xffff - (words.sum::<u64>() % 0xffff) as u16
}

fn message(addresses: &[u8], (kind, code, word): Said, quote: &[u8]) -> Vec<u8> {
    let mut bytes = [&[kind, code, 0, 0][..], &word.to_be_bytes(), quote].concat();
    let pseudo = match addresses {
        [] => vec![],
        _ => [addresses, &[0, 58], &(bytes.len() as u16).to_be_bytes()].concat(),
    };
    let sum = sum(&[pseudo, bytes.clone()].concat());
    bytes[2..4].copy_from_slice(&sum.to_be_bytes());
    bytes
}

/// An error over IPv4 with DF and no ID, and `options`.
fn error4(src: u32, dst: u32, around: Around, said: Said, quote: &[u8], options: usize) -> Vec<u8> {
    let message = message(&[], said, quote);
    let mut bytes = vec![0x45 + options as u8 / 4, around.class];
    bytes.extend(((20 + options + message.len()) as u16).to_be_bytes());
    bytes.extend([0, 0, 0x40, 0, around.hops, 1, 0, 0]);
    bytes.extend([src.to_be_bytes(), dst.to_be_bytes()].concat());
    bytes.extend(vec![1; options]);
    let header = sum(&bytes);
    bytes[10..12].copy_from_slice(&header.to_be_bytes());
    bytes.extend(message);
    bytes
}

fn error6(src: u128, dst: u128, around: Around, said: Said, quote: &[u8], flow: u32) -> Vec<u8> {
    let addresses = [src.to_be_bytes(), dst.to_be_bytes()].concat();
    let message = message(&addresses, said, quote);
    let mut bytes = (6 << 28 | u32::from(around.class) << 20 | flow).to_be_bytes().to_vec();
    bytes.extend((message.len() as u16).to_be_bytes());
    bytes.extend([58, around.hops]);
    bytes.extend([addresses, message].concat());
    bytes
}

/// What a quote of `datagram` shows whose TCP header is at `at`: `seen` bytes from there.
fn cut(mut datagram: Vec<u8>, at: usize, seen: usize) -> Vec<u8> {
    datagram.truncate(at + seen);
    datagram
}

/// The quoted segment as its sender knows it: other ports, the TTL as it is.
fn unmoved(plain: &Plain, src_port: u16, dst_port: u16) -> Plain {
    Plain { src_port, dst_port, ..plain.clone() }
}

/// A segment, how much of it an error quotes, and what is around that.
fn quoted() -> impl Strategy<Value = (Plain, usize, Around)> {
    // With 17 bytes the checksum is cut in two: the half that is seen stays as it is.
    let seen = prop_oneof![8usize..17, 18usize..70, Just(2000)];
    let around = (2u8..=255, any::<u8>()).prop_map(|(hops, class)| Around { hops, class });
    (plain(), seen, around)
}

fn frame(front: usize, datagram: &[u8]) -> HeapFrame {
    HeapFrame::new(&[&vec![0xee; front][..], datagram].concat())
}

proptest! {
    #[test]
    fn from_ipv4_to_ipv6(
        (plain, seen, around) in quoted(), from in endpoints(), to in endpoints6(), router: u32,
        line in prop::sample::select(table_for_ipv6()), front in 0usize..30, options in 0usize..=10,
        quoted_options in 0usize..=10, extended: bool,
    ) {
        let plain = unmoved(&plain, from.src.port, from.dst.port);
        let inner_len = 20 + 4 * quoted_options;
        let segment = plain.ipv4(from.src.ip, from.dst.ip, 7, 0x4000, &vec![1; 4 * quoted_options]);
        let mut quote = cut(segment, inner_len, seen);
        let (mut said, want_said) = line;
        let mut want_len = quote.len();
        if extended && seen == 2000 && said.0 != 12 && said.1 != 4 && quote.len() <= 128 {
            quote.resize(128, 0);
            quote.extend([0x20, 0, 0xdd, 0xdd, 1, 2, 3, 4]);
            (said.2, want_len) = (32 << 16, 128);
        }
        let parsed = Quote4::parse(&quote);
        prop_assume!(parsed.is_ok());
        let datagram = error4(router, from.src.ip, around, said, &quote, 4 * options);
        let mut frame = frame(front, &datagram);
        let ip = Ipv4::parse(&datagram).unwrap();
        let mapping = Translated { quote: to, mtu: (said.1 == 4).then_some(MTU) };
        let l3 = apply_4to6(&mut frame, front, &ip, &parsed.unwrap(), &mapping).unwrap();

        let moved = unmoved(&plain, to.src.port, to.dst.port).ipv6(to.src.ip, to.dst.ip, 0, 0);
        let mut want_quote = cut(moved, 40, want_len - inner_len);
        want_quote.resize(40 + want_len - inner_len, 0);
        want_quote.truncate(1280 - 48);
        let around = Around { hops: around.hops - 1, ..around };
        let want = error6(to.dst.ip, to.src.ip, around, want_said, &want_quote, 0);
        let fields = [42, 40 + 8 + 40 + 16];
        prop_assert_eq!(normal(frame.bytes()[l3..].to_vec(), &fields), normal(want, &fields));
    }

    #[test]
    fn from_ipv6_to_ipv4(
        (plain, seen, around) in quoted(), from in endpoints6(), to in endpoints(), router: u128,
        line in prop::sample::select(table_for_ipv4()), front in 0usize..30, flow in 0u32..1 << 20,
        extensions in 0usize..=8, extended: bool,
    ) {
        let plain = unmoved(&plain, from.src.port, from.dst.port);
        let inner_len = 40 + 8 * extensions;
        let segment = plain.ipv6(from.src.ip, from.dst.ip, flow, extensions);
        let mut quote = cut(segment, inner_len, seen);
        let (mut said, want_said) = line;
        let mut want_len = quote.len();
        if extended && seen == 2000 && matches!(said.0, 1 | 3) && quote.len() <= 256 {
            quote.resize(256, 0);
            quote.extend([0x20, 0, 0xdd, 0xdd, 1, 2, 3, 4]);
            (said.2, want_len) = (32 << 24, 256);
        }
        let parsed = Quote6::parse(&quote).unwrap();
        let datagram = error6(router, from.src.ip, around, said, &quote, flow);
        let mut frame = frame(front, &datagram);
        let ip = Ipv6::parse(&datagram).unwrap();
        let mapping = Translated { quote: to, mtu: (said.0 == 2).then_some(MTU) };
        let l3 = apply_6to4(&mut frame, front, (&ip, 40), &parsed, &mapping).unwrap();

        let moved = unmoved(&plain, to.src.port, to.dst.port);
        let moved = moved.ipv4(to.src.ip, to.dst.ip, 0, 0x4000, &[]);
        let mut want_quote = cut(moved, 20, want_len - inner_len);
        want_quote.resize(20 + want_len - inner_len, 0);
        want_quote.truncate(576 - 28);
        let around = Around { hops: around.hops - 1, ..around };
        let want = error4(to.dst.ip, to.src.ip, around, want_said, &want_quote, 0);
        let fields = [22, 20 + 8 + 20 + 16];
        prop_assert_eq!(normal(frame.bytes()[l3..].to_vec(), &fields), normal(want, &fields));
    }

    #[test]
    fn from_ipv6_to_ipv6(
        (plain, seen, around) in quoted(), from in endpoints6(), to in endpoints6(), router: u128,
        said in (1u8..=4, 0u8..8, any::<u32>()), mtu in prop::option::of(any::<u32>()),
        front in 0usize..30, flow in 0u32..1 << 20, extensions in 0usize..=8,
    ) {
        let plain = unmoved(&plain, from.src.port, from.dst.port);
        let at = 40 + 8 * extensions;
        let quote = cut(plain.ipv6(from.src.ip, from.dst.ip, flow, extensions), at, seen);
        let parsed = Quote6::parse(&quote).unwrap();
        let datagram = error6(router, from.src.ip, around, said, &quote, flow);
        let mut frame = frame(front, &datagram);
        let ip = Ipv6::parse(&datagram).unwrap();
        apply_6to6(&mut frame, front, (&ip, 40), &parsed, &Translated { quote: to, mtu });

        let moved = unmoved(&plain, to.src.port, to.dst.port);
        let moved = moved.ipv6(to.src.ip, to.dst.ip, flow, extensions);
        let around = Around { hops: around.hops - 1, ..around };
        let said = (said.0, said.1, mtu.unwrap_or(said.2));
        let want = error6(to.dst.ip, to.src.ip, around, said, &cut(moved, at, seen), flow);
        let fields = [42, 48 + at + 16];
        prop_assert_eq!(normal(frame.bytes()[front..].to_vec(), &fields), normal(want, &fields));
    }

    /// What a POP sent in fragments: the error quotes the first, and the client is told of a
    /// segment.
    #[test]
    fn first_fragments_lose_their_fragment_header(
        (plain, _, around) in quoted(), from in endpoints6(), to in endpoints(), more: bool,
    ) {
        let plain = unmoved(&plain, from.src.port, from.dst.port);
        let whole = plain.ipv6(from.src.ip, from.dst.ip, 0, 0);
        let header = [6, 0, 0, u8::from(more), 1, 2, 3, 4];
        let mut quote = [&whole[..40], &header, &whole[40..]].concat();
        quote[6] = 44;
        let payload_len = (quote.len() - 40) as u16;
        quote[4..6].copy_from_slice(&payload_len.to_be_bytes());
        let parsed = Quote6::parse(&quote).unwrap();
        let datagram = error6(1, from.src.ip, around, (2, 0, 1300), &quote, 0);
        let mut frame = frame(14, &datagram);
        let ip = Ipv6::parse(&datagram).unwrap();
        let mapping = Translated { quote: to, mtu: Some(MTU) };
        let l3 = apply_6to4(&mut frame, 14, (&ip, 40), &parsed, &mapping).unwrap();

        let want = unmoved(&plain, to.src.port, to.dst.port);
        let mut want = want.ipv4(to.src.ip, to.dst.ip, 0, 0x4000, &[]);
        want.truncate(576 - 28);
        let around = Around { hops: around.hops - 1, ..around };
        let want = error4(to.dst.ip, to.src.ip, around, (3, 4, MTU), &want, 0);
        let fields = [22, 20 + 8 + 20 + 16];
        prop_assert_eq!(normal(frame.bytes()[l3..].to_vec(), &fields), normal(want, &fields));
    }

    #[test]
    fn quotes_that_show_too_little_or_something_else_are_refused(
        (plain, _, _) in quoted(), from in endpoints6(), extensions in 0usize..=8, protocol: u8,
    ) {
        let whole = unmoved(&plain, from.src.port, from.dst.port);
        let whole = whole.ipv6(from.src.ip, from.dst.ip, 0, extensions);
        let at = 40 + 8 * extensions;
        for len in 0..whole.len().min(at + 80) {
            let quote = Quote6::parse(&whole[..len]);
            prop_assert_eq!(quote.is_ok(), len >= at + 8, "{}", len);
            if let Ok(quote) = quote {
                let found = (quote.ip.src, quote.src_port, quote.ip.dst, quote.dst_port);
                prop_assert_eq!(found, (from.src.ip, from.src.port, from.dst.ip, from.dst.port));
            }
        }
        prop_assume!(protocol != 6 && protocol != 17);
        let mut other = whole.clone();
        other[if extensions == 0 { 6 } else { at - 8 }] = protocol;
        prop_assert!(Quote6::parse(&other).is_err());
        // No whole TCP header was ever in it.
        let mut short = whole;
        short[4..6].copy_from_slice(&((at - 40 + 19) as u16).to_be_bytes());
        prop_assert!(Quote6::parse(&short).is_err());
    }

    #[test]
    fn any_bytes_are_read_within_bounds(
        mut bytes in proptest::collection::vec(any::<u8>(), 0..200),
    ) {
        if let Some(first) = bytes.first_mut() {
            *first = 0x60 | *first & 0x0f;
        }
        if let Some(next) = bytes.get_mut(6) {
            *next = [6, 60, 0, 44][usize::from(*next % 4)];
        }
        if let Ok(quote) = Quote6::parse(&bytes) {
            let datagram = error6(1, 2, Around { hops: 9, class: 0 }, (2, 0, 1300), &bytes, 0);
            let ip = Ipv6::parse(&datagram).unwrap();
            let mapping = Translated { quote: Default::default(), mtu: Some(1280) };
            let mut frame = frame(14, &datagram);
            let done = apply_6to4(&mut frame, 14, (&ip, 40), &quote, &mapping);
            prop_assert!(done.is_ok() || quote.ip.total_len() > 65_535);
            let mut frame = self::frame(14, &datagram);
            let mapping = Translated { quote: Default::default(), mtu: None };
            apply_6to6(&mut frame, 14, (&ip, 40), &quote, &mapping);
            prop_assert_eq!(frame.bytes().len(), 14 + datagram.len());
        }
    }
}
