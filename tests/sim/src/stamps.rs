//! What smoltcp does not check of timestamps: a strict receiver's view of them (RFC 7323), and the
//! rules of relay mode (`docs/protocol.md`, section 7), at both ends of a connection.

use anyrelay_kit::frames::{ACK, RST};

use crate::wire::SegmentView;

/// What one end has seen of timestamps.
#[derive(Clone, Debug, Default)]
pub struct Stamps {
    /// TSvals sent, without repetitions in a row.
    sent: Vec<u32>,
    last_ack_sent: Option<u32>,
    /// The only TSval that a target may see.
    tag: Option<u32>,
    /// TS.Recent, and when the segment that it came with had been sent.
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
            Receiver::PoolClient(true) => {
                // What a POP makes of a target's RST without timestamps has none.
                if !segment.has(RST) || stamps.is_some() {
                    let wanted = origin.stamps.map(|(value, _)| (value, 0));
                    same("a client with timestamps", stamps, wanted)?;
                }
            }
            Receiver::PoolClient(false) => same("a client without timestamps", stamps, None)?,
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
        if segment.has(RST) && origin.stamps.is_none() {
            // One of two variants: the other one has the connection's tag.
            return if echo == 0 { Ok(()) } else { Err(format!("TSecr {echo} of a RST")) };
        }
        let tag = *self.tag.get_or_insert(value);
        if value != tag || value == 0 {
            return Err(format!("TSval {value} towards a target, after {tag}"));
        }
        match origin.stamps {
            None if echo != 0 => Err(format!("TSecr {echo} towards a target in case 1")),
            Some((_, sent)) if echo != sent => {
                Err(format!("TSecr {echo} towards a target in case 0, sent as {sent}"))
            }
            Some(_) if segment.has(ACK) && !self.sent.iter().rev().any(|sent| *sent == echo) => {
                Err(format!("TSecr {echo} is no TSval that the target sent"))
            }
            _ => Ok(()),
        }
    }

    /// PAWS, as a strict receiver does it (RFC 7323, section 5.3). It may reject only what is older
    /// than something that it has already taken.
    fn judge_age(
        &mut self,
        receiver: Receiver,
        segment: &SegmentView<'_>,
        origin: &Origin,
        stamps: Option<(u32, u32)>,
    ) -> Result<(), String> {
        let Some((value, _)) = stamps.filter(|_| !segment.has(RST)) else { return Ok(()) };
        if let Some((recent, since_us)) = self.recent
            && (value.wrapping_sub(recent) as i32) < 0
        {
            self.paws_rejects += 1;
            if receiver == Receiver::PoolTarget || origin.sent_us >= since_us {
                return Err(format!("PAWS rejects TSval {value} after {recent}"));
            }
            return Ok(());
        }
        let acked = self.last_ack_sent.unwrap_or(segment.seq);
        if (acked.wrapping_sub(segment.seq) as i32) >= 0 {
            self.recent = Some((value, origin.sent_us));
        }
        Ok(())
    }
}

fn same(who: &str, found: Option<(u32, u32)>, wanted: Option<(u32, u32)>) -> Result<(), String> {
    if found == wanted {
        return Ok(());
    }
    Err(format!("{who} gets TSval and TSecr {found:?} instead of {wanted:?}"))
}

#[cfg(test)]
mod tests {
    use anyrelay_kit::frames::{Segment, put_word, timestamps};

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
        assert!(check(&mut stamps, target, &segment(1, 50, 9), origin(Some((3, 9)))));
        assert!(!check(&mut stamps, target, &segment(1, 51, 9), origin(Some((3, 9)))));
        assert!(!check(&mut stamps, target, &segment(1, 50, 8), origin(Some((3, 8)))));
        assert!(!check(&mut stamps, target, &segment(1, 50, 9), origin(None)));
        assert!(check(&mut stamps, target, &segment(1, 50, 0), origin(None)));
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
        assert!(!check(
            &mut stamps,
            Receiver::PoolClient(false),
            &segment(1, 99, 0),
            origin(99, 9)
        ));
    }

    #[test]
    fn a_lying_option_is_seen() {
        let mut bytes = segment(1, 1, 1);
        put_word(&mut bytes, 42, 0x08ff);
        assert!(!check(&mut Stamps::default(), Receiver::Untouched, &bytes, Origin::default()));
    }
}
