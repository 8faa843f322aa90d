//! Tunnels: a service, what POPs answer there, and agents that need no handshake.

mod forged;
pub mod open;
mod pops;

use std::sync::Arc;

use anyrelay_core::config::{OpenConfig, OpenPrefix};
use anyrelay_core::keys::{AgentKeys, KeyFile, Tenants};
use anyrelay_core::net::{Address, IpNet};
use anyrelay_core::predict::Constants;
use anyrelay_core::tunnel::open::OpenService;
use anyrelay_core::tunnel::{TunnelService, TunnelVip};

pub use forged::{ForgedAgent, keepalive_payload};
pub use pops::{answer, back};

/// The VIP of IPv4 agents.
pub const VIP4: &str = "203.0.113.20:443";
/// The VIP of IPv6 agents.
pub const VIP6: &str = "[2001:db8::20]:443";

/// The tunnel service at [`VIP4`] and [`VIP6`] that serves the tenant with the number 1.
pub fn service(keys: &KeyFile, tenants: &Tenants, constants: Constants) -> TunnelService {
    let vip = |addr: &str| Some(TunnelVip::new(addr.parse().unwrap(), keys).unwrap());
    TunnelService {
        constants,
        tunnel_mtu: 1400,
        vip4: vip(VIP4),
        vip6: vip(VIP6),
        tenants: [1].into(),
        agents: Arc::new(AgentKeys::new(tenants).unwrap()),
        open: None,
    }
}

/// The prefix of the open addresses of [`open_service`].
pub const OPEN_PREFIX: &str = "2001:db8:a::/48";

/// [`service`] with an open side.
pub fn open_service(keys: &KeyFile, tenants: &Tenants, constants: Constants) -> TunnelService {
    let net = IpNet::parse(OPEN_PREFIX).and_then(u128::of_net).unwrap();
    let open = OpenConfig {
        prefix: OpenPrefix::new(net).unwrap(),
        to: Vec::new(),
        icmp_source: "2001:db8::1".parse().unwrap(),
    };
    let open = OpenService::new(&open, VIP4.parse().unwrap(), 1, keys).unwrap();
    TunnelService { open: Some(open), ..service(keys, tenants, constants) }
}
