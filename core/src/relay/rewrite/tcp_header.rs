//! What becomes of the TCP header of a segment that stays in its family, over either: ports,
//! timestamps, the other options.
//!
//! [`OptionsPlan`] says without touching the frame how long the options become, so that a segment
//! which would not fit is refused as it came.

use super::action::{Rewrite, Timestamps};
use super::options::{self, Inserted, MssRule, OptionsRule, Rebuilt, TimestampsAt};
use super::options::{TimestampsOption, place_of_client_address};
use crate::net::IpEndpoint;
use crate::verdict::DropReason;
use crate::wire::checksum::Change;
use crate::wire::tcp::{self, OPTIONS_LEN_MAX};
use crate::wire::{get_u16, get_u32, put_u16, put_u32};

/// What happens to the options.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum How {
    InPlace,
    // Behind so many bytes of the old ones.
    Insert { at: u8 },
    CutPrefix,
    // They are rebuilt when they are needed: a plan stays small enough for registers.
    Rebuild,
}

/// A rewrite of options that is known to be possible.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OptionsPlan {
    how: How,
    /// Length in bytes of the options afterwards.
    pub len: usize,
    // What leaving out and putting in options does to the TCP checksum.
    change: Change,
}

impl OptionsPlan {
    /// Plans what `rewrite` does to the options `bytes` of a segment from `src`.
    ///
    /// # Errors
    /// When the options have no room for what is inserted ([`DropReason::OptionsFull`]), or are
    /// longer than TCP allows ([`DropReason::TcpMalformed`]).
    #[inline(always)]
    pub fn new<A: Copy>(
        bytes: &[u8],
        rewrite: &Rewrite<A>,
        src: IpEndpoint,
    ) -> Result<Self, DropReason> {
        let (how, len, change) = match rewrite.timestamps {
            Timestamps::Keep | Timestamps::SetValue(..) | Timestamps::SetEcho(..) => {
                if rewrite.client_address {
                    return Self::of_insertion(bytes, rewrite, src, place_of_client_address(bytes));
                }
                (How::InPlace, bytes.len(), Change::NONE)
            }
            Timestamps::Insert(_) if bytes.len() + options::INSERTED_LEN > OPTIONS_LEN_MAX => {
                return Self::of_rebuilt(bytes, rewrite);
            }
            Timestamps::Insert(_) => return Self::of_insertion(bytes, rewrite, src, 0),
            Timestamps::Strip => match bytes.split_at_checked(options::INSERTED_LEN) {
                Some((cut, kept)) if options::begin_with_timestamps(cut) => {
                    (How::CutPrefix, kept.len(), Change::NONE.bytes(cut, &[]))
                }
                _ => return Self::of_rebuilt(bytes, rewrite),
            },
        };
        Ok(OptionsPlan { how, len, change })
    }

    #[inline(never)]
    fn of_insertion<A: Copy>(
        old: &[u8],
        rewrite: &Rewrite<A>,
        src: IpEndpoint,
        at: usize,
    ) -> Result<Self, DropReason> {
        let inserted = inserted(rewrite, src);
        let inserted = inserted.as_bytes();
        let len = old.len() + inserted.len();
        if len > OPTIONS_LEN_MAX {
            return Err(DropReason::OptionsFull);
        }
        let change = Change::NONE.bytes(&[], inserted);
        Ok(OptionsPlan { how: How::Insert { at: at as u8 }, len, change })
    }

    /// Bytes of options that stay in front of what is inserted, and move with the TCP header.
    #[inline(always)]
    pub fn kept_in_front(&self) -> usize {
        match self.how {
            How::Insert { at } => at.into(),
            _ => 0,
        }
    }

    #[cold]
    fn of_rebuilt<A: Copy>(old: &[u8], rewrite: &Rewrite<A>) -> Result<Self, DropReason> {
        let new = rebuild(old, rewrite)?;
        let new = new.as_bytes();
        let (how, change) = (How::Rebuild, Change::NONE.bytes(old, new));
        Ok(OptionsPlan { how, len: new.len(), change })
    }

    /// The options that take the place of `old`, where these do not stay behind what is put in
    /// front of them or cut off.
    ///
    /// # Errors
    /// As [`OptionsPlan::new`].
    #[inline(always)]
    pub fn rebuilt<A: Copy>(
        &self,
        old: &[u8],
        rewrite: &Rewrite<A>,
    ) -> Result<Option<Rebuilt>, DropReason> {
        match self.how {
            How::Rebuild => rebuild(old, rewrite).map(Some),
            _ => Ok(None),
        }
    }

    /// Writes the options in their new place; in all but a rebuild what stays of the old ones is
    /// there already. Gives back what that does to the TCP checksum.
    #[inline(always)]
    pub fn write<A: Copy>(
        &self,
        options: &mut [u8],
        rebuilt: Option<&Rebuilt>,
        rewrite: &Rewrite<A>,
        src: IpEndpoint,
    ) -> Change {
        if let Some(rebuilt) = rebuilt {
            options.iter_mut().zip(rebuilt.as_bytes()).for_each(|(place, byte)| *place = *byte);
        }
        let change = match self.how {
            How::Insert { at } => {
                return self.change.and(insert(options, at.into(), rewrite, src));
            }
            How::InPlace => self.change.and(set_timestamps(options, rewrite.timestamps, |at| at)),
            How::CutPrefix | How::Rebuild => self.change,
        };
        match rewrite.options {
            OptionsRule::Keep => change,
            rule => change.and(rule.apply(options)),
        }
    }
}

/// What is inserted into a segment from `src`: timestamps, the address of the client that sent it,
/// or both.
#[inline]
fn inserted<A: Copy>(rewrite: &Rewrite<A>, src: IpEndpoint) -> Inserted {
    let timestamps = match rewrite.timestamps {
        Timestamps::Insert(option) => Some(option),
        _ => None,
    };
    Inserted::new(timestamps, rewrite.client_address.then_some(src))
}

/// Writes what is inserted at `at`. The rule for the other options is for those behind it alone:
/// before it is nothing but timestamps.
#[inline(never)]
fn insert<A: Copy>(options: &mut [u8], at: usize, rewrite: &Rewrite<A>, src: IpEndpoint) -> Change {
    let inserted = inserted(rewrite, src);
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

/// The options that take the place of `old`, where they are neither inserted nor cut off in front.
#[cold]
fn rebuild<A: Copy>(old: &[u8], rewrite: &Rewrite<A>) -> Result<Rebuilt, DropReason> {
    match rewrite.timestamps {
        Timestamps::Insert(option) => squeeze(old, rewrite.options, option),
        _ => Ok(options::strip_timestamps(old)),
    }
}

/// What does not go on is cleared before room is looked for.
fn squeeze(
    bytes: &[u8],
    rule: OptionsRule,
    option: TimestampsOption,
) -> Result<Rebuilt, DropReason> {
    let mut copy = [0; OPTIONS_LEN_MAX];
    let copy = copy.get_mut(..bytes.len()).ok_or(DropReason::TcpMalformed)?;
    copy.copy_from_slice(bytes);
    match rule {
        OptionsRule::Syn(_) => options::prepare_syn(copy, MssRule { clamp: u16::MAX, less: 0 }),
        rule => rule.apply(copy),
    };
    options::squeeze_in_timestamps(copy, option).ok_or(DropReason::OptionsFull)
}

/// Rewrites the part of a TCP header that is in front of its options, of a segment that was
/// `segment_len` bytes long with a header of `header_len`; `change` is what has changed of the rest
/// of what the checksum covers.
#[inline(always)]
pub(super) fn rewrite_head(
    head: &mut [u8; tcp::HEADER_LEN],
    (header_len, segment_len): (usize, usize),
    (src_port, dst_port): (u16, u16),
    options: &OptionsPlan,
    change: Change,
) {
    let old_ports = get_u32(head, tcp::field::SRC_PORT);
    let new_ports = u32::from(src_port) << 16 | u32::from(dst_port);
    put_u32(head, tcp::field::SRC_PORT, new_ports);
    let mut change = change.long(old_ports, new_ports);
    let new_len = tcp::HEADER_LEN + options.len;
    if new_len != header_len {
        let old = get_u16(head, tcp::field::DATA_OFFSET);
        let new = old & 0x0fff | (new_len as u16 / 4) << 12;
        put_u16(head, tcp::field::DATA_OFFSET, new);
        change = change.word(old, new);
        // The pseudo header holds the segment's length, which a quote may say wrong.
        let new_segment = segment_len.saturating_sub(header_len) + new_len;
        change = change.word(segment_len as u16, new_segment as u16);
    }
    let sum = change.apply(get_u16(head, tcp::field::CHECKSUM));
    put_u16(head, tcp::field::CHECKSUM, sum);
}
