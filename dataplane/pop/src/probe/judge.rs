//! Which egress modes fit what a probe found. A mode fits if all that it needs of the target was
//! seen; what it needs of the network besides is named with it.

use std::fmt;

use anyrelay_core::config::{Encapsulate, WayBack};
use anyrelay_core::net::Family;
use serde::{Serialize, Serializer};

use super::findings::{Echo, Findings, Opening, Tunnel, TunnelAnswer};

/// An egress mode; of a tunnel, with the way of the answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// `pool`.
    Pool,
    /// `prefix`.
    Prefix,
    /// `transparent`.
    Transparent,
    /// `ipip` or `gue`.
    Tunnel(Encapsulate, WayBack),
}

impl Mode {
    /// Its name, as the config has it.
    pub fn name(self) -> &'static str {
        match self {
            Mode::Pool => "pool",
            Mode::Prefix => "prefix",
            Mode::Transparent => "transparent",
            Mode::Tunnel(protocol, _) => protocol.name(),
        }
    }

    /// How answers return, of a tunnel.
    pub fn way_back(self) -> Option<WayBack> {
        match self {
            Mode::Tunnel(_, way_back) => Some(way_back),
            _ => None,
        }
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())?;
        self.way_back().map_or(Ok(()), |way_back| write!(f, " {}", way_back.name()))
    }
}

impl Serialize for Mode {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Whether a mode fits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Fit {
    /// All that it needs of the target was seen.
    Fits,
    /// Some of it could not be seen.
    Unseen,
    /// Something that it needs is not so.
    No,
}

impl Fit {
    /// In a word or two.
    pub fn text(self) -> &'static str {
        match self {
            Fit::Fits => "fits",
            Fit::Unseen => "not checked",
            Fit::No => "does not fit",
        }
    }
}

/// Whether one mode fits, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Verdict {
    /// The mode.
    pub mode: Mode,
    /// The family of the clients, by the VIP.
    #[serde(serialize_with = "family")]
    pub clients: Family,
    /// Whether it fits.
    pub fit: Fit,
    /// Why, or why not.
    pub reason: String,
    /// What it also needs and no probe sees.
    pub also: &'static str,
}

/// Judges all modes that can relay to the target, the most preferred first.
pub fn judge(findings: &Findings) -> Vec<Verdict> {
    let own = Family::of(findings.target.ip());
    let verdict = |mode, clients, (fit, reason): (Fit, String), also| Verdict {
        mode,
        clients,
        fit,
        reason,
        also,
    };
    let mut verdicts = vec![verdict(Mode::Pool, own, pool(findings), POOL)];
    for tunnel in &findings.tunnels {
        for way_back in [WayBack::Through, WayBack::Direct] {
            let also = match way_back {
                WayBack::Through => "the way from the target to the tunnel's address leads to POPs",
                WayBack::Direct => {
                    "the network lets the target send as the VIP to all clients, and it has advmss"
                }
            };
            let mode = Mode::Tunnel(tunnel.protocol, way_back);
            let clients = Family::of(tunnel.vip.ip());
            verdicts.push(verdict(mode, clients, through(tunnel, way_back), also));
        }
    }
    if own == Family::V6 {
        verdicts.push(verdict(Mode::Prefix, Family::V4, opens(findings), PREFIX));
    }
    verdicts.push(verdict(Mode::Transparent, own, opens(findings), TRANSPARENT));
    verdicts
}

/// The first of `verdicts` that fits, for clients of this family.
pub fn recommended(verdicts: &[Verdict], clients: Family) -> Option<&Verdict> {
    verdicts.iter().find(|verdict| verdict.clients == clients && verdict.fit == Fit::Fits)
}

/// Whether the target takes connections at its own address.
fn opens(findings: &Findings) -> (Fit, String) {
    match &findings.opening {
        Opening::Open { .. } => (Fit::Fits, "the target takes connections".to_owned()),
        Opening::Refused => (Fit::No, "the target refuses connections".to_owned()),
        Opening::Silent => (Fit::No, "the target does not answer".to_owned()),
        Opening::Unreachable { reason } => {
            (Fit::No, format!("the target cannot be reached: {reason}"))
        }
    }
}

/// Whether the tags of pool mode come back.
fn pool(findings: &Findings) -> (Fit, String) {
    let Some(options) = findings.options() else { return opens(findings) };
    let timestamps = options.timestamps;
    if timestamps == Some(false) {
        return (Fit::No, "its SYN-ACK has no timestamps, which carry the tag".to_owned());
    }
    for (place, echo) in [("SYN-ACK", findings.echoes.syn_ack), ("ACK", findings.echoes.later)] {
        let reason = match echo {
            Echo::Exact | Echo::Unseen | Echo::Silent => continue,
            Echo::Absent => format!("its {place} has no timestamps, which carry the tag"),
            Echo::Changed { .. } => format!("its {place} returns another number than the tag"),
            Echo::Reset => "it resets the connection after the handshake".to_owned(),
        };
        return (Fit::No, reason);
    }
    let echoes = [findings.echoes.syn_ack, findings.echoes.later];
    let reason = match (echoes, timestamps) {
        ([Echo::Exact, Echo::Exact], _) => {
            return (Fit::Fits, "it has timestamps, and returns the tag unchanged".to_owned());
        }
        ([_, Echo::Silent], _) => "it did not answer a segment after the handshake",
        (_, Some(_)) => "it has timestamps; whether the tag comes back was not checked",
        (_, None) => "whether it has timestamps was not checked",
    };
    (Fit::Unseen, reason.to_owned())
}

/// Whether the tunnel works with answers that go this way.
fn through(tunnel: &Tunnel, way_back: WayBack) -> (Fit, String) {
    let came = match &tunnel.answer {
        TunnelAnswer::Through { .. } => WayBack::Through,
        TunnelAnswer::Direct { .. } => WayBack::Direct,
        TunnelAnswer::Refused { .. } => {
            return (Fit::No, format!("nothing listens on {} at the target", tunnel.vip));
        }
        TunnelAnswer::Unreachable { reason } => {
            return (Fit::No, format!("the target does not take it: {reason}"));
        }
        TunnelAnswer::Untried { reason } => {
            return (Fit::Unseen, format!("could not be tried: {reason}"));
        }
        TunnelAnswer::Silent => {
            return match &tunnel.deaf {
                Some(reason) => (Fit::Unseen, format!("no answer seen; {reason}")),
                None => (Fit::No, "no answer, neither in the tunnel nor beside it".to_owned()),
            };
        }
    };
    let text = match came {
        WayBack::Through => "the answer came back in the tunnel",
        WayBack::Direct => "the answer came by itself, from the VIP",
    };
    (if came == way_back { Fit::Fits } else { Fit::No }, text.to_owned())
}

/// The name of a family, for programs.
fn family<S: Serializer>(family: &Family, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(match family {
        Family::V4 => "ipv4",
        Family::V6 => "ipv6",
    })
}

const POOL: &str = "the route of the pool leads from the target's network to the POPs";
const PREFIX: &str = "the route of the prefix leads from the target's network to the POPs";
const TRANSPARENT: &str = "the target's route to all clients leads to the POPs";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::probe::findings::{Echoes, Options};

    const EXACT: Echoes = Echoes { syn_ack: Echo::Exact, later: Echo::Exact };
    const CHANGED: Echo = Echo::Changed { sent: 2, came: 9 };

    fn found(target: &str, timestamps: Option<bool>, echoes: Echoes) -> Findings {
        let options = Options { timestamps, ..Options::default() };
        let opening = Opening::Open { options };
        Findings { opening, echoes, ..Findings::new(target.parse().unwrap()) }
    }

    fn with_tunnel(deaf: bool, answer: TunnelAnswer) -> Findings {
        let tunnel = Tunnel {
            protocol: Encapsulate::IpIp,
            vip: "203.0.113.10:443".parse().unwrap(),
            from: [192, 0, 2, 7].into(),
            deaf: deaf.then(|| "it is another host's".to_owned()),
            answer,
        };
        let bare = Echoes { syn_ack: Echo::Absent, later: Echo::Absent };
        let found = found("198.51.100.10:443", Some(false), bare);
        Findings { tunnels: vec![tunnel], ..found }
    }

    fn fit(findings: &Findings, mode: Mode) -> Fit {
        judge(findings).into_iter().find(|verdict| verdict.mode == mode).unwrap().fit
    }

    fn first(findings: &Findings, clients: Family) -> Option<Mode> {
        recommended(&judge(findings), clients).map(|verdict| verdict.mode)
    }

    #[test]
    fn a_pool_takes_exact_echoes() {
        let fits = found("198.51.100.10:443", Some(true), EXACT);
        assert_eq!(first(&fits, Family::V4), Some(Mode::Pool));
        assert_eq!(first(&fits, Family::V6), None, "no mode without a tunnel");
        let [silent, unseen] = [Echo::Silent, Echo::Unseen];
        for (timestamps, syn_ack, later, wanted) in [
            (Some(false), Echo::Absent, Echo::Absent, Fit::No),
            (Some(true), CHANGED, Echo::Exact, Fit::No),
            (Some(true), Echo::Exact, CHANGED, Fit::No),
            (Some(true), Echo::Exact, Echo::Absent, Fit::No),
            (Some(true), Echo::Exact, Echo::Reset, Fit::No),
            (Some(true), CHANGED, silent, Fit::No),
            (Some(true), Echo::Exact, silent, Fit::Unseen),
            (Some(true), unseen, unseen, Fit::Unseen),
            (None, unseen, unseen, Fit::Unseen),
        ] {
            let found = found("198.51.100.10:443", timestamps, Echoes { syn_ack, later });
            assert_eq!(fit(&found, Mode::Pool), wanted, "{found:?}");
            assert_eq!(first(&found, Family::V4), Some(Mode::Transparent));
        }
    }

    #[test]
    fn targets_of_ipv6_serve_both_families() {
        let found = found("[2001:db8::10]:443", Some(true), EXACT);
        assert_eq!(first(&found, Family::V6), Some(Mode::Pool));
        assert_eq!(first(&found, Family::V4), Some(Mode::Prefix));
    }

    #[test]
    fn nothing_fits_a_target_that_takes_no_connection() {
        let reason = "no route".to_owned();
        for opening in [Opening::Refused, Opening::Silent, Opening::Unreachable { reason }] {
            for target in ["198.51.100.10:443", "[2001:db8::10]:443"] {
                let found =
                    Findings { opening: opening.clone(), ..Findings::new(target.parse().unwrap()) };
                assert!(judge(&found).iter().all(|verdict| verdict.fit == Fit::No), "{found:?}");
            }
        }
    }

    #[test]
    fn tunnels_fit_by_the_way_of_their_answers() {
        let options = Options::default();
        let reason = || "port unreachable".to_owned();
        let (through, direct) = (WayBack::Through, WayBack::Direct);
        for (deaf, answer, fits) in [
            (false, TunnelAnswer::Through { options }, [Fit::Fits, Fit::No]),
            (false, TunnelAnswer::Direct { options }, [Fit::No, Fit::Fits]),
            (true, TunnelAnswer::Direct { options }, [Fit::No, Fit::Fits]),
            (false, TunnelAnswer::Refused { through: true }, [Fit::No; 2]),
            (false, TunnelAnswer::Unreachable { reason: reason() }, [Fit::No; 2]),
            (false, TunnelAnswer::Silent, [Fit::No; 2]),
            (true, TunnelAnswer::Silent, [Fit::Unseen; 2]),
            (false, TunnelAnswer::Untried { reason: reason() }, [Fit::Unseen; 2]),
        ] {
            let found = with_tunnel(deaf, answer);
            let modes = [through, direct].map(|way| Mode::Tunnel(Encapsulate::IpIp, way));
            assert_eq!(modes.map(|mode| fit(&found, mode)), fits, "{found:?}");
            let seen = modes.into_iter().zip(fits).find(|(_, fit)| *fit == Fit::Fits);
            let wanted = seen.map_or(Mode::Transparent, |(mode, _)| mode);
            assert_eq!(first(&found, Family::V4), Some(wanted), "what was seen comes first");
        }
    }

    #[test]
    fn a_tunnel_needs_no_server_at_the_target_s_own_address() {
        let options = Options::default();
        let mut found = with_tunnel(false, TunnelAnswer::Through { options });
        found.opening = Opening::Refused;
        let wanted = Mode::Tunnel(Encapsulate::IpIp, WayBack::Through);
        assert_eq!(first(&found, Family::V4), Some(wanted));
    }
}
