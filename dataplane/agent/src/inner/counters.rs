//! Reasons for drops of the inner side, with a counter each.

/// Why a packet or message was dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InnerDrop {
    /// From the TUN device: not an IP packet, or a wrong length. From a peer: not a valid message.
    Malformed,
    /// From the TUN device: no peer has the destination among its allowed prefixes.
    NoRoute,
    /// From the TUN device: longer than [`super::MAX_PACKET`].
    TooBig,
    /// From the TUN device: the queue of packets that wait for a handshake is full.
    QueueFull,
    /// A packet that waited for a handshake, which failed.
    NoHandshake,
    /// A handshake could not start: the peer's locator is unknown.
    NoLocator,
    /// A handshake could not start or be answered: the system gave no random numbers.
    NoRandom,
    /// A handshake beyond the rate limit.
    RateLimited,
    /// A handshake made with wrong keys.
    HandshakeNotAuthentic,
    /// A handshake with a public key that is not in the config.
    UnknownPeer,
    /// A handshake with a pre-shared key where the config has none for this peer, or the reverse.
    PresharedKeyMismatch,
    /// An initiation that is not newer than the newest one: replayed or reordered.
    OldInitiation,
    /// A message of an unknown or forgotten session or handshake.
    UnknownSession,
    /// A packet of an expired session.
    Expired,
    /// A packet whose counter was seen before, or is too old for the replay window.
    Replayed,
    /// A packet that was not sealed with the session's key.
    NotAuthentic,
    /// A packet with wrong contents: not an IP packet.
    InnerMalformed,
    /// A packet whose source is not among the peer's allowed prefixes.
    SourceNotAllowed,
}

impl InnerDrop {
    /// All reasons.
    pub const ALL: [InnerDrop; 18] = [
        InnerDrop::Malformed,
        InnerDrop::NoRoute,
        InnerDrop::TooBig,
        InnerDrop::QueueFull,
        InnerDrop::NoHandshake,
        InnerDrop::NoLocator,
        InnerDrop::NoRandom,
        InnerDrop::RateLimited,
        InnerDrop::HandshakeNotAuthentic,
        InnerDrop::UnknownPeer,
        InnerDrop::PresharedKeyMismatch,
        InnerDrop::OldInitiation,
        InnerDrop::UnknownSession,
        InnerDrop::Expired,
        InnerDrop::Replayed,
        InnerDrop::NotAuthentic,
        InnerDrop::InnerMalformed,
        InnerDrop::SourceNotAllowed,
    ];

    /// The reason's name in `status`.
    pub const fn name(self) -> &'static str {
        match self {
            InnerDrop::Malformed => "malformed",
            InnerDrop::NoRoute => "no_route",
            InnerDrop::TooBig => "too_big",
            InnerDrop::QueueFull => "queue_full",
            InnerDrop::NoHandshake => "no_handshake",
            InnerDrop::NoLocator => "no_locator",
            InnerDrop::NoRandom => "no_random",
            InnerDrop::RateLimited => "rate_limited",
            InnerDrop::HandshakeNotAuthentic => "handshake_not_authentic",
            InnerDrop::UnknownPeer => "unknown_peer",
            InnerDrop::PresharedKeyMismatch => "preshared_key_mismatch",
            InnerDrop::OldInitiation => "old_initiation",
            InnerDrop::UnknownSession => "unknown_session",
            InnerDrop::Expired => "expired",
            InnerDrop::Replayed => "replayed",
            InnerDrop::NotAuthentic => "not_authentic",
            InnerDrop::InnerMalformed => "inner_malformed",
            InnerDrop::SourceNotAllowed => "source_not_allowed",
        }
    }
}

/// A counter for each reason.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct InnerDrops([u64; InnerDrop::ALL.len()]);

impl InnerDrops {
    /// The count of `reason`.
    pub fn get(&self, reason: InnerDrop) -> u64 {
        self.0.get(reason as usize).copied().unwrap_or_default()
    }

    /// Counts one drop.
    pub fn count(&mut self, reason: InnerDrop) {
        self.add(reason, 1);
    }

    /// Counts `number` drops.
    pub fn add(&mut self, reason: InnerDrop, number: u64) {
        if let Some(count) = self.0.get_mut(reason as usize) {
            *count = count.wrapping_add(number);
        }
    }

    /// All reasons with their counts.
    pub fn iter(&self) -> impl Iterator<Item = (InnerDrop, u64)> {
        InnerDrop::ALL.into_iter().zip(self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_has_its_own_slot_and_name() {
        let mut drops = InnerDrops::default();
        for reason in InnerDrop::ALL {
            drops.count(reason);
        }
        assert!(drops.iter().all(|(reason, count)| count == 1 && drops.get(reason) == 1));
        let names: std::collections::HashSet<_> = InnerDrop::ALL.map(InnerDrop::name).into();
        assert_eq!(names.len(), InnerDrop::ALL.len());
    }
}
