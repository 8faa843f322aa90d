//! What a list says of a target at a time.

use std::net::SocketAddr;

use anyrelay_core::config::TargetList;
use anyrelay_core::time::UnixTime;

/// What a target gets at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// New connections, since a date within the memory: others are still asked for its clients.
    New {
        /// The date.
        since: UnixTime,
    },
    /// New connections, for longer than the memory.
    Takes,
    /// Segments of connections that it may have, and no new ones.
    Draining {
        /// The date from which on it gets none.
        until: UnixTime,
    },
    /// Nothing any more.
    Gone {
        /// Since when.
        since: UnixTime,
    },
    /// Nothing yet.
    Coming {
        /// The date of its first connections.
        since: UnixTime,
    },
}

impl State {
    /// Its name in JSON.
    pub fn name(self) -> &'static str {
        match self {
            State::New { .. } => "new",
            State::Takes => "takes",
            State::Draining { .. } => "draining",
            State::Gone { .. } => "gone",
            State::Coming { .. } => "coming",
        }
    }

    /// The date of the state, as its fields say.
    pub fn date(self) -> Option<UnixTime> {
        match self {
            State::Takes => None,
            State::Draining { until } => Some(until),
            State::New { since } | State::Gone { since } | State::Coming { since } => Some(since),
        }
    }
}

/// The state of the target `address` at `time`; `None` if the list does not have it.
pub fn state(list: &TargetList, address: SocketAddr, time: UnixTime) -> Option<State> {
    let own = || list.entries.iter().filter(|target| target.address == address);
    if let Some(target) = own().find(|target| target.takes_new(time)) {
        // With a change of weight, the target itself is not new.
        let mut since = target.since;
        while let Some(before) = own().find(|before| before.until == since) {
            since = before.since;
        }
        let is_new = since != UnixTime::default() && since.plus_millis(list.memory_ms) > time;
        return Some(if is_new { State::New { since } } else { State::Takes });
    }
    let ends = own().filter(|target| target.until <= time);
    let end = ends.map(|target| target.until.plus_millis(list.memory_ms).min(target.gone)).max();
    match end {
        Some(until) if until > time => Some(State::Draining { until }),
        Some(since) => Some(State::Gone { since }),
        None => {
            own().map(|target| State::Coming { since: target.since }).min_by_key(
                |state| match state {
                    State::Coming { since } => *since,
                    _ => UnixTime::NEVER,
                },
            )
        }
    }
}
