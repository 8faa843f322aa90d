//! A gateway: where its frames go, and whether it answers.

use std::net::IpAddr;

use super::neighbour::{Found, Neighbour, Told};
use super::times::ProbeTimes;
use crate::net::{Address, PortIndex};
use crate::time::Instant;
use crate::wire::MacAddr;

/// An on-link router, as the POP sees it.
#[derive(Debug)]
pub(super) struct Gateway<A> {
    pub(super) port: PortIndex,
    pub(super) ip: A,
    /// Its hardware address, where the config has it.
    fixed: Option<MacAddr>,
    /// Whether one whose address is fixed is queried.
    is_probed: bool,
    neighbour: Neighbour,
}

/// What is known of a gateway, for people.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GatewayStatus {
    /// The port that it is on.
    pub port: PortIndex,
    /// Its address.
    pub ip: IpAddr,
    /// The hardware address that frames for it go to, if there is one.
    pub mac: Option<MacAddr>,
    /// Whether it gets its share of the destinations: it answers, or is not to be judged.
    pub is_used: bool,
}

impl<A: Address> Gateway<A> {
    /// One that was never queried.
    pub fn new(port: PortIndex, ip: A, fixed: Option<MacAddr>, is_probed: bool) -> Self {
        Gateway { port, ip, fixed, is_probed, neighbour: Neighbour::default() }
    }

    /// Whether this is the gateway `ip` of `port`.
    pub fn is(&self, port: PortIndex, ip: A) -> bool {
        self.port == port && self.ip == ip
    }

    /// Where frames for it go, and whether it answers; with `asks`, a query that is due counts as
    /// asked. Traffic does not make the POP ask for an address that is fixed.
    #[inline(always)]
    pub fn find(&self, now: Instant, times: &ProbeTimes, asks: bool) -> Found {
        match self.fixed {
            None => self.neighbour.find(now, times, asks),
            Some(mac) if !self.is_probed => Found { mac: Some(mac), answers: true, due: false },
            Some(mac) => self.find_fixed(now, times, mac),
        }
    }

    /// One that never answered is not judged: it may be one that answers nobody.
    fn find_fixed(&self, now: Instant, times: &ProbeTimes, mac: MacAddr) -> Found {
        let found = self.neighbour.find(now, times, false);
        let answers = found.answers || !self.neighbour.has_answered();
        Found { mac: Some(mac), answers, due: false }
    }

    /// Whether a query is due without traffic, which then counts as asked.
    pub fn is_due(&self, now: Instant, times: &ProbeTimes) -> bool {
        let is_asked = self.fixed.is_none() || self.is_probed;
        is_asked && self.neighbour.find(now, times, true).due
    }

    /// The hardware address that a query for it goes to, if that is known for certain.
    pub fn unicast(&self) -> Option<MacAddr> {
        self.fixed
    }

    /// A query for it could not be sent.
    pub fn take_back(&self) {
        self.neighbour.take_back();
    }

    /// Learns an address; whether that told anything. A fixed one does not change: only an answer
    /// from it says that it is there.
    pub fn learn(&self, now: Instant, mac: MacAddr, told: Told, times: &ProbeTimes) -> bool {
        match self.fixed {
            Some(fixed) if told.confirms && fixed == mac => {
                self.neighbour.learn(now, mac, told, times)
            }
            Some(_) => told.confirms,
            None => self.neighbour.learn(now, mac, told, times) || told.confirms,
        }
    }

    /// Takes a sign of life of the station `mac`; whether it is from this gateway.
    pub fn confirm(&self, now: Instant, mac: MacAddr, times: &ProbeTimes) -> bool {
        match self.fixed {
            Some(_) => self.fixed == Some(mac) && self.learn(now, mac, Told::ANSWER, times),
            None => self.neighbour.confirm(now, mac, times),
        }
    }

    /// What is known of it now.
    pub fn status(&self, now: Instant, times: &ProbeTimes) -> GatewayStatus {
        let Found { mac, answers, .. } = self.find(now, times, false);
        GatewayStatus { port: self.port, ip: self.ip.ip(), mac, is_used: answers }
    }
}
