//! `status`: what a running agent says of itself.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::Path;

use anyhow::Context;
use serde_json::Value;

use crate::control;

/// Asks the agent behind the socket at `path` and prints its answer.
pub(super) fn status(path: &Path, json: bool) -> anyhow::Result<()> {
    let status = control::ask(path)
        .with_context(|| format!("{}: no agent answers there", path.display()))?;
    let text = if json { format!("{status:#}\n") } else { human(&status) };
    std::io::stdout().write_all(text.as_bytes()).context("stdout")
}

/// The status as lines for people: what matters first, counters that are not 0 last.
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
    for peer in status["peers"].as_array().into_iter().flatten() {
        let found = if peer["error"].is_null() { &peer["token"] } else { &peer["error"] };
        line("peer", format!("{}: {}", plain(&peer["source"]), plain(found)));
    }
    for group in ["local_side", "outer", "counters"] {
        for (name, value) in status[group].as_object().into_iter().flatten() {
            if value.as_u64() != Some(0) && !value.is_null() {
                line(name, plain(value));
            }
        }
    }
    text
}

fn milliseconds(value: &Value, divisor: f64) -> String {
    value.as_f64().map_or("-".to_owned(), |value| format!("{:.1} ms", value / divisor))
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
    fn people_see_what_is_there_and_dashes_for_the_rest() {
        let text = human(&json!({
            "state": "ready", "problem": null, "pop": 2, "round_trip_us": 1500, "silent_ms": 40,
            "keepalive_loss": 0.25, "peers": [{"source": "dns:a", "token": null, "error": "gone"}],
            "counters": {"resets": 0, "handshakes": 1},
        }));
        for line in [
            "state          ready\n",
            "pop            2\n",
            "public         -\n",
            "round trip     1.5 ms\n",
            "keepalive loss 25.0%\n",
            "peer           dns:a: gone\n",
            "handshakes     1\n",
        ] {
            assert!(text.contains(line), "{text}");
        }
        assert!(!text.contains("resets"), "{text}");
    }
}
