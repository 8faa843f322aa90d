//! The channels of a serving agent, and how peers share them.
//!
//! Anyone in the tenant may send, and whoever sends chooses session and channel. So that nobody takes
//! the others' channels from them, each sender opens a bounded number a second, all together do, and
//! when no slot is free the sender that has the most channels gives one up. A sender is known by its
//! token, which POPs vouch for; an agent with many addresses or ports has many.

use std::collections::HashMap;

use anyrelay_core::time::Instant;
use anyrelay_core::tunnel::token::Token;

use super::lru::Lru;
use crate::limits::Limits;
use crate::local::PublicToken;

/// A session and a channel in it.
pub(super) type Key = (u64, u16);

/// Channels, each with something of its own, and the sessions that they belong to.
#[derive(Debug)]
pub(super) struct Channels<T> {
    table: Lru<Key, T>,
    sessions: HashMap<u64, Session>,
    /// How many channels each token has.
    shares: HashMap<Token, usize>,
    limits: Limits,
}

#[derive(Clone, Copy, Debug)]
struct Session {
    /// The newest token: where answers go.
    newest: PublicToken,
    channels: usize,
}

impl<T> Channels<T> {
    /// Room for `capacity` channels.
    pub(super) fn new(capacity: usize) -> Self {
        Channels {
            table: Lru::new(capacity),
            sessions: HashMap::new(),
            shares: HashMap::new(),
            limits: Limits::new(NEW_PER_TOKEN, NEW_OF_ALL),
        }
    }

    /// How many channels there are.
    pub(super) fn len(&self) -> usize {
        self.table.len()
    }

    /// How many sessions there are.
    pub(super) fn sessions(&self) -> usize {
        self.sessions.len()
    }

    /// The slot of a channel that is known; it becomes the newest, and `from` is where answers of its
    /// session go.
    pub(super) fn find(&mut self, key: Key, from: PublicToken) -> Option<usize> {
        let place = self.table.find(&key)?;
        self.note(key.0, from);
        Some(place)
    }

    /// Whether `from` may open one more channel now.
    pub(super) fn may_open(&mut self, now: Instant, from: PublicToken) -> bool {
        self.limits.take(now, from.token)
    }

    /// Opens a channel that is not known. What had its slot is dropped.
    pub(super) fn open(&mut self, key: Key, from: PublicToken, value: T) -> usize {
        self.note(key.0, from);
        let victim = if self.table.is_full() { self.victim() } else { None };
        let (place, gone) = match victim {
            Some(place) => (place, self.table.replace(place, key, value)),
            None => self.table.insert(key, value),
        };
        if let Some(((session, _), _)) = gone {
            self.close_in(session);
        }
        let session = self.sessions.entry(key.0);
        let session = session.or_insert(Session { newest: from, channels: 0 });
        session.channels += 1;
        *self.shares.entry(session.newest.token).or_default() += 1;
        place
    }

    /// Where answers of a channel go.
    pub(super) fn answer_to(&self, place: usize) -> Option<(Key, PublicToken)> {
        let key = self.table.key(place)?;
        Some((key, self.sessions.get(&key.0)?.newest))
    }

    pub(super) fn key(&self, place: usize) -> Option<Key> {
        self.table.key(place)
    }

    pub(super) fn get(&self, place: usize) -> Option<&T> {
        self.table.get(place)
    }

    pub(super) fn get_mut(&mut self, place: usize) -> Option<&mut T> {
        self.table.get_mut(place)
    }

    pub(super) fn touch(&mut self, place: usize) {
        self.table.touch(place);
    }

    /// Answers of a session go to `from` from now on, who has its channels.
    fn note(&mut self, session: u64, from: PublicToken) {
        let Some(session) = self.sessions.get_mut(&session) else { return };
        let before = std::mem::replace(&mut session.newest, from);
        let channels = session.channels;
        if before.token != from.token {
            self.give_up(before.token, channels);
            *self.shares.entry(from.token).or_default() += channels;
        }
    }

    /// A channel of `session` is no more.
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

    /// The channel unused longest among those of senders that have the most.
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
    fn who_has_the_most_makes_room() {
        let mut table = channels(8);
        // Three small senders, the first of which was silent longest; then one that wants it all.
        for number in 1..4 {
            table.open((number.into(), 0), token(number), 0);
        }
        for channel in 0..1000 {
            table.open((99, channel), token(99), 0);
        }
        for number in 1..4 {
            let place = table.find((number.into(), 0), token(number)).unwrap();
            assert_eq!(table.answer_to(place), Some(((number.into(), 0), token(number))));
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
    fn a_session_takes_its_channels_to_its_new_token() {
        let mut table = channels(4);
        for channel in 0..3 {
            table.open((1, channel), token(1), 0);
        }
        table.find((1, 0), token(2)).unwrap();
        assert_eq!(table.answer_to(0), Some(((1, 0), token(2))));
        assert_eq!(table.shares, HashMap::from([(token(2).token, 3)]));
        // Full, and the fifth: the mover has the most.
        table.open((5, 0), token(5), 0);
        table.open((6, 0), token(6), 0);
        assert!(table.find((1, 1), token(2)).is_none(), "the one unused longest");
        assert_eq!(table.shares.values().sum::<usize>(), 4);
    }

    #[test]
    fn a_sender_opens_some_a_second_and_leaves_the_rest_to_others() {
        let (mut table, now) = (channels(4), Instant::from_millis(5000));
        let opened = (0..10_000).filter(|_| table.may_open(now, token(1))).count();
        assert_eq!(opened, NEW_PER_TOKEN as usize);
        assert!(table.may_open(now, token(2)));
        assert!(table.may_open(now.plus_millis(1000), token(1)));
    }
}
