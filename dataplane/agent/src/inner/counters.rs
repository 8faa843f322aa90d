//! What did not get through the inner side, each with its reason.

/// Why a packet or message was dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InnerDrop {
    /// From the TUN device: no IP packet, or one whose length lies. From a peer: no message of ours.
    Malformed,
    /// From the TUN device: no peer is allowed this destination.
    NoRoute,
    /// From the TUN device: longer than the path takes.
    TooBig,
    /// From the TUN device: more packets wait for a handshake than are kept.
    QueueFull,
    /// Waited for a handshake that did not come about.
    NoHandshake,
    /// A handshake could not begin: nobody has said yet where the peer is.
    NoPlace,
    /// A handshake could not begin or be answered: the system gave no random numbers.
    NoRandom,
    /// More handshakes than are looked at.
    RateLimited,
    /// A handshake not made with the right keys.
    HandshakeNotAuthentic,
    /// A handshake by someone who is not in the config.
    UnknownPeer,
    /// A handshake with a pre-shared key where the config has none for this peer, or the reverse.
    PresharedKeyMismatch,
    /// An initiation that is not newer than the newest: replayed, or overtaken.
    OldInitiation,
    /// For a session or handshake that is not, or no longer, known here.
    UnknownSession,
    /// For a session that is too old.
    Expired,
    /// A packet that came before, or comes too late to tell.
    Replayed,
    /// A packet that was not sealed with the session's key.
    NotAuthentic,
    /// What was sealed is no IP packet.
    InnerMalformed,
    /// The inner source is not one that this peer is allowed.
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
        InnerDrop::NoPlace,
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

    /// Its name in `status`.
    pub const fn name(self) -> &'static str {
        match self {
            InnerDrop::Malformed => "malformed",
            InnerDrop::NoRoute => "no_route",
            InnerDrop::TooBig => "too_big",
            InnerDrop::QueueFull => "queue_full",
            InnerDrop::NoHandshake => "no_handshake",
            InnerDrop::NoPlace => "no_place",
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

/// How often each reason was the case.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Drops([u64; InnerDrop::ALL.len()]);

impl Drops {
    /// How often `reason` was the case.
    pub fn get(&self, reason: InnerDrop) -> u64 {
        self.0.get(reason as usize).copied().unwrap_or_default()
    }

    /// Counts one.
    pub fn count(&mut self, reason: InnerDrop) {
        self.add(reason, 1);
    }

    /// Counts some.
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
        let mut drops = Drops::default();
        for reason in InnerDrop::ALL {
            drops.count(reason);
        }
        assert!(drops.iter().all(|(reason, count)| count == 1 && drops.get(reason) == 1));
        let names: std::collections::HashSet<_> = InnerDrop::ALL.map(InnerDrop::name).into();
        assert_eq!(names.len(), InnerDrop::ALL.len());
    }
}
