//! Egress mode `pool` over IPv6: clients appear as the addresses of an IPv6 pool.
//!
//! As over IPv4 ([`super::pool`]), with room for the addresses of IPv6: egress address, egress port
//! and tag together are a keyed permutation of the client's address and port ([`permutation`]).

pub mod permutation;

use arrayvec::ArrayVec;

use super::keys::RelayKeys;
use super::mapping::{BURST, EgressMode, EgressSide};
use crate::config::Pool6;
use crate::crypto::HkdfError;
use crate::net::{Endpoint6, IpEndpoint};
use crate::verdict::DropReason;

use permutation::{Mapped, Permutation};

/// A service in pool mode over IPv6.
#[derive(Clone, Debug)]
pub struct Pool6Mode {
    pool: Pool6,
    permutation: Permutation,
}

impl Pool6Mode {
    /// The mode of the service at `vip`, which appears to its targets as `pool`.
    ///
    /// # Errors
    /// When the tweak of the service cannot be derived.
    pub fn new(keys: &RelayKeys, vip: Endpoint6, pool: Pool6) -> Result<Self, HkdfError> {
        Ok(Pool6Mode { pool, permutation: Permutation::new(keys, vip, pool.len)? })
    }
}

impl EgressMode for Pool6Mode {
    fn name(&self) -> &'static str {
        "pool"
    }

    fn outward(&self, clients: &[IpEndpoint], out: &mut [Result<EgressSide, DropReason>]) {
        // Clients of IPv4 come to no such service.
        let clients = clients.iter().map(|client| client.of_family().unwrap_or_default());
        let clients: ArrayVec<Endpoint6, BURST> = clients.take(BURST).collect();
        let mut out = out.iter_mut();
        self.permutation.forward(&clients, |mapped| {
            let side = mapped.map(|Mapped { tag, port, index }| {
                let egress = Endpoint6 { ip: self.pool.first | index, port };
                EgressSide { egress: egress.into(), tag: Some(tag) }
            });
            if let Some(out) = out.next() {
                *out = side.ok_or(DropReason::SourceNotAllowed);
            }
        });
    }

    fn inward(&self, sides: &[EgressSide], out: &mut [Result<IpEndpoint, DropReason>]) {
        // A tag of 0 stands for no client.
        let mapped = sides.iter().map(|side| match side.egress {
            IpEndpoint::V4(_) => Mapped::default(),
            IpEndpoint::V6(at) => Mapped {
                tag: side.tag.unwrap_or_default(),
                port: at.port,
                index: self.pool.index(at.ip),
            },
        });
        let mapped: ArrayVec<Mapped, BURST> = mapped.take(BURST).collect();
        let mut out = out.iter_mut();
        self.permutation.inverse(&mapped, |client| {
            if let Some(out) = out.next() {
                *out = client.map(IpEndpoint::V6).ok_or(DropReason::BadTag);
            }
        });
    }
}
