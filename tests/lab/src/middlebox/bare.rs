//! Takes the timestamps option (RFC 7323) out of chosen segments, as some boxes on a path do, and
//! gives keepalive probes a byte of garbage, as some stacks do (RFC 1122, section 4.2.3.6).
//!
//! Both ends agreed on timestamps then, as a SYN always keeps them. A segment whose checksum is
//! wrong is left as it is.

use std::collections::HashMap;

use anyrelay_kit::frames::{
    ACK, FIN, RST, SYN, TCP, addresses, long, repair, set_length, transport_checksum, word,
};

use super::segment::{ETHERNET_BYTES, ends, tcp_at};

/// A kind of segment that is no SYN.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Without data: acknowledgments, window updates, and probes whatever they carry.
    Ack,
    /// With data.
    Data,
    /// With FIN, and data or not.
    Fin,
    /// With RST.
    Reset,
}

/// What is done to segments of the first side.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bare {
    /// These go on without timestamps.
    pub kinds: &'static [Kind],
    /// Nothing is in the place of the option, as if a stack had not written it. Otherwise NOPs are.
    pub cut_out: bool,
    /// Probes carry the byte before the next.
    pub garbage: bool,
}

impl Bare {
    /// Nothing.
    pub const NONE: Self = Self { kinds: &[], cut_out: false, garbage: false };

    /// Acknowledgments and probes with a byte are bare, as of some stacks.
    pub const PROBES: Self = Self { kinds: &[Kind::Ack], cut_out: true, garbage: true };

    /// NOPs are in the place of timestamps in all segments but SYNs.
    pub const ALL: Self = Self {
        kinds: &[Kind::Ack, Kind::Data, Kind::Fin, Kind::Reset],
        cut_out: false,
        garbage: false,
    };
}

/// A frame that goes on instead of what came.
#[derive(Debug, PartialEq, Eq)]
pub struct Changed {
    pub frame: Vec<u8>,
    /// It had timestamps.
    pub is_bare: bool,
    /// It is a probe, and had no data.
    pub has_garbage: bool,
}

/// Does it, and knows of each flow what its next sequence number is: that of a probe is one less.
#[derive(Debug, Default)]
pub struct Stripper {
    next: HashMap<([u8; 18], [u8; 18]), u32>,
}

impl Stripper {
    /// What becomes of a frame; `None` if it goes on as it is.
    pub fn change(&mut self, bare: &Bare, frame: &[u8]) -> Option<Changed> {
        if *bare == Bare::NONE {
            return None;
        }
        let segment = Segment::of(frame)?;
        let is_probe = self.is_probe(frame, &segment);
        let has_garbage = is_probe && bare.garbage && segment.data.is_empty();
        let options = if segment.kind(is_probe).is_some_and(|kind| bare.kinds.contains(&kind)) {
            without_timestamps(segment.options, bare.cut_out)
        } else {
            None
        };
        if options.is_none() && !has_garbage {
            return None;
        }
        let is_bare = options.is_some();
        let options = options.unwrap_or_else(|| segment.options.to_vec());
        let garbage: &[u8] = if has_garbage { &[0] } else { &[] };
        let mut datagram = [segment.headers, &options, segment.data, garbage].concat();
        let offset = &mut datagram[segment.tcp + 12];
        *offset = *offset & 0x0f | ((20 + options.len()) as u8) << 2;
        set_length(&mut datagram);
        repair(&mut datagram);
        let frame = [&frame[..ETHERNET_BYTES], &datagram].concat();
        Some(Changed { frame, is_bare, has_garbage })
    }

    fn is_probe(&mut self, frame: &[u8], segment: &Segment) -> bool {
        if segment.flags & RST != 0 {
            return false;
        }
        let flow = ends(frame, segment.tcp + ETHERNET_BYTES);
        let counted = u32::from(segment.flags & (SYN | FIN) != 0);
        let end = segment.seq.wrapping_add(segment.data.len() as u32).wrapping_add(counted);
        if self.next.len() >= FLOWS_MAX && !self.next.contains_key(&flow) {
            self.next.clear();
        }
        let before = self.next.get(&flow).copied();
        let is_newer = before.is_none_or(|next| end.wrapping_sub(next) < 1 << 31);
        if segment.flags & SYN != 0 || is_newer {
            self.next.insert(flow, end);
        }
        let is_short = counted == 0 && segment.data.len() <= 1;
        is_short && before == Some(segment.seq.wrapping_add(1))
    }
}

/// The parts of a whole TCP segment.
struct Segment<'a> {
    /// Up to the options.
    headers: &'a [u8],
    options: &'a [u8],
    data: &'a [u8],
    /// Where the TCP header begins in the datagram.
    tcp: usize,
    flags: u8,
    seq: u32,
}

impl<'a> Segment<'a> {
    fn of(frame: &'a [u8]) -> Option<Self> {
        let tcp = tcp_at(frame)? - ETHERNET_BYTES;
        let datagram = &frame[ETHERNET_BYTES..];
        // Without what Ethernet padded.
        let len = match datagram[0] >> 4 {
            6 => 40 + usize::from(word(datagram, 4)),
            _ => usize::from(word(datagram, 2)),
        };
        let datagram = datagram.get(..len)?;
        let data_at = tcp + usize::from(datagram.get(tcp + 12)? >> 4) * 4;
        let options = datagram.get(tcp + 20..data_at)?;
        let (src, dst) = addresses(datagram)?;
        (transport_checksum(src, dst, TCP, &datagram[tcp..]) == 0).then_some(Self {
            headers: &datagram[..tcp + 20],
            options,
            data: &datagram[data_at..],
            tcp,
            flags: datagram[tcp + 13],
            seq: long(datagram, tcp + 4),
        })
    }

    /// `None` of a SYN, and of what has no ACK and no RST.
    fn kind(&self, is_probe: bool) -> Option<Kind> {
        match self.flags {
            flags if flags & SYN != 0 => None,
            flags if flags & RST != 0 => Some(Kind::Reset),
            flags if flags & FIN != 0 => Some(Kind::Fin),
            flags if flags & ACK == 0 => None,
            _ if self.data.is_empty() || is_probe => Some(Kind::Ack),
            _ => Some(Kind::Data),
        }
    }
}

/// `None` if there are no timestamps, or options that cannot be read before them.
fn without_timestamps(options: &[u8], cut_out: bool) -> Option<Vec<u8>> {
    let mut at = 0;
    let mut others = Vec::new();
    let mut found = None;
    while at < options.len() && options[at] != OPTION_END {
        let len = match options[at] {
            OPTION_NOP => 1,
            _ => usize::from(*options.get(at + 1)?),
        };
        let option = options.get(at..at + len).filter(|_| len > 0)?;
        match option[0] {
            OPTION_TIMESTAMPS => found = Some(at..at + len),
            OPTION_NOP => {}
            _ => others.extend_from_slice(option),
        }
        at += len;
    }
    let mut nops = options.to_vec();
    nops.get_mut(found?)?.fill(OPTION_NOP);
    if !cut_out {
        return Some(nops);
    }
    let padding = others.len().next_multiple_of(4) - others.len();
    Some([vec![OPTION_NOP; padding], others].concat())
}

const OPTION_END: u8 = 0;
const OPTION_NOP: u8 = 1;
const OPTION_TIMESTAMPS: u8 = 8;
/// All are forgotten when there are more.
const FLOWS_MAX: usize = 4096;

#[cfg(test)]
mod tests {
    use anyrelay_kit::frames::{PSH, Segment as Whole, framed, timestamps};

    use super::*;

    fn whole(flags: u8, seq: u32, data: &[u8]) -> Whole {
        let (src, dst) = ("192.0.2.1:258".parse().unwrap(), "203.0.113.1:443".parse().unwrap());
        let options = [timestamps(7, 9), vec![1, 1, 5, 10, 0, 0, 0, 1, 0, 0, 0, 2]].concat();
        Whole { seq, ack: 77, options, data: data.to_vec(), ..Whole::new(src, dst, flags) }
    }

    fn frame(segment: &Whole) -> Vec<u8> {
        framed([1; 6], [2; 6], None, &segment.datagram())
    }

    /// What goes on, read again; `None` if it is what came.
    fn change(
        stripper: &mut Stripper,
        bare: &Bare,
        segment: &Whole,
    ) -> Option<(Whole, bool, bool)> {
        let changed = stripper.change(bare, &frame(segment))?;
        let whole = Whole::read(&changed.frame[ETHERNET_BYTES..]).unwrap();
        assert_eq!(changed.frame, frame(&whole), "lengths and checksums are right");
        Some((whole, changed.is_bare, changed.has_garbage))
    }

    #[test]
    fn chosen_kinds_lose_timestamps_alone() {
        const ONE_EACH: [(Kind, u8, &[u8]); 4] = [
            (Kind::Ack, ACK, &[]),
            (Kind::Data, ACK | PSH, &[4, 5]),
            (Kind::Fin, ACK | FIN, &[4]),
            (Kind::Reset, RST, &[]),
        ];
        let syn = whole(SYN | ACK, 1, &[]);
        assert_eq!(change(&mut Stripper::default(), &Bare::ALL, &syn), None);
        for (kind, flags, data) in ONE_EACH {
            let segment = whole(flags, 100, data);
            let kinds: &'static [Kind] = match kind {
                Kind::Ack => &[Kind::Ack],
                Kind::Data => &[Kind::Data],
                Kind::Fin => &[Kind::Fin],
                Kind::Reset => &[Kind::Reset],
            };
            let mut want = segment.clone();
            want.options[2..12].fill(1);
            for (other, flags, data) in ONE_EACH {
                let bare = Bare { kinds, ..Bare::NONE };
                let (mut stripper, segment) = (Stripper::default(), whole(flags, 100, data));
                let is_kind = (other == kind).then(|| (want.clone(), true, false));
                assert_eq!(change(&mut stripper, &bare, &segment), is_kind, "{kind:?}, {other:?}");
            }
            let bare = Bare { kinds, cut_out: true, ..Bare::NONE };
            want.options.drain(..12);
            let cut = change(&mut Stripper::default(), &bare, &segment);
            assert_eq!(cut, Some((want, true, false)), "the rest is as it was: {kind:?}");
        }
    }

    #[test]
    fn probes_get_a_byte_once() {
        let garbage = Bare { garbage: true, ..Bare::NONE };
        let mut stripper = Stripper::default();
        for segment in [whole(SYN, 99, &[]), whole(ACK, 100, &[1]), whole(ACK, 101, &[2])] {
            assert_eq!(change(&mut stripper, &garbage, &segment), None);
        }
        assert_eq!(change(&mut stripper, &garbage, &whole(ACK, 102, &[])), None, "the next");
        let probe = whole(ACK, 101, &[]);
        let want = whole(ACK, 101, &[0]);
        assert_eq!(change(&mut stripper, &garbage, &probe), Some((want.clone(), false, true)));
        let mut want = want;
        want.options.drain(..12);
        assert_eq!(change(&mut stripper, &Bare::PROBES, &probe), Some((want.clone(), true, true)));
        let with_byte = whole(ACK, 101, &[0]);
        assert_eq!(change(&mut stripper, &Bare::PROBES, &with_byte), Some((want, true, false)));
        assert_eq!(change(&mut stripper, &garbage, &whole(ACK, 100, &[])), None, "an old one");
    }

    #[test]
    fn damage_is_left() {
        let mut damaged = frame(&whole(ACK, 1, &[3]));
        *damaged.last_mut().unwrap() ^= 1;
        assert_eq!(Stripper::default().change(&Bare::ALL, &damaged), None);
        assert_eq!(Stripper::default().change(&Bare::ALL, &[7; 60]), None);
    }
}
