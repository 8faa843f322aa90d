//! What can be told about NATs between the agent and the POPs, and what cannot.
//!
//! A binding is one pairing of the agent's own address and port with those that the POPs see. The
//! agent learns of one with the first answer after a handshake, or when the POPs see others
//! without one. That is all it knows: a handshake from the same address and port may use the NAT's
//! old entry, so an outside port that stays proves nothing then.

use std::collections::VecDeque;
use std::net::SocketAddr;

use serde_json::{Value, json};

use crate::outer::conntrack::HostNat;

/// The bindings so far.
#[derive(Debug, Default)]
pub(super) struct NatView {
    /// The newest of them, the last one last.
    recent: VecDeque<Binding>,
    handshakes: u64,
    bindings: u64,
    port_changes: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Binding {
    local: SocketAddr,
    public: SocketAddr,
}

impl NatView {
    /// Records what the POPs see of `local`, after this number of handshakes.
    pub(super) fn observe(&mut self, local: SocketAddr, public: SocketAddr, handshakes: u64) {
        let binding = Binding { local, public };
        let last = self.recent.back().copied();
        if last.is_some_and(|last| last == binding && self.handshakes == handshakes) {
            return;
        }
        self.handshakes = handshakes;
        self.bindings += 1;
        let changed = last.is_some_and(|last| {
            last.local.port() == local.port() && last.public.port() != public.port()
        });
        self.port_changes += u64::from(changed);
        if self.recent.len() == RECENT {
            self.recent.pop_front();
        }
        self.recent.push_back(binding);
    }

    /// The object that `status` shows.
    pub(super) fn status(&self, host: Option<&HostNat>) -> Value {
        let (mut ruled_out, mut open) = (Vec::new(), Vec::new());
        match host {
            Some(HostNat::None) => ruled_out.push("NAT on this host itself".to_owned()),
            // It is the problem that `status` shows.
            Some(HostNat::Translated(_)) => {}
            Some(HostNat::Unknown(reason)) => {
                open.push(format!("NAT on this host itself ({reason})"));
            }
            None => open.push("NAT on this host itself (no way to the VIP)".to_owned()),
        }
        self.judge(&mut ruled_out, &mut open);
        let ports: Vec<_> = self.recent.iter().map(|binding| binding.public.port()).collect();
        json!({
            "bindings": self.bindings,
            "outside_ports": ports,
            "port_changes": self.port_changes,
            "ruled_out": ruled_out,
            "not_ruled_out": open,
        })
    }

    fn judge(&self, ruled_out: &mut Vec<String>, open: &mut Vec<String>) {
        let Some(last) = self.recent.back() else {
            open.push("any NAT (no POP has answered yet)".to_owned());
            return;
        };
        let Binding { local, public } = last;
        if local == public {
            ruled_out.push("NAT on the path".to_owned());
            return;
        }
        // Another outside address may be that of another NAT.
        let same_nat = self.recent.iter().rev();
        let same_nat = same_nat.take_while(|other| other.public.ip() == public.ip());
        let same_nat: Vec<_> = same_nat.collect();
        let kept_port = same_nat.iter().any(|b| b.local.port() == b.public.port());
        let pairs = same_nat.windows(2).filter_map(|pair| match pair {
            [later, earlier] if later.local.port() == earlier.local.port() => {
                Some((later, earlier))
            }
            _ => None,
        });
        let (mut changed, mut renewed) = (false, false);
        for (later, earlier) in pairs {
            changed |= later.public.port() != earlier.public.port();
            // Another address inside, so this was a new entry for certain.
            renewed |= later.local != earlier.local && later.public.port() == earlier.public.port();
        }
        if kept_port {
            ruled_out.push(format!("{RANDOM}: the agent's own port was kept"));
            open.push("that the NAT takes another port if a neighbour uses this one".to_owned());
        } else if renewed {
            ruled_out.push(format!("{RANDOM}: a new connection got the same port again"));
        } else if changed {
            ruled_out
                .push("a NAT that gives the agent's port the same outside port each time".into());
            open.push(format!(
                "{RANDOM}: the outside port changed; the token changes with it, and peers must \
                 look it up again"
            ));
        } else {
            let why = match same_nat.len() {
                1 => "one binding does not tell",
                _ => "the port stayed, but the NAT may have kept its entry",
            };
            open.push(format!("{RANDOM}: {why}"));
        }
    }
}

/// The problem, if this host translates the agent's flow.
pub(super) fn host_problem(local: SocketAddr, vip: SocketAddr, host: &HostNat) -> Option<String> {
    let HostNat::Translated(seen) = host else { return None };
    let (family, ip, port) = (if vip.is_ipv4() { "ip" } else { "ip6" }, vip.ip(), vip.port());
    Some(format!(
        "this host itself translates the agent's {local} to {seen} (such as masquerade \
         fully-random), so answers do not reach the agent: put `{family} daddr {ip} tcp dport \
         {port} accept` before that rule, then remove the kernel's entry: `conntrack -D -p tcp -d \
         {ip}`"
    ))
}

const RECENT: usize = 8;
const RANDOM: &str =
    "a NAT that gives each connection a random outside port (masquerade random or fully-random)";

#[cfg(test)]
mod tests {
    use super::*;

    /// The agent's own address, and the one that the POPs see.
    type Pair = (&'static str, &'static str);

    fn view(bindings: &[(&str, &str)]) -> NatView {
        let mut view = NatView::default();
        for (at, (local, public)) in (1..).zip(bindings) {
            for _ in 0..3 {
                view.observe(local.parse().unwrap(), public.parse().unwrap(), at);
            }
        }
        view
    }

    fn texts(view: &NatView, name: &str) -> String {
        view.status(Some(&HostNat::None))[name].to_string()
    }

    #[test]
    fn what_bindings_rule_out() {
        let (a, b) = ("10.0.0.2:61000", "10.0.0.3:61000");
        let cases: [(&[Pair], &str, &str); 8] = [
            (&[], "host itself", "no POP has answered yet"),
            (&[(a, a)], "NAT on the path", "[]"),
            (&[(a, "192.0.2.1:61000")], "fully-random): the agent's own", "if a neighbour"),
            (&[(a, "192.0.2.1:7")], "host itself", "fully-random): one binding does not"),
            (&[(a, "192.0.2.1:7"), (a, "192.0.2.1:7")], "host itself", "may have kept its entry"),
            (&[(a, "192.0.2.1:7"), (b, "192.0.2.1:7")], "got the same port again", "[]"),
            (&[(a, "192.0.2.1:7"), (a, "192.0.2.1:9")], "same outside port each", "port changed"),
            // Behind another NAT nothing is known from the first one.
            (&[(a, "192.0.2.9:61000"), (b, "192.0.2.1:7")], "host itself", "one binding"),
        ];
        for (bindings, ruled_out, open) in cases {
            let view = view(bindings);
            let found = [texts(&view, "ruled_out"), texts(&view, "not_ruled_out")];
            assert!(found[0].contains(ruled_out), "{bindings:?}: {found:?}");
            assert!(found[1].contains(open), "{bindings:?}: {found:?}");
        }
    }

    #[test]
    fn bindings_and_ports_are_counted() {
        let local = "10.0.0.2:61000";
        let publics: Vec<String> = (1..=20).map(|port| format!("192.0.2.1:{port}")).collect();
        let bindings: Vec<_> = publics.iter().map(|public| (local, public.as_str())).collect();
        let status = view(&bindings).status(None);
        assert_eq!((&status["bindings"], &status["port_changes"]), (&json!(20), &json!(19)));
        assert_eq!(status["outside_ports"], json!([13, 14, 15, 16, 17, 18, 19, 20]));
        assert!(status["not_ruled_out"].to_string().contains("no way to the VIP"), "{status}");
    }

    #[test]
    fn a_port_that_this_host_translates_is_a_problem() {
        let (local, vip) =
            ("10.0.0.2:61000".parse().unwrap(), "[2001:db8::2]:443".parse().unwrap());
        assert_eq!(host_problem(local, vip, &HostNat::None), None);
        let seen = HostNat::Translated("10.0.0.2:7".parse().unwrap());
        let text = host_problem(local, vip, &seen).unwrap();
        assert!(text.contains("10.0.0.2:61000 to 10.0.0.2:7"), "{text}");
        assert!(text.contains("`ip6 daddr 2001:db8::2 tcp dport 443 accept`"), "{text}");
    }
}
