//! The serving side: forwards between peers and one UDP server.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

use anyrelay_core::time::Instant;
use serde_json::json;

use super::batch::{DatagramCounts, ReceiveBatch, SendBatch};
use super::channels::Channels;
use super::{CHANNELS_MAX, enlarge_buffers};
use crate::local::{LocalSide, PublicToken, SendError, SourceIndex, TunnelAccess, TunnelDatagram};
use crate::poller::Poller;

/// Forwards datagrams from peers to a UDP server.
pub struct UdpServe {
    target: SocketAddr,
    /// A socket for each session and channel.
    channels: Channels<Channel>,
    incoming: ReceiveBatch,
    outgoing: SendBatch,
    /// The channel of the datagrams in `outgoing`.
    batch_slot: usize,
    counts: DatagramCounts,
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
            incoming: ReceiveBatch::new(),
            outgoing: SendBatch::new(),
            batch_slot: usize::MAX,
            counts: DatagramCounts::default(),
            not_sent: 0,
            too_big: 0,
            no_socket: 0,
            refused_new_channel: 0,
        }
    }

    /// The slot of a datagram's channel. A new channel gets a new socket, and so does one that was
    /// idle for long.
    fn channel(
        &mut self,
        datagram: &TunnelDatagram<'_>,
        now: Instant,
        poller: &Poller,
    ) -> Option<usize> {
        let (key, from) = ((datagram.session, datagram.channel), datagram.from);
        if let Some(slot) = self.channels.find(key, from) {
            let channel = self.channels.get_mut(slot)?;
            if now.millis_since(channel.used) > IDLE_MS {
                // By now the number may belong to another source.
                channel.socket = open(self.target).ok()?;
                poller.add(&channel.socket, slot as u64).ok()?;
            }
            channel.used = now;
            return Some(slot);
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
        let slot = self.channels.open(key, from, Channel { socket, used: now });
        poller.add(&self.channels.get(slot)?.socket, slot as u64).ok()?;
        Some(slot)
    }

    fn send_batch(&mut self) {
        if let Some(channel) = self.channels.get(self.batch_slot) {
            self.outgoing.flush(&channel.socket, &mut self.counts);
        }
    }
}

impl LocalSide for UdpServe {
    fn start(&mut self, _: &Poller) -> io::Result<()> {
        tracing::info!(target = %self.target, "forwarding to UDP");
        Ok(())
    }

    fn readable(&mut self, key: u64, _: &Poller, tunnel: &mut dyn TunnelAccess) {
        let slot = key as usize;
        let Some(channel) = self.channels.get_mut(slot) else { return };
        channel.used = tunnel.now();
        // An ICMP error: the server is not running. Its clients detect that themselves.
        if self.incoming.fill(&channel.socket).unwrap_or(0) == 0 {
            return;
        }
        self.channels.touch(slot);
        let Some(((session, channel), to)) = self.channels.answer_to(slot) else { return };
        for (body, _) in self.incoming.iter() {
            match tunnel.send(&to, session, channel, body) {
                Ok(()) => {}
                Err(SendError::TooBig { .. }) => self.too_big += 1,
                Err(_) => self.not_sent += 1,
            }
        }
    }

    fn received(
        &mut self,
        datagram: &TunnelDatagram<'_>,
        poller: &Poller,
        tunnel: &mut dyn TunnelAccess,
    ) {
        let key = (datagram.session, datagram.channel);
        let before = self.batch_slot;
        // Delayed datagrams are sent before their socket can be evicted.
        if self.channels.key(before) != Some(key) {
            self.send_batch();
        }
        let Some(slot) = self.channel(datagram, tunnel.now(), poller) else { return };
        self.batch_slot = slot;
        if self.outgoing.is_full() {
            self.send_batch();
        }
        self.outgoing.push(None, datagram.body);
    }

    fn flush(&mut self, _: &mut dyn TunnelAccess) {
        if !self.outgoing.is_empty() {
            self.send_batch();
        }
    }

    fn located(&mut self, _: SourceIndex, _: PublicToken, _: &mut dyn TunnelAccess) {}

    fn next_timer(&self) -> Option<Instant> {
        None
    }

    fn timers(&mut self, _: &mut dyn TunnelAccess) {}

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
