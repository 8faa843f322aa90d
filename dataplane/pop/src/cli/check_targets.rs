//! What `check` says of targets: who takes connections, who may have older ones, and what the
//! changes to come move.

use std::net::SocketAddr;

use anyrelay_core::config::{Epoch, Protocols, RelayConfig, most_candidates, moved_share};
use anyrelay_core::time::{UnixTime, format_time};

/// The lines about the targets of `relay` at `time`; none without dates, unless `is_asked`.
pub(super) fn lines(relay: &RelayConfig, time: UnixTime, is_asked: bool) -> Vec<String> {
    let epochs = relay.targets.epochs();
    if epochs.len() == 1 && !is_asked {
        return Vec::new();
    }
    let mut lines = vec![state(relay, &epochs, time)];
    lines.extend(epochs.windows(2).filter_map(|pair| {
        let [before, after] = pair else { return None };
        change(relay, before, after, time)
    }));
    lines
}

/// Who takes connections at `time`, and who may have older ones.
fn state(relay: &RelayConfig, epochs: &[Epoch], time: UnixTime) -> String {
    let present = epochs.iter().find(|epoch| epoch.from <= time && time < epoch.until);
    let new: Vec<_> = present.iter().flat_map(|epoch| &epoch.members).collect();
    let names: Vec<_> = new
        .iter()
        .map(|target| match target.weight {
            1 => target.address.to_string(),
            weight => format!("{} (weight {weight})", target.address),
        })
        .collect();
    let names = if names.is_empty() { "no target".to_owned() } else { names.join(", ") };
    let mut line =
        format!("relay {} at {}: new connections go to {names}", relay.name, format_time(time));
    let (from, until) = relay.targets.window(time);
    let asked = epochs.iter().filter(|epoch| epoch.until > from && epoch.from <= until);
    let mut others: Vec<SocketAddr> = asked
        .flat_map(|epoch| &epoch.members)
        .filter(|target| time < target.gone)
        .map(|target| target.address)
        .filter(|address| !new.iter().any(|target| target.address == *address))
        .collect();
    others.sort_unstable();
    others.dedup();
    if !others.is_empty() {
        let others: Vec<_> = others.iter().map(SocketAddr::to_string).collect();
        line += &format!("; others may be at {}", others.join(", "));
    }
    let (most, _) = most_candidates(&relay.targets);
    line + &format!("; a client has at most {most} to be asked")
}

/// What moves from one epoch to the next, unless it is over for all.
fn change(relay: &RelayConfig, before: &Epoch, after: &Epoch, time: UnixTime) -> Option<String> {
    let asked_until = after.from.plus_millis(relay.targets.memory_ms);
    if asked_until <= time {
        return None;
    }
    let percent = 100.0 * moved_share(&before.members, &after.members);
    let has = |epoch: &Epoch, address| epoch.members.iter().any(|at| at.address == address);
    let mut words = Vec::new();
    for target in &after.members {
        let old = before.members.iter().find(|at| at.address == target.address);
        match old {
            None => words.push(format!("{} begins", target.address)),
            Some(old) if old.weight != target.weight => {
                words.push(format!(
                    "{} has weight {}, not {}",
                    target.address, target.weight, old.weight
                ));
            }
            Some(_) => {}
        }
    }
    let ended = before.members.iter().filter(|target| !has(after, target.address));
    words.extend(ended.map(|target| match target.gone {
        UnixTime::NEVER => format!("{} ends", target.address),
        gone => format!("{} ends, and is gone at {}", target.address, format_time(gone)),
    }));
    let tense = if after.from <= time { "moved" } else { "moves" };
    let asked_until = format_time(asked_until);
    let of_tcp = format!("until {asked_until} their older connections are looked for at both");
    let of_udp = "their UDP goes to the other target at once";
    let then = match relay.protocols {
        Protocols::Tcp => of_tcp,
        Protocols::Udp => of_udp.to_owned(),
        Protocols::Both => format!("{of_tcp}, and {of_udp}"),
    };
    let (name, from, words) = (&relay.name, format_time(after.from), words.join(", "));
    Some(format!("relay {name}: {from} {tense} {percent:.1}% of clients: {words}; {then}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyrelay_core::config::Config;
    use anyrelay_core::time::parse_time;

    const CONFIG: &str = r#"
[pop]
name = "pop1"
id = 1
keys = "keys.toml"
[[port]]
name = "all"
device = "all"
side = "both"
addresses = ["192.0.2.2/24"]
gateways = ["192.0.2.1"]
[[worker]]
core = 0
rx = ["all:0"]
[[relay]]
name = "web"
vip = "203.0.113.10:443"
egress = { pool = "100.64.8.0/24" }
targets = [
  "198.51.100.1:80",
  { address = "198.51.100.2:80", until = 2026-12-01T10:00:00Z, gone = 2026-12-01T12:00:00Z },
  { address = "198.51.100.3:80", since = 2026-12-01T11:00:00Z },
]
"#;

    #[test]
    fn it_says_what_moves_when_and_how_much() {
        let config = Config::parse("pop.toml", CONFIG).unwrap();
        let at = |time| lines(&config.relays[0], parse_time(time).unwrap(), false);
        assert_eq!(
            at("2026-12-01T09:00:00Z"),
            [
                "relay web at 2026-12-01T09:00:00Z: new connections go to 198.51.100.1:80, \
                 198.51.100.2:80; a client has at most 3 to be asked",
                "relay web: 2026-12-01T10:00:00Z moves 50.0% of clients: 198.51.100.2:80 ends, and \
                 is gone at 2026-12-01T12:00:00Z; until 2026-12-02T10:00:00Z their older \
                 connections are looked for at both",
                "relay web: 2026-12-01T11:00:00Z moves 50.0% of clients: 198.51.100.3:80 begins; \
                 until 2026-12-02T11:00:00Z their older connections are looked for at both",
            ]
        );
        let later = at("2026-12-01T11:30:00Z");
        assert!(later[0].contains("; others may be at 198.51.100.2:80; "), "{later:?}");
        assert!(later[1].contains(" moved 50.0%"), "{later:?}");
        assert!(!at("2026-12-01T12:30:00Z")[0].contains("others"));
        assert_eq!(at("2026-12-03T00:00:00Z").len(), 1);
    }

    #[test]
    fn udp_is_said_to_move_at_once() {
        let older = "; until 2026-12-02T10:00:00Z their older connections are looked for at both";
        let udp = "their UDP goes to the other target at once";
        for (protocol, then) in
            [("udp", format!("; {udp}")), ("both", format!("{older}, and {udp}"))]
        {
            let egress = format!("egress = \"transparent\"\nprotocol = \"{protocol}\"");
            let text = CONFIG.replace("egress = { pool = \"100.64.8.0/24\" }", &egress);
            let config = Config::parse("pop.toml", &text).unwrap();
            let time = parse_time("2026-12-01T09:00:00Z").unwrap();
            let change = &lines(&config.relays[0], time, false)[1];
            assert!(change.ends_with(&then), "{change}");
        }
    }
}
