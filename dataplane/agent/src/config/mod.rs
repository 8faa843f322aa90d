//! The config file of `anyrelay-agent run`.
//!
//! [`Config::parse`] is pure; [`load`] reads the files that it names. All problems are reported at
//! once, each with file, key and reason. docs/config.md describes every key.

mod check;
mod load;
mod open;
mod raw;
#[cfg(test)]
mod tests;

use std::net::SocketAddr;
use std::path::PathBuf;

use crate::inner::device::TunDeviceConfig;
use crate::inner::keys::PublicKey;
use crate::inner::routes::IpPrefix;
use crate::open::OpenConfig;
use crate::outer::Steering;
use crate::peers::PeerSource;
use crate::publish::PublishTarget;

pub use anyrelay_core::problem::{Problem, Problems};
pub use load::{Loaded, LoadedLocal, load};

/// A checked config. Paths are as written: relative ones start at the file's folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// The side of the POPs.
    pub agent: AgentSection,
    /// The side of this host.
    pub local: LocalConfig,
    /// The open side, if it has one.
    pub open: Option<OpenConfig>,
}

/// `[agent]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AgentSection {
    /// The POPs' address and port for tunnels.
    pub vip: SocketAddr,
    /// The agent's key file, as `anyrelay agent issue` writes it.
    pub key: PathBuf,
    /// The state file, with port and base.
    pub state: Option<PathBuf>,
    /// Targets for the agent's own token.
    pub publish: Vec<PublishTarget>,
    /// The mark and interface of the agent's own traffic.
    pub steering: Steering,
    /// The control socket, which answers `status`.
    pub control: Option<PathBuf>,
}

/// The local side.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LocalConfig {
    /// `[tun]` and `[[peer]]`.
    Tun(TunConfig),
    /// `[udp]` with `listen` and `peer`.
    UdpListen {
        /// The local address that programs on this host send to.
        listen: SocketAddr,
        /// The source of the peer's location.
        peer: PeerSource,
    },
    /// `[udp]` with `target`.
    UdpTarget(SocketAddr),
    /// None beside `[open]`.
    None,
}

/// `[tun]` and `[[peer]]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TunConfig {
    /// The device.
    pub device: TunDeviceConfig,
    /// The private key file, as `anyrelay-agent keygen` writes it.
    pub private_key: PathBuf,
    /// The peers, in the order of the file.
    pub peers: Vec<PeerEntry>,
}

/// `[[peer]]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerEntry {
    /// Its name, for display.
    pub name: String,
    /// Its public key, which identifies it.
    pub public_key: PublicKey,
    /// The file with the secret shared with it, if any.
    pub preshared_key: Option<PathBuf>,
    /// The source of its location; without one, the peer must make the first contact.
    pub at: Option<PeerSource>,
    /// The inner addresses that it may use.
    pub allowed: Vec<IpPrefix>,
    /// The idle time after which a keepalive is sent; 0 for never.
    pub keepalive_seconds: u16,
}
