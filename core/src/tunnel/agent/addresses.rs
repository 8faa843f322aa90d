//! The open addresses of an agent, as replies brought them.

use std::net::Ipv6Addr;

use crate::keys::EPOCH_GRACE_MS;
use crate::time::Instant;

/// The open addresses of an agent that POPs accept now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OpenAddresses {
    /// The address of the newest epoch. New connections use it.
    pub current: Option<Ipv6Addr>,
    /// The address of the epoch before, until that ends. It is deprecated (RFC 4862, section
    /// 5.5.4): for what was begun with it.
    pub deprecated: Option<Ipv6Addr>,
}

impl OpenAddresses {
    /// Whether `ip` is one of them.
    pub fn contains(&self, ip: Ipv6Addr) -> bool {
        [self.current, self.deprecated].contains(&Some(ip))
    }
}

/// The addresses, with the end of the deprecated one and a number that grows at each change.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct OpenState {
    pub(super) addresses: OpenAddresses,
    ends_at: Instant,
    pub(super) version: u64,
}

impl OpenState {
    /// Takes the address in a reply. After a new epoch the one so far is `kept` as deprecated.
    pub(super) fn take(&mut self, now: Instant, address: Option<Ipv6Addr>, keeps: bool) {
        let before = self.addresses;
        if address == before.current {
            return;
        }
        let deprecated = before.current.filter(|_| keeps && address.is_some());
        self.addresses = OpenAddresses { current: address, deprecated };
        self.ends_at = now.plus_millis(EPOCH_GRACE_MS);
        self.version += 1;
    }

    /// Forgets a deprecated address whose epoch has ended.
    pub(super) fn expire(&mut self, now: Instant) {
        if self.addresses.deprecated.is_some() && now >= self.ends_at {
            self.addresses.deprecated = None;
            self.version += 1;
        }
    }

    /// The addresses are no longer the agent's.
    pub(super) fn clear(&mut self) {
        self.version += u64::from(self.addresses != OpenAddresses::default());
        self.addresses = OpenAddresses::default();
    }
}
