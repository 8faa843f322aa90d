//! Which of a service's targets a client belongs to: every POP chooses the same one without asking.

pub mod log;
pub mod rendezvous;

use std::net::SocketAddr;

use crate::config::Target;
use crate::crypto::HkdfError;
use crate::keys::{Secret, rendezvous_key};
use crate::net::IpEndpoint;

use rendezvous::{Rendezvous, Weighted};

/// The targets of a service and the choice among them.
#[derive(Clone, Debug)]
pub struct Targets(Rendezvous);

impl Targets {
    /// The choice among `targets`, by the key of the service at `vip`.
    ///
    /// # Errors
    /// When the key cannot be derived from `secret`.
    pub fn new(secret: &Secret, vip: SocketAddr, targets: &[Target]) -> Result<Self, HkdfError> {
        let weighted =
            |target: &Target| Weighted { target: target.address.into(), weight: target.weight };
        let targets: Vec<_> = targets.iter().map(weighted).collect();
        Ok(Targets(Rendezvous::new(&rendezvous_key(secret, vip)?, &targets)))
    }

    /// All targets, ascending.
    #[inline(always)]
    pub fn all(&self) -> &[IpEndpoint] {
        self.0.targets()
    }

    /// Puts the index among [all](Targets::all) of the target of each of `clients`, which are of
    /// one family, into the same place of `out`, up to [`BURST`](super::mapping::BURST). Without
    /// targets every index is 0.
    #[inline(always)]
    pub fn choose(&self, clients: &[IpEndpoint], out: &mut [u16]) {
        self.0.choose(clients, out);
    }

    /// The target of `client`; `None` where there are no targets.
    pub fn target(&self, client: &IpEndpoint) -> Option<IpEndpoint> {
        let mut chosen = [0];
        self.choose(&[*client], &mut chosen);
        let [index] = chosen;
        self.all().get(usize::from(index)).copied()
    }

    /// The hash by which `target` is chosen for `client`: among equal weights the highest wins, of
    /// equal ones the first. `None` for what is no target.
    pub fn hash(&self, client: IpEndpoint, target: IpEndpoint) -> Option<u64> {
        self.0.hash(client, target)
    }
}
