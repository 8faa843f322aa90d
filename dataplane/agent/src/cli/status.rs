//! `status`: shows the status of a running agent.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::Path;

use anyhow::Context;
use serde_json::Value;

use crate::control;

/// Requests the status of the agent at the socket `path` and prints it.
pub(super) fn status(path: &Path, json: bool) -> anyhow::Result<()> {
    let status = control::ask(path)
        .with_context(|| format!("{}: no agent answers there", path.display()))?;
    let text = if json { format!("{status:#}\n") } else { human(&status) };
    std::io::stdout().write_all(text.as_bytes()).context("stdout")
}

/// The status as text: the most important lines first, counters that are not 0 last.
fn human(status: &Value) -> String {
    let mut text = String::new();
    let mut line = |name: &str, value: String| {
        // Writing into a String cannot fail.
        let _ = writeln!(text, "{name:<14} {value}");
    };
    line("state", plain(&status["state"]));
    if !status["problem"].is_null() {
        line("problem", plain(&status["problem"]));
    }
    for name in ["vip", "local", "public", "pop", "tick", "token", "body_max"] {
        line(name, plain(&status[name]));
    }
    line("round trip", milliseconds(&status["round_trip_us"], 1000.0));
    line("last answer", format!("{} ago", milliseconds(&status["silent_ms"], 1.0)));
    let loss = status["keepalive_loss"].as_f64().unwrap_or(0.0);
    line("keepalive loss", format!("{:.1}%", loss * 100.0));
    if let Some(warning) = status["outer"]["route_warning"].as_str() {
        line("warning", warning.to_owned());
    }
    line("outside ports", list(&status["nat"]["outside_ports"], ", "));
    for (name, key) in [("ruled out", "ruled_out"), ("not ruled out", "not_ruled_out")] {
        for text in status["nat"][key].as_array().into_iter().flatten() {
            line(name, plain(text));
        }
    }
    if status["open"].is_object() {
        open_lines(&status["open"], &mut line);
    }
    for peer in status["peers"].as_array().into_iter().flatten() {
        let found = if peer["error"].is_null() { &peer["token"] } else { &peer["error"] };
        line("peer", format!("{}: {}", plain(&peer["source"]), plain(found)));
    }
    for group in ["local_side", "outer", "counters"] {
        for (name, value) in status[group].as_object().into_iter().flatten() {
            match value {
                // Counters by reason: one line each, like the other counters.
                Value::Object(inner) => {
                    for (reason, count) in inner {
                        line(&format!("{name}.{reason}"), plain(count));
                    }
                }
                Value::Array(_) => {}
                _ if name == "route_warning" => {}
                _ if value.as_u64() != Some(0) && !value.is_null() => line(name, plain(value)),
                _ => {}
            }
        }
    }
    if let Some(peers) = status["local_side"]["peers"].as_array() {
        text.push_str(&peer_table(peers));
    }
    text
}

/// The open side: its address, its device, what was lost.
fn open_lines(open: &Value, line: &mut impl FnMut(&str, String)) {
    line("open address", plain(&open["address"]));
    if !open["deprecated"].is_null() {
        line("deprecated", plain(&open["deprecated"]));
    }
    let more = match open["reason"].as_str() {
        Some(reason) => reason.to_owned(),
        None => format!("MTU {}", plain(&open["mtu"])),
    };
    line("open device", format!("{}, {}: {more}", plain(&open["device"]), plain(&open["state"])));
    for (reason, count) in open["lost"].as_object().into_iter().flatten() {
        if count.as_u64() != Some(0) {
            line(&format!("open.{reason}"), plain(count));
        }
    }
}

/// The peers of a TUN side, one per line.
fn peer_table(peers: &[Value]) -> String {
    let head = ["name", "session", "heard", "sent", "received", "sessions", "key"];
    let rows = peers.iter().map(|peer| {
        let session = match (peer["session_age_ms"].as_f64(), peer["handshaking"].as_bool()) {
            (Some(age), _) => format!("{:.0} s old", age / 1000.0),
            (None, Some(true)) => "handshake".to_owned(),
            (None, _) => "none".to_owned(),
        };
        let heard = peer["heard_ms_ago"].as_f64();
        let traffic = |packets: &str, bytes: &str| {
            format!("{} ({} bytes)", plain(&peer[packets]), plain(&peer[bytes]))
        };
        [
            plain(&peer["name"]),
            session,
            heard.map_or("never".to_owned(), |ms| format!("{:.0} s ago", ms / 1000.0)),
            traffic("sent_packets", "sent_bytes"),
            traffic("received_packets", "received_bytes"),
            plain(&peer["sessions"]),
            plain(&peer["public_key"]).chars().take(8).collect(),
        ]
    });
    let rows: Vec<[String; 7]> = std::iter::once(head.map(str::to_owned)).chain(rows).collect();
    let widths: [usize; 7] = std::array::from_fn(|column| {
        rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.len()).max().unwrap_or(0)
    });
    let mut text = String::from("\n");
    for row in rows {
        let cells = row.iter().zip(widths).map(|(cell, width)| format!("{cell:<width$}"));
        let _ = writeln!(text, "{}", cells.collect::<Vec<_>>().join("  ").trim_end());
    }
    text
}

fn milliseconds(value: &Value, divisor: f64) -> String {
    value.as_f64().map_or("-".to_owned(), |value| format!("{:.1} ms", value / divisor))
}

/// The items of an array in one line.
fn list(value: &Value, between: &str) -> String {
    let items: Vec<_> = value.as_array().into_iter().flatten().map(plain).collect();
    if items.is_empty() { "-".to_owned() } else { items.join(between) }
}

fn plain(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn missing_values_are_shown_as_dashes() {
        let text = human(&json!({
            "state": "ready", "problem": null, "pop": 2, "round_trip_us": 1500, "silent_ms": 40,
            "keepalive_loss": 0.25, "peers": [{"source": "dns:a", "token": null, "error": "gone"}],
            "counters": {"resets": 0, "handshakes": 1},
            "outer": {"route_warning": "a route", "device": "wg0"},
            "nat": {"outside_ports": [7, 9], "ruled_out": ["this"], "not_ruled_out": ["that"]},
        }));
        for line in [
            "state          ready\n",
            "pop            2\n",
            "public         -\n",
            "round trip     1.5 ms\n",
            "keepalive loss 25.0%\n",
            "peer           dns:a: gone\n",
            "handshakes     1\n",
            "warning        a route\n",
            "device         wg0\n",
            "outside ports  7, 9\n",
            "ruled out      this\n",
            "not ruled out  that\n",
        ] {
            assert!(text.contains(line), "{text}");
        }
        assert!(!text.contains("resets"), "{text}");
    }

    #[test]
    fn the_open_side_is_its_address_and_device() {
        let open = |state: &str, reason: Option<&str>| {
            human(&json!({ "state": "ready", "open": {
                "device": "open0", "state": state, "reason": reason, "mtu": 1356,
                "address": "2001:db8:a::1", "deprecated": "2001:db8:a::2",
                "lost": { "too_big": 3, "marked": 0 },
            }}))
        };
        let text = open("up", None);
        for line in [
            "open address   2001:db8:a::1\n",
            "deprecated     2001:db8:a::2\n",
            "open device    open0, up: MTU 1356\n",
            "open.too_big   3\n",
        ] {
            assert!(text.contains(line), "{text}");
        }
        assert!(!text.contains("open.marked"), "{text}");
        assert!(open("down", Some("too narrow")).contains("open0, down: too narrow\n"));
        assert!(!human(&json!({ "state": "ready", "open": null })).contains("open"));
    }

    #[test]
    fn peers_of_a_tun_side_are_a_table() {
        let text = human(&json!({
            "state": "ready",
            "local_side": { "kind": "tun", "drops": { "no_route": 3 }, "peers": [
                { "name": "home", "public_key": "ab".repeat(32), "session_age_ms": 61_000,
                  "handshaking": false, "heard_ms_ago": 4200, "sessions": 2, "sent_packets": 7,
                  "sent_bytes": 700, "received_packets": 1, "received_bytes": 28 },
                { "name": "b", "public_key": "cd".repeat(32), "session_age_ms": null,
                  "handshaking": true, "heard_ms_ago": null, "sessions": 0, "sent_packets": 0,
                  "sent_bytes": 0, "received_packets": 0, "received_bytes": 0 },
            ]},
        }));
        let wanted = "\n\
            name  session    heard    sent           received      sessions  key\n\
            home  61 s old   4 s ago  7 (700 bytes)  1 (28 bytes)  2         abababab\n\
            b     handshake  never    0 (0 bytes)    0 (0 bytes)   0         cdcdcdcd\n";
        assert!(text.ends_with(wanted), "{text}");
        assert!(text.contains("drops.no_route 3\n") && !text.contains('{'), "{text}");
    }
}
