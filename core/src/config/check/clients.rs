//! Checks who is not served.

use super::super::MAX_NOT_CLIENTS;
use super::report::{Report, repeated};
use crate::net::IpNet;

/// The prefixes of `pop.not_clients`.
pub(super) fn not_clients(report: &mut Report, texts: &[String]) -> Vec<IpNet> {
    report.at_most(KEY, "prefixes", texts.len(), MAX_NOT_CLIENTS);
    let texts = texts.iter().take(MAX_NOT_CLIENTS).enumerate();
    let prefix = |(at, text): (usize, &String)| not_client(report, &format!("{KEY}[{at}]"), text);
    let nets: Vec<_> = texts.map(prefix).collect();
    for (first, second) in repeated(&nets).filter(|(first, _)| nets.get(*first) != Some(&None)) {
        report.warn(format!("{KEY}[{second}]"), format!("the same prefix as {KEY}[{first}]"));
    }
    nets.into_iter().flatten().collect()
}

fn not_client(report: &mut Report, key: &str, text: &str) -> Option<IpNet> {
    let Some(net) = IpNet::parse(text) else {
        let reason = "is not ADDRESS/LENGTH; write it as \"192.0.2.0/24\" or \"2001:db8::/32\"";
        report.error(key, format!("{text:?} {reason}"));
        return None;
    };
    if net.prefix_len() == 0 {
        report.error(key, format!("{net} is everybody; name the prefixes that are not served"));
        return None;
    }
    if net.ip() != net.first() {
        let (first, len) = (net.first(), net.prefix_len());
        report.error(key, format!("{net} has bits set after its prefix; write {first}/{len}"));
        return None;
    }
    Some(net)
}

const KEY: &str = "pop.not_clients";
