//! Tunnel services, made ready for use: of the config, the keys, and the tenants file.

use std::net::SocketAddr;
use std::sync::Arc;

use crate::config::{Config, TunnelConfig};
use crate::crypto::HkdfError;
use crate::keys::{AgentKeys, KeyFile, Tenants};
use crate::net::ServiceSlot;
use crate::problem::Problem;
use crate::tunnel;
use crate::tunnel::TunnelVip;
use crate::tunnel::open::OpenService;

/// A tunnel service, ready for use.
#[derive(Clone, Debug)]
pub struct Tunnel {
    /// Its name.
    pub name: String,
    /// The place of its counters.
    pub slot: ServiceSlot,
    /// What its segments are answered with.
    pub service: tunnel::TunnelService,
}

/// The tunnels of `config`, with the slots of their counters.
pub(super) fn tunnels(
    config: &Config,
    keys: &KeyFile,
    tenants: &Tenants,
    slots: &[ServiceSlot],
) -> Result<Vec<Tunnel>, HkdfError> {
    let agents = Arc::new(AgentKeys::new(tenants)?);
    let vip = |vip: Option<SocketAddr>| vip.map(|vip| TunnelVip::new(vip, keys)).transpose();
    let tunnel = |(tunnel, slot): (&TunnelConfig, &ServiceSlot)| {
        Ok(Tunnel {
            name: tunnel.name.clone(),
            slot: *slot,
            service: tunnel::TunnelService {
                constants: tunnel.constants,
                tunnel_mtu: tunnel.tunnel_mtu,
                vip4: vip(tunnel.vip4.map(SocketAddr::V4))?,
                vip6: vip(tunnel.vip6.map(SocketAddr::V6))?,
                tenants: served(tunnel, tenants).into_boxed_slice(),
                agents: agents.clone(),
                open: open(tunnel, keys, tenants)?,
            },
        })
    };
    config.tunnels.iter().zip(slots).map(tunnel).collect()
}

/// The open side, of the one tenant that it is for.
fn open(
    tunnel: &TunnelConfig,
    keys: &KeyFile,
    tenants: &Tenants,
) -> Result<Option<OpenService>, HkdfError> {
    let sides = tunnel.open.as_ref().zip(tunnel.vip4).zip(served(tunnel, tenants).pop());
    sides.map(|((open, vip), tenant)| OpenService::new(open, vip, tenant, keys)).transpose()
}

/// The numbers of the tenants that `tunnel` serves, ascending.
pub(super) fn served(tunnel: &TunnelConfig, tenants: &Tenants) -> Vec<u16> {
    let named =
        |name: &str| tunnel.tenants.as_ref().is_none_or(|names| names.iter().any(|n| n == name));
    let served = tenants.tenants.iter().filter(|tenant| named(&tenant.name));
    let mut served: Vec<_> = served.map(|tenant| tenant.id).collect();
    served.sort_unstable();
    served
}

/// Names of tenants in `config` that nobody has.
pub(super) fn unknown_tenants(config: &Config, tenants: &Tenants) -> Vec<Problem> {
    let mut problems = Vec::new();
    for (index, tunnel) in config.tunnels.iter().enumerate() {
        for (place, name) in tunnel.tenants.iter().flatten().enumerate() {
            if tenants.get(name).is_none() {
                let file = config.pop.tenants.as_deref().unwrap_or("the tenants file");
                problems.push(Problem {
                    file: config.file.clone(),
                    key: format!("tunnel[{index}].tenants[{place}]"),
                    reason: format!(
                        "there is no tenant {name:?} in {file}; `anyrelay tenant add` adds one"
                    ),
                });
            }
        }
    }
    problems
}

/// Open tunnels that do not serve exactly one tenant: an open address does not say whose it is, and
/// agents of different tenants must not reach each other past the Internet.
pub(super) fn several_tenants(config: &Config, tenants: &Tenants) -> Vec<Problem> {
    let tunnels = config.tunnels.iter().enumerate().filter(|(_, tunnel)| tunnel.open.is_some());
    let served = tunnels.map(|(index, tunnel)| (index, served(tunnel, tenants).len()));
    let others = served.filter(|(_, served)| *served != 1);
    let problem = |(index, served)| Problem {
        file: config.file.clone(),
        key: format!("tunnel[{index}].tenants"),
        reason: format!(
            "it has an open side, which is for one tenant, and serves {served}; name one here, and \
             give each other tenant a tunnel of its own"
        ),
    };
    others.map(problem).collect()
}
