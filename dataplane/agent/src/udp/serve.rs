//! The serving side: forwards between peers and one UDP server.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

use anyrelay_core::time::Instant;
use serde_json::json;

use super::batch::{Counts, Incoming, Outgoing};
use super::channels::Channels;
use super::{CHANNELS_MAX, enlarge_buffers};
use crate::local::{LocalSide, PeerIndex, PublicToken, Received, SendError, Tunnel};
use crate::poller::Poller;

/// Forwards datagrams from peers to a UDP server.
pub struct UdpServe {
    target: SocketAddr,
    /// A socket for each session and channel.
    channels: Channels<Channel>,
    incoming: Incoming,
    outgoing: Outgoing,
    /// The channel of the datagrams in `outgoing`.
    kept_for: usize,
    counts: Counts,
    not_sent: u64,
    too_big: u64,
    no_socket: u64,
    /// Datagrams of new channels beyond the rate limit of their sender.
    refused_new_channel: u64,
}

#[derive(Debug)]
struct Channel {
    socket: UdpSocket,
    used: Instant,
}

impl UdpServe {
    /// Forwards to `target`.
    pub fn new(target: SocketAddr) -> Self {
        UdpServe {
            target,
            channels: Channels::new(CHANNELS_MAX.min(descriptors())),
            incoming: Incoming::new(),
            outgoing: Outgoing::new(),
            kept_for: usize::MAX,
            counts: Counts::default(),
            not_sent: 0,
            too_big: 0,
            no_socket: 0,
            refused_new_channel: 0,
        }
    }

    /// The slot of a datagram's channel. A new channel gets a new socket, and so does one that was
    /// idle for long.
    fn channel(&mut self, datagram: &Received<'_>, now: Instant, poller: &Poller) -> Option<usize> {
        let (key, from) = ((datagram.session, datagram.channel), datagram.from);
        if let Some(place) = self.channels.find(key, from) {
            let channel = self.channels.get_mut(place)?;
            if now.millis_since(channel.used) > IDLE_MS {
                // By now the number may belong to another source.
                channel.socket = open(self.target).ok()?;
                poller.add(&channel.socket, place as u64).ok()?;
            }
            channel.used = now;
            return Some(place);
        }
        if !self.channels.may_open(now, from) {
            self.refused_new_channel += 1;
            return None;
        }
        let socket = match open(self.target) {
            Ok(socket) => socket,
            Err(error) => {
                // Logged once, not for each datagram: the status has the count.
                if self.no_socket == 0 {
                    tracing::warn!("no socket towards {}: {error}", self.target);
                }
                self.no_socket += 1;
                return None;
            }
        };
        // The evicted socket is closed, which removes it from the poller.
        let place = self.channels.open(key, from, Channel { socket, used: now });
        poller.add(&self.channels.get(place)?.socket, place as u64).ok()?;
        Some(place)
    }

    fn send_kept(&mut self) {
        if let Some(channel) = self.channels.get(self.kept_for) {
            self.outgoing.flush(&channel.socket, &mut self.counts);
        }
    }
}

impl LocalSide for UdpServe {
    fn start(&mut self, _: &Poller) -> io::Result<()> {
        tracing::info!(target = %self.target, "forwarding to UDP");
        Ok(())
    }

    fn readable(&mut self, key: u64, _: &Poller, tunnel: &mut dyn Tunnel) {
        let place = key as usize;
        let Some(flow) = self.channels.get_mut(place) else { return };
        flow.used = tunnel.now();
        // An ICMP error: the server is not running. Its clients detect that themselves.
        if self.incoming.fill(&flow.socket).unwrap_or(0) == 0 {
            return;
        }
        self.channels.touch(place);
        let Some(((session, channel), to)) = self.channels.answer_to(place) else { return };
        for (body, _) in self.incoming.iter() {
            match tunnel.send(&to, session, channel, body) {
                Ok(()) => {}
                Err(SendError::TooBig { .. }) => self.too_big += 1,
                Err(_) => self.not_sent += 1,
            }
        }
    }

    fn received(&mut self, datagram: &Received<'_>, poller: &Poller, tunnel: &mut dyn Tunnel) {
        let key = (datagram.session, datagram.channel);
        let before = self.kept_for;
        // Delayed datagrams are sent before their socket can be evicted.
        if self.channels.key(before) != Some(key) {
            self.send_kept();
        }
        let Some(place) = self.channel(datagram, tunnel.now(), poller) else { return };
        self.kept_for = place;
        if self.outgoing.is_full() {
            self.send_kept();
        }
        self.outgoing.push(None, datagram.body);
    }

    fn flush(&mut self, _: &mut dyn Tunnel) {
        if !self.outgoing.is_empty() {
            self.send_kept();
        }
    }

    fn located(&mut self, _: PeerIndex, _: PublicToken, _: &mut dyn Tunnel) {}

    fn next_timer(&self) -> Option<Instant> {
        None
    }

    fn timers(&mut self, _: &mut dyn Tunnel) {}

    fn status(&self, _: Instant) -> serde_json::Value {
        json!({
            "kind": "udp-serve",
            "target": self.target.to_string(),
            "sessions": self.channels.sessions(),
            "channels": self.channels.len(),
            "delivered": self.counts.sent,
            "delivery_failed": self.counts.refused,
            "not_sent": self.not_sent,
            "too_big": self.too_big,
            "no_socket": self.no_socket,
            "refused_new_channel": self.refused_new_channel,
        })
    }
}

fn open(target: SocketAddr) -> io::Result<UdpSocket> {
    let any: SocketAddr = match target {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let socket = UdpSocket::bind(any)?;
    socket.connect(target)?;
    socket.set_nonblocking(true)?;
    enlarge_buffers(&socket);
    Ok(socket)
}

/// Raises the limit of descriptors as far as possible; returns the number of sockets for channels.
fn descriptors() -> usize {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit });
    let now = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    usize::try_from(now).unwrap_or(usize::MAX).saturating_sub(DESCRIPTORS_ELSEWHERE)
}

/// A channel idle for longer gets a new socket: longer than NATs keep a UDP mapping.
const IDLE_MS: u64 = 300_000;
const DESCRIPTORS_ELSEWHERE: usize = 64;
