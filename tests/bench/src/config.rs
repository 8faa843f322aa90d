//! The configs and keys of the POPs that are measured. Those of the captures are captures.py's and
//! works.py's.

use std::fs::{self, File};
use std::io::Write;
use std::net::SocketAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use anyrelay_kit::config::{self as kit, Egress, PopConfig, Table};

use crate::packets::Setting;
use crate::tunnel;

/// What a POP serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Services {
    /// A relay with a pool and one target.
    Pool,
    /// The same beside a tunnel service.
    PoolAndTunnel,
    /// [`MANY`] relays with a common pool and [`TARGETS_EACH`] targets each.
    Many,
    /// A relay from IPv4 to IPv6.
    Prefix,
    /// A relay with the client's own address, over IPv4.
    Transparent,
    /// The same over IPv6.
    Transparent6,
    /// A relay with an IPv6 pool and one target.
    Pool6,
    /// A relay whose target gets clients' datagrams in IP, and answers in it.
    Ipip,
    /// The same in GUE.
    Gue,
}

impl Services {
    /// The relays' tables.
    fn relays(self) -> Vec<Table> {
        let pool = Egress::Pool(POOL);
        let through = |relay: Table| relay.with("return", "through");
        let one = |vip: &str, target: &str, egress| kit::relay("web", vip, &[target], egress);
        match self {
            Services::Pool | Services::PoolAndTunnel => {
                vec![one(VIP, TARGET, pool).with("mss", MSS)]
            }
            Services::Many => (0..MANY).map(many).collect(),
            Services::Prefix => vec![one(VIP, TARGET6, Egress::Prefix("2001:db8:64::/64"))],
            Services::Transparent => vec![one(VIP, TARGET, Egress::Transparent)],
            Services::Transparent6 => vec![one(VIP6, TARGET6, Egress::Transparent)],
            Services::Pool6 => vec![one(VIP6, TARGET6, Egress::Pool(POOL6))],
            Services::Ipip => vec![through(one(VIP, AS_VIP, Egress::Ipip(FROM)))],
            Services::Gue => vec![through(one(VIP, AS_VIP, Egress::Gue(FROM)))],
        }
    }

    fn has_ipv6(self) -> bool {
        use Services::{Gue, Ipip, Many, Pool, Transparent};
        !matches!(self, Pool | Many | Transparent | Ipip | Gue)
    }
}

fn many(number: u16) -> Table {
    let vip = format!("203.0.113.{}:{}", 16 + number / 16, 443 + number % 16);
    let targets: Vec<_> = (0..TARGETS_EACH)
        .map(|target| format!("198.51.100.{}:{}", 10 + target, 8000 + number))
        .collect();
    kit::relay(&format!("s{number}"), vip, &targets, Egress::Pool(POOL)).with("mss", MSS)
}

/// A POP that reads the capture in an endless loop and discards what it sends. Without metrics.
pub fn pop(setting: &Setting<'_>) -> PopConfig {
    let (v4, v6) = (["10.0.1.2/24", "10.0.2.2/24"], ["2001:db8:1::2/64", "2001:db8:2::2/64"]);
    let families = if setting.services.has_ipv6() { 2 } else { 1 };
    let of = |v4, v6| [v4, v6][..families].to_vec();
    let gateways = of("10.0.2.1", "2001:db8:2::1");
    let macs = of("02:00:00:00:0b:01", "02:00:00:00:0b:01");
    // The same capture for each worker, on a queue of its own.
    let captures = format!(",rx_pcap={}", setting.input.display()).repeat(setting.workers);
    let receives = kit::port("in", "both", &of(v4[0], v6[0]))
        .with("device", format!("net_pcap0{captures},infinite_rx=1"))
        .with("queues", setting.workers)
        .with("mac", IN_MAC);
    let sends = kit::port("out", "both", &of(v4[1], v6[1]))
        .with("device", "net_null1,no-rx=1")
        .with("mac", OUT_MAC)
        .with("gateways", gateways)
        .with("gateway_macs", macs);
    let dpdk = Table::default().with("hugepages", true).with("memory_mb", setting.memory_mb());
    let workers = (0..setting.workers).map(|number| {
        let queue = format!("in:{number}");
        // The CPUs from the last one down.
        let core = setting.core.saturating_sub(number);
        let all = [queue, "out:0".to_owned()];
        kit::worker(core, if number == 0 { &all } else { &all[..1] })
    });
    let layout = Table::default().with("idle", "spin");
    let mut config = PopConfig::new("bench", 1, &[receives, sends])
        .set("drain_seconds", 0)
        .other("dpdk", dpdk.with("mbufs", setting.mbufs))
        .other("layout", layout.with("instructions", setting.instructions));
    config.workers = workers.collect();
    config.relays = setting.services.relays();
    match setting.services {
        Services::PoolAndTunnel => tunnel::in_config(config.set("clock", "trusted")),
        _ => config,
    }
}

/// Writes a config with its keys; with metrics if it is said where.
///
/// # Errors
/// The system's.
pub fn write(
    folder: &Path,
    config: PopConfig,
    metrics: Option<SocketAddr>,
) -> anyhow::Result<PathBuf> {
    let config = match metrics {
        Some(at) => config.other("metrics", Table::default().with("listen", at.to_string())),
        None => config,
    };
    write_private(&folder.join("keys.toml"), &keys())?;
    if !config.tunnels.is_empty() {
        write_private(&folder.join("tenants.toml"), &tunnel::tenants()?.serialize())?;
    }
    let path = folder.join("pop.toml");
    fs::write(&path, config.text())?;
    Ok(path)
}

/// Writes a file that no other user can read, as secrets must be.
fn write_private(path: &Path, text: &str) -> std::io::Result<()> {
    let mut file =
        File::options().create(true).truncate(true).write(true).mode(0o600).open(path)?;
    file.write_all(text.as_bytes())
}

/// The POPs' key file.
pub fn keys() -> String {
    let secret: String = (0..32).map(|byte| format!("{byte:02x}")).collect();
    let (sequence, token) = ("11".repeat(32), "22".repeat(32));
    format!("relay = \"{secret}\"\nsequence = \"{sequence}\"\ntoken = \"{token}\"\n")
}

/// How many relays [`Services::Many`] has.
pub const MANY: u16 = 256;
/// How many targets each of them has.
pub const TARGETS_EACH: u16 = 4;
/// The MAC address of the port that receives, which the captures' frames go to.
pub const IN_MAC: &str = "02:00:00:00:01:01";
/// The MAC address of the port that sends.
pub const OUT_MAC: &str = "02:00:00:00:01:02";
const MSS: i32 = 1448;
const POOL: &str = "100.64.8.0/24";
const VIP: &str = "203.0.113.10:443";
const TARGET: &str = "198.51.100.10:8443";
/// A target that has the VIP, and its port.
const AS_VIP: &str = "198.51.100.10:443";
const VIP6: &str = "[2001:db8:10::10]:443";
const TARGET6: &str = "[2001:db8:51::10]:8443";
const POOL6: &str = "fd00::/20";
const FROM: &str = "203.0.113.9";
