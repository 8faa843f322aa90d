//! Egress mode `pool`: clients appear as the addresses of an IPv4 pool.
//!
//! Egress address, egress port and tag together are a keyed permutation of the client's address,
//! its port, and whether it uses timestamps ([`permutation`]). A target returns all three in each
//! segment: the tag as TSecr.

pub mod feistel;
pub mod permutation;

use std::net::SocketAddr;

use arrayvec::ArrayVec;

use super::mapping::{BURST, ClientSide, EgressMode, EgressSide};
use crate::config;
use crate::crypto::HkdfError;
use crate::keys::{Secret, permutation_key};
use crate::net::Endpoint;
use crate::verdict::DropReason;

use permutation::{Client, CycleLimit, DecodeError, Mapped, Permutation};

/// A service in pool mode.
#[derive(Clone, Debug)]
pub struct PoolMode {
    pool: config::Pool,
    permutation: Permutation,
}

impl PoolMode {
    /// The mode of the service at `vip`, which appears to its targets as `pool`.
    ///
    /// # Errors
    /// When its key cannot be derived from `secret`.
    pub fn new(secret: &Secret, vip: SocketAddr, pool: config::Pool) -> Result<Self, HkdfError> {
        let key = permutation_key(secret, vip)?;
        Ok(PoolMode { pool, permutation: Permutation::new(&key, pool.bits) })
    }

    /// A mode whose cycle walks all reach their limit, to see what becomes of frames then.
    #[cfg(test)]
    pub(crate) fn endless(self) -> Self {
        PoolMode { permutation: Permutation::endless(self.pool.bits), ..self }
    }
}

impl EgressMode for PoolMode {
    fn name(&self) -> &'static str {
        "pool"
    }

    fn outward(&self, sides: &[ClientSide], out: &mut [Result<EgressSide, DropReason>]) {
        let clients: ArrayVec<Client, BURST> = sides.iter().take(BURST).map(client).collect();
        let mut mapped = [Err(CycleLimit); BURST];
        self.permutation.forward(&clients, &mut mapped);
        for (out, mapped) in out.iter_mut().zip(&mapped).take(clients.len()) {
            match mapped {
                Ok(Mapped { tag, port, index }) => {
                    let egress = Endpoint { ip: self.pool.address(*index), port: *port };
                    *out = Ok(EgressSide { egress: egress.into(), tag: Some(*tag) });
                }
                Err(CycleLimit) => *out = Err(DropReason::CycleLimit),
            }
        }
    }

    fn inward(&self, sides: &[EgressSide], out: &mut [Result<ClientSide, DropReason>]) {
        let mapped: ArrayVec<Mapped, BURST> =
            sides.iter().take(BURST).map(|side| mapped(&self.pool, side)).collect();
        let mut clients = [Err(DecodeError::CycleLimit); BURST];
        self.permutation.inverse(&mapped, &mut clients);
        for (out, client) in out.iter_mut().zip(&clients).take(mapped.len()) {
            match client {
                Ok(Client { timestamps, ip, port }) => {
                    let client = Endpoint { ip: *ip, port: *port };
                    *out = Ok(ClientSide { client: client.into(), timestamps: *timestamps });
                }
                Err(DecodeError::BadTag) => *out = Err(DropReason::BadTag),
                Err(DecodeError::CycleLimit) => *out = Err(DropReason::CycleLimit),
            }
        }
    }
}

/// The client as the permutation takes it. Others than those of IPv4 come to no service in pool
/// mode.
#[inline]
fn client(side: &ClientSide) -> Client {
    let Endpoint { ip, port } = side.client.of_family().unwrap_or_default();
    Client { timestamps: side.timestamps, ip, port }
}

/// What the permutation finds a client by. A tag of 0 stands for no client, and neither does an
/// endpoint outside the pool.
#[inline]
fn mapped(pool: &config::Pool, side: &EgressSide) -> Mapped {
    let Endpoint { ip, port } = side.egress.of_family().unwrap_or_default();
    Mapped { tag: side.tag.unwrap_or_default(), port, index: pool.index(ip) }
}
