//! Config and status of a peer.

use crate::inner::keys::{PresharedKey, PublicKey};
use crate::inner::routes::IpPrefix;

/// The config of a peer.
#[derive(Clone, Debug)]
pub struct PeerConfig<P> {
    /// Its name, for display.
    pub name: String,
    /// Its public key, which identifies it.
    pub public_key: PublicKey,
    /// The secret shared with it, if any.
    pub preshared_key: Option<PresharedKey>,
    /// Its locator, if known at start.
    pub locator: Option<P>,
    /// The inner addresses that it may use.
    pub allowed: Vec<IpPrefix>,
    /// The idle time after which a keepalive is sent; 0 for never.
    pub keepalive_seconds: u16,
}

/// The status of a peer.
#[derive(Clone, Debug)]
pub struct PeerStatus<P> {
    /// Its name.
    pub name: String,
    /// Its public key, which identifies it.
    pub public_key: PublicKey,
    /// Its locator: that of its last packet, or the configured one.
    pub locator: Option<P>,
    /// The age of the current session, in milliseconds.
    pub session_age_ms: Option<u64>,
    /// Whether a handshake is in progress.
    pub handshaking: bool,
    /// The time since the last authentic message, in milliseconds.
    pub heard_ms_ago: Option<u64>,
    /// Packets and bytes, without the overhead of sealing.
    pub traffic: PeerTraffic,
}

/// Packets and bytes to and from a peer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PeerTraffic {
    /// Packets sent, without keepalives.
    pub sent_packets: u64,
    /// Bytes of these packets.
    pub sent_bytes: u64,
    /// Packets received, without keepalives.
    pub received_packets: u64,
    /// Bytes of these packets.
    pub received_bytes: u64,
    /// Sessions established.
    pub sessions: u64,
}
