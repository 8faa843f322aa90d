//! The config file of `anyrelay-agent run`: what a service needs to say, in one place.
//!
//! [`Config::parse`] is pure; reading the files that it names is the caller's. All mistakes are
//! told at once, each with file, key and reason. docs/agent.md describes every key.

mod check;
mod load;
mod raw;
#[cfg(test)]
mod tests;

use std::net::SocketAddr;
use std::path::PathBuf;

use crate::inner::device::DeviceConfig;
use crate::inner::keys::PublicKey;
use crate::inner::routes::Prefix;
use crate::peers::PeerSource;
use crate::publish::Target;

pub use anyrelay_core::problem::{Problem, Problems};
pub use load::{Loaded, LoadedLocal, load};

/// A config without mistakes. Paths are as written: relative ones begin at the file's folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Towards the POPs.
    pub agent: AgentConfig,
    /// Towards this host.
    pub local: LocalConfig,
}

/// `[agent]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AgentConfig {
    /// The POPs' address and port for tunnels.
    pub vip: SocketAddr,
    /// The agent's key file, as `anyrelay agent issue` writes it.
    pub key: PathBuf,
    /// Where port and base are kept.
    pub state: Option<PathBuf>,
    /// Where the own token is told.
    pub publish: Vec<Target>,
    /// Where `status` is answered.
    pub control: Option<PathBuf>,
}

/// The local side.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LocalConfig {
    /// `[tun]` and `[[peer]]`.
    Tun(TunConfig),
    /// `[udp]` with `listen` and `peer`.
    UdpListen {
        /// Where programs on this host send.
        listen: SocketAddr,
        /// Where the peer is.
        peer: PeerSource,
    },
    /// `[udp]` with `target`.
    UdpTarget(SocketAddr),
}

/// `[tun]` and `[[peer]]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TunConfig {
    /// The device.
    pub device: DeviceConfig,
    /// The private key file, as `anyrelay-agent keygen` writes it.
    pub private_key: PathBuf,
    /// The peers, in the order of the file.
    pub peers: Vec<PeerEntry>,
}

/// `[[peer]]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerEntry {
    /// Its name, for people.
    pub name: String,
    /// Who it is.
    pub public_key: PublicKey,
    /// The file with the secret shared with it, if any.
    pub preshared_key: Option<PathBuf>,
    /// Where it is; without it, it must come by itself.
    pub at: Option<PeerSource>,
    /// The inner addresses that it may have.
    pub allowed: Vec<Prefix>,
    /// After how much silence a keepalive is sent; 0 for never.
    pub keepalive_seconds: u16,
}
