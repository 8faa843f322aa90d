//! Which of a service's targets a client belongs to, by rendezvous hashing (Thaler and Ravishankar
//! 1998): every POP chooses the same one without asking.
//!
//! The weight of a target for a client is a PRF of both. Where both are of IPv4 their addresses and
//! ports fit one block of the cipher ([`one_block`]); with IPv6 it is a CMAC over more ([`cmac`]).

pub mod cmac;
pub mod one_block;

use std::net::SocketAddr;

use crate::crypto::HkdfError;
use crate::keys::{Secret, rendezvous_key, rendezvous_key6};
use crate::net::{Address, Endpoint, IpEndpoint};

/// The targets of a service and the choice among them, one client at a time.
#[derive(Clone, Debug)]
pub enum Targets {
    /// IPv4 targets of IPv4 clients.
    V4(one_block::Rendezvous),
    /// IPv6 targets of clients of either family.
    V6(cmac::Rendezvous),
}

impl Targets {
    /// The choice among `targets`, which are all of one family, by the key of the service at `vip`.
    ///
    /// # Errors
    /// When the key cannot be derived from `secret`.
    pub fn new(
        secret: &Secret,
        vip: SocketAddr,
        targets: &[SocketAddr],
    ) -> Result<Self, HkdfError> {
        let v4 = of_family::<u32>(targets);
        Ok(match vip {
            SocketAddr::V4(vip) if !v4.is_empty() => {
                let key = rendezvous_key(secret, vip.ip().to_bits(), vip.port())?;
                Targets::V4(one_block::Rendezvous::new(&key, &v4))
            }
            _ => {
                let key = rendezvous_key6(secret, vip)?;
                Targets::V6(cmac::Rendezvous::new(&key, &of_family(targets)))
            }
        })
    }

    /// All targets, ascending.
    pub fn all(&self) -> Vec<IpEndpoint> {
        match self {
            Targets::V4(choice) => choice.targets().iter().map(|at| (*at).into()).collect(),
            Targets::V6(choice) => choice.targets().iter().map(|at| (*at).into()).collect(),
        }
    }

    /// The weight of `target` for `client`, by definition; `None` where the families do not fit.
    pub fn weight(&self, client: IpEndpoint, target: IpEndpoint) -> Option<u64> {
        match self {
            Targets::V4(choice) => Some(choice.weight(client.of_family()?, target.of_family()?)),
            Targets::V6(choice) => Some(choice.weight(client, target.of_family()?)),
        }
    }

    /// The target of `client`; `None` where no target serves clients of its family.
    #[inline]
    pub fn choose(&self, client: IpEndpoint) -> Option<IpEndpoint> {
        match self {
            Targets::V4(choice) => choice.choose_one(client.of_family()?).map(IpEndpoint::from),
            Targets::V6(choice) => choice.choose(client).map(IpEndpoint::from),
        }
    }
}

/// Those of `targets` that are of the family of `A`.
pub(crate) fn of_family<A: Address>(targets: &[SocketAddr]) -> Vec<Endpoint<A>> {
    targets.iter().filter_map(|target| IpEndpoint::from(*target).of_family()).collect()
}
