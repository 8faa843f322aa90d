//! What smoltcp does not check of timestamps: a strict receiver's view of them (RFC 7323), and the
//! rules of relay mode (`docs/protocol.md`, section 7), at both ends of a connection.

use anyrelay_kit::frames::{ACK, RST, SYN};

use crate::wire::SegmentView;

/// What one end has seen of timestamps.
#[derive(Clone, Debug, Default)]
pub struct Stamps {
    /// TSvals sent, without repetitions in a row.
    sent: Vec<u32>,
    last_ack_sent: Option<u32>,
    /// The only tag that a target may see.
    tag: Option<u32>,
    /// TS.Recent, and when the segment that it came with had been sent. A pool's target has the
    /// newest TSval here, whatever it came with.
    recent: Option<(u32, u64)>,
    pub paws_rejects: u32,
}

/// A segment as its sender sent it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Origin {
    /// TSval and TSecr.
    pub stamps: Option<(u32, u32)>,
    pub sent_us: u64,
}

/// Who receives, and in which mode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Receiver {
    PoolTarget,
    /// One without timestamps, which is reset.
    OldTarget,
    /// Whether it has timestamps.
    PoolClient(bool),
    /// Nothing may be changed for either end.
    Untouched,
}

impl Stamps {
    /// Those of a new stack for the same two ends.
    pub fn renewed(self) -> Self {
        Stamps { last_ack_sent: None, recent: None, ..self }
    }

    /// The TSval to echo.
    pub fn echo(&self) -> u32 {
        self.recent.map_or(0, |(value, _)| value)
    }

    /// Whether the end has sent that TSval.
    pub fn has_sent(&self, value: u32) -> bool {
        self.sent.contains(&value)
    }

    /// What it has acknowledged last.
    pub fn last_ack(&self) -> Option<u32> {
        self.last_ack_sent
    }

    /// The end itself sent a segment.
    pub fn note_sent(&mut self, segment: &SegmentView<'_>) {
        if let Some((value, _)) = segment.timestamps()
            && self.sent.last() != Some(&value)
        {
            self.sent.push(value);
        }
        if segment.has(ACK) {
            self.last_ack_sent = Some(segment.ack);
        }
    }

    /// Takes a segment as it is.
    pub fn take(&mut self, segment: &SegmentView<'_>, origin: &Origin) {
        if let Some((value, _)) = segment.timestamps() {
            self.recent = Some((value, origin.sent_us));
        }
    }

    /// Judges an undamaged segment that comes in.
    pub fn check(
        &mut self,
        receiver: Receiver,
        segment: &SegmentView<'_>,
        origin: &Origin,
    ) -> Result<(), String> {
        let stamps = segment.timestamps();
        if segment.options().any(|option| option.is_err()) {
            return Err("options with lengths that lie".into());
        }
        let count = segment.options().flatten().filter(|option| option.0 == 8).count();
        if count > 1 {
            return Err("timestamps twice".into());
        }
        match receiver {
            Receiver::PoolTarget => self.check_target(segment, origin, stamps)?,
            Receiver::OldTarget => {}
            Receiver::PoolClient(timestamps) => check_client(timestamps, segment, origin, stamps)?,
            Receiver::Untouched => same("an end whose timestamps pass", stamps, origin.stamps)?,
        }
        self.judge_age(receiver, segment, origin, stamps)
    }

    fn check_target(
        &mut self,
        segment: &SegmentView<'_>,
        origin: &Origin,
        stamps: Option<(u32, u32)>,
    ) -> Result<(), String> {
        let Some((value, echo)) = stamps else {
            return Err("a target gets a segment without timestamps".into());
        };
        // The low bit is judged where the segment leaves a POP, and by what PAWS makes of it here.
        let tag = *self.tag.get_or_insert(value >> 1);
        if value >> 1 != tag || tag == 0 {
            return Err(format!("TSval {value} towards a target with the tag {tag}"));
        }
        match origin.stamps {
            None if echo != 0 => Err(format!("TSecr {echo} of a bare segment towards a target")),
            Some((_, sent)) if echo != sent => {
                Err(format!("TSecr {echo} towards a target, sent as {sent}"))
            }
            Some(_) if segment.has(ACK) && !self.sent.iter().rev().any(|sent| *sent == echo) => {
                Err(format!("TSecr {echo} is no TSval that the target sent"))
            }
            _ => Ok(()),
        }
    }

    /// PAWS, as a strict receiver does it (RFC 7323, section 5.3). It may reject only what is older
    /// than something that it has already taken, and a target of a pool nothing at all, as a client
    /// has one TSval. RSTs are exempt, and so is a SYN where a connection is: it begins a new one
    /// or is a late copy.
    fn judge_age(
        &mut self,
        receiver: Receiver,
        segment: &SegmentView<'_>,
        origin: &Origin,
        stamps: Option<(u32, u32)>,
    ) -> Result<(), String> {
        let Some((value, _)) = stamps.filter(|_| !segment.has(RST)) else { return Ok(()) };
        let strict = receiver == Receiver::PoolTarget;
        if strict && segment.opens() && self.recent.is_some() {
            return Ok(());
        }
        if let Some((recent, since_us)) = self.recent
            && (value.wrapping_sub(recent) as i32) < 0
        {
            self.paws_rejects += 1;
            if strict || origin.sent_us >= since_us {
                return Err(format!("PAWS rejects TSval {value} after {recent}"));
            }
            return Ok(());
        }
        let acked = self.last_ack_sent.unwrap_or(segment.seq);
        if strict || (acked.wrapping_sub(segment.seq) as i32) >= 0 {
            self.recent = Some((value, origin.sent_us));
        }
        Ok(())
    }
}

/// A client finds the target's time in all but the SYN-ACK to a bare SYN, also if it has no
/// timestamps, and no echo.
fn check_client(
    timestamps: bool,
    segment: &SegmentView<'_>,
    origin: &Origin,
    stamps: Option<(u32, u32)>,
) -> Result<(), String> {
    // What a POP makes of a target's RST without timestamps has none.
    if segment.has(RST) && stamps.is_none() {
        return Ok(());
    }
    let (who, asked) = match timestamps {
        true => ("a client with timestamps", true),
        false => ("a client without timestamps", !segment.has(SYN)),
    };
    same(who, stamps, origin.stamps.filter(|_| asked).map(|(value, _)| (value, 0)))
}

fn same(who: &str, found: Option<(u32, u32)>, wanted: Option<(u32, u32)>) -> Result<(), String> {
    if found == wanted {
        return Ok(());
    }
    Err(format!("{who} gets TSval and TSecr {found:?} instead of {wanted:?}"))
}

#[cfg(test)]
mod tests {
    use anyrelay_kit::frames::{FIN, Segment, put_word, timestamps};

    use super::*;
    use crate::wire::Datagram;

    fn segment(seq: u32, value: u32, echo: u32) -> Vec<u8> {
        let (src, dst) = ("10.0.0.1:1".parse().unwrap(), "10.0.0.2:2".parse().unwrap());
        let options = timestamps(value, echo);
        Segment { seq, ack: 5, options, ..Segment::new(src, dst, ACK) }.from_host()
    }

    fn check(stamps: &mut Stamps, receiver: Receiver, bytes: &[u8], origin: Origin) -> bool {
        let datagram = Datagram::read(bytes).unwrap();
        stamps.check(receiver, &datagram.segment().unwrap(), &origin).is_ok()
    }

    #[test]
    fn a_target_sees_one_tag_and_only_echoes_of_its_own() {
        let origin = |stamps| Origin { stamps, sent_us: 1 };
        let mut stamps = Stamps { sent: vec![7, 9], ..Stamps::default() };
        let target = Receiver::PoolTarget;
        assert!(check(&mut stamps, target, &segment(1, 51, 9), origin(Some((3, 9)))));
        assert!(!check(&mut stamps, target, &segment(1, 53, 9), origin(Some((3, 9)))));
        assert!(!check(&mut stamps, target, &segment(1, 51, 8), origin(Some((3, 8)))));
        assert!(!check(&mut stamps, target, &segment(1, 51, 9), origin(None)));
        assert!(check(&mut stamps, target, &segment(1, 51, 0), origin(None)));
    }

    #[test]
    fn a_strict_target_rejects_what_is_older_but_a_syn_and_a_rst() {
        let origin = Origin { stamps: None, sent_us: 1 };
        let of = |flags, value| {
            let edit = |segment: &mut Segment| segment.flags = flags;
            Segment::read(&segment(1, value, 0)).unwrap().edit(edit).from_host()
        };
        let mut stamps = Stamps::default();
        let mut takes =
            |flags, value| check(&mut stamps, Receiver::PoolTarget, &of(flags, value), origin);
        assert!(takes(SYN, 50) && takes(ACK, 51) && takes(ACK, 51));
        assert!(!takes(ACK, 50) && !takes(ACK | FIN, 50));
        // A late copy, after which the newest is what it was.
        assert!(takes(SYN, 50) && takes(RST, 50) && !takes(ACK, 50) && takes(ACK, 51));
        stamps = stamps.renewed();
        let syn = of(SYN, 50);
        assert!(check(&mut stamps, Receiver::PoolTarget, &syn, origin));
        assert_eq!((stamps.echo(), stamps.paws_rejects), (50, 3));
    }

    #[test]
    fn clients_see_the_targets_time_and_no_echo() {
        let mut stamps = Stamps::default();
        let origin = |value, sent_us| Origin { stamps: Some((value, 77)), sent_us };
        let client = Receiver::PoolClient(true);
        assert!(check(&mut stamps, client, &segment(1, 100, 0), origin(100, 10)));
        assert!(!check(&mut stamps, client, &segment(1, 100, 77), origin(100, 10)));
        assert!(!check(&mut stamps, client, &segment(1, 101, 0), origin(100, 10)));
        // What is older may be rejected; what is newer may not.
        assert!(check(&mut stamps, client, &segment(1, 99, 0), origin(99, 9)));
        assert_eq!(stamps.paws_rejects, 1);
        assert!(!check(&mut stamps, client, &segment(1, 99, 0), origin(99, 11)));
    }

    #[test]
    fn a_client_without_timestamps_gets_none_in_its_syn_ack_alone() {
        let origin = Origin { stamps: Some((99, 50)), sent_us: 9 };
        let of = |flags, options| {
            let edit = |segment: &mut Segment| (segment.flags, segment.options) = (flags, options);
            Segment::read(&segment(1, 99, 0)).unwrap().edit(edit).from_host()
        };
        let stamped = || timestamps(99, 0);
        for (flags, options, right) in [
            (SYN | ACK, vec![], [true, false]),
            (SYN | ACK, stamped(), [false, true]),
            (ACK, vec![], [false, false]),
            (ACK, stamped(), [true, true]),
            (RST, vec![], [true, true]),
        ] {
            let bytes = of(flags, options);
            let judged = [false, true].map(|timestamps| {
                let client = Receiver::PoolClient(timestamps);
                check(&mut Stamps::default(), client, &bytes, origin)
            });
            assert_eq!(judged, right, "{flags:#x} {bytes:02x?}");
        }
    }

    #[test]
    fn a_lying_option_is_seen() {
        let mut bytes = segment(1, 1, 1);
        put_word(&mut bytes, 42, 0x08ff);
        assert!(!check(&mut Stamps::default(), Receiver::Untouched, &bytes, Origin::default()));
    }
}
