//! What stands in front of clients. It takes the timestamps out of some of a client's segments, as
//! some stacks and middleboxes do. And it drops what comes without timestamps although the
//! connection has them, as a strict host does (RFC 7323, section 3.2).

use anyrelay_kit::frames::{ACK, FIN, RST, SYN, repair, set_length};
use anyrelay_kit::rng::Rng;

use crate::host::Stack;
use crate::setup::MTU;
use crate::wire::{self, Datagram, SegmentView};
use crate::world::World;

/// Which segments of a client with timestamps are bare.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Bare {
    #[default]
    None,
    /// Pure acks and keepalive probes, but the handshake's.
    Acks,
    Fins,
    Resets,
    /// All behind the handshake.
    Later,
    /// All but the SYN.
    AllButSyn,
}

/// What a middlebox does.
#[derive(Clone, Copy, Debug, Default)]
pub struct Habits {
    pub bare: Bare,
    /// NOPs take the place of timestamps, which are cut out otherwise. A POP makes such a segment
    /// longer: those that have no room for 12 bytes in the MTU are cut.
    pub nops: bool,
    /// Keepalive probes lose their byte of garbage.
    pub empty_probes: bool,
    /// Nothing passes without the timestamps that were agreed on, but RSTs.
    pub strict: bool,
}

/// A middlebox, and what it knows of its client's connection.
#[derive(Clone, Copy, Debug, Default)]
pub struct Middlebox {
    habits: Habits,
    offered: bool,
    agreed: bool,
    /// The client has answered the SYN-ACK.
    shaken: bool,
}

impl Habits {
    /// Those in front of some client. Segments are made bare only where a pool gives them
    /// timestamps again: a target may drop them otherwise.
    pub fn random(rng: &mut Rng, pool: bool) -> Self {
        use Bare::{Acks, AllButSyn, Fins, Later, Resets};
        let bare = [Bare::None, Acks, Acks, Fins, Resets, Later, AllButSyn, Bare::None];
        let chosen = rng.pick(&bare);
        Habits {
            bare: if pool { chosen } else { Bare::None },
            nops: rng.happens(300),
            empty_probes: rng.happens(300),
            strict: rng.happens(500),
        }
    }
}

impl Middlebox {
    pub fn new(habits: Habits) -> Self {
        Middlebox { habits, ..Middlebox::default() }
    }

    /// A segment of the client's passes. True when it was made bare.
    pub fn send(&mut self, bytes: &mut Vec<u8>, is_probe: bool) -> bool {
        let Some(ip) = Datagram::read(bytes) else { return false };
        let Some(segment) = ip.segment() else { return false };
        if segment.has(SYN) {
            (self.offered, self.agreed, self.shaken) =
                (segment.timestamps().is_some(), false, false);
            return false;
        }
        let first = !self.shaken;
        self.shaken = true;
        let is_ack = segment.flags == ACK && (segment.data.is_empty() || is_probe);
        let bare = match self.habits.bare {
            Bare::None => false,
            Bare::Acks => is_ack && !first,
            Bare::Fins => segment.has(FIN),
            Bare::Resets => segment.has(RST),
            Bare::Later => !first,
            Bare::AllButSyn => true,
        };
        let bare = bare && segment.timestamps().is_some();
        if bare {
            take_timestamps(bytes, self.habits.nops && bytes.len() + 12 <= usize::from(MTU));
        }
        if is_probe && self.habits.empty_probes {
            wire::cut_data(bytes, 1);
        }
        bare
    }

    /// Whether a segment to the client passes.
    pub fn admits(&mut self, segment: &SegmentView<'_>) -> bool {
        let stamped = segment.timestamps().is_some();
        if segment.has(SYN | ACK) {
            self.agreed = self.offered && stamped;
        }
        stamped || !self.agreed || !self.habits.strict || segment.has(RST)
    }
}

impl World {
    /// A datagram of a stack's goes on its way; a client's passes the box in front of it.
    pub(crate) fn pass_out(&mut self, stack: &Stack, bytes: &mut Vec<u8>) {
        let sent = Datagram::read(bytes).and_then(|ip| ip.segment());
        let is_probe = sent.is_some_and(|sent| stack.is_probe(&sent));
        self.counts.probes += u64::from(is_probe);
        if stack.is_client
            && let Some(middlebox) = self.boxes.get_mut(&stack.local)
        {
            self.counts.made_bare += u64::from(middlebox.send(bytes, is_probe));
        }
    }

    /// Whether a segment comes to its host, through the box in front of it if that is a client.
    pub(crate) fn pass_in(&mut self, segment: &SegmentView<'_>) -> bool {
        let middlebox = self.boxes.get_mut(&segment.dst);
        middlebox.is_none_or(|middlebox| middlebox.admits(segment))
    }
}

/// Takes the timestamps out of a segment.
fn take_timestamps(bytes: &mut Vec<u8>, nops: bool) {
    let Some(ip) = Datagram::read(bytes) else { return };
    let Some(segment) = ip.segment() else { return };
    let (tcp, from) = (ip.payload_at, ip.payload_at + 20);
    let end = from + segment.options.len();
    if let Some(at) = wire::timestamps_at(segment.options).filter(|_| nops) {
        bytes[from + at..from + at + 10].fill(1);
    } else {
        let mut options = Vec::with_capacity(40);
        for (kind, value) in segment.options().flatten().filter(|option| option.0 != 8) {
            options.extend([kind, 2 + value.len() as u8]);
            options.extend(value);
        }
        options.resize(options.len().next_multiple_of(4), 1);
        bytes[tcp + 12] = ((20 + options.len()) as u8 / 4) << 4 | bytes[tcp + 12] & 15;
        bytes.splice(from..end, options);
    }
    set_length(bytes);
    repair(bytes);
}

#[cfg(test)]
mod tests {
    use anyrelay_kit::frames::{Segment, timestamps};

    use super::*;

    fn of(flags: u8, data: &[u8], stamped: bool) -> Vec<u8> {
        let (src, dst) = ("10.0.0.1:1".parse().unwrap(), "10.0.0.2:2".parse().unwrap());
        let options = if stamped { timestamps(7, 9) } else { Vec::new() };
        Segment { options, data: data.to_vec(), ..Segment::new(src, dst, flags) }.from_host()
    }

    /// Which of some segments of a connection are bare behind a box.
    fn bare(habits: Habits) -> Vec<bool> {
        let mut middlebox = Middlebox::new(habits);
        let of = [
            (SYN, &b""[..]),
            (ACK, b""),
            (ACK, b"data"),
            (ACK, b""),
            (ACK, b"\0"),
            (ACK | FIN, b""),
            (RST, b""),
        ];
        let pass = |(flags, data): (u8, &[u8])| {
            let mut bytes = self::of(flags, data, true);
            let bare = middlebox.send(&mut bytes, data == b"\0");
            let ip = Datagram::read(&bytes).unwrap();
            let segment = ip.segment().unwrap();
            assert!(segment.checksum_holds && segment.timestamps().is_none() == bare);
            assert_eq!(segment.options.len(), if bare && !habits.nops { 0 } else { 12 });
            let trimmed = data == b"\0" && habits.empty_probes;
            assert_eq!(segment.data, if trimmed { b"" } else { data });
            bare
        };
        of.into_iter().map(pass).collect()
    }

    #[test]
    fn each_takes_timestamps_out_of_its_kind() {
        for (of, wanted) in [
            (Bare::None, [0, 0, 0, 0, 0, 0, 0]),
            (Bare::Acks, [0, 0, 0, 1, 1, 0, 0]),
            (Bare::Fins, [0, 0, 0, 0, 0, 1, 0]),
            (Bare::Resets, [0, 0, 0, 0, 0, 0, 1]),
            (Bare::Later, [0, 0, 1, 1, 1, 1, 1]),
            (Bare::AllButSyn, [0, 1, 1, 1, 1, 1, 1]),
        ] {
            for (nops, empty_probes) in [(false, false), (true, true)] {
                let habits = Habits { bare: of, nops, empty_probes, strict: false };
                assert_eq!(bare(habits), wanted.map(|one| one == 1), "{habits:?}");
            }
        }
    }

    #[test]
    fn a_strict_one_drops_what_lacks_the_timestamps_that_were_agreed_on() {
        for (syn, syn_ack, strict) in (0..8).map(|of| (of & 1 > 0, of & 2 > 0, of & 4 > 0)) {
            let mut middlebox = Middlebox::new(Habits { strict, ..Habits::default() });
            middlebox.send(&mut of(SYN, b"", syn), false);
            let mut admits = |flags, stamped| {
                let bytes = of(flags, b"", stamped);
                middlebox.admits(&Datagram::read(&bytes).unwrap().segment().unwrap())
            };
            assert!(admits(SYN | ACK, syn_ack) && admits(ACK, true) && admits(RST, false));
            assert_eq!(admits(ACK, false), !(syn && syn_ack && strict));
        }
    }
}
