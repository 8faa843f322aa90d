//! The tunnel's half of the event loop: the core's state machine and its uplink to the VIP.

use std::time::Duration;

use anyrelay_core::time::Instant;
use anyrelay_core::tunnel::Token;
use anyrelay_core::tunnel::agent::{
    Agent, Conversation, HEADROOM, OPEN_HEADROOM, OpenSendError, OutgoingSegment, Received,
    ReceivedDatagram, SendError,
};
use anyrelay_core::tunnel::message::DATA_HEADER_LEN;
use anyrelay_core::wire::tcp;

use super::log_limit::LogLimiter;
use super::{RECEIVER, SENDER};
use crate::local::{PublicToken, SourceIndex, TunnelAccess, TunnelDatagram};
use crate::outer::{
    FirewallError, RouteWatch, SEGMENT_LEN_MAX, Sender, Uplink, UplinkConfig, UplinkCounts,
    UplinkError,
};
use crate::peers::{LookupResult, Watcher};
use crate::poller::Poller;

/// The state machine, the uplink, and the lookups of peers.
pub(super) struct Flow {
    pub(super) agent: Agent,
    pub(super) watch: RouteWatch,
    /// The uplink to the VIP; `None` while the host has no network.
    pub(super) uplink: Option<Uplink>,
    /// Why there is none.
    pub(super) no_uplink: Option<String>,
    /// Counters of closed uplinks.
    closed: UplinkCounts,
    watcher: Option<Watcher>,
    /// The last warning about the route.
    doubt: Option<String>,
    /// Limit the log lines on errors of the uplink, and of receiving.
    uplink_log: LogLimiter,
    receive_log: LogLimiter,
    /// The time of this turn of the event loop.
    pub(super) now: Instant,
}

/// What came in a segment.
pub(super) enum Arrived<'a> {
    /// A datagram from a peer.
    Datagram(TunnelDatagram<'a>),
    /// A packet to the agent's open address, and DSCP and ECN of the IP packet around it.
    Open { packet: &'a [u8], class: u8 },
}

impl<'a> Arrived<'a> {
    fn of(datagram: ReceivedDatagram<'a>) -> Self {
        let Conversation { session, channel } = datagram.conversation;
        let (from, body) = (datagram.from, datagram.body);
        Arrived::Datagram(TunnelDatagram { session, channel, from, body })
    }
}

/// The tunnel as a local side sees it.
pub(super) struct TunnelView<'a> {
    agent: &'a mut Agent,
    sender: Option<&'a mut Sender>,
    watcher: Option<&'a Watcher>,
    now: Instant,
}

impl Flow {
    pub(super) fn new(agent: Agent, uplink_config: UplinkConfig, now: Instant) -> Self {
        let (uplink_log, receive_log) = (LogLimiter::default(), LogLimiter::default());
        let closed = UplinkCounts::default();
        Flow {
            agent,
            watch: RouteWatch::new(uplink_config),
            uplink: None,
            no_uplink: None,
            closed,
            watcher: None,
            doubt: None,
            uplink_log,
            receive_log,
            now,
        }
    }

    pub(super) fn watching(self, watcher: Watcher) -> Self {
        Flow { watcher: Some(watcher), ..self }
    }

    pub(super) fn tunnel(&mut self) -> TunnelView<'_> {
        TunnelView {
            agent: &mut self.agent,
            sender: self.uplink.as_mut().map(|uplink| &mut uplink.sender),
            watcher: self.watcher.as_ref(),
            now: self.now,
        }
    }

    /// Receives a batch of segments and calls `each` with what came in them.
    pub(super) fn receive(&mut self, mut each: impl FnMut(Arrived<'_>, &mut TunnelView<'_>)) {
        let Flow { agent, uplink, watcher, now, .. } = self;
        let Some(Uplink { receiver, sender, .. }) = uplink else { return };
        let (now, watcher) = (*now, watcher.as_ref());
        let result = receiver.receive(|segment, class| {
            let received = agent.receive(now, segment, &mut |outgoing| sender.push(&outgoing));
            let arrived = match received {
                Some(Received::Datagram(datagram)) => Arrived::of(datagram),
                Some(Received::Open(packet)) => Arrived::Open { packet, class },
                None => return,
            };
            let (agent, sender) = (&mut *agent, Some(&mut *sender));
            each(arrived, &mut TunnelView { agent, sender, watcher, now });
        });
        match result {
            Ok(()) => self.receive_log.reset(),
            Err(error) => {
                if let Some(text) = self.receive_log.admit(now, error) {
                    tracing::warn!("receiving from the VIP: {text}");
                }
            }
        }
    }

    /// Runs the timers of the state machine that are due.
    pub(super) fn poll(&mut self) {
        if self.now >= self.agent.next_timer() {
            self.with_out(|agent, now, out| agent.poll(now, &mut |outgoing| out(outgoing)));
        }
    }

    /// The uplink has changed: the state machine starts again from the same port.
    pub(super) fn rebound(&mut self) {
        self.with_out(|agent, now, out| agent.rebound(now, &mut |outgoing| out(outgoing)));
    }

    pub(super) fn flush(&mut self) {
        if let Some(uplink) = &mut self.uplink {
            uplink.sender.flush();
        }
    }

    /// Moves the uplink to the state machine's port, if that has changed.
    pub(super) fn follow_port(&mut self, poller: &Poller) {
        let port = self.uplink.as_ref().map(|uplink| uplink.local().port());
        if port.is_none_or(|port| port == self.agent.port()) {
            return;
        }
        self.closed = self.counts();
        let deferred =
            self.uplink.take().map(|mut uplink| uplink.sender.take_deferred()).unwrap_or_default();
        if let Err(error) = self.open_uplink(poller) {
            return self.log_uplink_error(&error);
        }
        let Some(uplink) = &mut self.uplink else { return };
        for (port, mut segment) in deferred {
            if port == uplink.local().port() {
                uplink.sender.push(&OutgoingSegment { port, segment: &mut segment });
            }
        }
        uplink.sender.flush();
    }

    /// Opens the uplink from the state machine's port, or from another if that one is in use.
    pub(super) fn open_uplink(&mut self, poller: &Poller) -> Result<(), UplinkError> {
        let mut tries = 0;
        // Published tokens depend on a saved port, so it is worth waiting for; any other can be
        // replaced.
        let mut patience =
            if self.agent.saved().is_some() { PORT_PATIENCE } else { Duration::ZERO };
        let uplink = loop {
            match Uplink::open(&mut self.watch, self.agent.port(), patience, self.closed) {
                Ok(uplink) => break uplink,
                Err(error) if error.port_in_use() && tries < PORT_TRIES => {
                    tries += 1;
                    patience = Duration::ZERO;
                    tracing::warn!("{error}; taking another, so peers need the new token");
                    // The state machine sends its SYN again once the uplink is open.
                    self.agent.port_taken(self.now, &mut |_| {});
                }
                Err(error) => return Err(error),
            }
        };
        register(&uplink, poller)?;
        let (local, vip) = (uplink.local(), self.watch.config.vip);
        tracing::info!(%local, %vip, device = self.watch.device(), "the way to the VIP is open");
        (self.uplink, self.no_uplink) = (Some(uplink), None);
        Ok(())
    }

    /// Follows the host to another network; called once a second.
    pub(super) fn follow_route(&mut self, poller: &Poller) {
        self.log_doubt();
        let Some(uplink) = &mut self.uplink else {
            match self.open_uplink(poller) {
                Ok(()) => {
                    self.uplink_log.reset();
                    self.rebound();
                }
                Err(error) => self.log_uplink_error(&error),
            }
            return;
        };
        match uplink.follow_route(&mut self.watch, self.now) {
            Ok(false) => self.uplink_log.reset(),
            Ok(true) => self.moved(poller),
            Err(error) if error.closes() => {
                self.closed = self.counts();
                self.uplink = None;
                self.log_uplink_error(&error);
            }
            // The old sockets still work, and the route is checked again in a second.
            Err(error) => self.log_uplink_error(&error),
        }
    }

    /// Logs a new warning about the route.
    fn log_doubt(&mut self) {
        let doubt = self.watch.doubt();
        if let Some(text) = doubt.as_ref().filter(|_| doubt != self.doubt) {
            tracing::warn!("{text}");
        }
        self.doubt = doubt;
    }

    /// Registers the uplink's new sockets.
    fn moved(&mut self, poller: &Poller) {
        let Some(uplink) = &self.uplink else { return };
        if let Err(error) = register(uplink, poller) {
            // Nothing would be received through them: the uplink is opened again in a second.
            self.closed = self.counts();
            self.uplink = None;
            return self.log_uplink_error(&error);
        }
        tracing::info!(local = %uplink.local(), "this host's address has changed");
        self.rebound();
    }

    /// Logs an error of the uplink, then the same one at most once a minute.
    pub(super) fn log_uplink_error(&mut self, error: &UplinkError) {
        self.no_uplink = self.uplink.is_none().then(|| error.to_string());
        if let Some(text) = self.uplink_log.admit(self.now, error) {
            match error.is_temporary() {
                true => tracing::warn!("{text}; waiting for one"),
                false => tracing::error!("{text}; trying again"),
            }
        }
    }

    pub(super) fn counts(&self) -> UplinkCounts {
        self.uplink.as_ref().map_or(self.closed, Uplink::counts)
    }

    /// Handles ICMP errors about segments that were too big for the path.
    pub(super) fn handle_errors(&mut self) {
        let Flow { agent, uplink, now, .. } = self;
        if let Some(uplink) = uplink {
            uplink.sender.handle_errors(*now, |seq| agent.bears(seq));
        }
    }

    pub(super) fn drain_leaks(&mut self) -> bool {
        self.uplink.as_mut().is_some_and(|uplink| uplink.sender.drain_leaks())
    }

    pub(super) fn restore_firewall(&self) -> Result<(), FirewallError> {
        self.uplink.as_ref().map_or(Ok(()), Uplink::restore_firewall)
    }

    pub(super) fn results(&self) -> Vec<LookupResult> {
        self.watcher.iter().flat_map(Watcher::results).collect()
    }

    fn with_out(
        &mut self,
        work: impl FnOnce(&mut Agent, Instant, &mut dyn FnMut(OutgoingSegment<'_>)),
    ) {
        let uplink = &mut self.uplink;
        work(&mut self.agent, self.now, &mut |outgoing| {
            if let Some(uplink) = uplink {
                uplink.sender.push(&outgoing);
            }
        });
    }
}

impl TunnelView<'_> {
    /// Sends a packet from the agent's open address.
    ///
    /// # Errors
    /// When it was not sent; one that is too big may be as large as the path allows.
    pub(super) fn send_open(&mut self, packet: &[u8]) -> Result<(), OpenSendError> {
        let max = self.open_packet_max();
        let Some(sender) = &mut self.sender else { return Err(OpenSendError::NotReady) };
        let (agent, now) = (&mut *self.agent, self.now);
        if packet.len() > max && agent.open_addresses().current.is_some() {
            return Err(OpenSendError::TooBig { max });
        }
        sender.compose(OPEN_HEADROOM, packet, |buffer, deferred| {
            let out = &mut |outgoing: OutgoingSegment<'_>| deferred.push(&outgoing);
            let made = agent.send_open(now, buffer, OPEN_HEADROOM, out)?;
            Ok(made.segment.len())
        })
    }

    /// The largest packet from an open address that the POPs and the path allow, in bytes.
    pub(super) fn open_packet_max(&self) -> usize {
        let path = self.sender.as_ref().map_or(SEGMENT_LEN_MAX, |sender| sender.segment_max());
        self.agent.open_packet_max().min(path.saturating_sub(OPEN_HEADROOM))
    }
}

impl TunnelAccess for TunnelView<'_> {
    fn send(
        &mut self,
        to: &PublicToken,
        session: u64,
        channel: u16,
        body: &[u8],
    ) -> Result<(), SendError> {
        let Some(sender) = &mut self.sender else { return Err(SendError::NotReady) };
        let (agent, now) = (&mut *self.agent, self.now);
        let conversation = Conversation { session, channel };
        sender.compose(HEADROOM, body, |buffer, deferred| {
            let out = &mut |outgoing: OutgoingSegment<'_>| deferred.push(&outgoing);
            let made = agent.send(now, to, conversation, buffer, HEADROOM, out)?;
            Ok(made.segment.len())
        })
    }

    fn body_max(&self, to: &PublicToken) -> Option<usize> {
        let agreed = self.agent.body_max(to);
        let own = self.agent.token()?.token.family();
        let around = tcp::HEADER_LEN
            + DATA_HEADER_LEN
            + Token::len_of(own)
            + Token::len_of(to.token.family());
        let path = self.sender.as_ref().map_or(SEGMENT_LEN_MAX, |sender| sender.segment_max());
        Some(agreed.min(path.saturating_sub(around))).filter(|max| *max > 0)
    }

    fn own_token(&self) -> Option<PublicToken> {
        self.agent.token()
    }

    fn now(&self) -> Instant {
        self.now
    }

    fn locate(&mut self, peer: SourceIndex) {
        if let Some(watcher) = self.watcher {
            watcher.locate(peer);
        }
    }
}

fn register(uplink: &Uplink, poller: &Poller) -> Result<(), UplinkError> {
    poller.add(&uplink.receiver, RECEIVER).map_err(UplinkError::Receiver)?;
    poller.add(&uplink.sender, SENDER).map_err(UplinkError::Sender)
}

const PORT_TRIES: u32 = 16;
const PORT_PATIENCE: Duration = Duration::from_secs(1);
