//! Rewrites an IPv4 segment that stays IPv4, in place: addresses, ports, timestamps, the options of
//! SYNs, TTL.
//!
//! [`plan`] decides without touching the frame, so that a segment which would not fit is refused
//! (and quoted) as it came; [`apply`] then writes. Checksums are updated, never computed anew
//! (RFC 1624): damage on the way in stays visible at the end.

use super::action::{Rewrite, Timestamps};
use super::options::{self, Inserted, MssRule, OptionsRule, Rebuilt, TimestampsAt};
use super::options::{TimestampsOption, place_of_client_address};
use crate::frame::Frame;
use crate::net::{Endpoint, Endpoints};
use crate::verdict::DropReason;
use crate::wire::checksum::Change;
use crate::wire::ipv4::{self, Ipv4};
use crate::wire::tcp::{self, OPTIONS_LEN_MAX, Tcp};
use crate::wire::{get_u16, get_u32, put_u16, put_u32};

/// An IPv4 segment: where it is in its frame, and its headers.
#[derive(Clone, Copy, Debug)]
pub struct Ipv4Segment<'a> {
    /// Offset in bytes of the IPv4 header.
    pub l3: usize,
    /// The IPv4 header.
    pub ip: &'a Ipv4,
    /// The TCP header.
    pub tcp: &'a Tcp,
}

/// What [`apply`] will do to the options.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Options {
    InPlace,
    // Behind so many bytes of the old ones.
    Insert { at: u8 },
    CutPrefix,
    // They are rebuilt when they are needed: a plan stays small enough for registers.
    Rebuild,
}

/// A rewrite that is known to be possible.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Plan {
    options: Options,
    options_len: usize,
    // What leaving out and putting in options does to the TCP checksum.
    change: Change,
    /// Length in bytes of the IPv4 datagram afterwards.
    pub total_len: usize,
}

/// Plans the rewrite of `segment`, whose TCP options are `bytes`.
///
/// # Errors
/// When the options have no room for what is inserted ([`DropReason::OptionsFull`]), or are longer
/// than TCP allows ([`DropReason::TcpMalformed`]).
#[inline(always)]
pub fn plan(
    segment: &Ipv4Segment<'_>,
    bytes: &[u8],
    rewrite: &Rewrite,
) -> Result<Plan, DropReason> {
    let (options, options_len, change) = match rewrite.timestamps {
        Timestamps::Keep | Timestamps::SetValue(..) | Timestamps::SetEcho(..) => {
            match rewrite.client_address {
                false => (Options::InPlace, bytes.len(), Change::NONE),
                true => plan_insert(segment, bytes, rewrite, place_of_client_address(bytes))?,
            }
        }
        Timestamps::Insert(_) if bytes.len() + options::INSERTED_LEN > OPTIONS_LEN_MAX => {
            plan_rebuild(bytes, rewrite)?
        }
        Timestamps::Insert(_) => plan_insert(segment, bytes, rewrite, 0)?,
        Timestamps::Strip => match bytes.split_at_checked(options::INSERTED_LEN) {
            Some((cut, kept)) if options::begin_with_timestamps(cut) => {
                (Options::CutPrefix, kept.len(), Change::NONE.bytes(cut, &[]))
            }
            _ => plan_rebuild(bytes, rewrite)?,
        },
    };
    let headers = segment.ip.header_len + segment.tcp.header_len;
    let data = segment.ip.total_len.saturating_sub(headers);
    let total_len = ipv4::HEADER_LEN + tcp::HEADER_LEN + options_len + data;
    Ok(Plan { options, options_len, change, total_len })
}

#[inline]
fn plan_insert(
    segment: &Ipv4Segment<'_>,
    old: &[u8],
    rewrite: &Rewrite,
    at: usize,
) -> Result<(Options, usize, Change), DropReason> {
    let inserted = inserted(segment, rewrite);
    let inserted = inserted.as_bytes();
    let len = old.len() + inserted.len();
    if len > OPTIONS_LEN_MAX {
        return Err(DropReason::OptionsFull);
    }
    Ok((Options::Insert { at: at as u8 }, len, Change::NONE.bytes(&[], inserted)))
}

/// What is inserted: timestamps, the address of the client that sent the segment, or both.
#[inline]
fn inserted(segment: &Ipv4Segment<'_>, rewrite: &Rewrite) -> Inserted {
    let timestamps = match rewrite.timestamps {
        Timestamps::Insert(option) => Some(option),
        _ => None,
    };
    let source = Endpoint { ip: segment.ip.src, port: segment.tcp.src_port };
    Inserted::new(timestamps, rewrite.client_address.then_some(source.into()))
}

#[cold]
fn plan_rebuild(old: &[u8], rewrite: &Rewrite) -> Result<(Options, usize, Change), DropReason> {
    let new = rebuild(old, rewrite)?;
    let new = new.as_bytes();
    Ok((Options::Rebuild, new.len(), Change::NONE.bytes(old, new)))
}

/// The options that take the place of `old`, where they are neither inserted nor cut off in front.
#[cold]
fn rebuild(old: &[u8], rewrite: &Rewrite) -> Result<Rebuilt, DropReason> {
    match rewrite.timestamps {
        Timestamps::Insert(option) => squeeze(old, rewrite, option),
        _ => Ok(options::strip_timestamps(old)),
    }
}

/// What does not go on is cleared before room is looked for.
fn squeeze(
    bytes: &[u8],
    rewrite: &Rewrite,
    option: TimestampsOption,
) -> Result<Rebuilt, DropReason> {
    let mut copy = [0; OPTIONS_LEN_MAX];
    let copy = copy.get_mut(..bytes.len()).ok_or(DropReason::TcpMalformed)?;
    copy.copy_from_slice(bytes);
    match rewrite.options {
        OptionsRule::Syn(_) => options::prepare_syn(copy, MssRule { clamp: u16::MAX, less: 0 }),
        rule => rule.apply(copy),
    };
    options::squeeze_in_timestamps(copy, option).ok_or(DropReason::OptionsFull)
}

/// Rewrites `frame` as planned, TTL less one. Gives back where its IPv4 header is afterwards.
///
/// `frame` must end where its datagram ends.
///
/// # Errors
/// When the frame buffer has no room in front: [`DropReason::NoRoom`].
#[inline]
pub fn apply<F: Frame>(
    frame: &mut F,
    segment: &Ipv4Segment<'_>,
    rewrite: &Rewrite,
    plan: &Plan,
) -> Result<usize, DropReason> {
    let old_headers = segment.ip.header_len + segment.tcp.header_len;
    let rebuilt = match plan.options {
        Options::Rebuild => {
            let at = segment.l3 + segment.ip.header_len + tcp::HEADER_LEN;
            let old = frame.bytes().get(at..segment.l3 + old_headers);
            Some(rebuild(old.unwrap_or_default(), rewrite)?)
        }
        _ => None,
    };
    // Where 40 bytes of headers must begin for the options to end where the data begins.
    let data_at = segment.l3 + old_headers;
    let headers_len = ipv4::HEADER_LEN + tcp::HEADER_LEN + plan.options_len;
    let grown = headers_len.saturating_sub(data_at);
    if grown > 0 && !frame.prepend(grown) {
        return Err(DropReason::NoRoom);
    }
    let (l3, old_l3) = (data_at + grown - headers_len, segment.l3 + grown);
    // What stands before an insertion moves with the TCP header.
    let kept = match plan.options {
        Options::Insert { at } => usize::from(at),
        _ => 0,
    };
    let tcp_len = tcp::HEADER_LEN + kept;
    let bytes = frame.bytes_mut();
    if old_l3 != l3 || segment.ip.header_len != ipv4::HEADER_LEN {
        let old_l4 = old_l3 + segment.ip.header_len;
        let new_l4 = l3 + ipv4::HEADER_LEN;
        // The later header first when both move back, the earlier first when both move forward.
        if new_l4 > old_l4 {
            bytes.copy_within(old_l4..old_l4 + tcp_len, new_l4);
            bytes.copy_within(old_l3..old_l3 + ipv4::HEADER_LEN, l3);
        } else {
            bytes.copy_within(old_l3..old_l3 + ipv4::HEADER_LEN, l3);
            bytes.copy_within(old_l4..old_l4 + tcp_len, new_l4);
        }
    }
    let Some((ip, rest)) =
        bytes.get_mut(l3..).and_then(|bytes| bytes.split_first_chunk_mut::<{ ipv4::HEADER_LEN }>())
    else {
        return Err(DropReason::NoRoom);
    };
    let Some((head, rest)) = rest.split_first_chunk_mut::<{ tcp::HEADER_LEN }>() else {
        return Err(DropReason::NoRoom);
    };
    let Some(options) = rest.get_mut(..plan.options_len) else {
        return Err(DropReason::NoRoom);
    };
    if let Some(rebuilt) = &rebuilt {
        options.iter_mut().zip(rebuilt.as_bytes()).for_each(|(place, byte)| *place = *byte);
    }
    let mut change = rewrite_options(options, segment, rewrite, plan);
    change = rewrite_addresses(ip, segment, &rewrite.endpoints, plan.total_len, change);
    rewrite_tcp(head, segment, rewrite, plan, change);
    Ok(l3)
}

/// Options in their new place; in all but a rebuild what stays of the old ones is there already.
#[inline(always)]
fn rewrite_options(
    options: &mut [u8],
    segment: &Ipv4Segment<'_>,
    rewrite: &Rewrite,
    plan: &Plan,
) -> Change {
    let change = match plan.options {
        Options::Insert { at } => {
            let change = insert(options, usize::from(at), segment, rewrite);
            return plan.change.and(change);
        }
        Options::InPlace => plan.change.and(set_timestamps(options, rewrite.timestamps, |at| at)),
        Options::CutPrefix | Options::Rebuild => plan.change,
    };
    match rewrite.options {
        OptionsRule::Keep => change,
        rule => change.and(rule.apply(options)),
    }
}

/// Writes what is inserted at `at`. The rule for the other options is for those behind it alone:
/// before it is nothing but timestamps.
#[inline]
fn insert(options: &mut [u8], at: usize, segment: &Ipv4Segment<'_>, rewrite: &Rewrite) -> Change {
    let inserted = inserted(segment, rewrite);
    let inserted = inserted.as_bytes();
    let end = at + inserted.len();
    if let Some(place) = options.get_mut(at..end) {
        place.copy_from_slice(inserted);
    }
    let moved = |stamp: TimestampsAt| match usize::from(stamp.0) < at {
        true => stamp,
        false => TimestampsAt(stamp.0 + inserted.len() as u8),
    };
    let change = set_timestamps(options, rewrite.timestamps, moved);
    match (rewrite.options, options.get_mut(end..)) {
        (OptionsRule::Keep, _) | (_, None) => change,
        (rule, Some(others)) => change.and(rule.apply(others)),
    }
}

/// Sets TSval or TSecr where that is to be done, at the place that `moved` makes of the old one.
#[inline(always)]
fn set_timestamps(
    options: &mut [u8],
    timestamps: Timestamps,
    moved: impl Fn(TimestampsAt) -> TimestampsAt,
) -> Change {
    match timestamps {
        Timestamps::SetValue(at, tag) => options::set_timestamp_value(options, moved(at), tag),
        Timestamps::SetEcho(at, echo) => options::set_timestamp_echo(options, moved(at), echo),
        _ => Change::NONE,
    }
}

#[inline(always)]
fn rewrite_addresses(
    ip: &mut [u8; ipv4::HEADER_LEN],
    segment: &Ipv4Segment<'_>,
    to: &Endpoints,
    total_len: usize,
    change: Change,
) -> Change {
    let old = segment.ip;
    let moved = Change::NONE.long(old.src, to.src.ip).long(old.dst, to.dst.ip);
    put_u32(ip, ipv4::field::SRC, to.src.ip);
    put_u32(ip, ipv4::field::DST, to.dst.ip);
    let ttl = get_u16(ip, ipv4::field::TTL);
    let new_ttl = ttl.wrapping_sub(0x0100);
    put_u16(ip, ipv4::field::TTL, new_ttl);
    let mut header = moved.word(ttl, new_ttl);
    if total_len != old.total_len {
        put_u16(ip, ipv4::field::TOTAL_LEN, total_len as u16);
        header = header.word(old.total_len as u16, total_len as u16);
    }
    if old.header_len == ipv4::HEADER_LEN {
        let sum = header.apply(get_u16(ip, ipv4::field::CHECKSUM));
        put_u16(ip, ipv4::field::CHECKSUM, sum);
    } else {
        ip[ipv4::field::VERSION_IHL] = 0x45;
        ipv4::write_checksum(ip);
    }
    change.and(moved)
}

#[inline]
fn rewrite_tcp(
    head: &mut [u8; tcp::HEADER_LEN],
    segment: &Ipv4Segment<'_>,
    rewrite: &Rewrite,
    plan: &Plan,
    change: Change,
) {
    let to = &rewrite.endpoints;
    let old_ports = get_u32(head, tcp::field::SRC_PORT);
    let new_ports = u32::from(to.src.port) << 16 | u32::from(to.dst.port);
    put_u32(head, tcp::field::SRC_PORT, new_ports);
    let mut change = change.long(old_ports, new_ports);
    let new_len = tcp::HEADER_LEN + plan.options_len;
    if new_len != segment.tcp.header_len {
        let old = get_u16(head, tcp::field::DATA_OFFSET);
        let new = old & 0x0fff | (new_len as u16 / 4) << 12;
        put_u16(head, tcp::field::DATA_OFFSET, new);
        change = change.word(old, new);
        // The pseudo header holds the segment's length.
        let old_segment = segment.ip.total_len - segment.ip.header_len;
        let new_segment = plan.total_len - ipv4::HEADER_LEN;
        change = change.word(old_segment as u16, new_segment as u16);
    }
    let sum = change.apply(get_u16(head, tcp::field::CHECKSUM));
    put_u16(head, tcp::field::CHECKSUM, sum);
}
