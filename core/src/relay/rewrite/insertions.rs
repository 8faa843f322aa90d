//! What a target reads of a segment into which the relay inserts timestamps, the address of its
//! client, or both; against a slow twin that writes it from plain fields.

use proptest::prelude::*;

use super::options::{CLIENT_ADDRESS_LEN, INSERTED_LEN, Inserted, OptionsRule};
use super::options::{TimestampsOption, read};
use super::plain::{Plain, endpoints, normal, plain, rule};
use super::{IpRewrite, Rewrite, Segment, Timestamps, apply, plan};
use crate::frame::{Frame, HeapFrame};
use crate::net::Endpoint;
use crate::verdict::DropReason;
use crate::wire::Datagram;
use crate::wire::ipv4::Ipv4;
use crate::wire::tcp::Tcp;

/// TSval and TSecr.
type Stamps = (u32, u32);
/// Port and address.
type Client = (u16, u32);

/// What a host makes of options, as it reads them one by one: the timestamps, of which the last
/// count, and the first address of a client in the layout of TOA.
fn as_a_host_reads(options: &[u8]) -> (Option<Stamps>, Option<Client>) {
    let (mut stamps, mut client, mut rest) = (None, None, options);
    let long = |bytes: &[u8]| u32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
    while let [kind, behind @ ..] = rest {
        match kind {
            0 => break,
            1 => rest = behind,
            _ => {
                let Some(len) = behind.first().map(|len| usize::from(*len)) else { break };
                if len < 2 || len > rest.len() {
                    break;
                }
                let value = &rest[2..len];
                match (kind, len) {
                    (8, 10) => stamps = Some((long(value), long(&value[4..]))),
                    (254, 8) if client.is_none() => {
                        client =
                            Some((u16::from_be_bytes([value[0], value[1]]), long(&value[2..])));
                    }
                    _ => {}
                }
                rest = &rest[len..];
            }
        }
    }
    (stamps, client)
}

proptest! {
    #[test]
    fn a_target_reads_the_tag_and_the_client(
        plain in plain(), from in endpoints(), to in endpoints(), rule in rule(),
        front in 0usize..30, extra in 0usize..=10, tag: u32, tells: bool,
    ) {
        let found = read(&plain.options, true);
        prop_assume!(found.is_ok());
        let found = found.unwrap();
        let rule = match (rule, found.client_address) {
            (OptionsRule::Keep, true) => OptionsRule::WithoutClientAddress,
            (rule, _) => rule,
        };
        let timestamps = match found.timestamps {
            Some(at) => Timestamps::SetValue(at, tag),
            None => Timestamps::Insert(TimestampsOption { value: tag, echo: 0 }),
        };
        let stamps_len = if found.timestamps.is_none() { INSERTED_LEN } else { 0 };
        let toa_len = if tells { CLIENT_ADDRESS_LEN } else { 0 };
        prop_assume!(plain.options.len() + stamps_len <= 40);
        let plain = Plain { src_port: from.src.port, dst_port: from.dst.port, ..plain };
        let datagram = plain.ipv4(from.src.ip, from.dst.ip, 9, 0, &vec![1; extra * 4]);
        let ip = Ipv4::parse(&datagram).unwrap();
        let tcp = Tcp::parse(&datagram[ip.header_len..]).unwrap();
        let segment = Segment { l3: front, ip: Datagram::V4(ip), tcp };
        let rewrite = Rewrite {
            endpoints: to, timestamps, options: rule, client_address: tells, id: 0,
        };
        let rewrite = IpRewrite::V4(rewrite);
        let planned = plan(&segment, &plain.options, &rewrite);
        if plain.options.len() + stamps_len + toa_len > 40 {
            prop_assert_eq!(planned.err(), Some(DropReason::OptionsFull));
            return Ok(());
        }
        let planned = planned.unwrap();
        let mut frame = HeapFrame::new(&[&vec![0xee; front][..], &datagram].concat());
        let l3 = apply(&mut frame, &segment, &rewrite, &planned).unwrap();

        let mut options = plain.moved(to.src.port, to.dst.port, rule).options;
        let echo = found.timestamps.map(|at| {
            let value = usize::from(at.0) + 2;
            options[value..value + 4].copy_from_slice(&tag.to_be_bytes());
            u32::from_be_bytes(options[value + 4..value + 8].try_into().unwrap())
        });
        let mut told = vec![254, 8];
        told.extend(from.src.port.to_be_bytes());
        told.extend(from.src.ip.to_be_bytes());
        told.truncate(toa_len);
        let stamps = [&[1, 1, 8, 10][..], &tag.to_be_bytes(), &[0; 4]].concat();
        // Of what came: options that the rule clears look like the NOPs in front of timestamps.
        let at = if plain.options.starts_with(&[1, 1, 8, 10]) { 12 } else { 0 };
        let want = match echo {
            None => [stamps, told, options].concat(),
            Some(_) => [&options[..at], &told, &options[at..]].concat(),
        };
        let read = as_a_host_reads(&want);
        prop_assert_eq!(read.0, Some((tag, echo.unwrap_or(0))));
        prop_assert_eq!(read.1, tells.then_some((from.src.port, from.src.ip)));
        let want = Plain {
            src_port: to.src.port, dst_port: to.dst.port, options: want, hops: plain.hops - 1,
            ..plain
        };
        let want = want.ipv4(to.src.ip, to.dst.ip, 9, 0, &[]);
        prop_assert_eq!(want.len(), planned.total_len());
        prop_assert_eq!(normal(frame.bytes()[l3..].to_vec(), &[36]), normal(want, &[36]));
    }
}

#[test]
fn both_families_have_their_layout() {
    let client = Endpoint { ip: 0xc612_0509_u32, port: 0x9c41 };
    let told = Inserted::new(None, Some(client.into()));
    assert_eq!(told.as_bytes(), [254, 8, 0x9c, 0x41, 198, 18, 5, 9]);
    let client = Endpoint { ip: 0x2001_0db8_u128 << 96 | 0x102, port: 0x9c41 };
    let stamps = TimestampsOption { value: 1, echo: 2 };
    let told = Inserted::new(Some(stamps), Some(client.into()));
    let mut want = vec![1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 2, 253, 20, 0x9c, 0x41];
    want.extend([0x20, 0x01, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 2]);
    assert_eq!(told.as_bytes(), want);
}
