//! What tests do to a world before or between runs: programs that start again, numbers about to
//! wrap, keys that change.

use std::net::SocketAddr;
use std::sync::Arc;

use anyrelay_core::keys::KeyFile;
use anyrelay_core::predict::Constants;
use anyrelay_core::seq::SeqNum;
use anyrelay_core::time::{Now, UnixTime};
use anyrelay_core::tunnel::agent::{Agent, AgentSetup, Saved};
use anyrelay_kit::tunnel::{open_service, service};

use crate::world::World;

impl World {
    /// The highest sequence number and the newest ack of the site's newest flow.
    fn numbers(&self, site: usize) -> (SeqNum, SeqNum) {
        let last = self.sites[site].last_keepalive.as_ref().expect("has sent a keepalive");
        (last.head().seq, last.head().ack)
    }

    pub fn highest_seq(&self, site: usize) -> SeqNum {
        self.numbers(site).0
    }

    pub fn highest_ack(&self, site: usize) -> SeqNum {
        self.numbers(site).1
    }

    /// Replaces the agent by one whose numbers wrap after so many ticks.
    pub fn restart_before_wrap(&mut self, site: usize, ticks: u32) {
        let saved = self.sites[site].agent.saved().expect("was ready");
        let tick = self.pop_time(0).tick(saved.tick_ms);
        let now = (tick.0 as u32).wrapping_add(ticks).wrapping_mul(saved.stride);
        let base = (now.wrapping_neg() & 0xffff_0000) | 0x8000;
        let port = saved.port ^ 1;
        self.restart(site, Some(Saved { base, port, ..saved }));
    }

    /// Replaces the agent by a new one, as when its program starts again.
    pub fn restart(&mut self, site: usize, saved: Option<Saved>) {
        self.restart_at(site, saved, self.unix_ms + self.now_ms());
    }

    /// The same, on a host whose wall clock is wrong by up to two minutes.
    pub fn restart_with_wrong_clock(&mut self, site: usize, saved: Saved) {
        let wrong = self.rng.below(240_000);
        self.restart_at(site, Some(saved), self.unix_ms + self.now_ms() - 120_000 + wrong);
    }

    fn restart_at(&mut self, site: usize, saved: Option<Saved>, unix_ms: u64) {
        let seed = self.rng.bytes();
        let vip = self.sites[site].vip;
        let key = self.agent_key(site as u32);
        let now = Now { instant: self.instant(), unix: UnixTime::from_millis(unix_ms) };
        let config = AgentSetup { saved, ..AgentSetup::new(vip, key, seed) };
        self.sites[site].agent = Agent::new(config, now);
    }

    /// Sets the time so that the server's numbers towards the first site's first flow wrap in so
    /// many ticks.
    pub fn wrap_server_soon(&mut self, ticks: u64) {
        let probe = self.rng.clone();
        let Constants { tick_ms, stride, .. } = self.service.constants;
        // What `add_site` will choose: the seed's 32 numbers, the clock's error, the port.
        let mut ahead = probe;
        ahead.bytes();
        ahead.below(240_000);
        let port = 20_000 + ahead.below(20_000) as u16;
        let agent = SocketAddr::new("192.0.2.10".parse().unwrap(), port);
        let start = self.service.vip4.as_ref().unwrap().predictor.start(agent);
        let per_wrap = (1u64 << 32) / u64::from(stride);
        let wraps_at = u64::from(start.0.wrapping_neg() / stride);
        let tick = self.unix_ms / u64::from(tick_ms) / per_wrap * per_wrap + wraps_at;
        self.unix_ms = (tick - ticks) * u64::from(tick_ms);
    }

    /// The POPs' keys change: what `change` makes of them.
    pub fn change_keys(&mut self, change: impl FnOnce(&mut KeyFile)) {
        change(&mut self.keys);
        let constants = self.service.constants;
        let service = if self.service.open.is_some() { open_service } else { service };
        self.service = Arc::new(service(&self.keys, &self.tenants, constants));
    }
}
