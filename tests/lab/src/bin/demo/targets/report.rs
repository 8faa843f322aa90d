//! What the demo of changing targets prints and writes, and whether it passes.

use std::fmt::Write;
use std::time::Duration;

use anyrelay_lab::Direction;
use anyrelay_lab::script::Script;
use serde_json::{Value, json};

use super::plan::{Change, Death, IN_FORCE_AFTER, Number};
use super::run::Outcome;
use crate::record::{BUCKET, mbit_s};

/// The runs of the relay and of what is used today.
#[derive(Debug)]
pub struct Demo {
    /// What the relay and the control went through.
    pub script: Script,
    /// The relay.
    pub relay: Outcome,
    /// HAProxy with resting routes.
    pub calm: Outcome,
    /// HAProxy with the relay's script.
    pub control: Outcome,
}

impl Demo {
    fn runs(&self) -> [&Outcome; 3] {
        [&self.relay, &self.calm, &self.control]
    }

    /// The figures, as JSON.
    pub fn json(&self) -> Value {
        let [relay, calm, control] = self.runs().map(figures);
        json!({ "relay": relay, "control_calm": calm, "control": control })
    }

    /// The conditions under which the demo passes, and whether each is met.
    pub fn conditions(&self) -> Vec<(String, bool)> {
        let (relay, calm) = (&self.relay.judged, &self.calm.judged);
        let zero = |what: &str, got: u64| (format!("relay: {what} is {got}, must be 0"), got == 0);
        // How much must happen is stated for 30 seconds.
        let scale = self.script.length.as_secs_f64() / 30.0;
        let at_least = |what: &str, got: u64, in_30_s: f64| {
            let need = (in_30_s * scale).floor() as u64;
            (format!("relay: {got} {what}, at least {need}"), got >= need)
        };
        let slow_permille = |slow: u64, all: u64| slow as f64 * 1000.0 / all.max(1) as f64;
        let slow = slow_permille(relay.short_slow, relay.shorts);
        let calm_slow = slow_permille(calm.short_slow + calm.short_broken, calm.shorts);
        let stall = relay.longest_stall.as_millis();
        let last = relay.left_after.iter().map(|left| left.1).max().unwrap_or_default();
        vec![
            zero("moved live connections broken", relay.moved_broken),
            zero("other live connections broken", relay.broken - relay.moved_broken),
            zero("connections with wrong bytes", relay.corrupt),
            zero("short connections failed", relay.short_broken),
            (
                format!(
                    "relay: {slow:.2} of 1000 short connections slow, at most {calm_slow:.2} as in \
                     the calm control"
                ),
                slow <= calm_slow,
            ),
            (format!("relay: longest stall {stall} ms, below 3000 ms"), stall < 3000),
            at_least("live connections moved", relay.moved, 60.0),
            at_least("short connections", relay.shorts, 2000.0),
            at_least("flips that moved packets", self.relay.counts.flips.len() as u64, 200.0),
            at_least("kills of POPs", self.relay.counts.kills.len() as u64, 2.0),
            (
                format!("relay: {} connections died with their targets, not 0", relay.dead_broken),
                relay.dead_broken > 0,
            ),
            (
                format!(
                    "relay: the last new connection to a dead target {} ms after the order, below \
                     {}",
                    last.as_millis(),
                    IN_FORCE_AFTER.as_millis()
                ),
                last < IN_FORCE_AFTER,
            ),
            (
                format!("control: {} live broken, must not be 0", self.control.judged.broken),
                self.control.judged.broken > 0,
            ),
        ]
    }

    /// The runs beside each other.
    pub fn table(&self) -> String {
        let mut text = String::new();
        let mut row = |name: &str, cell: &dyn Fn(&Outcome) -> String| {
            let cells: String = self.runs().map(|run| format!("{:>16}", cell(run))).concat();
            let _ = writeln!(text, "{name:<44}{cells}");
        };
        row("", &|run| run.name.to_owned());
        row("long connections", &|run| run.judged.lives.to_string());
        row("  broken", &|run| run.judged.broken.to_string());
        row("  moved to another target while they lived", &|run| moved(run, run.judged.moved));
        row("    broken", &|run| moved(run, run.judged.moved_broken));
        row("  at a target that died", &|run| run.judged.dead.to_string());
        row("    broken", &|run| run.judged.dead_broken.to_string());
        row("short connections", &|run| run.judged.shorts.to_string());
        row("  failed", &|run| run.judged.short_broken.to_string());
        row("  slow (1 s or more)", &|run| run.judged.short_slow.to_string());
        row("  slow, at the kill of a POP", &|run| run.judged.short_slow_at_kill.to_string());
        row("  led to a dead target", &|run| run.judged.shorts_dead.to_string());
        row("connections with wrong bytes", &|run| run.judged.corrupt.to_string());
        row("longest stall, ms", &|run| run.judged.longest_stall.as_millis().to_string());
        row("payload of long connections, MB", &|run| format!("{:.0}", run.bytes as f64 / 1e6));
        row("copies to other targets, % of packets up", &|run| {
            if run.name == "relay" { format!("{:.1}", run.copies_percent) } else { "-".to_owned() }
        });
        row("flips that moved packets", &|run| run.counts.flips.len().to_string());
        row("kills of POPs", &|run| run.counts.kills.len().to_string());
        row("orders to change targets", &|run| run.given.len().to_string());
        for place in 0..self.relay.judged.left_after.len() {
            row(&format!("last led to dead target {}, ms after order", place + 1), &|run| {
                let left = run.judged.left_after.get(place);
                left.map_or("-".to_owned(), |left| left.1.as_millis().to_string())
            });
        }
        text
    }

    /// What the plot is drawn from.
    pub fn plot_data(&self) -> Value {
        let mut runs = self.runs().map(plot_run);
        let [_, calm, _] = &mut runs;
        calm["spray"] = json!([0.0, 0.0]);
        let spray = &self.script.spray;
        json!({
            "seconds": self.script.length.as_secs_f64(),
            "bucket_seconds": BUCKET.as_secs_f64(),
            "spray": [spray.start.as_secs_f64(), spray.end.as_secs_f64()],
            "runs": runs,
        })
    }

    /// The first failures of the relay and of the calm control, in words.
    pub fn notes(&self) -> Vec<String> {
        let of_run = |run: &Outcome| {
            let all = run.judged.wrong.iter().chain(&run.counts.notes);
            all.map(|note| format!("{}: {note}", run.name)).collect::<Vec<_>>()
        };
        [&self.relay, &self.calm].map(of_run).concat()
    }
}

/// Of a proxy nobody can say which connections would have moved.
fn moved(run: &Outcome, count: u64) -> String {
    if run.name == "relay" { count.to_string() } else { "-".to_owned() }
}

fn figures(run: &Outcome) -> Value {
    let Outcome { counts, judged, given, .. } = run;
    let ms = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    let changes: Vec<Value> = given
        .iter()
        .map(|given| {
            json!({
                "seconds": given.time.as_secs_f64(),
                "in_force_after_ms": given.holds.as_millis().saturating_sub(given.at.as_millis()),
                "target": given.number.address().to_string(),
                "change": word(given.change),
            })
        })
        .collect();
    let left: Vec<u64> = judged.left_after.iter().map(|(_, after)| ms(*after)).collect();
    json!({
        "long_connections": judged.lives,
        "broken": judged.broken,
        "moved": judged.moved,
        "moved_broken": judged.moved_broken,
        "at_dead_targets": judged.dead,
        "at_dead_targets_broken": judged.dead_broken,
        "short_connections": judged.shorts,
        "short_broken": judged.short_broken,
        "short_slow": judged.short_slow,
        "short_slow_at_kills": judged.short_slow_at_kill,
        "short_to_dead_targets": judged.shorts_dead,
        "dead_targets_left_after_ms": left,
        "corrupt": judged.corrupt,
        "longest_stall_ms": ms(judged.longest_stall),
        "bytes": run.bytes,
        "copies_percent": (run.copies_percent * 100.0).round() / 100.0,
        "flips": counts.flips.len(),
        "kills": counts.kills.len(),
        "changes": changes,
    })
}

fn plot_run(run: &Outcome) -> Value {
    let Outcome { counts, judged, .. } = run;
    // A target that dies is drawn where it dies, too.
    let mut changes = Vec::new();
    for given in &run.given {
        let in_force = given.holds.as_millis().saturating_sub(given.at.as_millis());
        let at = given.time.as_secs_f64() + in_force as f64 / 1000.0;
        changes.push(json!([at, label(given.number, given.change)]));
    }
    let deaths = run.given.iter().filter_map(|given| {
        let Change::Bury(death) = given.change else { return None };
        let how = if death == Death::Process { "server killed" } else { "link down" };
        let before = given.at.as_millis().saturating_sub(given.died?.as_millis());
        let died = given.time.as_secs_f64() - before as f64 / 1000.0;
        Some(json!([died, format!("T{} {how}", given.number.0 + 1)]))
    });
    json!({
        "name": run.name,
        "down": mbit_s(&run.series[0]),
        "up": mbit_s(&run.series[1]),
        "flips_up": counts.flip_times(Direction::Up),
        "flips_down": counts.flip_times(Direction::Down),
        "kills": counts.kill_times(),
        "transfers": judged.lives,
        "broken": judged.broken,
        "short_connections": judged.shorts,
        "short_broken": judged.short_broken,
        "moved": moved_words(run.name == "relay", judged.moved),
        "changes": changes,
        "deaths": deaths.collect::<Vec<_>>(),
    })
}

fn label(number: Number, change: Change) -> String {
    let name = format!("T{}", number.0 + 1);
    match change {
        Change::Weigh(weight) => format!("{name} weight {weight}"),
        other => format!("{name} {}", word(other)),
    }
}

fn word(change: Change) -> &'static str {
    match change {
        Change::Add => "added",
        Change::Drain => "drained",
        Change::Weigh(_) => "weighed",
        Change::Remove => "removed",
        Change::Bury(_) => "left",
    }
}

/// How many live connections moved, where that is known.
fn moved_words(is_known: bool, moved: u64) -> String {
    if is_known { format!(" ({moved} moved)") } else { String::new() }
}
