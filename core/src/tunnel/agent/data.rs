//! Datagrams: sent with predicted numbers, and accepted only with the numbers that a POP predicts.

use super::accepted::Accepted;
use super::phase::Phase;
use super::{Agent, Conversation, HEADROOM, OutgoingSegment, ReceivedDatagram, SendError};
use crate::net::Family;
use crate::predict::OFFSET_STEP;
use crate::seq::SeqNum;
use crate::time::{Instant, Tick};
use crate::tunnel::message::{DATA_HEADER_LEN, DataHeader, body_max, put};
use crate::tunnel::token::{PublicToken, Token};
use crate::tunnel::window::{self, SKEW_TICKS_MAX};
use crate::wire::tcp::{self, Tcp};

impl Agent {
    pub(super) fn send_data<'b>(
        &mut self,
        now: Instant,
        to: &PublicToken,
        conversation: Conversation,
        buffer: &'b mut [u8],
        body_at: usize,
        out: &mut impl FnMut(OutgoingSegment<'_>),
    ) -> Result<OutgoingSegment<'b>, SendError> {
        let (own, base) = self.ready_to_send(now, out)?;
        let body_len = buffer.len().checked_sub(body_at).ok_or(SendError::NoHeadroom)?;
        let max = self.body_room(to);
        if body_len > max {
            self.counters.refused_too_big += 1;
            return Err(SendError::TooBig { max });
        }
        let mut header = DataHeader {
            destination: to.token.family(),
            sender: own.token.family(),
            destination_odd: to.epoch % 2 == 1,
            sender_odd: own.epoch % 2 == 1,
            offset_steps: 0,
            channel: conversation.channel,
            session: conversation.session,
        };
        let start = body_at
            .checked_sub(tcp::HEADER_LEN + header.body_at_up())
            .ok_or(SendError::NoHeadroom)?;
        let segment = buffer.get_mut(start..).ok_or(SendError::NoHeadroom)?;
        let payload_len = segment.len() - tcp::HEADER_LEN;
        let offset = self.next_offset(payload_len);
        header.offset_steps = (offset / u32::from(OFFSET_STEP)) as u8;
        let tick = self.clock.tick(now);
        let ack = self.data_ack().ok_or(SendError::NotReady)?;
        let seq = self.at(base, tick).plus(1).plus(offset);
        self.header(seq, ack, tcp::ACK | tcp::PSH, &[]).write(segment);
        let payload = segment.get_mut(tcp::HEADER_LEN..).unwrap_or_default();
        put(payload, 0, &header.write_up());
        put(payload, DATA_HEADER_LEN, to.token.as_bytes());
        put(payload, header.own_token_at(), own.token.as_bytes());
        self.note_sent(now, tick, ack);
        self.counters.datagrams_sent += 1;
        self.counters.bytes_sent += body_len as u64;
        Ok(OutgoingSegment { port: self.port, segment })
    }

    /// The agent's token and base, if data may be sent now. Otherwise sends the handshake or
    /// keepalive that is missing, so that a later call succeeds.
    #[inline]
    pub(super) fn ready_to_send(
        &mut self,
        now: Instant,
        out: &mut impl FnMut(OutgoingSegment<'_>),
    ) -> Result<(PublicToken, SeqNum), SendError> {
        let max = u64::from(window::data_age_max(&self.constants));
        match (self.token, self.base, self.answer_age(now)) {
            (Some(token), Some(base), Some(age)) if age <= max => {
                let silent_ms = now.millis_since(self.last_sent);
                if silent_ms > u64::from(self.constants.tick_ms) {
                    // Its ack does not lag, so that it advances the window of firewalls further
                    // than that of data.
                    self.start_keepalive(now, out);
                }
                Ok((token, base))
            }
            _ => {
                self.counters.refused_not_ready += 1;
                if self.slept(now) {
                    self.connect_again(now, out);
                } else {
                    self.poll(now, out);
                }
                Err(SendError::NotReady)
            }
        }
    }

    #[inline]
    pub(super) fn data_ack(&self) -> Option<SeqNum> {
        match &self.phase {
            Phase::Open(open) => Some(open.data_ack(&self.server?, self.lag_bytes())),
            _ => None,
        }
    }

    /// The distance that the acks of data stay behind, in bytes.
    pub(super) fn lag_bytes(&self) -> u32 {
        u32::from(self.constants.lag).wrapping_mul(self.constants.stride)
    }

    /// The offset of a payload beyond the tick's number, in bytes.
    #[inline]
    pub(super) fn next_offset(&mut self, payload_len: usize) -> u32 {
        let len = payload_len as u32;
        let limit = u32::from(self.constants.offset);
        let offset = if self.offset.saturating_add(len) > limit { 0 } else { self.offset };
        self.offset = offset.saturating_add(len.next_multiple_of(u32::from(OFFSET_STEP)));
        offset
    }

    pub(super) fn body_room(&self, to: &PublicToken) -> usize {
        let own = self.family();
        // The POPs' limit is for a token of the agent's own family; a longer one shortens the body.
        let more = match (own, to.token.family()) {
            (Family::V4, Family::V6) => Token::len_of(Family::V6) - Token::len_of(Family::V4),
            _ => 0,
        };
        let theirs = usize::from(self.body_max).saturating_sub(more);
        theirs.min(usize::from(body_max(self.mtu, own, to.token.family())))
    }

    /// Whether `seq` is a recent sequence number of this flow. An ICMP error must quote one, which
    /// is unknown off the path (RFC 5927, section 4). A POP that originates such an error writes
    /// the number of its own tick.
    ///
    /// Behind a middlebox that rewrites the agent's numbers the quoted one is unknown: all are
    /// accepted.
    pub fn bears(&self, seq: SeqNum) -> bool {
        if self.shift.is_some_and(|shift| shift != 0) {
            return true;
        }
        let Some(base) = self.base else { return false };
        let first = Tick(self.last_tick.0.wrapping_sub(SKEW_TICKS_MAX.into()));
        let ahead = seq.plus(self.at(base, first).0.wrapping_neg()).0;
        ahead <= 2 * SKEW_TICKS_MAX * self.constants.stride + u32::from(self.constants.offset)
    }

    /// Accepts data by the numbers of the newest reply from now on.
    pub(super) fn accept_from(&mut self, base: SeqNum) {
        let (stride, lag) = (self.constants.stride, self.constants.lag);
        self.accepted =
            self.server.map(|server| Accepted { start: server.start, base, stride, lag });
    }

    /// The numbers that data must have; counts what comes before they are known.
    #[inline]
    pub(super) fn accepted_numbers(&mut self) -> Option<Accepted> {
        self.counters.refused_data_early += u64::from(self.accepted.is_none());
        self.accepted
    }

    /// Whether a segment with this offset has the numbers of a tick that a POP can be in. Counts
    /// others.
    #[inline]
    pub(super) fn are_accepted(&mut self, accepted: &Accepted, tcp: &Tcp, offset: u32) -> bool {
        let numbered = tcp.seq.plus((1 + offset).wrapping_neg());
        let Some(tick) = accepted.tick_of(numbered, self.last_tick) else {
            self.counters.refused_data_seq += 1;
            return false;
        };
        let holds = tcp.has(tcp::ACK) && tcp.ack == accepted.ack_at(tick);
        self.counters.refused_data_ack += u64::from(!holds);
        holds
    }

    /// Accepts a datagram with the numbers of a POP whose clock is right. It changes counters only,
    /// because data is not authenticated.
    #[inline]
    pub(super) fn receive_data<'s>(
        &mut self,
        tcp: &Tcp,
        payload: &'s [u8],
    ) -> Option<ReceivedDatagram<'s>> {
        let accepted = self.accepted_numbers()?;
        let Ok(header) = DataHeader::parse_down(payload) else {
            self.counters.refused_data_malformed += 1;
            return None;
        };
        if !self.are_accepted(&accepted, tcp, header.offset()) {
            return None;
        }
        let token = payload.get(DATA_HEADER_LEN..);
        let token = token.and_then(|bytes| Token::read(header.sender, bytes))?;
        let body = payload.get(header.body_at_down()..)?;
        self.counters.datagrams_received += 1;
        self.counters.bytes_received += body.len() as u64;
        // The header has the parity of the epoch only; two accepted epochs are consecutive.
        let own = self.token.map_or(0, |own| own.epoch);
        let epoch = if (own % 2 == 1) == header.sender_odd { own } else { own.wrapping_add(1) };
        let from = PublicToken { epoch, token };
        let DataHeader { session, channel, .. } = header;
        Some(ReceivedDatagram { conversation: Conversation { session, channel }, from, body })
    }
}

const _: () =
    assert!(HEADROOM == tcp::HEADER_LEN + DATA_HEADER_LEN + 2 * Token::len_of(Family::V6));
