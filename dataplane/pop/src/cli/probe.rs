//! `probe`: checks what targets allow, and recommends an egress mode for each.
//!
//! Exit code 0 if a mode fits each target, or the named one does; 1 if not.

use anyrelay_core::net::Family;
use serde::Serialize;

pub(super) use super::probe_jobs::ProbeArguments;
use super::probe_jobs::{Job, Wanted, jobs};
use super::{Failure, print_json, say};
use crate::probe::{Check, Findings, Fit, Mode, Verdict, explain, judge, probe, recommended};

/// What was found at a target, and what follows.
#[derive(Debug, Serialize)]
struct Report {
    #[serde(skip_serializing_if = "Option::is_none")]
    service: Option<String>,
    findings: Findings,
    checks: Vec<Check>,
    modes: Vec<Verdict>,
    recommended: Recommended,
    /// Whether a mode fits, or the one that must.
    fits: bool,
    #[serde(skip)]
    wanted: Option<Wanted>,
}

/// The mode for clients of each family; none where that family does not matter.
#[derive(Debug, Default, Serialize)]
struct Recommended {
    ipv4: Option<Mode>,
    ipv6: Option<Mode>,
}

#[derive(Serialize)]
struct Reports {
    targets: Vec<Report>,
}

/// Probes the targets and prints what fits.
pub(super) fn run(arguments: &ProbeArguments) -> Result<(), Failure> {
    let jobs = jobs(arguments)?;
    let mut reports = Vec::with_capacity(jobs.len());
    for jobs in jobs.chunks(AT_ONCE) {
        reports.extend(std::thread::scope(|scope| {
            let threads: Vec<_> = jobs.iter().map(|job| scope.spawn(|| report(job))).collect();
            threads.into_iter().filter_map(|thread| thread.join().ok()).collect::<Vec<_>>()
        }));
    }
    let all_fit = reports.len() == jobs.len() && reports.iter().all(|report| report.fits);
    if arguments.json {
        print_json(&Reports { targets: reports })?;
    } else {
        reports.iter().flat_map(Report::lines).try_for_each(say)?;
    }
    if all_fit { Ok(()) } else { Err(Failure::Printed) }
}

fn report(job: &Job) -> Report {
    let findings = probe(job.target, &job.plan);
    let modes = judge(&findings);
    let best = |clients| {
        let matters = job.clients.contains(&clients);
        let found = recommended(&modes, clients).filter(|_| matters);
        found.map(|verdict| verdict.mode)
    };
    let recommended = Recommended { ipv4: best(Family::V4), ipv6: best(Family::V6) };
    let fits = match &job.wanted {
        None => recommended.ipv4.or(recommended.ipv6).is_some(),
        Some(wanted) => modes.iter().any(|verdict| {
            wanted.is(verdict.mode)
                && job.clients.contains(&verdict.clients)
                && verdict.fit == Fit::Fits
        }),
    };
    let (service, wanted) = (job.service.clone(), job.wanted.clone());
    let matters = |mode| job.wanted.as_ref().is_none_or(|wanted| wanted.is(mode));
    let checks = explain(&findings, matters);
    Report { service, findings, checks, modes, recommended, fits, wanted }
}

impl Report {
    /// The report for people.
    fn lines(&self) -> Vec<String> {
        let target = self.findings.target;
        let from = self.findings.from.map_or(String::new(), |from| format!(" from {from}"));
        let service =
            self.service.as_ref().map_or(String::new(), |name| format!("service {name} "));
        let mut lines = vec![format!("{service}target {target}{from}")];
        for Check { check, result, means, to_do } in &self.checks {
            lines.push(format!("  {check:<CHECK$} {result:<RESULT$} {means}"));
            lines.extend(to_do.iter().map(|text| format!("  {:<CHECK$} do: {text}", "")));
        }
        for Verdict { mode, clients, fit, reason, .. } in &self.modes {
            let mode = format!("{mode}, {} clients", name(*clients));
            lines.push(format!("  mode {mode:<MODE$} {:<FIT$} {reason}", fit.text()));
        }
        match &self.wanted {
            Some(wanted) => lines.push(self.wanted_line(wanted)),
            None => lines.extend(self.recommended_lines()),
        }
        lines.push(String::new());
        lines
    }

    fn recommended_lines(&self) -> Vec<String> {
        let best = [(Family::V4, self.recommended.ipv4), (Family::V6, self.recommended.ipv6)];
        let mut lines = Vec::new();
        for (clients, mode) in best {
            let of_clients = self.modes.iter().filter(|verdict| verdict.clients == clients);
            let is_best = |verdict: &&Verdict| Some(verdict.mode) == mode;
            let Some(verdict) = of_clients.clone().find(is_best) else { continue };
            let (mode, clients) = (verdict.mode, name(clients));
            let also = verdict.also;
            lines
                .push(format!("  recommended for {clients} clients: {mode}, if {also} (not seen)"));
            let mut before = of_clients.take_while(|before| before.mode != mode);
            if let Some(before) = before.find(|before| before.fit == Fit::Unseen) {
                let Verdict { mode, reason, .. } = before;
                lines.push(format!("  {mode} would come first, but: {reason}"));
            }
        }
        if lines.is_empty() {
            lines.push("  recommended: none, as no mode fits what was seen".to_owned());
        }
        lines
    }

    fn wanted_line(&self, wanted: &Wanted) -> String {
        let mode = match wanted.way_back {
            Some(way_back) => format!("{} {}", wanted.mode, way_back.name()),
            None => wanted.mode.to_owned(),
        };
        let named = self.modes.iter().filter(|verdict| wanted.is(verdict.mode));
        let of = |fit| named.clone().find(|verdict| verdict.fit == fit);
        match (of(Fit::Fits).filter(|_| self.fits), of(Fit::Unseen), of(Fit::No)) {
            (Some(verdict), ..) => format!("  {mode} fits, if {} (not seen)", verdict.also),
            (None, Some(verdict), _) => format!("  {mode} was not checked: {}", verdict.reason),
            (None, None, Some(verdict)) => format!("  {mode} does not fit: {}", verdict.reason),
            (None, None, None) => format!("  {mode} does not fit this target and these clients"),
        }
    }
}

fn name(family: Family) -> &'static str {
    match family {
        Family::V4 => "IPv4",
        Family::V6 => "IPv6",
    }
}

/// Targets that are probed at the same time.
const AT_ONCE: usize = 16;
// Widths of columns.
const CHECK: usize = 14;
const RESULT: usize = 36;
const MODE: usize = 27;
const FIT: usize = 14;
