//! The changes: each sets what a list says of one target from a date on.

use std::net::SocketAddr;

use anyrelay_core::config::{MAX_WEIGHT, MEMORY_MS, SKEW_MS, Target, TargetList};
use anyrelay_core::time::UnixTime;

use super::prune::{merge_gone, prune, without_gone};
use super::retry::with_later;
use super::{Dates, Refusal};

/// How a target leaves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Leave {
    /// Its connections are given up, too: twice the skew after its end it gets nothing of them.
    pub gone: bool,
    /// It may be the last one, after which no target takes connections.
    pub last: bool,
}

/// A list with the first targets of a relay, which have had all connections: serial 1.
///
/// # Errors
/// [`Refusal::Weight`], [`Refusal::Family`], and [`Refusal::Limits`] for what cannot be a list.
pub fn first(addresses: &[SocketAddr], weight: u16) -> Result<TargetList, Refusal> {
    check_weight(weight)?;
    let is_other = |address: &&SocketAddr| {
        addresses.first().is_some_and(|first| first.is_ipv4() != address.is_ipv4())
    };
    if let Some(other) = addresses.iter().find(is_other) {
        return Err(Refusal::Family(*other));
    }
    let empty =
        TargetList { serial: 0, memory_ms: MEMORY_MS, skew_ms: SKEW_MS, entries: Vec::new() };
    let entries = addresses.iter().map(|address| Target::always(*address, weight)).collect();
    finish(&empty, entries, UnixTime::default())
}

/// Lets `address` take new connections from the date on, without an end. Without a `weight`, a
/// known target has the weight that it had last, and a new one 1.
///
/// An end of it that is not before the date is taken back, with `gone`.
///
/// # Errors
/// [`Refusal::Takes`] if it does so already; [`Refusal::Family`], [`Refusal::TooEarly`],
/// [`Refusal::Weight`] and [`Refusal::Limits`].
pub fn add(
    list: &TargetList,
    address: SocketAddr,
    weight: Option<u16>,
    dates: Dates,
) -> Result<TargetList, Refusal> {
    with_later(list, dates, |dates| {
        dates.check(list)?;
        weight.map_or(Ok(()), check_weight)?;
        if list.addresses().any(|other| other.is_ipv4() != address.is_ipv4()) {
            return Err(Refusal::Family(address));
        }
        let Cut { others, mut before, from } = cut(list, address, dates.at);
        if let [only] = from[..]
            && only.since == dates.at
            && only.until == UnixTime::NEVER
        {
            return Err(Refusal::Takes(address));
        }
        let last = before.last().or(from.first()).map(|target| target.weight);
        let weight = weight.or(last).unwrap_or(1);
        for target in before.iter_mut().filter(|target| target.gone >= dates.at) {
            target.gone = UnixTime::NEVER;
        }
        let new = Target { since: dates.at, ..Target::always(address, weight) };
        finish(list, [others, joined(before, vec![new], dates.at)].concat(), dates.now)
    })
}

/// Lets `address` take no new connections from the date on. Those that it has stay, unless `leave`
/// gives them up. If it was to come later than the date, it does not.
///
/// # Errors
/// [`Refusal::Unknown`], [`Refusal::Last`] unless `leave` permits it, [`Refusal::TooEarly`] and
/// [`Refusal::Limits`].
pub fn drain(
    list: &TargetList,
    address: SocketAddr,
    leave: Leave,
    dates: Dates,
) -> Result<Option<TargetList>, Refusal> {
    with_later(list, dates, |dates| {
        dates.check(list)?;
        let Cut { others, mut before, from } = cut(list, address, dates.at);
        if before.is_empty() && from.is_empty() {
            return Err(Refusal::Unknown(address));
        }
        let mut is_changed = !from.is_empty();
        if leave.gone {
            let gone = dates.at.plus_millis(list.skew_ms.saturating_mul(2));
            for target in before.iter_mut().filter(|target| target.gone > gone) {
                target.gone = gone;
                is_changed = true;
            }
        }
        if !is_changed {
            return Ok(None);
        }
        let entries = [others, before].concat();
        if !leave.last {
            refuse_last(list, &entries, dates.at)?;
        }
        finish(list, entries, dates.now).map(Some)
    })
}

/// Takes `address` out of the list: as [`drain`], while it takes connections or will take some; and
/// out of the file, once POPs ask it for none.
///
/// # Errors
/// As [`drain`].
pub fn remove(
    list: &TargetList,
    address: SocketAddr,
    leave: Leave,
    dates: Dates,
) -> Result<Option<TargetList>, Refusal> {
    if let Some(drained) = drain(list, address, leave, dates)? {
        return Ok(Some(drained));
    }
    let rest = without_gone(&prune(list, dates.now), Some(address), dates.now);
    let has = |list: &TargetList| list.addresses().any(|other| other == address);
    if has(&rest) {
        return Ok(None);
    }
    finish(list, rest.entries, dates.now).map(Some)
}

/// Gives `address` the weight `weight` from the date on, at all times at which it takes
/// connections.
///
/// # Errors
/// [`Refusal::Unknown`], [`Refusal::TakesNone`], [`Refusal::Weight`], [`Refusal::TooEarly`] and
/// [`Refusal::Limits`].
pub fn weight(
    list: &TargetList,
    address: SocketAddr,
    weight: u16,
    dates: Dates,
) -> Result<Option<TargetList>, Refusal> {
    with_later(list, dates, |dates| {
        dates.check(list)?;
        check_weight(weight)?;
        let Cut { others, before, mut from } = cut(list, address, dates.at);
        match (before.is_empty(), from.is_empty()) {
            (true, true) => return Err(Refusal::Unknown(address)),
            (false, true) => return Err(Refusal::TakesNone(address)),
            _ => (),
        }
        if from.iter().all(|target| target.weight == weight) {
            return Ok(None);
        }
        from.iter_mut().for_each(|target| target.weight = weight);
        finish(list, [others, joined(before, from, dates.at)].concat(), dates.now).map(Some)
    })
}

/// The entries of a list, cut in two for one target at a date.
struct Cut {
    /// Those of other targets.
    others: Vec<Target>,
    /// Its own up to the date, ascending.
    before: Vec<Target>,
    /// Its own from the date on, ascending.
    from: Vec<Target>,
}

fn cut(list: &TargetList, address: SocketAddr, at: UnixTime) -> Cut {
    let mut cut = Cut { others: Vec::new(), before: Vec::new(), from: Vec::new() };
    for target in list.entries.iter().copied() {
        if target.address != address {
            cut.others.push(target);
            continue;
        }
        if target.since < at {
            cut.before.push(Target { until: target.until.min(at), ..target });
        }
        if target.until > at {
            cut.from.push(Target { since: target.since.max(at), ..target });
        }
    }
    cut.before.sort_unstable();
    cut.from.sort_unstable();
    cut
}

/// The entries of a target from before the date `at` and from then on, those that meet there as
/// one if they are alike.
fn joined(mut before: Vec<Target>, mut from: Vec<Target>, at: UnixTime) -> Vec<Target> {
    if let (Some(last), Some(first)) = (before.last_mut(), from.first())
        && (last.until, first.since) == (at, at)
        && (last.weight, last.gone) == (first.weight, first.gone)
    {
        last.until = first.until;
        from.remove(0);
    }
    before.extend(from);
    before
}

/// Refuses `entries` if they leave a time from `at` on without a target in which `list` has one.
fn refuse_last(list: &TargetList, entries: &[Target], at: UnixTime) -> Result<(), Refusal> {
    let after = TargetList { entries: entries.to_vec(), ..list.clone() };
    let before = list.epochs();
    for epoch in after.epochs().iter().filter(|epoch| epoch.members.is_empty()) {
        let from = epoch.from.max(at);
        let had = before
            .iter()
            .find(|old| !old.members.is_empty() && old.from < epoch.until && from < old.until);
        if let Some(had) = had {
            return Err(Refusal::Last(from.max(had.from)));
        }
    }
    Ok(())
}

fn check_weight(weight: u16) -> Result<(), Refusal> {
    if (1..=MAX_WEIGHT).contains(&weight) { Ok(()) } else { Err(Refusal::Weight(weight)) }
}

/// The version of `old` that has `entries`, without what no longer matters. Where it would have too
/// many dates, or make too many candidates, it is also without targets that are gone.
fn finish(old: &TargetList, entries: Vec<Target>, now: UnixTime) -> Result<TargetList, Refusal> {
    let list = prune(&TargetList { serial: old.serial.saturating_add(1), entries, ..*old }, now);
    let reason = match check(&list) {
        Ok(()) => return Ok(list),
        Err(reason) => reason,
    };
    let shorter = [merge_gone(&list, None, now), without_gone(&list, None, now)];
    let mut shorter = shorter.into_iter().filter(|shorter| *shorter != list);
    match shorter.find(|shorter| check(shorter).is_ok()) {
        Some(list) => Ok(list),
        None => Err(Refusal::Limits { reason, later: None }),
    }
}

/// What the checks of a targets file say of `list`.
fn check(list: &TargetList) -> Result<(), String> {
    let Err(problems) = TargetList::parse("", &list.to_text()) else { return Ok(()) };
    let reasons: Vec<_> = problems.0.into_iter().map(|problem| problem.reason).collect();
    Err(reasons.join("; "))
}
