//! The configuration of a POP with one tunnel service.

use anyrelay_kit::config as kit;
use toml::Table;

use super::Family;
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
        let port = kit::port("wan", "client", &[&address])
            .with("device", "net_af_packet0,iface=wan,framecnt=4096,qdisc_bypass=1")
            .with("gateways", [gateway]);
        let Constants { tick_ms, stride, lag, offset, tunnel_mtu } = self.constants;
        let tunnel = kit::tunnel("tun", &[self.family.vip()])
            .with("tick_ms", tick_ms)
            .with("stride", stride)
            .with("lag", lag)
            .with("offset", offset)
            .with("tunnel_mtu", tunnel_mtu);
        let config = pop_config(index, &[port])
            .set("clock", "trusted")
            .set("clock_offset_ms", clock_offset_ms)
            .other("layout", layout("run-to-completion"))
            .tunnel(tunnel)
            .edit(|config| config.workers = vec![kit::worker(core, &["wan:0"])]);
        laid_over(&config, &self.overlay)
    }
}
