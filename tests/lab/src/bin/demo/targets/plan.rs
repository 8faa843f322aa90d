//! What happens to the targets in a run, and when.

use std::net::SocketAddr;
use std::time::Duration;

use anyrelay_lab::config::TARGET_PORT;
use anyrelay_lab::topology::{TARGET, target_host};

/// How the host of a target dies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Death {
    /// Its server is killed, and its kernel answers with RSTs.
    Process,
    /// Its link goes down, and nobody answers.
    Link,
}

/// A change of the targets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// It takes new connections from now on.
    Add,
    /// It takes no new connections; those that it has go on.
    Drain,
    /// It gets more or fewer new connections.
    Weigh(u16),
    /// It is on its way out of the list: drained, and not to come back.
    Remove,
    /// It has died, and is to be left.
    Bury(Death),
}

/// A target by its number: the first [`AT_ONE_HOST`] are addresses of one host, the others hosts of
/// their own, which may die.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Number(pub u8);

/// How many targets are addresses of the lab's target.
pub const AT_ONE_HOST: u8 = 4;
/// How many targets are hosts of their own.
pub const HOSTS: u8 = 2;
/// Between the death of a target and the order to leave it: as a health check that is quick.
pub const NOTICED_AFTER: Duration = Duration::from_secs(1);
/// The longest time between an order to a relay and its date.
pub const IN_FORCE_AFTER: Duration = Duration::from_secs(8);

impl Number {
    /// All of them.
    pub fn all() -> impl Iterator<Item = Self> {
        (0..AT_ONE_HOST + HOSTS).map(Number)
    }

    /// Those that take connections when a run begins.
    pub fn at_first() -> impl Iterator<Item = Self> {
        Self::all().filter(|number| *number != ADDED)
    }

    /// Where it is.
    pub fn address(self) -> SocketAddr {
        let [a, b, c, d] = TARGET.octets();
        let ip = match self.host() {
            Some(host) => target_host(host),
            None => [a, b, c, d + self.0].into(),
        };
        SocketAddr::new(ip.into(), TARGET_PORT)
    }

    /// The number of its host among those that are one target each.
    pub fn host(self) -> Option<u8> {
        self.0.checked_sub(AT_ONE_HOST)
    }
}

/// The orders of a run of this length, by the time at which each is given. A death is
/// [`NOTICED_AFTER`] before the order. All are within the memory, so that no client may have more
/// than 4 candidates, and there are at most 16 dates.
pub fn orders(length: Duration) -> Vec<(Duration, Number, Change)> {
    let mut changes = vec![
        (ADDED, Change::Add),
        (ADDED, Change::Weigh(3)),
        (Number(1), Change::Drain),
        (Number(1), Change::Add),
        (Number(4), Change::Bury(Death::Process)),
    ];
    if length >= LONG {
        let again = |number| [(number, Change::Drain), (number, Change::Add)];
        changes.extend([1, 2, 1].map(Number).map(again).concat());
    }
    changes.extend([
        (ADDED, Change::Weigh(1)),
        (Number(2), Change::Drain),
        (Number(2), Change::Add),
        (Number(5), Change::Bury(Death::Link)),
        (ADDED, Change::Remove),
    ]);
    let last = length.saturating_sub(IN_FORCE_AFTER + AFTER_LAST);
    let between = last.saturating_sub(FIRST) / u32::try_from(changes.len() - 1).unwrap_or(1);
    let times = (0..).map(|step| FIRST + between * step);
    times.zip(changes).map(|(time, (number, change))| (time, number, change)).collect()
}

const ADDED: Number = Number(3);
const FIRST: Duration = Duration::from_millis(500);
/// How long a run goes on with the last list.
const AFTER_LAST: Duration = Duration::from_secs(2);
/// A run that has time for more changes.
const LONG: Duration = Duration::from_secs(120);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orders_are_in_time_and_deaths_between_them() {
        for (seconds, count) in [(30, 10), (240, 16)] {
            let length = Duration::from_secs(seconds);
            let orders = orders(length);
            assert_eq!(orders.len(), count);
            assert!(orders.is_sorted_by_key(|order| order.0));
            assert!(orders.iter().all(|order| order.0 + IN_FORCE_AFTER < length));
            let buried = orders.iter().filter(|order| matches!(order.2, Change::Bury(_)));
            assert!(buried.clone().all(|(_, number, _)| number.host().is_some()));
            assert_eq!(buried.count(), usize::from(HOSTS));
        }
    }
}
