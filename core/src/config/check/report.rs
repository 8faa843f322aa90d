//! Collects mistakes and warnings, and the checks that several tables share.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4};

use crate::net::is_unicast;
use crate::problem::Problem;

/// Collects mistakes and warnings.
pub(super) struct Report<'a> {
    pub(super) file: &'a str,
    pub(super) problems: Vec<Problem>,
    pub(super) warnings: Vec<Problem>,
}

impl Report<'_> {
    /// Adds a mistake.
    pub(super) fn error(&mut self, key: impl Into<String>, reason: impl Into<String>) {
        let problem = self.problem(key.into(), reason.into());
        self.problems.push(problem);
    }

    /// Adds a warning.
    pub(super) fn warn(&mut self, key: impl Into<String>, reason: impl Into<String>) {
        let problem = self.problem(key.into(), reason.into());
        self.warnings.push(problem);
    }

    fn problem(&self, key: String, reason: String) -> Problem {
        Problem { file: self.file.to_owned(), key, reason }
    }

    /// `value` within `low..=high`; reports a value out of that range.
    pub(super) fn number<T: TryFrom<i64>>(
        &mut self,
        key: &str,
        value: i64,
        low: i64,
        high: i64,
    ) -> Option<T> {
        if !(low..=high).contains(&value) {
            self.error(key, format!("{value} is out of range: it must be {low} to {high}"));
        }
        T::try_from(value.clamp(low, high)).ok()
    }

    /// Checks a name, which becomes a label of metrics and a word of logs.
    pub(super) fn name(&mut self, key: &str, name: &str) {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
        if name.is_empty() || name.len() > MAX_NAME || !name.bytes().all(allowed) {
            self.error(
                key,
                format!("{name:?} cannot be a name: use 1 to {MAX_NAME} of A-Z a-z 0-9 _ -"),
            );
        }
    }

    /// Reports a list that is too long.
    pub(super) fn at_most(&mut self, key: &str, what: &str, len: usize, max: usize) {
        if len > max {
            self.error(key, format!("{len} {what} are more than the {max} that are supported"));
        }
    }
}

/// Reports an address that cannot be `what`.
pub(super) fn refuse_non_unicast(report: &mut Report, key: &str, what: &str, ip: IpAddr) {
    let usable = match ip {
        IpAddr::V4(ip) => is_unicast(ip.to_bits()),
        IpAddr::V6(ip) => is_unicast(ip.to_bits()),
    };
    if !usable {
        let kind = if ip.is_ipv6() { "global unicast" } else { "unicast" };
        report.error(key, format!("{ip} cannot be {what}: it is not a {kind} address"));
    }
}

/// The endpoint of `text`, which is to be `what`.
pub(super) fn endpoint(
    report: &mut Report,
    key: &str,
    what: &str,
    text: &str,
) -> Option<SocketAddr> {
    let parsed = text.parse::<SocketAddr>().ok();
    // A zone index (after `%`) is meaningful on one host only.
    let Some(endpoint) = parsed.filter(|_| !text.contains('%')) else {
        report.error(
            key,
            format!(
                "{text:?} is not ADDRESS:PORT; write it as \"203.0.113.10:443\" or \
                 \"[2001:db8::10]:443\""
            ),
        );
        return None;
    };
    refuse_non_unicast(report, key, what, endpoint.ip());
    if endpoint.port() == 0 {
        report.error(key, "port 0 cannot be connected to; use 1 to 65535");
    }
    Some(endpoint)
}

/// The places of each repeated thing: of its first occurrence and of a later one.
pub(super) fn repeated<T: PartialEq>(things: &[T]) -> impl Iterator<Item = (usize, usize)> {
    things.iter().enumerate().filter_map(|(second, thing)| {
        let first = things.iter().position(|other| other == thing)?;
        (first < second).then_some((first, second))
    })
}

/// The VIP of a service whose VIP could not be read, which was reported.
pub(super) const UNREAD: SocketAddr = SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 0));

/// The longest name.
const MAX_NAME: usize = 63;
