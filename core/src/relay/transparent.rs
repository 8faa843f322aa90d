//! Egress mode `transparent`: clients appear as themselves, over IPv4 or over IPv6.
//!
//! Routing must bring the answers of the targets to a POP.

use super::mapping::{EgressMode, EgressSide};
use crate::net::IpEndpoint;
use crate::verdict::DropReason;

/// A service in transparent mode.
#[derive(Clone, Copy, Debug)]
pub struct TransparentMode;

impl EgressMode for TransparentMode {
    fn name(&self) -> &'static str {
        "transparent"
    }

    fn outward(&self, clients: &[IpEndpoint], out: &mut [Result<EgressSide, DropReason>]) {
        for (out, client) in out.iter_mut().zip(clients) {
            *out = Ok(EgressSide { egress: *client, tag: None });
        }
    }

    fn inward(&self, egress: &[EgressSide], out: &mut [Result<IpEndpoint, DropReason>]) {
        for (out, side) in out.iter_mut().zip(egress) {
            *out = Ok(side.egress);
        }
    }
}
