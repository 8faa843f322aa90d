//! Checks `[hints]`.

use std::net::SocketAddr;

use super::report::{Report, repeated};
use crate::config::raw::RawHints;
use crate::config::{HintsConfig, MAX_PEERS};

/// The peers to exchange hints with, if the file has `[hints]`.
pub(super) fn hints(report: &mut Report, raw: Option<&RawHints>) -> Option<HintsConfig> {
    let raw = raw?;
    let listen = address(report, "hints.listen", &raw.listen);
    let texts = raw.peers.iter().enumerate();
    let peers: Vec<_> = texts
        .filter_map(|(index, text)| address(report, &format!("hints.peers[{index}]"), text))
        .collect();
    report.at_most("hints.peers", "peers", raw.peers.len(), MAX_PEERS);
    if raw.peers.is_empty() {
        report.error("hints.peers", "empty; name the other POPs, or leave [hints] out");
    }
    if let Some((_, index)) = repeated(&peers).next() {
        report.error(format!("hints.peers[{index}]"), "named before; remove it");
    }
    let per_second = report.number("hints.per_second", raw.per_second, 1, 1_000_000_000);
    let listen = listen?;
    if let Some(index) = peers.iter().position(|peer| *peer == listen) {
        report.error(
            format!("hints.peers[{index}]"),
            "this is hints.listen, the POP itself; name the other POPs only",
        );
    }
    if let Some(index) = peers.iter().position(|peer| peer.is_ipv4() != listen.is_ipv4()) {
        report.error(
            format!("hints.peers[{index}]"),
            "its family is not that of hints.listen, from which hints are sent; use one family",
        );
    }
    Some(HintsConfig { listen, peers, per_second: per_second.unwrap_or_default() })
}

fn address(report: &mut Report, key: &str, text: &str) -> Option<SocketAddr> {
    let parsed = text.parse::<SocketAddr>().ok().filter(|address| {
        address.port() != 0 && !address.ip().is_unspecified() && !address.ip().is_multicast()
    });
    if parsed.is_none() {
        report.error(
            key,
            format!(
                "{text:?} is not the IP:PORT of a host; write it as \"10.0.0.1:4791\" or \
                 \"[2001:db8::1]:4791\", with the address of a network that only the POPs see"
            ),
        );
    }
    parsed
}
