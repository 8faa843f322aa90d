//! The channels of a serving agent, and the shares of its peers.
//!
//! Every agent of the tenant may send, and chooses session and channel. Limits keep senders from
//! taking each other's channels: each sender, and all together, may open a bounded number of
//! channels a second; and when all slots are in use, the sender with the most channels loses one. A
//! sender is identified by its token, which POPs authenticate; an agent with many addresses or
//! ports has many tokens.

use std::collections::HashMap;

use anyrelay_core::time::Instant;
use anyrelay_core::tunnel::token::Token;

use super::lru::Lru;
use crate::limits::SenderLimits;
use crate::local::PublicToken;

/// A session and a channel in it.
pub(super) type ChannelKey = (u64, u16);

/// Channels, each with a value, and their sessions.
#[derive(Debug)]
pub(super) struct Channels<T> {
    table: Lru<ChannelKey, T>,
    sessions: HashMap<u64, SessionEntry>,
    /// The number of channels of each token.
    shares: HashMap<Token, usize>,
    limits: SenderLimits,
}

#[derive(Clone, Copy, Debug)]
struct SessionEntry {
    /// The token of the newest datagram, which answers go to.
    newest: PublicToken,
    channels: usize,
}

impl<T> Channels<T> {
    /// A table for `capacity` channels.
    pub(super) fn new(capacity: usize) -> Self {
        Channels {
            table: Lru::new(capacity),
            sessions: HashMap::new(),
            shares: HashMap::new(),
            limits: SenderLimits::new(NEW_PER_TOKEN, NEW_OF_ALL),
        }
    }

    /// The number of channels.
    pub(super) fn len(&self) -> usize {
        self.table.len()
    }

    /// The number of sessions.
    pub(super) fn sessions(&self) -> usize {
        self.sessions.len()
    }

    /// The slot of a known channel, which becomes the newest; answers of its session go to `from`
    /// from now on.
    pub(super) fn find(&mut self, key: ChannelKey, from: PublicToken) -> Option<usize> {
        let slot = self.table.find(&key)?;
        self.note(key.0, from);
        Some(slot)
    }

    /// Takes a token from the limit for new channels of `from`.
    pub(super) fn may_open(&mut self, now: Instant, from: PublicToken) -> bool {
        self.limits.take(now, from.token)
    }

    /// Opens an unknown channel. Drops the previous owner of its slot.
    pub(super) fn open(&mut self, key: ChannelKey, from: PublicToken, value: T) -> usize {
        self.note(key.0, from);
        let victim = if self.table.is_full() { self.victim() } else { None };
        let (slot, gone) = match victim {
            Some(slot) => (slot, self.table.replace(slot, key, value)),
            None => self.table.insert(key, value),
        };
        if let Some(((session, _), _)) = gone {
            self.close_in(session);
        }
        let session = self.sessions.entry(key.0);
        let session = session.or_insert(SessionEntry { newest: from, channels: 0 });
        session.channels += 1;
        *self.shares.entry(session.newest.token).or_default() += 1;
        slot
    }

    /// The channel of a slot, and the destination of its answers.
    pub(super) fn answer_to(&self, slot: usize) -> Option<(ChannelKey, PublicToken)> {
        let key = self.table.key(slot)?;
        Some((key, self.sessions.get(&key.0)?.newest))
    }

    pub(super) fn key(&self, slot: usize) -> Option<ChannelKey> {
        self.table.key(slot)
    }

    pub(super) fn get(&self, slot: usize) -> Option<&T> {
        self.table.get(slot)
    }

    pub(super) fn get_mut(&mut self, slot: usize) -> Option<&mut T> {
        self.table.get_mut(slot)
    }

    pub(super) fn touch(&mut self, slot: usize) {
        self.table.touch(slot);
    }

    /// Answers of a session go to `from` from now on, whose share includes its channels.
    fn note(&mut self, session: u64, from: PublicToken) {
        let Some(session) = self.sessions.get_mut(&session) else { return };
        let before = std::mem::replace(&mut session.newest, from);
        let channels = session.channels;
        if before.token != from.token {
            self.give_up(before.token, channels);
            *self.shares.entry(from.token).or_default() += channels;
        }
    }

    /// Removes one channel of `session` from the accounts.
    fn close_in(&mut self, session: u64) {
        let Some(owner) = self.sessions.get_mut(&session) else { return };
        owner.channels -= owner.channels.min(1);
        let (token, left) = (owner.newest.token, owner.channels);
        if left == 0 {
            self.sessions.remove(&session);
        }
        self.give_up(token, 1);
    }

    fn give_up(&mut self, token: Token, channels: usize) {
        let Some(share) = self.shares.get_mut(&token) else { return };
        *share -= channels.min(*share);
        if *share == 0 {
            self.shares.remove(&token);
        }
    }

    /// The least recently used channel among those of the senders with the most channels.
    fn victim(&self) -> Option<usize> {
        let most = self.shares.values().copied().max()?;
        self.table.oldest_of(|(session, _)| {
            let owner = self.sessions.get(session).map(|session| session.newest.token);
            owner.and_then(|owner| self.shares.get(&owner)) == Some(&most)
        })
    }
}

/// New channels per second of one token: an application that opens more at once opens the rest a
/// second later.
const NEW_PER_TOKEN: u32 = 256;
/// New channels per second of all tokens together: each costs a socket.
const NEW_OF_ALL: u32 = 1024;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::token;

    fn channels(capacity: usize) -> Channels<u32> {
        Channels::new(capacity)
    }

    #[test]
    fn the_sender_with_the_most_channels_loses_one() {
        let mut table = channels(8);
        // Three small senders, the first of which was idle longest; then one that opens a thousand
        // channels.
        for number in 1..4 {
            table.open((number.into(), 0), token(number), 0);
        }
        for channel in 0..1000 {
            table.open((99, channel), token(99), 0);
        }
        for number in 1..4 {
            let slot = table.find((number.into(), 0), token(number)).unwrap();
            assert_eq!(table.answer_to(slot), Some(((number.into(), 0), token(number))));
        }
        let left: Vec<_> =
            (0..1000).filter(|channel| table.find((99, *channel), token(99)).is_some()).collect();
        assert_eq!(left, [995, 996, 997, 998, 999], "its own newest are left to it");
        assert_eq!((table.len(), table.sessions()), (8, 4));
    }

    #[test]
    fn many_sessions_of_one_sender_count_as_one_sender() {
        let mut table = channels(8);
        table.open((1, 0), token(1), 0);
        for session in 100..1100 {
            table.open((session, 0), token(99), 0);
        }
        assert!(table.find((1, 0), token(1)).is_some());
        assert_eq!(table.sessions(), 8);
    }

    #[test]
    fn a_session_keeps_its_channels_when_its_token_changes() {
        let mut table = channels(4);
        for channel in 0..3 {
            table.open((1, channel), token(1), 0);
        }
        table.find((1, 0), token(2)).unwrap();
        assert_eq!(table.answer_to(0), Some(((1, 0), token(2))));
        assert_eq!(table.shares, HashMap::from([(token(2).token, 3)]));
        // The table is full: the session that moved has the most channels.
        table.open((5, 0), token(5), 0);
        table.open((6, 0), token(6), 0);
        assert!(table.find((1, 1), token(2)).is_none(), "the one unused longest");
        assert_eq!(table.shares.values().sum::<usize>(), 4);
    }

    #[test]
    fn new_channels_are_rate_limited_per_sender() {
        let (mut table, now) = (channels(4), Instant::from_millis(5000));
        let opened = (0..10_000).filter(|_| table.may_open(now, token(1))).count();
        assert_eq!(opened, NEW_PER_TOKEN as usize);
        assert!(table.may_open(now, token(2)));
        assert!(table.may_open(now.plus_millis(1000), token(1)));
    }
}
