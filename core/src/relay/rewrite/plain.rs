//! The slow twin of translation: segments in plain fields, written as bytes and summed from
//! nothing.

use proptest::collection::vec;
use proptest::prelude::*;

use super::options::{MssRule, OptionsRule};
use crate::net::{Endpoint, Endpoints};
use crate::wire::checksum;
use crate::wire::tcp::kind;

/// A TCP segment in plain fields.
#[derive(Clone, Debug)]
pub struct Plain {
    pub src_port: u16,
    pub dst_port: u16,
    pub numbers: [u8; 8],
    pub flags: u8,
    pub window: [u8; 2],
    /// By how much the checksum is wrong.
    pub error: u16,
    pub urgent: [u8; 2],
    pub options: Vec<u8>,
    pub data: Vec<u8>,
    pub hops: u8,
    pub class: u8,
}

impl Plain {
    /// The TCP segment between two addresses as bytes.
    pub fn segment(&self, addresses: &[u8]) -> Vec<u8> {
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

    pub fn ipv4(&self, src: u32, dst: u32, id: u16, flags: u16, options: &[u8]) -> Vec<u8> {
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
    pub fn ipv6(&self, src: u128, dst: u128, flow: u32, extensions: usize) -> Vec<u8> {
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
    pub fn moved(&self, src_port: u16, dst_port: u16, rule: OptionsRule) -> Plain {
        let mut plain = Plain { src_port, dst_port, hops: self.hops - 1, ..self.clone() };
        if rule != OptionsRule::Keep {
            plain.options = written_anew(&self.options, rule);
        }
        plain
    }
}

/// Options by the rules, written anew one by one.
pub fn written_anew(options: &[u8], rule: OptionsRule) -> Vec<u8> {
    let (mut at, mut new) = (0, Vec::new());
    while at < options.len() && options[at] != kind::END {
        if options[at] == kind::NOP {
            new.push(kind::NOP);
            at += 1;
            continue;
        }
        let len = usize::from(options[at + 1]);
        match (options[at], rule) {
            (200 | 253 | 254, _) => new.extend(vec![kind::NOP; len]),
            (19 | 29 | 30 | 34, OptionsRule::Syn(_)) => new.extend(vec![kind::NOP; len]),
            (2, OptionsRule::Syn(rule)) => {
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
        (prop::sample::select(vec![19u8, 29, 30, 34, 200, 253, 254]), vec(any::<u8>(), 0..9))
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
    pub fn plain()(
        ports: (u16, u16), numbers: [u8; 8], flags: u8, window: [u8; 2], urgent: [u8; 2],
        error in prop_oneof![3 => Just(0), 1 => 1u16..0xffff],
        options in options(),
        data in prop_oneof![4 => vec(any::<u8>(), 0..70), 1 => vec(any::<u8>(), 1100..1400)],
        hops in 2u8..=255, class: u8,
    ) -> Plain {
        let (src_port, dst_port) = ports;
        Plain {
            src_port, dst_port, numbers, flags, window, error, urgent, options, data, hops, class,
        }
    }
}

pub fn rule() -> impl Strategy<Value = OptionsRule> {
    prop_oneof![
        Just(OptionsRule::Keep),
        Just(OptionsRule::WithoutClientAddress),
        (any::<u16>(), 0u16..40)
            .prop_map(|(clamp, less)| OptionsRule::Syn(MssRule { clamp, less })),
    ]
}

prop_compose! {
    pub fn endpoints()(src: u32, src_port: u16, dst: u32, dst_port: u16) -> Endpoints {
        Endpoints {
            src: Endpoint { ip: src, port: src_port },
            dst: Endpoint { ip: dst, port: dst_port },
        }
    }
}

prop_compose! {
    pub fn endpoints6()(src: u128, src_port: u16, dst: u128, dst_port: u16) -> Endpoints<u128> {
        Endpoints {
            src: Endpoint { ip: src, port: src_port },
            dst: Endpoint { ip: dst, port: dst_port },
        }
    }
}

/// Checksums compared as numbers, those at `fields`: 0 and 0xffff are one.
pub fn normal(mut datagram: Vec<u8>, fields: &[usize]) -> Vec<u8> {
    for at in fields {
        if let Some(field) = datagram.get_mut(*at..at + 2)
            && field == [0xff; 2]
        {
            field.fill(0);
        }
    }
    datagram
}
