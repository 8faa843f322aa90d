//! The configuration of a POP with one tunnel service.

use toml::Table;

use super::Family;
use crate::config::{METRICS, overlay};
use crate::{LabError, Result};

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
        let (vip_key, address, gateway) = match self.family {
            Family::V4 => ("vip4", format!("10.1.{n}.2/24"), format!("10.1.{n}.1")),
            Family::V6 => ("vip6", format!("2001:db8:3:{n}::2/64"), format!("2001:db8:3:{n}::1")),
        };
        let vip = self.family.vip();
        let Constants { tick_ms, stride, lag, offset, tunnel_mtu } = self.constants;
        let text = format!(
            "[pop]\nname = \"pop{n}\"\nid = {n}\nkeys = \"keys.toml\"\ntenants = \"tenants.toml\"\n\
             drain_seconds = 0\nclock = \"trusted\"\nclock_offset_ms = {clock_offset_ms}\n\
             [dpdk]\nhugepages = false\nmemory_mb = 128\nmbufs = 16384\n\
             [metrics]\nlisten = \"{METRICS}\"\n\
             [[port]]\nname = \"wan\"\nside = \"client\"\n\
             device = \"net_af_packet0,iface=wan,framecnt=4096,qdisc_bypass=1\"\n\
             addresses = [\"{address}\"]\ngateways = [\"{gateway}\"]\n\
             [[worker]]\ncore = {core}\nrx = [\"wan:0\"]\n\
             [layout]\nkind = \"run-to-completion\"\nidle = \"backoff\"\n\
             [[tunnel]]\nname = \"tun\"\n{vip_key} = \"{vip}\"\ntick_ms = {tick_ms}\n\
             stride = {stride}\nlag = {lag}\noffset = {offset}\ntunnel_mtu = {tunnel_mtu}\n"
        );
        let mut table: Table =
            text.parse().map_err(|error| LabError::Unexpected(format!("own TOML: {error}")))?;
        overlay(&mut table, &self.overlay);
        Ok(table.to_string())
    }
}
