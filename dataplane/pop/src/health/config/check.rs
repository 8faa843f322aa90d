//! Checks the config of `anyrelay health`.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use anyrelay_core::config::MAX_TARGETS;
use anyrelay_core::problem::{Problem, Problems};
use anyrelay_core::time::{format_duration, parse_duration};

use super::raw::{RawCheck, RawConfig, RawFloor, RawKind};
use super::{After, CheckConfig, Floor, HealthConfig, HttpProbe, MAX_CHECKS, Probe};

/// Checks what was read of the file called `file`.
pub(super) fn check(file: &str, raw: &RawConfig) -> Result<HealthConfig, Problems> {
    let mut report = Report { file, problems: Vec::new() };
    let listen = raw.health.listen.as_ref().and_then(|text| listen(&mut report, text));
    match raw.check.len() {
        0 => report.error("check", "there is none; add a [[check]] for a targets file"),
        1..=MAX_CHECKS => {}
        len => report
            .error("check", format!("{len} checks are more than the {MAX_CHECKS} supported ones")),
    }
    let checks = raw.check.iter().enumerate();
    let checks = checks.map(|(place, raw)| one(&mut report, place, raw)).collect();
    let config = HealthConfig { listen, checks };
    if report.problems.is_empty() { Ok(config) } else { Err(Problems(report.problems)) }
}

fn listen(report: &mut Report<'_>, text: &str) -> Option<SocketAddr> {
    let address = text.parse().ok();
    if address.is_none() {
        let reason = format!("{text:?} is not ADDRESS:PORT; write it as \"127.0.0.1:9101\"");
        report.error("health.listen", reason);
    }
    address
}

fn one(report: &mut Report<'_>, place: usize, raw: &RawCheck) -> CheckConfig {
    let key = |name: &str| format!("check[{place}].{name}");
    if raw.targets_file.is_empty() {
        report.error(key("targets_file"), "is empty; name the targets file");
    }
    let folder = Path::new(report.file).parent().unwrap_or(Path::new(""));
    let path = folder.join(&raw.targets_file);
    let interval = report.duration(key("interval"), &raw.interval, INTERVAL_MS, (100, HOUR_MS));
    let timeout = report.duration(key("timeout"), &raw.timeout, TIMEOUT_MS, (10, 60_000));
    if timeout > interval {
        let reason = "longer than the interval; checks of a target would overlap";
        report.error(key("timeout"), reason);
    }
    let after_limits = (1000, HOUR_MS);
    let after_timeout =
        report.duration(key("after_timeout"), &raw.after_timeout, AFTER_MS, after_limits);
    if raw.after_timeout.is_some() && raw.after.is_none() {
        report.error(key("after_timeout"), "there is no `after`; leave it out, or add one");
    }
    if raw.after.as_ref().is_some_and(|command| command.trim().is_empty()) {
        report.error(key("after"), "is empty; leave it out, or name a command");
    }
    let after = raw.after.clone().map(|command| After { command, timeout: after_timeout });
    CheckConfig {
        file: raw.targets_file.clone(),
        path,
        probe: probe(report, &key, raw),
        interval,
        timeout,
        rise: report.count(key("rise"), raw.rise.unwrap_or(RISE)),
        fall: report.count(key("fall"), raw.fall.unwrap_or(FALL)),
        floor: floor(report, key("floor"), &raw.floor),
        lead_ms: millis(report.duration(key("lead"), &raw.lead, LEAD_MS, (0, HOUR_MS))),
        hold_ms: millis(report.duration(key("hold"), &raw.hold, HOLD_MS, (0, 24 * HOUR_MS))),
        after,
    }
}

fn probe(report: &mut Report<'_>, key: &dyn Fn(&str) -> String, raw: &RawCheck) -> Probe {
    let of_http = [
        ("path", raw.path.is_some()),
        ("host", raw.host.is_some()),
        ("status", raw.status.is_some()),
    ];
    for (name, _) in of_http.iter().filter(|(_, is_given)| *is_given && raw.kind != RawKind::Http) {
        report.error(key(name), "only a check of kind \"http\" has it; leave it out");
    }
    if raw.command.is_some() && raw.kind != RawKind::Command {
        let reason = "only a check of kind \"command\" has it; leave it out";
        report.error(key("command"), reason);
    }
    match raw.kind {
        RawKind::Tcp => Probe::Tcp,
        RawKind::Http => Probe::Http(http(report, key, raw)),
        RawKind::Command => {
            let command = raw.command.clone().unwrap_or_default();
            if command.first().is_none_or(String::is_empty) {
                let reason = "names no program; write [\"/path/of/program\", \"{address}\", ...]";
                report.error(key("command"), reason);
            }
            if command.iter().any(|argument| argument.contains('\0')) {
                report.error(key("command"), "has a zero byte; leave it out");
            }
            Probe::Command(command)
        }
    }
}

fn http(report: &mut Report<'_>, key: &dyn Fn(&str) -> String, raw: &RawCheck) -> HttpProbe {
    let is_plain = |text: &str| text.bytes().all(|byte| byte.is_ascii_graphic());
    let path = raw.path.clone().unwrap_or_else(|| "/".to_owned());
    if !path.starts_with('/') || !is_plain(&path) {
        let reason = "is not a path: it begins with / and has no spaces; write others as %20";
        report.error(key("path"), reason);
    }
    if raw.host.as_ref().is_some_and(|host| host.is_empty() || !is_plain(host)) {
        report.error(key("host"), "is not a name of a host, such as \"example.org\"");
    }
    let status = match raw.status.as_deref() {
        None => (200, 399),
        Some(&[low, high]) if 100 <= low && low <= high && high <= 599 => (low as u16, high as u16),
        Some(_) => {
            let reason = "is not [LOWEST, HIGHEST] of 100 to 599, such as [200, 399]";
            report.error(key("status"), reason);
            (200, 399)
        }
    };
    HttpProbe { path, host: raw.host.clone(), status }
}

fn floor(report: &mut Report<'_>, key: String, raw: &Option<RawFloor>) -> Floor {
    match raw {
        None => Floor::Targets(1),
        Some(RawFloor::Targets(number)) => match usize::try_from(*number) {
            Ok(number) if (1..=MAX_TARGETS).contains(&number) => Floor::Targets(number),
            _ => {
                let reason = format!("{number} is out of range: it must be 1 to {MAX_TARGETS}");
                report.error(key, reason);
                Floor::Targets(1)
            }
        },
        Some(RawFloor::Share(text)) => {
            let percent = text.strip_suffix('%').and_then(|number| number.parse().ok());
            let percent = percent.filter(|percent| (1..=100).contains(percent));
            if percent.is_none() {
                let reason = format!("{text:?} is no share; write it as \"50%\", 1% to 100%");
                report.error(key, reason);
            }
            Floor::Percent(percent.unwrap_or(100))
        }
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// Collects mistakes.
struct Report<'a> {
    file: &'a str,
    problems: Vec<Problem>,
}

impl Report<'_> {
    fn error(&mut self, key: impl Into<String>, reason: impl Into<String>) {
        let (file, key, reason) = (self.file.to_owned(), key.into(), reason.into());
        self.problems.push(Problem { file, key, reason });
    }

    fn count(&mut self, key: String, value: i64) -> u32 {
        if !(1..=100).contains(&value) {
            self.error(key, format!("{value} is out of range: it must be 1 to 100"));
        }
        value.clamp(1, 100) as u32
    }

    fn duration(
        &mut self,
        key: String,
        text: &Option<String>,
        default_ms: u64,
        (low, high): (u64, u64),
    ) -> Duration {
        let ms = text.as_ref().map(|text| (text, parse_duration(text)));
        let ms = match ms {
            None => default_ms,
            Some((_, Some(ms))) if (low..=high).contains(&ms) => ms,
            Some((text, Some(_))) => {
                let (low, high) = (format_duration(low), format_duration(high));
                self.error(key, format!("{text:?} is out of range: it must be {low} to {high}"));
                default_ms
            }
            Some((text, None)) => {
                let reason = format!("{text:?} is no length of time; write it as \"2s\" or \"1m\"");
                self.error(key, reason);
                default_ms
            }
        };
        Duration::from_millis(ms)
    }
}

const INTERVAL_MS: u64 = 2000;
const TIMEOUT_MS: u64 = 1000;
const RISE: i64 = 2;
const FALL: i64 = 3;
const LEAD_MS: u64 = 10_000;
const HOLD_MS: u64 = 60_000;
const AFTER_MS: u64 = 30_000;
const HOUR_MS: u64 = 3_600_000;
