//! The connecting side: forwards between sources at a local address and one peer.

use std::io;
use std::net::{SocketAddr, UdpSocket};

use anyrelay_core::time::Instant;
use serde_json::json;

use super::batch::{DatagramCounts, ReceiveBatch, SendBatch};
use super::lru::Lru;
use super::{CHANNELS_MAX, enlarge_buffers};
use crate::inner::message::CHANNEL as INNER_CHANNEL;
use crate::local::{LocalSide, PublicToken, SourceIndex, TunnelAccess, TunnelDatagram};
use crate::poller::Poller;

/// Forwards datagrams from a local UDP address to a peer.
pub struct UdpConnect {
    socket: UdpSocket,
    /// Random, so that answers to an earlier process are recognised.
    session: u64,
    peer: Option<PublicToken>,
    sources: Sources,
    incoming: ReceiveBatch,
    outgoing: SendBatch,
    counts: DatagramCounts,
    not_sent: u64,
    too_big: u64,
    refused: u64,
    /// The time of the first datagram to the peer since the last one from it.
    unanswered_since: Option<Instant>,
}

impl UdpConnect {
    /// Listens at `listen`.
    ///
    /// # Errors
    /// When the address cannot be bound.
    pub fn new(listen: SocketAddr, session: u64) -> io::Result<Self> {
        let socket = UdpSocket::bind(listen)?;
        socket.set_nonblocking(true)?;
        enlarge_buffers(&socket);
        Ok(UdpConnect {
            socket,
            session,
            peer: None,
            sources: Sources::new(CHANNELS_MAX),
            incoming: ReceiveBatch::new(),
            outgoing: SendBatch::new(),
            counts: DatagramCounts::default(),
            not_sent: 0,
            too_big: 0,
            refused: 0,
            unanswered_since: None,
        })
    }

    fn forward(&mut self, tunnel: &mut dyn TunnelAccess) {
        let Some(peer) = self.peer else {
            self.not_sent += self.incoming.iter().count() as u64;
            return tunnel.locate(PEER);
        };
        let mut last: Option<(SocketAddr, u16)> = None;
        for (body, from) in self.incoming.iter() {
            let Some(from) = from else { continue };
            let channel = match last {
                Some((source, channel)) if source == from => channel,
                _ => self.sources.channel(from),
            };
            last = Some((from, channel));
            match tunnel.send(&peer, self.session, channel, body) {
                Ok(()) => {}
                Err(crate::local::SendError::TooBig { .. }) => self.too_big += 1,
                Err(_) => self.not_sent += 1,
            }
        }
        self.locate_if_silent(tunnel);
    }

    /// Requests the location of a peer that has been silent for a while, as it may have moved.
    fn locate_if_silent(&mut self, tunnel: &mut dyn TunnelAccess) {
        let now = tunnel.now();
        let since = *self.unanswered_since.get_or_insert(now);
        if now.millis_since(since) >= SILENCE_MS {
            self.unanswered_since = Some(now);
            tunnel.locate(PEER);
        }
    }
}

/// The sources of datagrams, and the channel of each.
struct Sources {
    by_address: Lru<SocketAddr, u16>,
    /// The slot in `by_address` of each channel.
    channels: Vec<Option<u32>>,
    next: u16,
}

impl Sources {
    fn new(capacity: usize) -> Self {
        Sources {
            by_address: Lru::new(capacity),
            channels: vec![None; usize::from(u16::MAX) + 1],
            next: 0,
        }
    }

    /// The channel of an address; a new one for a new source.
    fn channel(&mut self, source: SocketAddr) -> u16 {
        if let Some(slot) = self.by_address.find(&source) {
            return self.by_address.get(slot).copied().unwrap_or(0);
        }
        // Numbers are used in a cycle, so that late answers to a forgotten source reach no other
        // source. Channels in use are skipped: there are far more numbers than sources.
        let mut channel = self.next;
        while channel == INNER_CHANNEL || self.slot_of(channel).is_some() {
            channel = channel.wrapping_add(1);
        }
        self.next = channel.wrapping_add(1);
        let (slot, gone) = self.by_address.insert(source, channel);
        if let Some((_, old)) = gone {
            self.set_slot(old, None);
        }
        self.set_slot(channel, u32::try_from(slot).ok());
        channel
    }

    fn slot_of(&self, channel: u16) -> Option<u32> {
        self.channels.get(usize::from(channel)).copied().flatten()
    }

    fn set_slot(&mut self, channel: u16, slot: Option<u32>) {
        if let Some(entry) = self.channels.get_mut(usize::from(channel)) {
            *entry = slot;
        }
    }

    /// The source of a channel, which becomes the newest.
    fn source(&mut self, channel: u16) -> Option<SocketAddr> {
        let slot = self.slot_of(channel)? as usize;
        self.by_address.touch(slot);
        self.by_address.key(slot)
    }
}

impl LocalSide for UdpConnect {
    fn start(&mut self, poller: &Poller) -> io::Result<()> {
        tracing::info!(address = %self.socket.local_addr()?, "listening for UDP");
        poller.add(&self.socket, KEY)
    }

    fn readable(&mut self, _: u64, _: &Poller, tunnel: &mut dyn TunnelAccess) {
        // An ICMP error about an answer to a program that has ended needs no action.
        if self.incoming.fill(&self.socket).is_ok_and(|count| count > 0) {
            self.forward(tunnel);
        }
    }

    fn received(&mut self, datagram: &TunnelDatagram<'_>, _: &Poller, _: &mut dyn TunnelAccess) {
        // Only the peer, and agents that it told, know the session.
        let ours = datagram.session == self.session;
        let Some(source) = ours.then(|| self.sources.source(datagram.channel)).flatten() else {
            self.refused += 1;
            return;
        };
        self.unanswered_since = None;
        if self.outgoing.is_full() {
            self.outgoing.flush(&self.socket, &mut self.counts);
        }
        self.outgoing.push(Some(source), datagram.body);
    }

    fn flush(&mut self, _: &mut dyn TunnelAccess) {
        if !self.outgoing.is_empty() {
            self.outgoing.flush(&self.socket, &mut self.counts);
        }
    }

    fn located(&mut self, _: SourceIndex, token: PublicToken, _: &mut dyn TunnelAccess) {
        self.peer = Some(token);
    }

    fn next_timer(&self) -> Option<Instant> {
        None
    }

    fn timers(&mut self, _: &mut dyn TunnelAccess) {}

    fn status(&self, _: Instant) -> serde_json::Value {
        json!({
            "kind": "udp-connect",
            "listen": self.socket.local_addr().ok().map(|address| address.to_string()),
            "session": format!("{:016x}", self.session),
            "channels": self.sources.by_address.len(),
            "delivered": self.counts.sent,
            "delivery_failed": self.counts.refused,
            "not_sent": self.not_sent,
            "too_big": self.too_big,
            "refused": self.refused,
        })
    }
}

const PEER: SourceIndex = SourceIndex(0);
const KEY: u64 = 0;
const SILENCE_MS: u64 = 10_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_keeps_its_channel_until_it_is_forgotten() {
        let mut sources = Sources::new(2);
        let address = |port: u16| SocketAddr::from(([127, 0, 0, 1], port));
        let (a, b) = (sources.channel(address(1)), sources.channel(address(2)));
        assert_ne!(a, b);
        assert_eq!(sources.channel(address(1)), a);
        let c = sources.channel(address(3));
        assert_eq!(sources.source(b), None, "the oldest made room");
        assert_eq!((sources.source(a), sources.source(c)), (Some(address(1)), Some(address(3))));
        assert!(c != a && c != b, "late answers to a forgotten source meet nobody");
    }

    #[test]
    fn channel_numbers_wrap_and_skip_those_in_use() {
        let mut sources = Sources::new(2);
        let address = |port: u32| SocketAddr::from(([127, 0, (port >> 16) as u8, 1], port as u16));
        let first = sources.channel(address(0));
        for port in 1..200_000 {
            let channel = sources.channel(address(port));
            assert_ne!(channel, first);
            assert_ne!(channel, INNER_CHANNEL);
            assert_eq!(sources.source(first), Some(address(0)));
        }
    }
}
