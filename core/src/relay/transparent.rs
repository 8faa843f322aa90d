//! Egress mode `transparent`: clients appear as themselves, over IPv4 or over IPv6.
//!
//! Only the choice of the target is a mapping. Routing must bring the answers of the targets to a
//! POP.

use std::net::SocketAddr;

use super::mapping::{ClientSide, EgressMode, Mapping, TargetSide};
use super::targets::Targets;
use crate::crypto::HkdfError;
use crate::keys::Secret;
use crate::net::IpEndpoint;
use crate::verdict::DropReason;

/// A service in transparent mode.
#[derive(Clone, Debug)]
pub struct TransparentMode {
    targets: Targets,
}

impl TransparentMode {
    /// The mode of the service at `vip` with these targets, all of the family of the VIP.
    ///
    /// # Errors
    /// When its key cannot be derived from `secret`.
    pub fn new(
        secret: &Secret,
        vip: SocketAddr,
        targets: &[SocketAddr],
    ) -> Result<Self, HkdfError> {
        Ok(TransparentMode { targets: Targets::new(secret, vip, targets)? })
    }
}

impl EgressMode for TransparentMode {
    fn name(&self) -> &'static str {
        "transparent"
    }

    fn targets(&self) -> Vec<IpEndpoint> {
        self.targets.all()
    }

    fn weight(&self, client: IpEndpoint, target: IpEndpoint) -> Option<u64> {
        self.targets.weight(client, target)
    }

    fn outward(&self, clients: &[ClientSide], out: &mut [Result<Mapping, DropReason>]) {
        for (out, ClientSide { client, .. }) in out.iter_mut().zip(clients) {
            *out = match self.targets.choose(*client) {
                Some(target) => Ok(Mapping { client: *client, egress: *client, target, tag: None }),
                None => Err(DropReason::UnservedPort),
            };
        }
    }

    fn inward(&self, answers: &[TargetSide], out: &mut [Result<Mapping, DropReason>]) {
        for (out, TargetSide { egress, target, .. }) in out.iter_mut().zip(answers) {
            *out = Ok(Mapping { client: *egress, egress: *egress, target: *target, tag: None });
        }
    }
}
