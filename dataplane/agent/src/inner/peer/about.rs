//! What a peer is said to be, and what is known of it.

use crate::inner::keys::{PresharedKey, PublicKey};
use crate::inner::routes::Prefix;

/// What the config says of a peer.
#[derive(Clone, Debug)]
pub struct PeerConfig<P> {
    /// Its name, for people.
    pub name: String,
    /// Who it is.
    pub public_key: PublicKey,
    /// The secret shared with it, if any.
    pub preshared_key: Option<PresharedKey>,
    /// Where it is, if that is known already.
    pub place: Option<P>,
    /// The inner addresses that it may have.
    pub allowed: Vec<Prefix>,
    /// After how much silence of ours a keepalive is sent; 0 for never.
    pub keepalive_seconds: u16,
}

/// What is known of a peer.
#[derive(Clone, Debug)]
pub struct PeerStatus<P> {
    /// Its name.
    pub name: String,
    /// Who it is.
    pub public_key: PublicKey,
    /// Where it was last heard from, or is said to be.
    pub place: Option<P>,
    /// How old the session is that would be sent on, in milliseconds.
    pub session_age_ms: Option<u64>,
    /// Whether a handshake is under way.
    pub handshaking: bool,
    /// How long ago something authentic came from it, in milliseconds.
    pub heard_ms_ago: Option<u64>,
    /// Packets and bytes, without what sealing adds.
    pub traffic: Traffic,
}

/// Packets and bytes to and from a peer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Packets to it, keepalives not counted.
    pub sent_packets: u64,
    /// Bytes of these.
    pub sent_bytes: u64,
    /// Packets from it, keepalives not counted.
    pub received_packets: u64,
    /// Bytes of these.
    pub received_bytes: u64,
    /// Sessions that came to be.
    pub sessions: u64,
}
