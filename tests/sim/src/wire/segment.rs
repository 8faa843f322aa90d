//! Segments.

use std::net::SocketAddr;

use anyrelay_kit::frames::{ACK, FIN, SYN, long};

/// A TCP segment.
#[derive(Clone, Copy, Debug)]
pub struct SegmentView<'a> {
    pub src: SocketAddr,
    pub dst: SocketAddr,
    pub seq: u32,
    pub ack: u32,
    pub flags: u8,
    pub window: u16,
    pub options: &'a [u8],
    pub data: &'a [u8],
    pub checksum_holds: bool,
}

impl<'a> SegmentView<'a> {
    pub fn has(&self, flags: u8) -> bool {
        self.flags & flags == flags
    }

    /// A SYN without ACK.
    pub fn opens(&self) -> bool {
        self.flags & (SYN | ACK) == SYN
    }

    /// The number after its last byte or mark.
    pub fn end(&self) -> u32 {
        let marks = u32::from(self.has(SYN)) + u32::from(self.has(FIN));
        self.seq.wrapping_add(self.data.len() as u32 + marks)
    }

    /// Its options but NOPs; an `Err` behind those with honest lengths.
    pub fn options(&self) -> impl Iterator<Item = Result<(u8, &'a [u8]), ()>> + use<'a> {
        options(self.options)
    }

    pub fn option(&self, kind: u8) -> Option<&'a [u8]> {
        self.options().flatten().find(|option| option.0 == kind).map(|option| option.1)
    }

    /// TSval and TSecr.
    pub fn timestamps(&self) -> Option<(u32, u32)> {
        timestamps(self.options)
    }
}

/// TSval and TSecr in the options of a segment.
pub fn timestamps(of: &[u8]) -> Option<(u32, u32)> {
    let (_, value) = options(of).flatten().find(|option| option.0 == 8)?;
    (value.len() == 8).then(|| (long(value, 0), long(value, 4)))
}

fn options(mut rest: &[u8]) -> impl Iterator<Item = Result<(u8, &[u8]), ()>> {
    std::iter::from_fn(move || {
        while let [1, after @ ..] = rest {
            rest = after;
        }
        let (kind, len) = match rest {
            [] | [0, ..] => return None,
            [kind, len, ..] if usize::from(*len) >= 2 && usize::from(*len) <= rest.len() => {
                (*kind, usize::from(*len))
            }
            _ => {
                rest = &[];
                return Some(Err(()));
            }
        };
        let value = &rest[2..len];
        rest = &rest[len..];
        Some(Ok((kind, value)))
    })
}

/// Where the timestamps begin in the options of a segment.
pub fn timestamps_at(options: &[u8]) -> Option<usize> {
    let mut at = 0;
    loop {
        at += match options.get(at..)? {
            [0, ..] => return None,
            [1, ..] => 1,
            [8, 10, ..] if at + 10 <= options.len() => return Some(at),
            [_, len, ..] if *len >= 2 => usize::from(*len),
            _ => return None,
        };
    }
}
