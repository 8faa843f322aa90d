//! What a relay does to TCP options: finds the timestamps, sets, inserts or strips them, and keeps
//! from a SYN what would not survive the relay (`docs/protocol.md`, section 7).
//!
//! Everything here works on the options alone, the bytes after the first 20 of a TCP header.

mod insert;
#[cfg(test)]
mod tests;

use crate::wire::checksum::{self, Change};
use crate::wire::tcp::{self, MalformedOptions, OPTIONS_LEN_MAX, Opt, Options, kind};
use crate::wire::{get_u16, get_u32, put_u16, put_u32};

pub use insert::{
    CLIENT_ADDRESS_LEN, CLIENT_ADDRESS6_LEN, Inserted, client_address_len, place_of_client_address,
};

/// Where a timestamps option is, as the offset of its kind byte from the start of the options.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimestampsAt(pub u8);

impl TimestampsAt {
    fn value(self) -> usize {
        usize::from(self.0) + 2
    }

    fn echo(self) -> usize {
        usize::from(self.0) + 6
    }
}

/// Options that carry nothing but aligned timestamps, as nearly all segments have them.
const ONLY_TIMESTAMPS: [u8; 4] = [kind::NOP, kind::NOP, kind::TIMESTAMPS, TIMESTAMPS_LEN];
const TIMESTAMPS_LEN: u8 = tcp::TIMESTAMPS_LEN as u8;

/// Length in bytes of an inserted `NOP NOP TS`.
pub const INSERTED_LEN: usize = 12;

/// What the options of a segment hold.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// Where the timestamps are.
    pub timestamps: Option<TimestampsAt>,
    /// Whether an option may give a target the address of a client (TOA).
    pub client_address: bool,
}

/// Finds the timestamps and checks the length of every option. Two timestamps options are as bad
/// as a lying length: hosts take the last one, so a sender could put its own tag behind ours.
///
/// In a SYN, what follows the last option whose length holds is no option: hosts accept the SYN and
/// do not read on, and [`prepare_syn`] writes NOPs over it.
///
/// # Errors
/// When the length of an option is wrong, or there are two timestamps options.
#[inline]
pub fn read(options: &[u8], syn: bool) -> Result<Found, MalformedOptions> {
    if options.is_empty() {
        return Ok(Found::default());
    }
    if options.len() == INSERTED_LEN && options.starts_with(&ONLY_TIMESTAMPS) {
        return Ok(Found { timestamps: Some(TimestampsAt(2)), client_address: false });
    }
    walk(options, syn)
}

fn walk(options: &[u8], syn: bool) -> Result<Found, MalformedOptions> {
    let mut found = Found::default();
    for option in Options::new(options) {
        let option = match option {
            Ok(option) => option,
            Err(_) if syn => break,
            Err(malformed) => return Err(malformed),
        };
        if option.kind == kind::TIMESTAMPS {
            if option.len != tcp::TIMESTAMPS_LEN || found.timestamps.is_some() {
                return Err(MalformedOptions);
            }
            found.timestamps = Some(TimestampsAt(option.at as u8));
        }
        found.client_address |= is_client_address(option.kind);
    }
    Ok(found)
}

/// The timestamps among `options` of a segment that is no SYN: [`read`].
///
/// # Errors
/// When the length of an option is wrong, or there are two timestamps options.
#[inline]
pub fn find_timestamps(options: &[u8]) -> Result<Option<TimestampsAt>, MalformedOptions> {
    read(options, false).map(|found| found.timestamps)
}

/// The TSval of the option at `at`.
#[inline]
pub fn timestamp_value(options: &[u8], at: TimestampsAt) -> u32 {
    get_u32(options, at.value())
}

/// The TSecr of the option at `at`.
#[inline]
pub fn timestamp_echo(options: &[u8], at: TimestampsAt) -> u32 {
    get_u32(options, at.echo())
}

/// Sets TSval; gives back what that does to the checksum.
#[inline]
pub fn set_timestamp_value(options: &mut [u8], at: TimestampsAt, value: u32) -> Change {
    set_long(options, at.value(), value)
}

/// Sets TSecr; gives back what that does to the checksum.
#[inline]
pub fn set_timestamp_echo(options: &mut [u8], at: TimestampsAt, value: u32) -> Change {
    set_long(options, at.echo(), value)
}

#[inline(always)]
fn set_long(options: &mut [u8], at: usize, value: u32) -> Change {
    if !at.is_multiple_of(2) {
        return set_long_at_odd_offset(options, at, value);
    }
    let old = get_u32(options, at);
    put_u32(options, at, value);
    Change::NONE.long(old, value)
}

/// At an odd offset the four bytes lie in three words of the checksum.
#[cold]
fn set_long_at_odd_offset(options: &mut [u8], at: usize, value: u32) -> Change {
    edit(options, |options| put_u32(options, at, value))
}

/// Changes options in place; gives back what that does to the checksum.
fn edit(options: &mut [u8], change: impl FnOnce(&mut [u8])) -> Change {
    let before = checksum::fold(checksum::sum(0, options));
    change(options);
    Change::NONE.word(before, checksum::fold(checksum::sum(0, options)))
}

/// What happens to the MSS option of a SYN or SYN-ACK.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MssRule {
    /// The largest value that passes.
    pub clamp: u16,
    /// Taken off after that: the bytes that the relay adds to segments the other way.
    pub less: u16,
}

/// What happens to the options other than timestamps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OptionsRule {
    /// They stay.
    #[default]
    Keep,
    /// NOPs are written over those that may give a target the address of a client.
    WithoutClientAddress,
    /// They are a SYN's or a SYN-ACK's: [`prepare_syn`].
    Syn(MssRule),
}

impl OptionsRule {
    /// Changes `options` in place; gives back what that does to the checksum.
    #[inline]
    pub fn apply(self, options: &mut [u8]) -> Change {
        match self {
            OptionsRule::Keep => Change::NONE,
            OptionsRule::WithoutClientAddress => remove_client_address(options),
            OptionsRule::Syn(rule) => prepare_syn(options, rule),
        }
    }
}

/// Writes NOPs over what may give a target the address of a client, in place: whoever could send it
/// through the relay would choose the address that the target believes.
#[cold]
fn remove_client_address(options: &mut [u8]) -> Change {
    edit(options, |options| {
        let mut at = 0;
        while let Some(Ok(option)) = next_option(options, at) {
            at = option.at + option.len;
            if is_client_address(option.kind) {
                options[option.at..at].fill(kind::NOP);
            }
        }
    })
}

/// Prepares the options of a SYN or SYN-ACK, in place: NOPs over what would not survive the relay
/// and over a tail that is no option, and the MSS rule. Gives back what that does to the checksum.
pub fn prepare_syn(options: &mut [u8], rule: MssRule) -> Change {
    edit(options, |options| {
        let mut at = 0;
        while let Some(option) = next_option(options, at) {
            let Ok(option) = option else {
                options[at..].fill(kind::NOP);
                break;
            };
            at = option.at + option.len;
            if does_not_survive(option.kind) {
                options[option.at..at].fill(kind::NOP);
            } else if option.kind == kind::MSS && option.len == 4 {
                let mss = get_u16(options, option.at + 2).min(rule.clamp);
                put_u16(options, option.at + 2, mss.saturating_sub(rule.less));
            }
        }
    })
}

/// The first option at or after `at`, with its offset from the start of `options`.
fn next_option(options: &[u8], at: usize) -> Option<Result<Opt, MalformedOptions>> {
    let option = Options::new(options.get(at..)?).next()?;
    Some(option.map(|option| Opt { at: option.at + at, ..option }))
}

/// Options that bind to addresses the relay rewrites, sign bytes that it changes, or let data
/// travel before the path is known.
const fn does_not_survive(kind: u8) -> bool {
    let bound = matches!(kind, kind::MD5 | kind::AUTHENTICATION | kind::MPTCP | kind::FAST_OPEN);
    bound || is_client_address(kind)
}

/// Options in which kernel modules of targets look for the address of a client (TOA).
const fn is_client_address(kind: u8) -> bool {
    matches!(kind, kind::CLIENT_ADDRESS | kind::EXPERIMENT_1 | kind::EXPERIMENT_2)
}

/// Options written anew, padded with NOPs to a multiple of four bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rebuilt {
    bytes: [u8; OPTIONS_LEN_MAX],
    len: usize,
}

impl Rebuilt {
    const EMPTY: Rebuilt = Rebuilt { bytes: [kind::NOP; OPTIONS_LEN_MAX], len: 0 };

    /// The options.
    pub fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or_default()
    }

    /// False when there is no room.
    fn push(&mut self, bytes: &[u8]) -> bool {
        let end = self.len + bytes.len();
        let Some(room) = self.bytes.get_mut(self.len..end) else { return false };
        room.copy_from_slice(bytes);
        self.len = end;
        true
    }

    fn padded(mut self) -> Rebuilt {
        self.len = self.len.next_multiple_of(4);
        self
    }
}

/// The numbers of a timestamps option.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TimestampsOption {
    /// TSval.
    pub value: u32,
    /// TSecr.
    pub echo: u32,
}

impl TimestampsOption {
    /// `NOP NOP TS {value, echo}`.
    pub fn aligned(self) -> [u8; INSERTED_LEN] {
        let mut bytes = [0; INSERTED_LEN];
        bytes[..4].copy_from_slice(&ONLY_TIMESTAMPS);
        put_u32(&mut bytes, 4, self.value);
        put_u32(&mut bytes, 8, self.echo);
        bytes
    }
}

/// Options with `NOP NOP TS` in front, for those that leave no room for it as they
/// stand: NOPs go, and SACK keeps its first blocks, three at most. `None` when even that is not
/// enough.
pub fn squeeze_in_timestamps(options: &[u8], timestamps: TimestampsOption) -> Option<Rebuilt> {
    let mut rebuilt = Rebuilt::EMPTY;
    rebuilt.push(&timestamps.aligned());
    let others = |option: &Opt| option.kind != kind::SACK;
    for option in Options::new(options).flatten().filter(others) {
        if !rebuilt.push(&options[option.at..option.at + option.len]) {
            return None;
        }
    }
    for option in Options::new(options).flatten().filter(|option| !others(option)) {
        let room = OPTIONS_LEN_MAX.saturating_sub(rebuilt.len + SACK_HEAD_LEN) / SACK_BLOCK_LEN;
        let blocks = ((option.len - SACK_HEAD_LEN) / SACK_BLOCK_LEN).min(SACK_BLOCKS_MAX).min(room);
        if blocks > 0 {
            let len = SACK_HEAD_LEN + blocks * SACK_BLOCK_LEN;
            let start = rebuilt.len;
            rebuilt.push(&options[option.at..option.at + len]);
            rebuilt.bytes[start + 1] = len as u8;
        }
    }
    Some(rebuilt.padded())
}

const SACK_HEAD_LEN: usize = 2;
const SACK_BLOCK_LEN: usize = 8;
const SACK_BLOCKS_MAX: usize = 3;

/// Whether the options begin with `NOP NOP TS`, so that cutting 12 bytes strips the timestamps.
#[inline]
pub fn begin_with_timestamps(options: &[u8]) -> bool {
    options.starts_with(&ONLY_TIMESTAMPS)
}

/// Options without timestamps, for those that do not begin with them.
pub fn strip_timestamps(options: &[u8]) -> Rebuilt {
    let mut rebuilt = Rebuilt::EMPTY;
    for option in Options::new(options).flatten().filter(|o| o.kind != kind::TIMESTAMPS) {
        rebuilt.push(&options[option.at..option.at + option.len]);
    }
    rebuilt.padded()
}
