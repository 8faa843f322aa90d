//! What becomes of a targets file, by the health of its targets.
//!
//! Pure: the list, what health took out of it, the health of the targets and the time determine the
//! next list.

#[cfg(test)]
mod tests;

use std::net::SocketAddr;

use anyrelay_core::config::TargetList;
use anyrelay_core::time::UnixTime;

use super::config::Floor;
use super::outs::{Out, Outs, Standing};
use crate::targets::{Dates, Followed, Refusal, follow};

/// The settings of decisions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    /// How many targets take connections at least.
    pub floor: Floor,
    /// How long the file takes to reach all POPs, in milliseconds.
    pub lead_ms: u64,
    /// How long a target stays out at least, in milliseconds.
    pub hold_ms: u64,
}

/// What is known when a decision is made.
#[derive(Clone, Copy, Debug)]
pub struct Known<'a> {
    /// The list.
    pub list: &'a TargetList,
    /// What health took out of it.
    pub outs: &'a Outs,
    /// The time.
    pub now: UnixTime,
}

/// A decision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// The next list; `None` where nothing changes.
    pub list: Option<TargetList>,
    /// What is out with it.
    pub outs: Outs,
    /// The date of the changes.
    pub at: UnixTime,
    /// The targets that go out, ascending.
    pub downs: Vec<SocketAddr>,
    /// Those that come back, ascending.
    pub ups: Vec<SocketAddr>,
    /// Those that stay as they are, against their health, ascending.
    pub withheld: Vec<(SocketAddr, Withheld)>,
}

/// Why a target stays as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Withheld {
    /// Too few targets would take connections.
    Floor,
    /// The list would not pass the checks: too many changes within the memory.
    Limits(String),
    /// It comes back at this time at the earliest.
    Hold(UnixTime),
}

impl Rules {
    /// Decides. `is_up` says of a target whether it is up, or `None` where that is not known.
    pub fn decide(self, known: Known<'_>, is_up: impl Fn(SocketAddr) -> Option<bool>) -> Decision {
        let Known { list, outs, now } = known;
        let dates = Dates::after(list, now, self.lead_ms);
        let addresses = outs.addresses(list);
        let of = |address: &SocketAddr| outs.standing(list, *address, dates.at);
        let wanted = |is_wanted: &dyn Fn(Standing, bool) -> bool| -> Vec<SocketAddr> {
            let wanted = addresses.iter().copied();
            wanted.filter(|at| is_up(*at).is_some_and(|is_up| is_wanted(of(at), is_up))).collect()
        };
        let dead = wanted(&|standing, is_up| standing == Standing::Takes && !is_up);
        let back = wanted(&|standing, is_up| matches!(standing, Standing::Out(_)) && is_up);
        let managed = addresses.iter().filter(|address| of(address) != Standing::Drained).count();
        let mut work = Work {
            floor: self.floor.of(managed),
            dates,
            before: list,
            outs: outs.that_hold(list, dates.at),
            next: list.clone(),
        };
        let (mut downs, mut ups, mut withheld) = (Vec::new(), Vec::new(), Vec::new());
        let (mut left, mut held) = (Vec::new(), Vec::new());
        for address in dead {
            match work.take_out(address) {
                Ok(()) => downs.push(address),
                Err(reason) => left.push((address, reason)),
            }
        }
        for address in back {
            match work.bring_back(address, self.hold_ms) {
                Ok(()) => ups.push(address),
                Err(reason @ Withheld::Hold(_)) => held.push((address, reason)),
                Err(reason) => withheld.push((address, reason)),
            }
        }
        for (address, reason) in left {
            // One that came back may make room for one that goes out, and is not held up for that.
            let mut last = if ups.is_empty() { Err(reason) } else { work.take_out(address) };
            while last == Err(Withheld::Floor) {
                let mut others = held.iter();
                let back = others.position(|(back, _)| work.bring_back(*back, 0).is_ok());
                let Some(place) = back else { break };
                ups.push(held.remove(place).0);
                last = work.take_out(address);
            }
            match last {
                Ok(()) => downs.push(address),
                Err(reason) => withheld.push((address, reason)),
            }
        }
        withheld.extend(held);
        downs.sort_unstable();
        ups.sort_unstable();
        withheld.sort_unstable_by_key(|(address, _)| *address);
        let is_changed = !downs.is_empty() || !ups.is_empty();
        let next = TargetList { serial: list.serial.saturating_add(1), ..work.next };
        let list = is_changed.then_some(next);
        Decision { list, outs: work.outs, at: dates.at, downs, ups, withheld }
    }
}

/// A list on its way to the next one.
struct Work<'a> {
    floor: usize,
    dates: Dates,
    before: &'a TargetList,
    outs: Outs,
    next: TargetList,
}

impl Work<'_> {
    fn take_out(&mut self, address: SocketAddr) -> Result<(), Withheld> {
        let changed = self.follow(address, false, None, 0)?;
        let least = |list: &TargetList| {
            let later = list.epochs().into_iter().filter(|epoch| epoch.until > self.dates.at);
            later.map(|epoch| epoch.members.len()).min().unwrap_or_default()
        };
        let left = least(&changed);
        if left < self.floor && left < least(&self.next) {
            return Err(Withheld::Floor);
        }
        let own = self.before.entries.iter().filter(|target| target.address == address);
        let mut own = own.filter(|target| target.takes_new(self.dates.at));
        let weight = own.next().map_or(1, |target| target.weight);
        self.outs.0.retain(|out| out.address != address);
        self.outs.0.push(Out { address, weight, until: self.dates.at, is_absent: false });
        self.accept(changed);
        Ok(())
    }

    fn bring_back(&mut self, address: SocketAddr, hold_ms: u64) -> Result<(), Withheld> {
        let out = self.outs.0.iter().find(|out| out.address == address);
        let changed = self.follow(address, true, out.map(|out| out.weight), hold_ms)?;
        self.outs.0.retain(|out| out.address != address);
        self.accept(changed);
        Ok(())
    }

    fn accept(&mut self, changed: TargetList) {
        self.next = changed;
        for out in &mut self.outs.0 {
            out.is_absent = !self.next.addresses().any(|address| address == out.address);
        }
        self.outs.0.sort_unstable_by_key(|out| out.address);
    }

    fn follow(
        &self,
        address: SocketAddr,
        is_alive: bool,
        weight: Option<u16>,
        hold_ms: u64,
    ) -> Result<TargetList, Withheld> {
        match follow(&self.next, address, is_alive, weight, self.dates, hold_ms) {
            Ok(Followed::Changed(list)) => Ok(list),
            Ok(Followed::Unchanged) => Ok(self.next.clone()),
            Ok(Followed::Later(time)) => Err(Withheld::Hold(time)),
            Err(Refusal::Last(_)) => Err(Withheld::Floor),
            Err(other) => Err(Withheld::Limits(other.to_string())),
        }
    }
}
