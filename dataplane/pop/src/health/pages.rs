//! The pages of health: `/metrics` for Prometheus, `/status` as JSON, `/status/text`, and
//! `/healthz`.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::RwLock;
use prometheus::{
    Gauge, GaugeVec, IntCounterVec, IntGaugeVec, Opts, Registry, TEXT_FORMAT, TextEncoder,
};

use super::board::{Board, CheckStatus};
use crate::metrics::http::{Page, Response, Site};

/// What the pages show.
#[derive(Debug, Default)]
pub struct Shared {
    /// The boards of the checks, in the order of the config.
    pub boards: RwLock<Vec<Arc<Board>>>,
    /// Successful reloads.
    pub reloads_done: AtomicU64,
    /// Refused reloads.
    pub reloads_refused: AtomicU64,
}

impl Shared {
    fn statuses(&self) -> Vec<CheckStatus> {
        self.boards.read().iter().map(|board| board.status()).collect()
    }
}

/// The pages.
#[derive(Debug)]
pub(super) struct Pages(pub(super) Arc<Shared>);

impl Site for Pages {
    fn page(&self, path: &str) -> Page {
        Page::Ready(match path {
            "/metrics" => return Page::Computed,
            "/status" => match serde_json::to_string_pretty(&self.0.statuses()) {
                Ok(body) => Response { status: 200, content_type: "application/json", body },
                Err(error) => Response::text(500, format!("{error}\n")),
            },
            "/status/text" => {
                let text: String = self.0.statuses().iter().map(CheckStatus::text).collect();
                Response::text(200, text)
            }
            "/healthz" if self.0.boards.read().iter().all(|board| board.is_alive()) => {
                Response::text(200, "alive\n")
            }
            "/healthz" => Response::text(503, "a check is stuck\n"),
            _ => Response::text(404, "pages: /metrics /status /status/text /healthz\n"),
        })
    }

    fn compute(&self) -> Response {
        match metrics(&self.0) {
            Ok(body) => Response { status: 200, content_type: TEXT_FORMAT, body },
            Err(error) => Response::text(500, format!("{error}\n")),
        }
    }
}

/// The metrics, of which nothing stays for targets and files that are gone.
fn metrics(shared: &Shared) -> prometheus::Result<String> {
    let registry = Registry::new();
    let gauges = |name: &str, help: &str, labels: &[&str]| {
        let family = IntGaugeVec::new(Opts::new(name, help), labels)?;
        registry.register(Box::new(family.clone())).map(|()| family)
    };
    let counters = |name: &str, help: &str, labels: &[&str]| {
        let family = IntCounterVec::new(Opts::new(name, help), labels)?;
        registry.register(Box::new(family.clone())).map(|()| family)
    };
    let target = &["file", "target"];
    let up = gauges("anyrelay_health_up", "Whether the checks of a target succeed.", target)?;
    let takes = gauges(
        "anyrelay_health_takes_connections",
        "Whether the file lets a target take new connections.",
        target,
    )?;
    let seconds = Opts::new("anyrelay_health_check_seconds", "Duration of the last check.");
    let seconds = GaugeVec::new(seconds, target)?;
    registry.register(Box::new(seconds.clone()))?;
    let checks = counters(
        "anyrelay_health_checks_total",
        "Checks of a target by result.",
        &["file", "target", "result"],
    )?;
    let events = counters(
        "anyrelay_health_events_total",
        "Targets taken out (down) and brought back (up).",
        &["file", "kind"],
    )?;
    let withheld = counters(
        "anyrelay_health_withheld_total",
        "Changes that were not made, because of the floor or the limits of a targets file.",
        &["file", "reason"],
    )?;
    let failures = counters(
        "anyrelay_health_write_failures_total",
        "Times that the targets file could not be written.",
        &["file"],
    )?;
    let after = counters(
        "anyrelay_health_after_total",
        "Runs of the command after a write: done within the lead, late, failed.",
        &["file", "result"],
    )?;
    let reloads = counters("anyrelay_health_reloads_total", "Reloads of the config.", &["result"])?;
    let usable = gauges(
        "anyrelay_health_file_usable",
        "Whether the targets file and the one beside it can be read.",
        &["file"],
    )?;
    let written = Opts::new(
        "anyrelay_health_last_write_timestamp_seconds",
        "When the targets file was written last, in seconds since 1970; 0 if not yet.",
    );
    let written = GaugeVec::new(written, &["file"])?;
    registry.register(Box::new(written.clone()))?;
    let dry_run = Gauge::new("anyrelay_health_dry_run", "Whether nothing is written.")?;
    registry.register(Box::new(dry_run.clone()))?;
    for status in shared.statuses() {
        let file = status.file.as_str();
        dry_run.set(f64::from(u8::from(status.dry_run)));
        usable.with_label_values(&[file]).set(status.problem.is_none().into());
        let counts = &status.counts;
        written.with_label_values(&[file]).set(counts.last_write_ms.unwrap_or(0) as f64 / 1000.0);
        events.with_label_values(&[file, "down"]).inc_by(counts.downs);
        events.with_label_values(&[file, "up"]).inc_by(counts.ups);
        withheld.with_label_values(&[file, "floor"]).inc_by(counts.withheld_floor);
        withheld.with_label_values(&[file, "limits"]).inc_by(counts.withheld_limits);
        failures.with_label_values(&[file]).inc_by(counts.write_failures);
        after.with_label_values(&[file, "done"]).inc_by(counts.after_done);
        after.with_label_values(&[file, "late"]).inc_by(counts.after_late);
        after.with_label_values(&[file, "failed"]).inc_by(counts.after_failed);
        for one in &status.targets {
            let address = one.address.to_string();
            let labels = [file, address.as_str()];
            takes.with_label_values(&labels).set((one.connections == "takes").into());
            let Some(is_up) = one.is_up else { continue };
            up.with_label_values(&labels).set(is_up.into());
            seconds.with_label_values(&labels).set(one.last_seconds.unwrap_or_default());
            let of = |result| checks.with_label_values(&[file, address.as_str(), result]);
            of("success").inc_by(one.successes);
            of("failure").inc_by(one.failures);
        }
    }
    let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    reloads.with_label_values(&["done"]).inc_by(count(&shared.reloads_done));
    reloads.with_label_values(&["refused"]).inc_by(count(&shared.reloads_refused));
    TextEncoder::new().encode_to_string(&registry.gather())
}
