//! What a probe found, in words: each check with its result, its meaning, and what to do.

use anyrelay_core::config::Encapsulate;
use anyrelay_core::net::Family;
use serde::Serialize;

use super::Mode;
use super::findings::{
    Echo, Findings, NO_CAPABILITY, Opening, Options, Path, Reset, Tunnel, TunnelAnswer,
};
use super::mss::{fitting, too_large};

/// A check, as people read it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Check {
    /// What was looked at.
    pub check: &'static str,
    /// What was seen.
    pub result: String,
    /// What that means for relays.
    pub means: &'static str,
    /// What to do about it, if anything.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub to_do: Option<String>,
}

/// All checks of `findings`, with advice for relays of the modes that matter.
pub fn explain(findings: &Findings, matters: impl Fn(Mode) -> bool) -> Vec<Check> {
    let mut checks = vec![opening(findings)];
    if let Some(options) = findings.options() {
        checks.push(timestamps(options));
        if options.timestamps == Some(true) {
            checks.extend(echo("tag in SYN-ACK", findings.echoes.syn_ack));
            checks.extend(echo("tag in ACK", findings.echoes.later));
        }
        checks.push(options_of(options, findings.limited.is_some()));
    }
    checks.extend(reset(findings.reset));
    if let Some(path) = &findings.path {
        let fitting = path.passes.and_then(|passes| fitting(findings, passes, matters));
        checks.push(path_mtu(Family::of(findings.target.ip()), path, fitting));
    }
    checks.extend(findings.tunnels.iter().map(|tunnel| tunnel_check(findings, tunnel)));
    checks.extend(findings.limited.as_deref().map(limited));
    checks
}

fn check(check: &'static str, result: impl Into<String>, means: &'static str) -> Check {
    Check { check, result: result.into(), means, to_do: None }
}

impl Check {
    fn and(mut self, to_do: impl Into<String>) -> Self {
        self.to_do = Some(to_do.into());
        self
    }
}

fn limited(reason: &str) -> Check {
    let found = check("not checked", reason, "what has no line here was left out");
    match reason {
        NO_CAPABILITY => {
            found.and("run it as root, or with CAP_NET_RAW, for tags, MTU and tunnels")
        }
        _ => found,
    }
}

fn opening(findings: &Findings) -> Check {
    let port = findings.target.port();
    match &findings.opening {
        Opening::Refused if !findings.tunnels.is_empty() => {
            let means = "nothing listens at the target's own address: tunnels do not need it";
            check("TCP", "refused", means)
        }
        Opening::Open { .. } => check("TCP", "open", "a SYN was answered by a SYN-ACK"),
        Opening::Refused => check("TCP", "refused", "a SYN was answered by a RST")
            .and(format!("start the server on port {port}, or correct the port")),
        Opening::Unreachable { reason } => {
            check("TCP", reason.clone(), "the target cannot be reached from this host")
                .and("look at the routes and firewalls between")
        }
        Opening::Silent => check("TCP", "silent", "no answer to any SYN")
            .and("look at the address, the target's firewall, and its route back to this host"),
    }
}

fn timestamps(options: &Options) -> Check {
    let on = "pool mode has a place for its tag";
    match options.timestamps {
        Some(true) => check("timestamps", "on", on),
        Some(false) => check("timestamps", "off", "pool mode has no place for its tag").and(
            "set net.ipv4.tcp_timestamps = 1 at the target, and look for a box on the path that \
             removes them",
        ),
        None => check("timestamps", "not seen", "this host does not offer them, or cannot tell"),
    }
}

fn echo(name: &'static str, echo: Echo) -> Option<Check> {
    Some(match echo {
        Echo::Unseen => return None,
        Echo::Exact => check(name, "as sent", "answers lead back to the client"),
        Echo::Absent => check(name, "no timestamps", "a POP cannot find the client")
            .and("look for a box on the path that removes timestamps"),
        Echo::Changed { sent, came } => check(
            name,
            format!("sent {sent}, came {came}"),
            "a POP finds another client, or none",
        )
        .and(
            "look for what rewrites timestamps, or answers in the target's place: a SYN proxy, a \
             firewall, a load balancer",
        ),
        Echo::Silent => check(name, "no answer", "a segment after the handshake got no ACK"),
        Echo::Reset => check(name, "reset", "the connection ended after the handshake")
            .and("look at the target's log"),
    })
}

fn options_of(options: &Options, is_limited: bool) -> Check {
    let word = |on: Option<bool>| match on {
        Some(true) => "yes",
        Some(false) => "no",
        None => "not seen",
    };
    // The kernel does not tell the MSS that a SYN-ACK had.
    let no_mss = if is_limited { "not seen" } else { "none" };
    let number = |number: Option<u16>, none: &str| {
        number.map_or_else(|| none.to_owned(), |number| number.to_string())
    };
    let Options { mss, window_scale, sack, ecn, .. } = *options;
    let result = format!(
        "MSS {}, scale {}, SACK {}, ECN {}",
        number(mss, no_mss),
        number(window_scale.map(u16::from), "none"),
        word(sack),
        word(ecn)
    );
    check("options", result, "the SYN-ACK's; all modes pass these on")
}

fn reset(reset: Reset) -> Option<Check> {
    let name = "tag in RST";
    Some(match reset {
        Reset::Unseen => return None,
        Reset::Tagged => check(name, "as sent", "any POP passes a RST on to its client"),
        Reset::OtherTag => check(name, "another number", "a RST of pool mode finds no client"),
        Reset::Bare => {
            check(name, "no timestamps", "ordinary: a RST of pool mode waits where it arrives")
                .and("with a pool, configure [hints] if clients and targets reach different POPs")
        }
    })
}

/// The check of a path of this family; `fitting` says how segments get to fit it.
fn path_mtu(family: Family, path: &Path, fitting: Option<String>) -> Check {
    let name = "path MTU";
    let and = |check: Check, before: &str| match &fitting {
        Some(fitting) => check.and(format!("{before}{fitting}")),
        None => check,
    };
    let Some(passes) = path.passes else {
        let result = format!("no datagram of up to {} bytes was answered", path.wanted);
        return check(name, result, "large segments do not get to the target")
            .and("look at the MTUs on the path, and whether frag-needed passes");
    };
    if path.is_whole() {
        let result = format!("{passes} or more, link {}", path.link);
        return check(name, result, "the longest segments that a relay sends arrive");
    }
    let is_low = family == Family::V4 && passes < ICMP_MTU_FLOOR;
    match (path.told, path.fails) {
        (Some(told), _) if is_low => {
            let result = format!("{passes}, announced as {told}");
            and(check(name, result, "below icmp_mtu_floor's default"), "")
        }
        (Some(told), _) => {
            let result = format!("{passes}, announced as {told}");
            let means = "clients learn it by frag-needed, which a POP passes on";
            and(check(name, result, means), "to spare the errors, ")
        }
        (None, fails) => {
            let below = fails.map_or(String::new(), |fails| format!(", below {fails}"));
            let result = format!("{passes} or more{below}, and nobody says so");
            let means = "longer datagrams vanish: uploads stall";
            and(check(name, result, means), "let frag-needed pass, or ")
        }
    }
}

fn tunnel_check(findings: &Findings, tunnel: &Tunnel) -> Check {
    let name = match tunnel.protocol {
        Encapsulate::IpIp => "tunnel ipip",
        Encapsulate::Gue => "tunnel gue",
    };
    match &tunnel.answer {
        TunnelAnswer::Through { .. } => {
            let means = "the target has the tunnel, the VIP, and sends its answers back in it";
            check(name, "answered through the tunnel", means)
        }
        TunnelAnswer::Direct { options } => {
            let means = "the target has the tunnel and the VIP, and answers by its own route";
            let found = check(name, "answered directly", means);
            match too_large(findings, tunnel, options) {
                Some(fits) => found.and(format!(
                    "it announces an MSS of {}, and {fits} fits the tunnel: set advmss {fits}",
                    options.mss.unwrap_or_default()
                )),
                None => found,
            }
        }
        TunnelAnswer::Refused { through } => {
            let way = if *through { "through the tunnel" } else { "directly" };
            let means = "the tunnel works, and nothing listens on the VIP's port";
            check(name, format!("refused {way}"), means)
                .and(format!("let the server listen on {}", tunnel.vip))
        }
        TunnelAnswer::Unreachable { reason } => {
            check(name, reason.clone(), "the target does not take the tunnel's protocol")
                .and("set up the tunnel device, as the section on tunnels says")
        }
        TunnelAnswer::Silent => match &tunnel.deaf {
            Some(reason) => check(name, "no answer seen", "the way back was not all in sight")
                .and(reason.clone()),
            None => check(name, "no answer", "no device takes it, or the answer is filtered").and(
                "look at the device, the VIP on it, rp_filter, and the rule for what is from the \
                 VIP",
            ),
        },
        TunnelAnswer::Untried { reason } => {
            check(name, reason.clone(), "the tunnel could not be tried")
        }
    }
}

/// The default of `icmp_mtu_floor` in pool mode.
const ICMP_MTU_FLOOR: u16 = 1280;

#[cfg(test)]
mod tests {
    use super::*;

    fn path(passes: Option<u16>, told: Option<u16>) -> Path {
        let fails = (passes != Some(1500)).then_some(1500);
        Path { wanted: 1500, link: 1500, passes, fails, told }
    }

    #[test]
    fn an_mtu_comes_with_the_mss_that_fits_it() {
        let path_mtu = |path: Path| {
            let mut found = Findings::new("198.51.100.10:443".parse().unwrap());
            found.path = Some(path);
            let checks = explain(&found, |_| true);
            checks.into_iter().find(|check| check.check == "path MTU").unwrap()
        };
        let to_do = |passes, told| path_mtu(path(passes, told)).to_do;
        assert_eq!(to_do(Some(1500), None), None);
        for told in [Some(1400), None] {
            let text = to_do(Some(1400), told).unwrap();
            assert!(text.ends_with("set mss = 1360 for its service"), "{text}");
        }
        let silent = path_mtu(path(Some(1400), None));
        assert_eq!(silent.result, "1400 or more, below 1500, and nobody says so");
        let low = path_mtu(path(Some(1000), Some(1000)));
        assert!(low.means.contains("icmp_mtu_floor"), "{low:?}");
        assert!(path_mtu(path(None, None)).to_do.is_some());
    }

    #[test]
    fn what_was_left_out_is_said() {
        let mut found = Findings::new("198.51.100.10:443".parse().unwrap());
        found.opening = Opening::Open { options: Options::default() };
        found.limited = Some(NO_CAPABILITY.to_owned());
        let checks = explain(&found, |_| true);
        assert_eq!(checks.last().map(|check| &*check.result), Some(NO_CAPABILITY));
        assert!(checks.iter().all(|check| !check.check.starts_with("tag")), "{checks:?}");
    }
}
