//! Egress mode `pool`: clients appear as the addresses of an IPv4 pool.
//!
//! Egress address, egress port and tag together are a keyed permutation of the client's address,
//! its port, and whether it uses timestamps ([`permutation`]). A target returns all three in each
//! segment: the tag as TSecr.

pub mod feistel;
pub mod permutation;

use arrayvec::ArrayVec;

use super::mapping::{BURST, ClientSide, EgressMode, Mapping, Tag, TargetSide};
use super::targets::one_block::Rendezvous;
use crate::config;
use crate::crypto::HkdfError;
use crate::keys::{Secret, permutation_key, rendezvous_key};
use crate::net::{Endpoint, IpEndpoint};
use crate::verdict::DropReason;

use permutation::{Client, CycleLimit, DecodeError, Mapped, Permutation};

/// A service in pool mode.
#[derive(Clone, Debug)]
pub struct PoolMode {
    pool: config::Pool,
    permutation: Permutation,
    rendezvous: Rendezvous,
}

impl PoolMode {
    /// The mode of the service at `vip`, which appears to `targets` as `pool`.
    ///
    /// # Errors
    /// When its keys cannot be derived from `secret`.
    pub fn new(
        secret: &Secret,
        vip: Endpoint,
        pool: config::Pool,
        targets: &[Endpoint],
    ) -> Result<Self, HkdfError> {
        let permutation = permutation_key(secret, vip.ip, vip.port)?;
        let rendezvous = rendezvous_key(secret, vip.ip, vip.port)?;
        Ok(PoolMode {
            pool,
            permutation: Permutation::new(&permutation, pool.bits),
            rendezvous: Rendezvous::new(&rendezvous, targets),
        })
    }

    /// A mode whose cycle walks all reach their limit, to see what becomes of frames then.
    #[cfg(test)]
    pub(crate) fn endless(self) -> Self {
        PoolMode { permutation: Permutation::endless(self.pool.bits), ..self }
    }
}

/// All three endpoints are of IPv4: they are written field by field, not copied as wider ones.
#[inline(always)]
fn mapping(client: Client, egress: Endpoint, tag: u32, target: Endpoint) -> Mapping {
    Mapping {
        client: IpEndpoint::V4(Endpoint { ip: client.ip, port: client.port }),
        egress: IpEndpoint::V4(egress),
        target: IpEndpoint::V4(target),
        tag: Some(Tag { value: tag, timestamps: client.timestamps }),
    }
}

impl EgressMode for PoolMode {
    fn name(&self) -> &'static str {
        "pool"
    }

    fn targets(&self) -> Vec<IpEndpoint> {
        self.rendezvous.targets().iter().map(|target| (*target).into()).collect()
    }

    fn weight(&self, client: IpEndpoint, target: IpEndpoint) -> Option<u64> {
        Some(self.rendezvous.weight(client.of_family()?, target.of_family()?))
    }

    fn outward(&self, sides: &[ClientSide], out: &mut [Result<Mapping, DropReason>]) {
        let clients: ArrayVec<Client, BURST> = sides.iter().take(BURST).map(client).collect();
        let mut mapped = [Err(CycleLimit); BURST];
        self.permutation.forward(&clients, &mut mapped);
        let targets = self.rendezvous.targets();
        let mut chosen = [0; BURST];
        if targets.len() > 1 {
            let endpoints: ArrayVec<Endpoint, BURST> = clients
                .iter()
                .map(|client| Endpoint { ip: client.ip, port: client.port })
                .collect();
            self.rendezvous.choose(&endpoints, &mut chosen);
        }
        for (((out, mapped), client), chosen) in
            out.iter_mut().zip(mapped).zip(&clients).zip(chosen)
        {
            *out = match (mapped, targets.get(usize::from(chosen))) {
                (Err(CycleLimit), _) => Err(DropReason::CycleLimit),
                (Ok(_), None) => Err(DropReason::UnservedPort),
                (Ok(Mapped { tag, port, index }), Some(target)) => {
                    let egress = Endpoint { ip: self.pool.address(index), port };
                    Ok(mapping(*client, egress, tag, *target))
                }
            };
        }
    }

    fn inward(&self, answers: &[TargetSide], out: &mut [Result<Mapping, DropReason>]) {
        let mapped: ArrayVec<Mapped, BURST> =
            answers.iter().take(BURST).map(|answer| mapped(&self.pool, answer)).collect();
        let mut clients = [Err(DecodeError::CycleLimit); BURST];
        self.permutation.inverse(&mapped, &mut clients);
        for ((out, client), answer) in out.iter_mut().zip(clients).zip(answers) {
            *out = match client {
                Ok(client) => {
                    let egress = answer.egress.of_family().unwrap_or_default();
                    let target = answer.target.of_family().unwrap_or_default();
                    Ok(mapping(client, egress, answer.tag.unwrap_or_default(), target))
                }
                Err(DecodeError::BadTag) => Err(DropReason::BadTag),
                Err(DecodeError::CycleLimit) => Err(DropReason::CycleLimit),
            };
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
fn mapped(pool: &config::Pool, answer: &TargetSide) -> Mapped {
    let Endpoint { ip, port } = answer.egress.of_family().unwrap_or_default();
    Mapped { tag: answer.tag.unwrap_or_default(), port, index: pool.index(ip) }
}
