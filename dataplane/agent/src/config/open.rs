//! The checks of `[open]`.

use super::check::Report;
use super::raw::{RawConfig, RawOpen};
use crate::inner::routes::IpPrefix;
use crate::open::OpenConfig;
use crate::publish::PublishTarget;

/// Checks the open side `open` of the config `raw`.
pub(super) fn open_side(report: &mut Report<'_>, open: &RawOpen, raw: &RawConfig) -> OpenConfig {
    let RawOpen { device, routes, publish } = open;
    if let Err(error) = linux_tun::check_name(device) {
        report.error("open.device", error.to_string());
    }
    if raw.tun.as_ref().is_some_and(|tun| tun.name == *device) {
        let reason = "the name of the device in [tun] too; give each one of its own";
        report.error("open.device", format!("{device:?} is {reason}"));
    }
    if raw.agent.vip.starts_with('[') {
        let reason = "an open address needs a VIP of IPv4, as agents of IPv6 have none: give the \
                      IPv4 VIP of this tunnel, or remove [open]";
        report.error("agent.vip", format!("{}: {reason}", raw.agent.vip));
    }
    let mut prefixes = Vec::new();
    for (at, text) in routes.iter().enumerate() {
        let key = format!("open.routes[{at}]");
        match report.parse::<IpPrefix>(&key, text) {
            Some(prefix) if prefix.first().is_ipv4() => {
                let reason = "of IPv4; an open address is of IPv6, and reaches IPv6 alone (IPv4 by \
                              NAT64)";
                report.error(key, format!("{prefix} is {reason}"));
            }
            Some(prefix) if prefixes.contains(&prefix) => {
                report.error(key, format!("{prefix} is there twice"));
            }
            Some(prefix) => prefixes.push(prefix),
            None => {}
        }
    }
    let mut targets = Vec::new();
    for (at, text) in publish.iter().enumerate() {
        match target(text) {
            Some(target) => targets.push(target),
            None => {
                let reason = "give file:PATH or run:PROGRAM ARGUMENTS";
                report.error(format!("open.publish[{at}]"), format!("{text:?}: {reason}"));
            }
        }
    }
    OpenConfig { device: device.clone(), routes: prefixes, publish: targets }
}

fn target(text: &str) -> Option<PublishTarget> {
    match text.split_once(':')? {
        ("file", path) if !path.is_empty() => Some(PublishTarget::File(path.into())),
        ("run", words) => {
            let words: Vec<_> = words.split_whitespace().map(str::to_owned).collect();
            let is_named = !words.is_empty();
            is_named.then_some(PublishTarget::Program { words, variable: ADDRESS_VARIABLE })
        }
        _ => None,
    }
}

/// The variable that has the address, in the environment of a program that publishes it.
const ADDRESS_VARIABLE: &str = "ANYRELAY_OPEN_ADDRESS";
