//! A connection of the probe's own to a target, as a POP in pool mode makes it: one tag in all its
//! timestamps, the lowest bit clear in the SYN alone.
//!
//! It carries no data. What asks for an answer is a segment of numbers before the connection's
//! first, as keepalives have them: a host discards it and answers with an ACK (RFC 9293, section
//! 3.10.7.4), and its application sees nothing.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use anyrelay_core::relay::mapping::Tag;
use anyrelay_core::relay::rewrite::options::INSERTED_LEN;
use anyrelay_core::seq::SeqNum;
use anyrelay_core::wire::tcp;
use rustix::io::Errno;

use super::findings::{Echo, Opening, Reset};
use super::path::Passage;
use super::segment::{Flow, Incoming, Outgoing, Quoted};
use super::sockets::{HeldPort, Inbox, Kind, Sender};
use super::{Patience, words};

/// A connection to the target.
#[derive(Debug)]
pub(super) struct Connection {
    flow: Flow,
    patience: Patience,
    sender: Sender,
    inbox: Inbox,
    tag: Tag,
    /// The number of the SYN.
    first: SeqNum,
    /// The number after all that the target sent.
    received: SeqNum,
    /// The target's last TSval; `None` as long as it has not agreed to timestamps.
    stamp: Option<u32>,
    _port: HeldPort,
}

/// What came back.
#[derive(Clone, Copy, Debug)]
enum Answer {
    Segment(Incoming),
    Error(Quoted),
}

impl Connection {
    /// Makes ready for a connection from `own` to `target`. Nothing is sent.
    ///
    /// # Errors
    /// Those of the system calls: `PermissionDenied` without CAP_NET_RAW.
    pub fn prepare(
        own: std::net::IpAddr,
        target: SocketAddr,
        patience: Patience,
    ) -> io::Result<Self> {
        let port = HeldPort::hold(own)?;
        let flow = Flow { own: port.address(), peer: target };
        let sender = Sender::open(flow.family())?;
        let mut inbox = Inbox::default();
        inbox.segments(own, target.ip())?;
        inbox.icmp(own)?;
        let [tag, first] = random()?;
        Ok(Connection {
            flow,
            patience,
            sender,
            inbox,
            tag: Tag(1 + tag % Tag::MAX.0),
            first: SeqNum(first),
            received: SeqNum(0),
            stamp: None,
            _port: port,
        })
    }

    /// The two ends.
    pub fn flow(&self) -> Flow {
        self.flow
    }

    /// Sends the SYN, until it is answered. The last one does not offer ECN: some boxes drop those
    /// that do.
    pub fn open(&mut self) -> io::Result<(Opening, Echo, Reset)> {
        let value = self.tag.of_bare_syn();
        for turn in 1..=self.patience.tries {
            let offer =
                if turn == 1 || turn < self.patience.tries { tcp::ECE | tcp::CWR } else { 0 };
            let syn = self.segment(self.first, tcp::SYN | offer, 0, Some([value, 0]));
            if let Err(error) = self.send(&syn) {
                let opening = Opening::Unreachable { reason: error.to_string() };
                return Ok((opening, Echo::Unseen, Reset::Unseen));
            }
            let next = self.next();
            let is_answer = |answer: &Answer| match answer {
                Answer::Segment(segment) => {
                    let is_syn_ack = segment.has(tcp::SYN | tcp::ACK);
                    segment.ack == next && (is_syn_ack || segment.has(tcp::RST | tcp::ACK))
                }
                Answer::Error(quoted) => quoted.mtu().is_none(),
            };
            match self.wait(self.patience.timeout, is_answer)? {
                None => {}
                Some(Answer::Error(quoted)) => {
                    let opening = Opening::Unreachable { reason: words(&quoted) };
                    return Ok((opening, Echo::Unseen, Reset::Unseen));
                }
                Some(Answer::Segment(segment)) if segment.has(tcp::RST) => {
                    return Ok((Opening::Refused, Echo::Unseen, self.reset(&segment)));
                }
                Some(Answer::Segment(segment)) => {
                    self.received = segment.end;
                    self.stamp = segment.stamps.map(|[value, _]| value);
                    let came = segment.stamps.map(|[_, echo]| echo);
                    let opening = Opening::Open { options: segment.options };
                    return Ok((opening, Echo::of_syn_ack(value, came), Reset::Unseen));
                }
            }
        }
        Ok((Opening::Silent, Echo::Unseen, Reset::Unseen))
    }

    /// Ends the handshake, and looks at the answer to a later segment: its echo, and whether RSTs
    /// carry the tag, if it is one.
    pub fn later(&mut self) -> io::Result<(Echo, Reset)> {
        for _ in 0..self.patience.tries {
            self.inbox.drain();
            let ack = self.segment(self.next(), tcp::ACK, 0, self.stamps());
            self.send(&ack)?;
            let Some(answer) = self.ask(1)? else { continue };
            if answer.has(tcp::RST) {
                return Ok((Echo::Reset, self.reset(&answer)));
            }
            let came = answer.stamps.map(|[_, echo]| echo);
            return Ok((Echo::of_later(self.tag.timestamp(), came), Reset::Unseen));
        }
        Ok((Echo::Silent, Reset::Unseen))
    }

    /// Whether a datagram of `len` bytes gets to the target, by two tries at most.
    pub fn passes(&mut self, len: u16) -> io::Result<Passage> {
        let options = if self.stamp.is_some() { INSERTED_LEN } else { 0 };
        let data_len = usize::from(len).saturating_sub(self.flow.headers_len() + options).max(1);
        for _ in 0..self.patience.tries.min(PATH_TRIES) {
            self.inbox.drain();
            if !self.send_old(data_len)? {
                return Ok(Passage::TooLong);
            }
            let next = self.next();
            let is_answer = |answer: &Answer| match answer {
                Answer::Segment(segment) => is_ack(segment, next) || segment.has(tcp::RST),
                Answer::Error(quoted) => quoted.mtu().is_some(),
            };
            match self.wait(self.patience.timeout, is_answer)? {
                Some(Answer::Segment(segment)) if segment.has(tcp::RST) => {
                    return Ok(Passage::Ended);
                }
                Some(Answer::Segment(_)) => return Ok(Passage::Passed),
                Some(Answer::Error(quoted)) => {
                    return Ok(quoted.mtu().map_or(Passage::Lost, Passage::Told));
                }
                None => {}
            }
        }
        Ok(Passage::Lost)
    }

    /// Resets the connection, so that nothing of it stays at the target, and looks at the RST that
    /// answers a segment of a connection that is gone.
    pub fn end(&mut self) -> io::Result<Reset> {
        let reset = self.segment(self.next(), tcp::RST | tcp::ACK, 0, self.stamps());
        self.send(&reset)?;
        self.inbox.drain();
        let late = self.segment(self.next(), tcp::ACK, 0, self.stamps());
        self.send(&late)?;
        let is_reset =
            |answer: &Answer| matches!(answer, Answer::Segment(segment) if segment.has(tcp::RST));
        let found = self.wait(self.patience.timeout, is_reset)?;
        Ok(match found {
            Some(Answer::Segment(segment)) => self.reset(&segment),
            _ => Reset::Unseen,
        })
    }

    /// The number after the SYN: nothing else is ever sent.
    fn next(&self) -> SeqNum {
        self.first.plus(1)
    }

    fn stamps(&self) -> Option<[u32; 2]> {
        self.stamp.map(|echo| [self.tag.timestamp(), echo])
    }

    fn segment(
        &self,
        seq: SeqNum,
        flags: u8,
        data_len: usize,
        stamps: Option<[u32; 2]>,
    ) -> Outgoing {
        let ack = if flags & tcp::ACK == 0 { SeqNum(0) } else { self.received };
        Outgoing { seq, ack, flags, stamps, data_len }
    }

    fn send(&self, segment: &Outgoing) -> io::Result<()> {
        self.sender.send(&segment.datagram(&self.flow), self.flow.peer.ip())
    }

    /// Sends `data_len` bytes before the first; `false` if the host's own link is too narrow.
    fn send_old(&self, data_len: usize) -> io::Result<bool> {
        let seq = self.next().plus((data_len as u32).wrapping_neg());
        match self.send(&self.segment(seq, tcp::ACK, data_len, self.stamps())) {
            Err(error) if error.raw_os_error() == Some(Errno::MSGSIZE.raw_os_error()) => Ok(false),
            other => other.map(|()| true),
        }
    }

    /// Asks by that many old bytes, for the ACK or RST that answers.
    fn ask(&mut self, data_len: usize) -> io::Result<Option<Incoming>> {
        self.send_old(data_len)?;
        let next = self.next();
        let is_answer = |answer: &Answer| match answer {
            Answer::Segment(segment) => is_ack(segment, next) || segment.has(tcp::RST),
            Answer::Error(_) => false,
        };
        Ok(match self.wait(self.patience.timeout, is_answer)? {
            Some(Answer::Segment(segment)) => Some(segment),
            _ => None,
        })
    }

    /// Waits for what `is_wanted`, and takes note of what the target sends meanwhile.
    fn wait(
        &mut self,
        time: Duration,
        is_wanted: impl Fn(&Answer) -> bool,
    ) -> io::Result<Option<Answer>> {
        let Connection { flow, inbox, received, stamp, .. } = self;
        inbox.wait(time, |kind, bytes| {
            let answer = match kind {
                Kind::Segment => Answer::Segment(Incoming::read(flow, bytes)?),
                Kind::Icmp => {
                    let quoted = Quoted::read(flow.family(), bytes)?;
                    Answer::Error(quoted.is_of(flow).then_some(quoted)?)
                }
                Kind::Inner => return None,
            };
            if let Answer::Segment(segment) = &answer
                && segment.seq == *received
                && !segment.has(tcp::RST)
            {
                *received = segment.end;
                if let (Some(stamp), Some([value, _])) = (stamp.as_mut(), segment.stamps) {
                    *stamp = value;
                }
            }
            is_wanted(&answer).then_some(answer)
        })
    }

    fn reset(&self, segment: &Incoming) -> Reset {
        match segment.stamps {
            None => Reset::Bare,
            Some([_, echo]) if Tag::of_timestamp(echo) == self.tag => Reset::Tagged,
            Some(_) => Reset::OtherTag,
        }
    }
}

/// Whether it is an ACK without anything else, as it answers old data.
fn is_ack(segment: &Incoming, next: SeqNum) -> bool {
    segment.has(tcp::ACK) && !segment.has(tcp::RST) && !segment.has_length && segment.ack == next
}

/// Two random numbers.
pub(super) fn random() -> io::Result<[u32; 2]> {
    let mut bytes = [0; 8];
    getrandom::fill(&mut bytes).map_err(io::Error::other)?;
    let [a, b, c, d, e, f, g, h] = bytes;
    Ok([u32::from_be_bytes([a, b, c, d]), u32::from_be_bytes([e, f, g, h])])
}

/// Tries for each length.
const PATH_TRIES: u32 = 2;
