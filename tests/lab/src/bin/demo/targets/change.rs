//! Changes the targets of a run: a relay's by `anyrelay targets`, HAProxy's by its runtime API.

use std::collections::BTreeMap;
use std::time::Duration;

use anyrelay_core::config::{Target, TargetList};
use anyrelay_core::time::UnixTime;
use anyrelay_lab::haproxy::{Admin, server_name};
use anyrelay_lab::targets::{TargetsFile, unix_now};
use anyrelay_lab::{LabError, Nginx, Result, Topology};

use super::plan::{Change, Death, HOSTS, NOTICED_AFTER, Number};
use crate::record::Record;

/// An order that was given.
#[derive(Debug, Clone, Copy)]
pub struct Given {
    /// When, by the run's clock.
    pub time: Duration,
    /// The same by the wall clock.
    pub at: UnixTime,
    /// From when on it holds, by the wall clock.
    pub holds: UnixTime,
    /// When the target died that it is about, if it did.
    pub died: Option<UnixTime>,
    /// Which target it is about.
    pub number: Number,
    /// What becomes of it.
    pub change: Change,
}

/// Who is told of changes.
pub enum Told {
    /// The POPs of a relay.
    Relay(TargetsFile),
    /// The HAProxy of each POP.
    HaProxy(Vec<Admin>),
}

/// The hosts that die.
pub struct Mortal<'a> {
    /// Their namespaces are in it.
    pub topology: &'a Topology,
    /// Their servers.
    pub servers: Vec<Nginx>,
}

/// What a relay's file says at first.
pub fn first_list() -> TargetList {
    let entries = Number::at_first().map(|number| Target::always(number.address(), 1)).collect();
    TargetList { serial: 1, memory_ms: MEMORY_MS, skew_ms: SKEW_MS, entries }
}

/// Gives all orders at their times, after the deaths that they are about.
///
/// # Errors
/// If an order is refused.
pub fn give_all(
    orders: &[(Duration, Number, Change)],
    told: &Told,
    mortal: &mut Mortal<'_>,
    record: &Record,
) -> Result<Vec<Given>> {
    let mut servers = Servers::at_first();
    let mut all = Vec::new();
    for (time, number, change) in orders {
        let mut died = None;
        if let Change::Bury(death) = change {
            record.sleep_until(time.saturating_sub(NOTICED_AFTER));
            died = Some(unix_now());
            mortal.die(*number, *death)?;
        }
        record.sleep_until(*time);
        let (time, at) = (record.now(), unix_now());
        let holds = match told {
            Told::Relay(file) => tell_relay(file, *number, *change)?,
            Told::HaProxy(admins) => {
                servers.tell(admins, *number, *change)?;
                unix_now()
            }
        };
        all.push(Given { time, at, holds, died, number: *number, change: *change });
    }
    Ok(all)
}

impl Mortal<'_> {
    fn die(&mut self, number: Number, death: Death) -> Result<()> {
        let Some(host) = number.host().filter(|host| *host < HOSTS).map(usize::from) else {
            return Err(LabError::Unexpected(format!("{number:?} cannot die")));
        };
        match death {
            Death::Process => {
                self.servers.get_mut(host).map(Nginx::kill9);
                Ok(())
            }
            Death::Link => self.topology.target_router.ip(&[format!("link set host{host} down")]),
        }
    }
}

/// Gives the order; the date at which it comes into force.
fn tell_relay(file: &TargetsFile, number: Number, change: Change) -> Result<UnixTime> {
    let before = file.read()?.events();
    let (address, weight);
    address = number.address().to_string();
    let arguments: &[&str] = match change {
        Change::Add => &["add", &address],
        Change::Drain => &["drain", &address],
        Change::Remove => &["remove", &address],
        Change::Bury(_) => &["remove", &address, "--gone"],
        Change::Weigh(n) => {
            weight = n.to_string();
            &["weight", &address, &weight]
        }
    };
    // All POPs are on one machine, and look at the file once a second.
    file.change(&[arguments, &["--lead", "1s"]].concat())?;
    let after = file.read()?.events();
    let new = after.iter().find(|event| !before.contains(event)).or(after.last());
    new.copied().ok_or(LabError::Unexpected("the list has no dates".into()))
}

/// The servers of HAProxy as they are to be.
struct Servers(BTreeMap<Number, (u16, &'static str)>);

impl Servers {
    fn at_first() -> Self {
        Self(Number::at_first().map(|number| (number, (1, READY))).collect())
    }

    fn tell(&mut self, admins: &[Admin], number: Number, change: Change) -> Result<()> {
        let name = server_name(number.address());
        let is_known = self.0.contains_key(&number);
        let (weight, _) = self.0.get(&number).copied().unwrap_or((1, READY));
        let state = |state| vec![format!("set server web/{name} state {state}")];
        let (new, commands) = match change {
            Change::Add if is_known => ((weight, READY), state(READY)),
            Change::Add => {
                let add = format!("add server web/{name} {} weight {weight}", number.address());
                ((weight, READY), vec![add, format!("enable server web/{name}")])
            }
            Change::Drain => ((weight, DRAIN), state(DRAIN)),
            Change::Remove | Change::Bury(_) => ((weight, MAINT), state(MAINT)),
            Change::Weigh(n) => ((n, READY), vec![format!("set weight web/{name} {n}")]),
        };
        self.0.insert(number, new);
        let lines: Vec<String> = self.0.iter().map(line).collect();
        for admin in admins {
            admin.configure(&lines)?;
            for command in &commands {
                // One that was killed starts with the new configuration.
                if let Ok(answer) = admin.tell(command)
                    && !answer.is_empty()
                    && !answer.starts_with("New server registered")
                {
                    return Err(LabError::Unexpected(format!("HAProxy: {command}: {answer}")));
                }
            }
        }
        Ok(())
    }
}

fn line((number, (weight, state)): (&Number, &(u16, &str))) -> String {
    let address = number.address();
    let how = match *state {
        DRAIN => "weight 0".to_owned(),
        MAINT => format!("weight {weight} disabled"),
        _ => format!("weight {weight}"),
    };
    format!("server {} {address} {how}", server_name(address))
}

const READY: &str = "ready";
const DRAIN: &str = "drain";
const MAINT: &str = "maint";
/// All changes of a run are within it.
const MEMORY_MS: u64 = 600_000;
const SKEW_MS: u64 = 3000;
