//! Which of a service's targets a client belongs to, by rendezvous hashing (Thaler and Ravishankar
//! 1998): every POP chooses the same one without asking.
//!
//! The weight of a target for a client is a PRF of both. Where both are of IPv4 their addresses and
//! ports fit one block of the cipher ([`one_block`]); with IPv6 it is a CMAC over more ([`cmac`]).

pub mod cmac;
pub mod one_block;

use std::net::SocketAddr;

use arrayvec::ArrayVec;

use super::mapping::{BURST, ClientSide};
use crate::crypto::HkdfError;
use crate::keys::{Secret, rendezvous_key};
use crate::net::{Address, Endpoint, IpEndpoint};

/// The targets of a service and the choice among them.
#[derive(Clone, Debug)]
pub struct Targets {
    // Ascending, as those of the choice.
    all: Vec<IpEndpoint>,
    choice: Choice,
}

/// The choice of a target. All targets of a service are of one family.
#[derive(Clone, Debug)]
enum Choice {
    /// Of IPv4 targets for IPv4 clients.
    V4(one_block::Rendezvous),
    /// Of IPv6 targets for clients of either family.
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
        let (key, v4) = (rendezvous_key(secret, vip)?, of_family::<u32>(targets));
        Ok(if vip.is_ipv4() && !v4.is_empty() {
            let choice = one_block::Rendezvous::new(&key, &v4);
            let all = choice.targets().iter().map(|at| (*at).into()).collect();
            Targets { all, choice: Choice::V4(choice) }
        } else {
            let choice = cmac::Rendezvous::new(&key, &of_family(targets));
            let all = choice.targets().iter().map(|at| (*at).into()).collect();
            Targets { all, choice: Choice::V6(choice) }
        })
    }

    /// All targets, ascending.
    #[inline]
    pub fn all(&self) -> &[IpEndpoint] {
        &self.all
    }

    /// Puts the index among [all](Targets::all) of the target of each of `clients` into the same
    /// place of `out`, up to [`BURST`]. Without targets every index is 0.
    #[inline]
    pub fn choose(&self, clients: &[ClientSide], out: &mut [u16]) {
        if self.all.len() < 2 {
            return out.fill(0);
        }
        match &self.choice {
            Choice::V4(choice) => {
                let clients: ArrayVec<Endpoint, BURST> = clients
                    .iter()
                    .take(BURST)
                    .map(|side| side.client.of_family().unwrap_or_default())
                    .collect();
                choice.choose(&clients, out);
            }
            Choice::V6(choice) => {
                for (out, side) in out.iter_mut().zip(clients) {
                    *out = choice.choose(side.client);
                }
            }
        }
    }

    /// The target of `client`; `None` where there are no targets.
    pub fn target(&self, client: &IpEndpoint) -> Option<IpEndpoint> {
        let mut chosen = [0];
        self.choose(&[ClientSide::without_tag(*client)], &mut chosen);
        let [index] = chosen;
        self.all.get(usize::from(index)).copied()
    }

    /// The weight of `target` for `client`, by the definition of the choice: of all targets the one
    /// with the highest weight is chosen, of equal ones the first. `None` where the families do not
    /// fit.
    pub fn weight(&self, client: IpEndpoint, target: IpEndpoint) -> Option<u64> {
        match &self.choice {
            Choice::V4(choice) => Some(choice.weight(client.of_family()?, target.of_family()?)),
            Choice::V6(choice) => Some(choice.weight(client, target.of_family()?)),
        }
    }
}

/// Those of `targets` that are of the family of `A`.
fn of_family<A: Address>(targets: &[SocketAddr]) -> Vec<Endpoint<A>> {
    targets.iter().filter_map(|target| IpEndpoint::from(*target).of_family()).collect()
}
