//! The configuration of a POP with one tunnel service.

use anyrelay_kit::config as kit;
use toml::Table;

use super::Family;
use super::topology::{ICMP_SOURCE, OPEN_PREFIX};
use crate::Result;
use crate::config::{laid_over, layout, pop_config};

/// The numbers of a tunnel service that all POPs share.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Constants {
    /// The length of a tick.
    pub tick_ms: u32,
    /// How far numbers move on with each tick.
    pub stride: u32,
    /// How many ticks acknowledgments stay behind.
    pub lag: u16,
    /// How far offsets within a tick go.
    pub offset: u16,
    /// The largest outer datagram.
    pub tunnel_mtu: u16,
}

impl Default for Constants {
    fn default() -> Self {
        Self { tick_ms: 8000, stride: 4096, lag: 4, offset: 16384, tunnel_mtu: 1400 }
    }
}

/// What the POPs of a lab have in common.
#[derive(Debug, Clone)]
pub(crate) struct TunnelConfig {
    pub family: Family,
    pub constants: Constants,
    pub open: bool,
    pub overlay: Table,
}

impl TunnelConfig {
    /// The text of the configuration of the POP with this index, counted from 0.
    pub fn text(&self, index: usize, cores: usize, clock_offset_ms: i64) -> Result<String> {
        let (n, core) = (index + 1, index % cores);
        let (address, gateway) = match self.family {
            Family::V4 => (format!("10.1.{n}.2/24"), format!("10.1.{n}.1")),
            Family::V6 => (format!("2001:db8:3:{n}::2/64"), format!("2001:db8:3:{n}::1")),
        };
        let mut addresses = vec![address];
        let mut gateways = vec![gateway];
        if self.open {
            addresses.push(format!("2001:db8:3:{n}::2/64"));
            gateways.push(format!("2001:db8:3:{n}::1"));
        }
        let addresses: Vec<&str> = addresses.iter().map(String::as_str).collect();
        let port = kit::port("wan", "client", &addresses)
            .with("device", "net_af_packet0,iface=wan,framecnt=4096,qdisc_bypass=1")
            .with("gateways", gateways);
        let Constants { tick_ms, stride, lag, offset, tunnel_mtu } = self.constants;
        let tunnel = kit::tunnel("tun", &[self.family.vip()])
            .with("tick_ms", tick_ms)
            .with("stride", stride)
            .with("lag", lag)
            .with("offset", offset)
            .with("tunnel_mtu", tunnel_mtu);
        let tunnel = if self.open { tunnel.with("open", &open_side()) } else { tunnel };
        let config = pop_config(index, &[port])
            .set("clock", "trusted")
            .set("clock_offset_ms", clock_offset_ms)
            .other("layout", layout("run-to-completion"))
            .tunnel(tunnel)
            .edit(|config| config.workers = vec![kit::worker(core, &["wan:0"])]);
        laid_over(&config, &self.overlay)
    }
}

/// Agents may send to all that is outside.
fn open_side() -> kit::Table {
    kit::Table::default()
        .with("prefix", OPEN_PREFIX)
        .with("to", ["2000::/3"])
        .with("icmp_source", ICMP_SOURCE.to_string())
}
