//! Egress mode `pool`: clients appear as the addresses of an IPv4 pool.
//!
//! Egress address, egress port and tag together are a keyed permutation of the client's address and
//! port ([`permutation`]). A target returns all three in each segment: the tag as TSecr.

pub mod feistel;
pub mod permutation;
pub mod plan;

use super::keys::RelayKeys;
use super::mapping::{BURST, EgressMode, EgressSide};
use crate::config;
use crate::net::{Endpoint, IpEndpoint};
use crate::verdict::DropReason;

use permutation::{Mapped, Permutation};

/// A service in pool mode.
#[derive(Clone, Debug)]
pub struct PoolMode {
    pool: config::Pool,
    permutation: Permutation,
}

impl PoolMode {
    /// The mode of the service at `vip`, which appears to its targets as `pool`.
    pub fn new(keys: &RelayKeys, vip: Endpoint, pool: config::Pool) -> Self {
        let permutation = Permutation::new(keys, vip, pool.bits);
        PoolMode { pool, permutation }
    }
}

impl PoolMode {
    /// The addresses that it appears as.
    #[inline(always)]
    pub fn pool(&self) -> config::Pool {
        self.pool
    }
}

impl EgressMode for PoolMode {
    fn name(&self) -> &'static str {
        "pool"
    }

    fn outward(&self, clients: &[IpEndpoint], out: &mut [Result<EgressSide, DropReason>]) {
        // Others than clients of IPv4 come to no service in pool mode.
        let clients = clients.iter().take(BURST).map(|client| match client {
            IpEndpoint::V4(client) => *client,
            IpEndpoint::V6(_) => Endpoint::default(),
        });
        let mut out = out.iter_mut();
        self.permutation.forward(clients, |Mapped { tag, port, index }| {
            let egress = Endpoint { ip: self.pool.address(index), port }.into();
            if let Some(out) = out.next() {
                *out = Ok(EgressSide { egress, tag: Some(tag) });
            }
        });
    }

    fn inward(&self, sides: &[EgressSide], out: &mut [Result<IpEndpoint, DropReason>]) {
        // A tag of 0 stands for no client.
        let mapped = sides.iter().take(BURST).map(|side| match side.egress {
            IpEndpoint::V4(Endpoint { ip, port }) => {
                Mapped { tag: side.tag.unwrap_or_default(), port, index: self.pool.index(ip) }
            }
            IpEndpoint::V6(_) => Mapped::default(),
        });
        let mut out = out.iter_mut();
        self.permutation.inverse(mapped, |client| {
            if let Some(out) = out.next() {
                *out = client.map(IpEndpoint::V4).ok_or(DropReason::BadTag);
            }
        });
    }
}
