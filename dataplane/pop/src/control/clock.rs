//! Checks whether the wall clock is accurate enough for tunnels, and for targets with dates.
//!
//! POPs predict sequence numbers from it. Their ticks may differ by one ([`SKEW_TICKS`]), so each
//! clock may be off by half of a tick: by that of the tunnel with the shortest. What a clock is off
//! by is not known, and estimated:
//!
//! ```text
//! error = min(esterror, maxerror) + DRIFT * age      not ready for tunnels if error > T / 2
//! age   = maxerror / 500 ppm, and what has passed since maxerror reached its end of 16 s
//! ```
//!
//! `esterror` is what the time daemon estimated when it last corrected the clock. Since then it
//! drifts. The kernel adds 500 us a second to `maxerror`, and so says how long ago that was, up to
//! 16 s (nine hours). A clock that no daemon has corrected since the start, or that was set by hand
//! since, has 16 s in both, and its error is unknown; so is that of a clock whose `maxerror` was at
//! its end when the POP started. Source: adjtimex(2), `kernel/time/ntp.c`.
//!
//! The clocks of POPs may differ by a relay's `skew` where its targets change: a POP is not ready
//! for relays while its clock's error is more than half of that, and a date of a target is within
//! that error and the skew of now.

use std::io;
use std::time::{Duration, Instant};

use anyrelay_core::config::{ClockTrust, Config};
use anyrelay_core::predict::SKEW_TICKS;
use kernel_clock::KernelClock;

use crate::metrics::ClockState;
use crate::worker::unix_now;

/// Watches the clock.
#[derive(Debug, Default)]
pub(super) struct ClockWatch {
    /// Since when the kernel's bound no longer tells the age of the last correction.
    at_bound_since: Option<Instant>,
    /// Whether it did at some time.
    was_below: bool,
    /// The state, if the config requires one and the kernel gives it.
    pub(super) state: Option<ClockState>,
    /// Why the clock is not accurate enough for tunnels.
    pub(super) doubt: Option<String>,
    /// Why it is not for the targets of a relay, of which one changes now.
    pub(super) relay_doubt: Option<String>,
}

/// A date of a relay's targets.
#[derive(Clone, Debug)]
struct Change {
    relay: String,
    skew: Duration,
    /// How far it is from now.
    distance: Duration,
}

impl ClockWatch {
    /// Queries the kernel, if the config requires it.
    pub(super) fn ask(&mut self, config: &Config, now: Instant) {
        let is_asked = config.pop.clock == ClockTrust::Kernel;
        let ticks = config.tunnels.iter().map(|tunnel| tunnel.constants.tick_ms);
        let tick = ticks.min().filter(|_| is_asked);
        let answer = tick.map(|tick_ms| (kernel_clock::read(), error_max(tick_ms)));
        self.judge(answer, now);
        let changes = if is_asked { near_changes(config) } else { Vec::new() };
        self.relay_doubt = match changes[..] {
            [] => None,
            _ => judge_changes(&changes, self.error(tick.is_some(), now)),
        };
    }

    /// The clock's error, which is in the state where tunnels made that known.
    fn error(&mut self, is_known: bool, now: Instant) -> Duration {
        let kept = (self.state, self.doubt.clone());
        if !is_known {
            self.judge(Some((kernel_clock::read(), UNKNOWN)), now);
        }
        let error = self.state.map_or(UNKNOWN, |state| state.error);
        (self.state, self.doubt) = kept;
        error
    }

    /// Judges the kernel's answer by the greatest error that is accepted.
    fn judge(&mut self, answer: Option<(io::Result<KernelClock>, Duration)>, now: Instant) {
        (self.state, self.doubt) = (None, None);
        let (clock, error_max) = match answer {
            None => return,
            Some((Ok(clock), error_max)) => (clock, error_max),
            Some((Err(error), _)) => {
                let why = format!("the kernel does not say how accurate it is: {error}");
                self.doubt = Some(format!("clock: {why}; {ADVICE}"));
                return;
            }
        };
        if clock.maximum_error < BOUND {
            (self.at_bound_since, self.was_below) = (None, true);
        }
        let since = match self.at_bound_since {
            None if clock.maximum_error >= BOUND => *self.at_bound_since.insert(now),
            since => since.unwrap_or(now),
        };
        let error = estimate(&clock, now.saturating_duration_since(since));
        let is_synchronised = clock.is_synchronised;
        self.state = Some(ClockState { is_synchronised, error, error_max });
        if clock.estimated_error.min(clock.maximum_error) >= BOUND || !self.was_below {
            let why = "its error is unknown: nothing has corrected it for hours, or it was set by \
                       hand";
            self.doubt = Some(format!("clock: {why}; {ADVICE}"));
        } else if error > error_max {
            let (error, most) = (error.as_secs_f64(), error_max.as_secs_f64());
            let why = format!("its estimated error is {error:.1} s, more than {most} s");
            self.doubt = Some(format!("clock: {why} (half of a tick); {ADVICE}"));
        }
    }
}

/// The estimated error of a clock whose bound has been at its end for `at_bound`.
fn estimate(clock: &KernelClock, at_bound: Duration) -> Duration {
    let last = clock.estimated_error.min(clock.maximum_error);
    let drift = clock.maximum_error.min(BOUND) * DRIFT_PPM / KERNEL_PPM;
    last + drift + at_bound * DRIFT_PPM / 1_000_000
}

/// The dates of targets that a clock that is off by [`UNKNOWN`] may take for now.
fn near_changes(config: &Config) -> Vec<Change> {
    let now = unix_now(config.pop.clock_offset_ms).as_millis();
    let changes = config.relays.iter().flat_map(|relay| {
        let skew = Duration::from_millis(relay.targets.skew_ms);
        relay.targets.events().into_iter().map(move |event| Change {
            relay: relay.name.clone(),
            skew,
            distance: Duration::from_millis(event.as_millis().abs_diff(now)),
        })
    });
    changes.filter(|change| change.distance <= UNKNOWN + change.skew).collect()
}

/// The doubt about a clock that is off by `error` while there are these changes.
fn judge_changes(changes: &[Change], error: Duration) -> Option<String> {
    let is_doubtful =
        |change: &&Change| error > change.skew / 2 && change.distance <= error + change.skew;
    let Change { relay, skew, .. } = changes.iter().find(is_doubtful)?;
    let (error, skew) = (error.as_secs_f64(), skew.as_secs_f64());
    Some(format!(
        "clock: targets of {relay} change about now, and its estimated error is {error:.1} s, more \
         than half of the skew of {skew} s; {ADVICE}"
    ))
}

/// Half of what the clocks of two POPs may differ by.
fn error_max(tick_ms: u32) -> Duration {
    Duration::from_millis(u64::from(tick_ms) * u64::from(SKEW_TICKS)) / 2
}

/// What a clock of which nothing is known is taken to be off by.
const UNKNOWN: Duration = Duration::from_secs(600);
const ADVICE: &str = "run chronyd or another NTP client, or state pop.clock = \"trusted\" if \
                      something else keeps it";
/// The most that the kernel reports (`NTP_PHASE_LIMIT`), in both errors.
const BOUND: Duration = Duration::from_secs(16);
/// What the kernel adds to `maxerror` (`MAXFREQ`).
const KERNEL_PPM: u32 = 500;
/// How fast a clock drifts that nothing corrects: ordinary crystals are below this even if their
/// frequency was never measured.
const DRIFT_PPM: u32 = 50;

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    fn clock(estimated: f64, maximum: f64) -> KernelClock {
        KernelClock {
            is_synchronised: maximum < 16.0,
            estimated_error: Duration::from_secs_f64(estimated),
            maximum_error: Duration::from_secs_f64(maximum),
        }
    }

    /// The doubt about a clock with a default tick of 8 s.
    fn doubt(watch: &mut ClockWatch, clock: KernelClock, now: Instant) -> String {
        watch.judge(Some((Ok(clock), error_max(8000))), now);
        watch.doubt.clone().unwrap_or_default()
    }

    #[test]
    fn hours_without_a_time_server_raise_no_doubt_and_a_day_does() {
        let (mut watch, start) = (ClockWatch::default(), Instant::now());
        // The daemon stops. The bound grows, until it is at its end after nine hours.
        for hours in 0..20 {
            let maximum = (0.02 + f64::from(hours) * 3600.0 * 500e-6).min(16.0);
            let now = start + hours * HOUR;
            assert_eq!(doubt(&mut watch, clock(0.001, maximum), now), "", "{hours}");
            let error = watch.state.unwrap().error;
            assert!(error <= hours * HOUR / 20_000 + Duration::from_millis(50), "{error:?}");
        }
        let text = doubt(&mut watch, clock(0.001, 16.0), start + 24 * HOUR);
        assert!(text.contains("more than 4 s (half of a tick)"), "{text}");
        // It is corrected.
        assert_eq!(doubt(&mut watch, clock(0.001, 0.02), start + 24 * HOUR), "");
        assert_eq!(doubt(&mut watch, clock(0.001, 16.0), start + 25 * HOUR), "");
    }

    #[test]
    fn a_change_of_targets_needs_a_clock_that_is_right_then() {
        let seconds = Duration::from_secs;
        let change = |distance| Change { relay: "web".into(), skew: seconds(3), distance };
        for (error_ms, distance, is_doubtful) in [
            (1500, seconds(0), false),
            (1501, seconds(0), true),
            (1501, seconds(4), true),
            (1501, seconds(5), false),
            (20_000, seconds(23), true),
            (20_000, seconds(24), false),
        ] {
            let error = Duration::from_millis(error_ms);
            let doubt = judge_changes(&[change(seconds(9000)), change(distance)], error);
            assert_eq!(doubt.is_some(), is_doubtful, "{error_ms} {distance:?}");
            assert!(doubt.is_none_or(|doubt| doubt.contains("targets of web change about now")));
        }
    }

    #[test]
    fn a_clock_is_doubted_for_each_reason_alone() {
        let (mut watch, now) = (ClockWatch::default(), Instant::now());
        assert_eq!(doubt(&mut watch, clock(3.5, 5.0), now), "");
        assert!(doubt(&mut watch, clock(3.501, 5.0), now).contains("estimated error is 4.0 s"));
        // Never synchronised, or set by hand.
        assert!(doubt(&mut watch, clock(16.0, 16.0), now).contains("its error is unknown"));
        // Nobody knows how long ago it was corrected.
        let late = doubt(&mut ClockWatch::default(), clock(0.001, 16.0), now);
        assert!(late.contains("its error is unknown"), "{late}");
        // Daemons that state one of both: phc2sys, and chronyd without `rtcsync`.
        assert_eq!(doubt(&mut watch, clock(16.0, 0.001), now), "");
        let unsaid = KernelClock { is_synchronised: false, ..clock(0.001, 0.02) };
        assert_eq!(doubt(&mut watch, unsaid, now), "");
        assert!(!watch.state.unwrap().is_synchronised);
        watch.judge(Some((Err(io::Error::from_raw_os_error(1)), error_max(8000))), now);
        let mute = watch.doubt.clone().unwrap();
        assert!(mute.contains("does not say") && mute.contains("not permitted"), "{mute}");
        // A short tick bears less, but a long one no clock of which nothing is known.
        watch.judge(Some((Ok(clock(0.5, 0.5)), error_max(1000))), now);
        assert!(watch.doubt.is_some());
        watch.judge(Some((Ok(clock(16.0, 16.0)), error_max(60_000))), now);
        assert!(watch.doubt.is_some());
        watch.judge(None, now);
        assert_eq!((watch.doubt, watch.state), (None, None));
    }
}
