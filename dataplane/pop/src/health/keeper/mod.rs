//! The thread of one check: it takes the results of the checks, decides, and writes the file.

mod tell;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyrelay_core::config::TargetList;
use crossbeam::channel::{Receiver, Sender, select, unbounded};

use super::after::Runner;
use super::board::Board;
use super::config::{CheckConfig, Probe};
use super::decide::{Decision, Known, Rules};
use super::machine::Machine;
use super::outs::{Outs, Standing};
use super::prober::{Prober, Report};
use super::{How, join_for};
use crate::control::read;
use crate::targets::Dates;
use crate::worker::unix_now;

/// The keeper of one targets file.
pub(super) struct Keeper {
    config: CheckConfig,
    how: How,
    board: Arc<Board>,
    after: Option<Runner>,
    reports: (Sender<Report>, Receiver<Report>),
    /// The targets that are checked.
    probers: BTreeMap<SocketAddr, Prober>,
    machines: BTreeMap<SocketAddr, Machine>,
    seen: Seen,
    /// When a decision is due, if one is.
    due: Option<Instant>,
    /// When what could not be done is tried again.
    retry_at: Option<Instant>,
    /// What was said of the targets that stay as they are, so that it is said once.
    said: Vec<(SocketAddr, &'static str)>,
}

/// The files as they were read last.
#[derive(Default)]
struct Seen {
    text: String,
    list: Option<TargetList>,
    outs: Outs,
}

impl Keeper {
    pub(super) fn new(
        config: CheckConfig,
        how: How,
        board: Arc<Board>,
        after: Option<Runner>,
    ) -> Self {
        Keeper {
            config,
            how,
            board,
            after,
            reports: unbounded(),
            probers: BTreeMap::new(),
            machines: BTreeMap::new(),
            seen: Seen::default(),
            due: None,
            retry_at: None,
            said: Vec::new(),
        }
    }

    /// Runs until `stopped` is closed.
    pub(super) fn run(mut self, stopped: &Receiver<()>) {
        let mut tick = Instant::now();
        loop {
            self.board.beat();
            let now = Instant::now();
            if now >= tick {
                tick = now + TICK;
                self.look();
                let is_due = self.retry_at.is_none_or(|at| now >= at);
                if self.due.is_none() && is_due && self.wants_change() {
                    self.due = Some(now);
                }
            }
            self.consider(now);
            let next = self.due.map_or(tick, |due| due.min(tick));
            let wait = next.saturating_duration_since(Instant::now()).max(PAUSE);
            let received = &self.reports.1;
            select! {
                recv(received) -> report => if let Ok(report) = report { self.take(&report) },
                recv(stopped) -> _ => break,
                default(wait) => {}
            }
            while let Ok(report) = self.reports.1.try_recv() {
                self.take(&report);
            }
        }
        self.stop();
    }

    fn stop(self) {
        let threads: Vec<JoinHandle<()>> = self.probers.into_values().map(Prober::stop).collect();
        if matches!(self.config.probe, Probe::Command(_)) {
            // So that no process outlives this one.
            join_for(threads, KILL_MAX);
        }
        if let Some(after) = self.after {
            after.stop();
        }
    }

    /// Takes the result of a check.
    fn take(&mut self, (address, checked): &Report) {
        let Some(machine) = self.machines.get_mut(address) else { return };
        let has_changed = machine.record(checked.outcome.is_ok());
        let is_up = machine.is_up();
        if let Some(target) = self.board.lock().target(*address) {
            target.take(checked);
            target.is_up = Some(is_up);
        }
        if !has_changed {
            return;
        }
        let file = &self.config.file;
        match &checked.outcome {
            Ok(()) => tracing::info!(file, %address, "up"),
            Err(reason) => tracing::warn!(file, %address, reason, "down"),
        }
        // Others may be about to change as well: one date for all.
        let gather = (self.config.interval + self.config.timeout).min(GATHER_MAX);
        self.due.get_or_insert(Instant::now() + gather);
    }

    /// Reads the files again, if they changed, and checks the targets that they have now.
    fn look(&mut self) {
        let (path, name) = (&self.config.path, self.config.path.display().to_string());
        let text = read(path).map_err(|reason| format!("{name}: {reason}"));
        let found = text.and_then(|text| {
            let outs = Outs::read(path)
                .map_err(|reason| format!("{}: {reason}", Outs::path(path).display()))?;
            if self.seen.list.is_some() && text == self.seen.text && outs == self.seen.outs {
                return Ok(None);
            }
            let list = TargetList::parse(&name, &text).map_err(|problems| problems.to_string())?;
            Ok(Some(Seen { text, list: Some(list), outs }))
        });
        let problem = found.as_ref().err().cloned();
        let mut status = self.board.lock();
        let is_news = status.problem != problem;
        status.problem.clone_from(&problem);
        drop(status);
        if let (Some(problem), true) = (problem, is_news) {
            let file = &self.config.file;
            tracing::error!(file, "no change is made until this is mended: {problem}");
        }
        if let Ok(Some(seen)) = found {
            self.seen = seen;
            self.drop_old_outs();
        }
        self.follow_list();
    }

    /// Forgets targets that the file has otherwise by now: an operator's change counts.
    fn drop_old_outs(&mut self) {
        let Some(list) = &self.seen.list else { return };
        let at = Dates::after(list, unix_now(0), self.config.lead_ms).at;
        let held = self.seen.outs.that_hold(list, at);
        if held == self.seen.outs || self.how.dry_run {
            return;
        }
        for out in self.seen.outs.0.iter().filter(|out| !held.0.contains(out)) {
            let (file, address) = (&self.config.file, out.address);
            if self.seen.outs.standing(list, address, at) == Standing::Drained {
                let text = "the file was changed: this target stays out until it is added again";
                tracing::warn!(file, %address, "{text}");
            }
        }
        match held.write(&self.config.path) {
            Ok(()) => self.seen.outs = held,
            Err(error) => self.failed(&format!("{}: {error}", self.outs_name())),
        }
    }

    /// Starts and stops to check targets, as the file has them.
    fn follow_list(&mut self) {
        let Some(list) = &self.seen.list else { return };
        let at = Dates::after(list, unix_now(0), self.config.lead_ms).at;
        let outs = &self.seen.outs;
        let standings: Vec<_> = outs
            .addresses(list)
            .into_iter()
            .map(|address| (address, outs.standing(list, address, at)))
            .collect();
        let is_kept = |address: &SocketAddr| {
            let mut standings = standings.iter();
            standings.any(|(other, standing)| other == address && *standing != Standing::Drained)
        };
        let dropped: Vec<_> =
            self.probers.keys().copied().filter(|address| !is_kept(address)).collect();
        for address in dropped {
            self.machines.remove(&address);
            if let Some(prober) = self.probers.remove(&address) {
                drop(prober.stop());
            }
        }
        let mut status = self.board.lock();
        status.serial = Some(list.serial);
        status.set_targets(&standings);
        for (address, standing) in standings {
            if standing == Standing::Drained {
                if let Some(target) = status.target(address) {
                    (target.is_up, target.withheld) = (None, None);
                }
                continue;
            }
            if self.probers.contains_key(&address) {
                continue;
            }
            match Prober::start(&self.config, address, self.reports.0.clone()) {
                Ok(prober) => drop(self.probers.insert(address, prober)),
                Err(error) => {
                    let file = &self.config.file;
                    tracing::error!(file, %address, "it cannot be checked: no thread: {error}");
                    continue;
                }
            }
            // What the file says counts until checks say otherwise.
            let is_up = !matches!(standing, Standing::Out(_));
            let machine = Machine::new(self.config.rise, self.config.fall, is_up);
            self.machines.insert(address, machine);
            if let Some(target) = status.target(address) {
                target.is_up = Some(is_up);
            }
        }
    }

    /// Whether the file says another thing of a target than its checks.
    fn wants_change(&self) -> bool {
        let Some(list) = &self.seen.list else { return false };
        let at = Dates::after(list, unix_now(0), self.config.lead_ms).at;
        self.machines.iter().any(|(address, machine)| {
            match self.seen.outs.standing(list, *address, at) {
                Standing::Takes => !machine.is_up(),
                Standing::Out(_) => machine.is_up(),
                Standing::Coming | Standing::Drained => false,
            }
        })
    }

    /// Decides, if that is due and no other target is about to change.
    fn consider(&mut self, now: Instant) {
        let Some(due) = self.due else { return };
        if !self.wants_change() {
            (self.due, self.retry_at) = (None, None);
            self.tell_withheld(Vec::new());
            return;
        }
        if now < due && self.machines.values().any(Machine::is_undecided) {
            return;
        }
        self.due = None;
        self.retry_at = Some(now + RETRY);
        let decided = self.decide();
        // So that what is told of is shown, too.
        self.look();
        match decided {
            Ok(decision) => self.tell(decision),
            Err(reason) => self.failed(&reason),
        }
    }

    /// Decides by the files as they are, and writes them.
    fn decide(&self) -> Result<Decision, String> {
        let CheckConfig { path, floor, lead_ms, hold_ms, .. } = &self.config;
        let name = path.display().to_string();
        let rules = Rules { floor: *floor, lead_ms: *lead_ms, hold_ms: *hold_ms };
        let is_up = |address| self.machines.get(&address).map(Machine::is_up);
        let mut made = None;
        let mut change = |text: &str| {
            let list = TargetList::parse(&name, text).map_err(|problems| problems.to_string())?;
            let outs =
                Outs::read(path).map_err(|reason| format!("{}: {reason}", self.outs_name()))?;
            let known = Known { list: &list, outs: &outs, now: unix_now(0) };
            let decision = rules.decide(known, is_up);
            let next = decision.list.as_ref().map(TargetList::to_text);
            if next.is_some() && !self.how.dry_run {
                // What comes back is out until the file says otherwise.
                let back = outs.0.iter().filter(|out| decision.ups.contains(&out.address));
                let all = decision.outs.0.iter().chain(back).copied().collect();
                Outs(all).write(path).map_err(|error| format!("{}: {error}", self.outs_name()))?;
            }
            made = Some(decision);
            Ok(next)
        };
        if self.how.dry_run {
            change(&read(path).map_err(|reason| format!("{name}: {reason}"))?)?;
        } else {
            (self.how.edit)(path, &mut change)?;
        }
        made.ok_or_else(|| format!("{name}: was not read"))
    }

    /// Reports that the files were not written.
    fn failed(&mut self, reason: &str) {
        self.board.lock().counts.write_failures += 1;
        let (file, seconds) = (&self.config.file, RETRY.as_secs());
        tracing::error!(file, "not written, once more in {seconds} s: {reason}");
        self.retry_at = Some(Instant::now() + RETRY);
    }

    fn outs_name(&self) -> String {
        Outs::path(&self.config.path).display().to_string()
    }
}

/// How often the files are looked at.
const TICK: Duration = Duration::from_secs(1);
/// The shortest wait, so that a due time in the past cannot make the loop spin.
const PAUSE: Duration = Duration::from_millis(5);
/// From what could not be done to the next attempt.
const RETRY: Duration = Duration::from_secs(5);
/// The longest wait for other targets that may be about to change.
const GATHER_MAX: Duration = Duration::from_secs(10);
/// The longest wait for killed commands.
const KILL_MAX: Duration = Duration::from_secs(5);
